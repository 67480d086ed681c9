"""The figure of several verifiers' scores of several models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.metrics import auc
from langchain_llm_router.plots.canvas import (
    GOOD,
    INK,
    MUTED,
    POOR,
    Axes,
    Figure,
    axes,
    new,
)
from langchain_llm_router.types.arrays import Bools, Floats
from langchain_llm_router.types.figures import format_score, format_share

__all__ = ["verifier_grid"]


_LEFT, _WIDE, _HIGH, _GAP, _ABOVE, _BELOW = 2.05, 2.9, 1.45, 0.45, 1.3, 0.65
"""Inches: the names of verifiers, width and height of a panel, gaps, heading, foot."""

_FEW = 21
"""Maximum number of different scores that are drawn as bars instead of densities."""

_LONGEST = 25
"""Maximum number of characters of a model's name above its column."""


def verifier_grid(
    outcomes: Outcomes,
    evaluations: Mapping[str, SelfEvaluations],
    *,
    title: str = "Can the scores tell good answers from poor ones?",
) -> Figure:
    """Draw the scores of good and poor answers in a grid of verifiers (rows) and models (columns).

    Each panel has the area under the ROC curve in its corner (0.5 is chance). Scores with few
    different values are drawn as bars, others as densities. The panels of a row share their score
    axis, which for densities leaves out the last 0.2 % of the scores at either end. Answers
    without a verdict are left out and counted.

    Args:
        outcomes: Measured quality; an answer is good if its quality is at least 0.5.
        evaluations: Scores of each verifier by its name, with the same rows.
        title: Title of the figure.

    Raises:
        ValueError: If there are no verifiers, or one lacks a candidate or has other rows.
    """
    if len(evaluations) == 0:
        msg = "`evaluations` must have at least one verifier, got none."
        raise ValueError(msg)
    names, good = outcomes.candidates, outcomes.quality >= 0.5
    columns = {verifier: _scores(outcomes, verifier, it) for verifier, it in evaluations.items()}
    width = _LEFT + len(names) * (_WIDE + _GAP)
    height = _ABOVE + len(columns) * (_HIGH + _GAP) + _BELOW - _GAP
    figure = new(width, height)
    _heading(figure, title, len(outcomes))
    for i, (verifier, scores) in enumerate(columns.items()):
        top = _ABOVE + i * (_HIGH + _GAP)
        span = _span(scores)
        for j, name in enumerate(names):
            left = _LEFT + j * (_WIDE + _GAP)
            box = (left / width, 1 - (top + _HIGH) / height, _WIDE / width, _HIGH / height)
            ax = axes(figure, box, x="score" if i == len(columns) - 1 else "")
            ax.set_xlim(*span)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            _panel(ax, scores[:, j], good[:, j])
            if i == 0:
                _name_model(ax, name, float(good[:, j].mean()))
            if j == 0:
                size = min(10.5, 180 / len(verifier))
                figure.text(0.25 / width, 1 - (top + _HIGH / 2) / height, verifier, va="center",
                            color=INK, fontsize=size, fontweight="bold")  # fmt: skip
    return figure


def _scores(outcomes: Outcomes, verifier: str, it: SelfEvaluations) -> Floats:
    """Return a verifier's scores in the columns of the outcomes."""
    missing = [name for name in outcomes.candidates if name not in it.candidates]
    if missing:
        msg = f"The scores of {verifier!r} must have all candidates, but lack {missing}."
        raise ValueError(msg)
    if len(it) != len(outcomes):
        msg = (
            f"The scores of {verifier!r} must have the {len(outcomes)} rows of the outcomes, "
            f"got {len(it)}."
        )
        raise ValueError(msg)
    return it.select(outcomes.candidates).confidence


def _span(scores: Floats) -> tuple[float, float]:
    """Compute the limits of the score axis of a row of panels."""
    known = scores[~np.isnan(scores)]
    if len(known) == 0 or len(np.unique(known)) <= _FEW:
        return -0.08, 1.08
    low, high = np.quantile(known, [0.002, 0.998])
    pad = 0.06 * max(float(high - low), 0.01)
    return float(low) - pad, float(high) + pad


def _panel(ax: Axes, scores: Floats, good: Bools) -> None:
    known = ~np.isnan(scores)
    values, labels = scores[known], good[known]
    sides = [(values[labels], GOOD, -1), (values[~labels], POOR, 1)]
    levels = np.unique(values)
    for side, color, place in sides:
        if len(side) == 0:
            continue
        if len(levels) <= _FEW:
            apart = float(np.diff(levels).min(initial=0.25))
            share = (side[:, None] == levels).mean(axis=0)
            ax.bar(levels + 0.21 * apart * place, share, 0.4 * apart, color=color, alpha=0.85)
        else:
            _density(ax, side, color)
    ax.set_ylim(0, 1.32 * max(ax.get_ylim()[1], 1e-9))
    both = 0 < int(labels.sum()) < len(labels)
    area = auc(values, labels) if both else None
    label = "no AUROC" if area is None else f"AUROC {format_score(area)}"
    separates = area is not None and abs(area - 0.5) >= 0.1
    ax.text(0.99, 0.97, label, transform=ax.transAxes, ha="right", va="top", fontsize=11,
            color=INK if separates else MUTED, fontweight="bold" if separates else "normal",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5})  # fmt: skip
    n_missing = int((~known).sum())
    if n_missing > 0:
        ax.text(0.01, 0.97, f"{n_missing:,} without a verdict", transform=ax.transAxes, va="top",
                color=MUTED, fontsize=9)  # fmt: skip


def _density(ax: Axes, side: Floats, color: str) -> None:
    """Draw a kernel density of area 1, reflected at 0 and 1."""
    from scipy.stats import gaussian_kde  # noqa: PLC0415 - takes 1 s, and only this figure needs it

    low, high = ax.get_xlim()
    grid = np.linspace(low, high, 400)
    inside = (grid >= 0) & (grid <= 1)
    if len(np.unique(side)) < 2:
        ax.axvline(side[0], color=color, linewidth=2)
        return
    kernel = gaussian_kde(side)
    height = np.where(inside, kernel(grid) + kernel(-grid) + kernel(2 - grid), 0.0)
    ax.fill_between(grid, height, color=color, alpha=0.25, linewidth=0)
    ax.plot(grid[inside], height[inside], color=color, linewidth=1.8)


def _heading(figure: Figure, title: str, n: int) -> None:
    width, height = figure.get_size_inches()
    left = 0.25 / width
    figure.text(left, 1 - 0.34 / height, title, color=INK, fontsize=14, fontweight="bold",
                va="center")  # fmt: skip
    note = f"{n:,} answers per model; each color adds up to 100 %"
    texts = [("good answers", GOOD, 1.27), ("poor answers", POOR, 1.27), (note, MUTED, 0.0)]
    for text, color, room in texts:
        figure.text(left, 1 - 0.64 / height, text, color=color, fontsize=10.5, va="center",
                    fontweight="normal" if color == MUTED else "bold")  # fmt: skip
        left += room / width


def _name_model(ax: Axes, name: str, share: float) -> None:
    name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    ax.annotate(name, (0, 1), xytext=(0, 8), xycoords="axes fraction", textcoords="offset points",
                color=INK, fontsize=11, fontweight="bold")  # fmt: skip
    ax.annotate(f"{format_share(share)} good", (1, 1), xytext=(0, 8), xycoords="axes fraction",
                ha="right", textcoords="offset points", color=MUTED, fontsize=10)  # fmt: skip
