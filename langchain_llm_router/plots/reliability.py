"""Figures of the calibration of predictions, and of the separability of scores and queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.evaluation.metrics import auc, ece, reliability
from langchain_llm_router.evaluation.separability_report import Closeness, Separability
from langchain_llm_router.plots.canvas import GOOD, INK, MUTED, POOR, WIDE, Figure, axes, new
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.figures import format_share

__all__ = ["closeness_histograms", "reliability_curve", "separability"]


def reliability_curve(
    predicted: ArrayLike,
    measured: ArrayLike,
    *,
    n_bins: int = 10,
    title: str = "Are predictions to be believed?",
) -> Figure:
    """Draw measured against predicted quality in bins, with the number of predictions per bin.

    Args:
        predicted: Predicted qualities in [0, 1], of any shape.
        measured: Measured qualities, same shape.
        n_bins: Number of bins.
        title: Title of the figure.
    """
    curve = reliability(predicted, measured, n_bins=n_bins)
    error = ece(predicted, measured, n_bins=n_bins)
    figure = new(6.2, 6.0)
    note = f"calibration error {error:.3f}; dashed: predictions come true; bars: 95 %"
    ax = axes(figure, (0.13, 0.29, 0.83, 0.58), title=title, subtitle=note, y="measured quality")
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    low, high = _wilson(curve.measured, curve.count)
    ax.vlines(curve.predicted, low, high, color=GOOD, linewidth=1.2)
    ax.plot(curve.predicted, curve.measured, "o-", color=GOOD, linewidth=2, markersize=5)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.tick_params(labelbottom=False)
    below = axes(figure, (0.13, 0.1, 0.83, 0.15), x="predicted quality", y="predictions")
    middles = (np.minimum(curve.predicted * n_bins // 1, n_bins - 1) + 0.5) / n_bins
    below.bar(middles, curve.count, width=0.8 / n_bins, color=MUTED, alpha=0.6)
    below.set_xlim(-0.02, 1.02)
    return figure


def _wilson(share: Floats, count: ArrayLike) -> tuple[Floats, Floats]:
    """Return Wilson's 95 % intervals of shares, which stay within [0, 1]."""
    z2, count = 1.96**2, np.asarray(count, dtype=np.float64)
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = 1.96 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return np.maximum(middle - reach, 0.0), np.minimum(middle + reach, 1.0)


def separability(
    scores: ArrayLike,
    good: ArrayLike,
    *,
    n_bins: int = 20,
    title: str = "Does the score tell good from poor?",
) -> Figure:
    """Draw histograms of the scores of good and of poor answers, with the AUROC.

    Args:
        scores: Scores in [0, 1], of shape (n_rows,), NaN without a verdict; these are left out.
        good: Whether each answer is good, same shape.
        n_bins: Number of bars.
        title: Title of the figure.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(good, dtype=bool)
    known = ~np.isnan(values)
    missing = int((~known).sum())
    values, labels = values[known], labels[known]
    area = auc(values, labels)
    figure = new(8, 4.4)
    note = f"AUROC {area:.3f} (0.5 is chance) on {len(values):,} answers" + (
        f"; {missing} without a verdict" if missing else ""
    )
    ax = axes(
        figure,
        WIDE,
        title=title,
        subtitle=note,
        x="verifier's score",
        y="share of answers (%)",
    )
    edges = np.linspace(0, 1, n_bins + 1)
    for rows, sign, color, name in ((labels, 1, GOOD, "good"), (~labels, -1, POOR, "poor")):
        share = 100 * np.histogram(values[rows], edges)[0] / max(int(rows.sum()), 1)
        ax.bar(edges[:-1], sign * share, 1 / n_bins, align="edge", color=color, alpha=0.75,
               edgecolor="white")  # fmt: skip
        ax.text(0.012, 0.95 if sign > 0 else 0.05, f"{int(rows.sum())} {name}", color=color,
                transform=ax.transAxes, va="top" if sign > 0 else "bottom", fontsize=11,
                fontweight="bold")  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    ax.set_xlim(0, 1)
    ax.margins(y=0.15)
    return figure


def closeness_histograms(
    one: Closeness,
    pairs: Separability,
    *,
    title: str = "Are queries that need the same model closer to each other?",
) -> Figure:
    """Draw how close queries with the same and with different best candidates are.

    Args:
        one: One query's closeness to all others, from `evaluation.closeness`, drawn on the left.
        pairs: The closeness of all pairs, from `evaluation.separability`, drawn on the right.
        title: Title of the figure.
    """
    figure = new(10, 4.2)
    query = " ".join(one.query.split())
    query = query if len(query) <= 44 else f"{query[:43]}…"
    area = f"all pairs: those with the same are closer in {format_share(pairs.pair_auc)}"
    for left, it, note in ((0.07, one, f"one query: {query}"), (0.57, pairs, area)):
        ax = axes(
            figure, (left, 0.15, 0.41, 0.64), title=title if it is one else "", subtitle=note,
            x="closeness (cosine similarity)", y="share (%)" if it is one else "",
        )  # fmt: skip
        for share, color, name, high in (
            (it.same, GOOD, "same best candidate", 0.96),
            (it.different, POOR, "another one", 0.88),
        ):
            ax.bar(it.edges[:-1], 100 * share, np.diff(it.edges), align="edge", color=color,
                   alpha=0.45, edgecolor="white", linewidth=0.6)  # fmt: skip
            ax.stairs(100 * share, it.edges, color=color, linewidth=1.6)
            ax.text(0.98, high, name, transform=ax.transAxes, ha="right", va="top", color=color,
                    fontsize=11, fontweight="bold")  # fmt: skip
        seen = np.flatnonzero((it.same > 0.001) | (it.different > 0.001))
        ax.set_xlim(float(it.edges[0]), float(it.edges[int(seen.max(initial=0)) + 1]))
        ax.margins(y=0.15)
    return figure
