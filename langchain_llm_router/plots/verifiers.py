"""Which verifier tells which model's good answers from its poor ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import gaussian_kde

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

__all__ = ["verifier_grid"]


_LEFT, _WIDE, _HIGH, _GAP, _ABOVE, _BELOW = 2.05, 2.9, 1.45, 0.45, 1.3, 0.65
"""Inches: of the verifiers' names, of a panel, between panels, of the heading, of the foot."""

_FEW = 21
"""Up to so many different scores are drawn as bars, one per score, instead of densities."""

_LONGEST = 25
"""Letters of a model's name above its column."""


def verifier_grid(
    outcomes: Outcomes,
    evaluations: Mapping[str, SelfEvaluations],
    *,
    title: str = "Can the scores tell good answers from poor ones?",
) -> Figure:
    """A row per verifier, a column per model: how the scores of good and poor answers lie.

    Each panel has the area under the ROC curve in its corner (0.5 is chance). Scores that take few
    values are drawn as bars, others as densities. The panels of a row share their score axis, which
    leaves out the last 0.2 % of the row's scores at either end. Answers without a verdict are left
    out and counted.

    Args:
        outcomes: Measured quality; an answer is good from 0.5 on.
        evaluations: Verifier name → its scores, same rows; columns are found by name.
        title: The figure's title.

    Raises:
        ValueError: If there is no verifier, or one lacks a candidate or has other rows.
    """
    if len(evaluations) == 0:
        msg = "There is nothing to draw: `evaluations` has no verifier."
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
    """A verifier's scores in the columns of the outcomes."""
    missing = [name for name in outcomes.candidates if name not in it.candidates]
    if missing:
        msg = f"{verifier!r} has scores of {list(it.candidates)}, but none of {missing}."
        raise ValueError(msg)
    if len(it) != len(outcomes):
        msg = f"{verifier!r} has {len(it)} rows, the outcomes have {len(outcomes)}."
        raise ValueError(msg)
    return it.select(outcomes.candidates).confidence


def _span(scores: Floats) -> tuple[float, float]:
    """The stretch of scores that a row of panels shows."""
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
    found = "no AUROC" if area is None else f"AUROC {area:.2f}"
    told = area is not None and abs(area - 0.5) >= 0.1
    ax.text(0.99, 0.97, found, transform=ax.transAxes, ha="right", va="top", fontsize=11,
            color=INK if told else MUTED, fontweight="bold" if told else "normal",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5})  # fmt: skip
    n_missing = int((~known).sum())
    if n_missing > 0:
        ax.text(0.01, 0.97, f"{n_missing:,} without a verdict", transform=ax.transAxes, va="top",
                color=MUTED, fontsize=9)  # fmt: skip


def _density(ax: Axes, side: Floats, color: str) -> None:
    """A kernel density of area 1, mirrored at 0 and 1 so that nothing lies outside."""
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
    ax.annotate(f"{share:.0%} good", (1, 1), xytext=(0, 8), xycoords="axes fraction", ha="right",
                textcoords="offset points", color=MUTED, fontsize=10)  # fmt: skip
