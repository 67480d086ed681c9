"""Figures of the Gaussians of single answers: what a verifier said several times of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from langchain_llm_router.plots.canvas import (
    COLORS,
    GOOD,
    INK,
    SCORES,
    WIDE,
    Axes,
    Figure,
    Labels,
    axes,
    new,
)
from langchain_llm_router.policies.observation import normal_density
from langchain_llm_router.types.arrays import Floats

__all__ = ["answer_gaussian", "answer_gaussians"]

_APART = 0.008
"""Distance of spikes that stand at the same score, in units of the score."""


def answer_gaussian(
    mean: float, standard_error: float, *, title: str = "What one answer's verdicts say"
) -> Figure:
    """Draw the Gaussian of one answer.

    Args:
        mean: The share of "correct" verdicts, an attempt's `confidence`.
        standard_error: Its standard error, an attempt's `standard_error`; 0 is drawn as a spike.
        title: Title of the figure.

    Raises:
        ValueError: If the mean is outside [0, 1] or the standard error below 0.
    """
    _check(mean, standard_error)
    figure = new(8, 4.4)
    note = f"mean {mean:.3f}, standard error {standard_error:.3f}; "
    note += "all verdicts agree" if standard_error == 0 else "shaded: one of it to either side"
    ax = _axes(figure, title, note)
    if standard_error == 0:
        ax.plot([mean, mean], [0, 1], color=GOOD, linewidth=2.4)
    else:
        bell = normal_density(SCORES, mean, standard_error)
        near = np.abs(SCORES - mean) <= standard_error
        ax.fill_between(SCORES, bell, where=near, color=GOOD, alpha=0.25, linewidth=0)
        ax.plot(SCORES, bell, color=GOOD, linewidth=2.4)
        top = float(normal_density(mean, mean, standard_error))
        ax.plot([mean, mean], [0, top], color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
    return figure


def answer_gaussians(
    gaussians: Sequence[tuple[float, float]],
    good: Sequence[bool],
    *,
    names: Sequence[str] = (),
    title: str = "What the verdicts of several answers say",
) -> Figure:
    """Draw the Gaussians of several answers over each other, right ones dotted, wrong ones solid.

    Args:
        gaussians: Mean and standard error of each answer, see `answer_gaussian`.
        good: Whether each answer is right.
        names: Names of the answers; if empty, "answer 1" and so on.
        title: Title of the figure.

    Raises:
        ValueError: If the lengths differ, there is no answer, or a number is out of range.
    """
    names = names or [f"answer {i + 1}" for i in range(len(gaussians))]
    if len(gaussians) == 0 or not len(gaussians) == len(good) == len(names):
        msg = (
            "`gaussians`, `good` and `names` must have the same length of at least 1, got "
            f"{len(gaussians)}, {len(good)} and {len(names)}."
        )
        raise ValueError(msg)
    for mean, error in gaussians:
        _check(mean, error)
    figure = new(8.4, 4.8)
    note = "dotted: right answers; solid: wrong ones; a spike: all verdicts agree"
    ax = _axes(figure, title, note)
    peaks = [float(normal_density(mean, mean, error)) for mean, error in gaussians if error > 0]
    top = max(peaks, default=1.0)
    ax.set_ylim(0, 1.2 * top)
    labels = Labels(ax)
    lines = _lines(gaussians, top)
    for i, ((x, y), (_, error), right, name) in enumerate(
        zip(lines, gaussians, good, names, strict=True)
    ):
        color = COLORS[i % len(COLORS)]
        style = (0, (1, 1.2)) if right else "-"
        ax.plot(x, y, color=color, linewidth=2.2, linestyle=style)
        labels.avoid(x, y, line=True)
        # A bell is named near its peak, a spike anywhere.
        high = y >= (0.8 if error > 0 else 0.1) * y.max()
        text = f"{name} ({'right' if right else 'wrong'})"
        labels.add(text, x[high][::12], y[high][::12], color=color, size=9.5, bold=True)
    labels.place()
    return figure


def _lines(gaussians: Sequence[tuple[float, float]], top: float) -> list[tuple[Floats, Floats]]:
    """Return the points of each bell or spike; spikes at the same score stand side by side."""
    total = Counter(mean for mean, error in gaussians if error == 0)
    drawn: Counter[float] = Counter()
    lines = []
    for mean, error in gaussians:
        if error > 0:
            lines.append((SCORES, normal_density(SCORES, mean, error)))
            continue
        x = mean + _APART * (drawn[mean] - (total[mean] - 1) / 2)
        drawn[mean] += 1
        lines.append((np.full(200, x), np.linspace(0, top, 200)))
    return lines


def _axes(figure: Figure, title: str, note: str) -> Axes:
    ax = axes(
        figure, WIDE, title=title, subtitle=note,
        x="probability of a verdict that it is correct", y="density",
    )  # fmt: skip
    ax.set_xlim(-0.03, 1.03)
    return ax


def _check(mean: float, standard_error: float) -> None:
    if not 0 <= mean <= 1 or not standard_error >= 0:
        msg = (
            "An answer's Gaussian must have a mean in [0, 1] and a standard error >= 0, got "
            f"{mean!r} and {standard_error!r}."
        )
        raise ValueError(msg)
