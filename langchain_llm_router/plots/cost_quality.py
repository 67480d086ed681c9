"""The figure of cost against quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Replay, oracle
from langchain_llm_router.evaluation.intervals import Resampling, mean_interval
from langchain_llm_router.evaluation.metrics import Hull, cost_at_quality, random_mix_hull
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.plots.canvas import (
    COLORS,
    INK,
    MUTED,
    Axes,
    Figure,
    Labels,
    axes,
    new,
    number_axis,
)
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.figures import format_share, format_usd

__all__ = [
    "StrategyPoint",
    "cost_quality_curve",
    "oracle_point",
    "replay_point",
    "single_points",
    "sweep_points",
]


@dataclass(frozen=True)
class StrategyPoint(CheckedArguments):
    """One operating point of a strategy: its mean cost and mean quality."""

    name: str
    """Name of the strategy; points with the same name are connected to a curve."""

    cost_usd: float
    """Mean cost per query in USD."""

    quality: float
    """Mean quality in [0, 1]."""

    low: float | None = None
    """Lower end of the quality's interval."""

    high: float | None = None
    """Upper end of the quality's interval."""

    def __post_init__(self) -> None:
        check_range(self, "cost_usd")
        check_range(self, "quality", "low", "high", low=-np.inf)


_RESAMPLING = Resampling(n_resamples=300)
_MIX = "tossing a coin between single models"
_DIAMOND_AREA = 110.0
"""Area of the marker of the chosen point, in square points."""


def single_points(
    outcomes: Outcomes, *, resampling: Resampling | None = None
) -> list[StrategyPoint]:
    """Compute the point of every single candidate, except those with an unknown cost."""
    costs = outcomes.mean_cost_usd
    if costs is None:
        return []
    return [
        _point(name, float(costs[j]), outcomes.quality[:, j], resampling)
        for j, name in enumerate(outcomes.candidates)
        if not np.isnan(costs[j])
    ]


def oracle_point(outcomes: Outcomes) -> StrategyPoint:
    """Compute the point of perfect routing, which uses the cheapest of the best answers.

    Raises:
        ValueError: If the cost of one of these answers is unknown.
    """
    rows, chosen = np.arange(len(outcomes)), oracle(outcomes)
    if outcomes.cost_usd is None or np.isnan(outcomes.cost_usd[rows, chosen]).any():
        msg = "`outcomes` must have every cost for the oracle: give every model a price."
        raise ValueError(msg)
    cost = float(outcomes.cost_usd[rows, chosen].mean())
    return StrategyPoint("oracle", cost, float(outcomes.quality[rows, chosen].mean()))


def replay_point(
    name: str, done: Replay, *, resampling: Resampling | None = _RESAMPLING
) -> StrategyPoint:
    """Compute the point of a replay, with the interval of its quality.

    Raises:
        ValueError: If a cost of the replay is unknown.
    """
    if done.mean_cost_usd is None:
        msg = f"The replay of {name!r} must have every cost: give every model a price."
        raise ValueError(msg)
    return _point(name, done.mean_cost_usd, done.quality, resampling)


def sweep_points(
    name: str, sweep: Sweep, *, resampling: Resampling | None = _RESAMPLING
) -> list[StrategyPoint]:
    """Compute a point per setting of a sweep, each with the interval of its quality."""
    costs = sweep.points[0]
    if resampling is None:
        return [_point(name, float(c), q, None) for c, q in zip(costs, sweep.quality, strict=True)]
    # All settings use the same resamples because the band of intervals should be smooth.
    n = sweep.quality.shape[1]
    drawn = np.concatenate([w @ sweep.quality.T / n for w in resampling.weights(n)])
    tail = 50 * (1 - resampling.confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    means = sweep.quality.mean(axis=1)
    return [
        StrategyPoint(name, float(costs[i]), float(means[i]), float(low[i]), float(high[i]))
        for i in range(len(costs))
    ]


def _point(
    name: str, cost_usd: float, quality: np.ndarray, resampling: Resampling | None
) -> StrategyPoint:
    if resampling is None:
        return StrategyPoint(name, cost_usd, float(quality.mean()))
    it = mean_interval(quality, resampling)
    return StrategyPoint(name, cost_usd, it.value, it.low, it.high)


def cost_quality_curve(
    points: Sequence[StrategyPoint],
    *,
    singles: Sequence[StrategyPoint] = (),
    hull: Hull | None = None,
    oracle: StrategyPoint | None = None,
    chosen: StrategyPoint | None = None,
    title: str = "What routing saves",
    subtitle: str = "",
) -> Figure:
    """Draw the cost and quality of strategies and single models, and two bounds on them.

    The lower bound is a coin that is tossed for every query, with one single model on each side (a
    random mix); the upper one is perfect routing, the oracle.

    Costs are per 1,000 queries, on a logarithmic axis if they span more than a factor of 20. An
    arrow from the best single model shows the saving: to the chosen point if there is one, or else
    to the first curve that reaches the same quality at a lower cost.

    Args:
        points: Operating points; points with the same name are one curve with a band of intervals.
        singles: Single models; names are drawn where there is space.
        hull: Corners of the random mixes of single models. If None, computed from `singles`.
        oracle: Point of perfect routing.
        chosen: The operating point that was chosen on other rows.
        title: Title of the figure.
        subtitle: Description of the data, e.g. `"ZeroEval, 852 held-out questions, 95 %
            intervals"`.

    Raises:
        ValueError: If there are no points.
    """
    everything = [*points, *singles, *([oracle] if oracle is not None else [])]
    if len(everything) == 0:
        msg = "`points` or `singles` must have at least one point, got none."
        raise ValueError(msg)
    figure = new(8.6, 5.4)
    ax = axes(
        figure,
        (0.085, 0.12, 0.885, 0.755),
        title=title,
        subtitle=subtitle,
        x="cost per 1,000 queries (USD)",
        y="quality (%)",
    )
    _frame(ax, everything)
    labels = Labels(ax)
    if hull is None and len(singles) > 1:
        hull = random_mix_hull([p.cost_usd for p in singles], [p.quality for p in singles])
    if hull is not None:
        _draw_hull(ax, labels, hull)
    _draw_singles(ax, labels, singles, hull)
    curves = _curves(points)
    for color, curve in zip(_cycle(len(curves)), curves.values(), strict=True):
        _draw_curve(ax, labels, curve, color)
    if oracle is not None:
        _draw_oracle(ax, labels, oracle)
    if chosen is None:
        _draw_saving(ax, labels, curves, singles)
    else:
        _draw_chosen(ax, labels, chosen, singles)
    labels.place()
    return figure


def _curves(points: Sequence[StrategyPoint]) -> dict[str, list[StrategyPoint]]:
    curves: dict[str, list[StrategyPoint]] = {}
    for point in points:
        curves.setdefault(point.name, []).append(point)
    return {name: sorted(curve, key=lambda p: p.cost_usd) for name, curve in curves.items()}


def _cycle(n: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(n)]


def _frame(ax: Axes, points: Sequence[StrategyPoint]) -> None:
    """Set the limits of the axes, which the placement of labels needs."""
    cost = np.array([1000 * p.cost_usd for p in points])
    low = 100 * min(p.quality if p.low is None else p.low for p in points)
    high = 100 * max(p.quality if p.high is None else p.high for p in points)
    pad = max(0.08 * (high - low), 0.5)
    ax.set_ylim(max(low - pad, 0 - pad / 4), min(high + pad, 100 + pad / 2))
    positive = cost[cost > 0]
    if len(positive) == len(cost) and cost.max() > 20 * cost.min():
        ax.set_xscale("log")
        ax.set_xlim(cost.min() / 1.6, cost.max() * 1.9)
    else:
        span = max(float(cost.max() - cost.min()), 0.2 * float(cost.max()), 1e-9)
        ax.set_xlim(max(cost.min() - 0.08 * span, -0.02 * span), cost.max() + 0.14 * span)
    number_axis(ax, format_usd)


def _draw_hull(ax: Axes, labels: Labels, hull: Hull) -> None:
    cost, quality = hull
    # A random mix is linear in cost, which is a curve on a logarithmic axis.
    low, high = max(cost[0], 1e-12), max(cost[-1], 1e-12)
    grid = np.unique(np.concatenate([np.geomspace(low, high, 200), cost]))
    grid = grid[(grid >= cost[0]) & (grid <= cost[-1])]
    x, y = 1000 * grid, 100 * np.interp(grid, cost, quality)
    right = ax.get_xlim()[1]
    x, y = np.append(x, right), np.append(y, y[-1])
    ax.plot(x, y, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    labels.avoid(x, y, line=True)
    # Away from its ends, where the names of the models are.
    drawn = ax.transAxes.inverted().transform(ax.transData.transform(np.column_stack([x, y])))[:, 0]
    inner = (drawn - drawn[0]) / max(float(drawn[-2] - drawn[0]), 1e-9)
    named = (inner > 0.3) & (inner < 0.75)
    if bool(named.any()):
        labels.add(_MIX, x[named], y[named], color=MUTED, size=9, near=True)


def _draw_singles(
    ax: Axes, labels: Labels, singles: Sequence[StrategyPoint], hull: Hull | None
) -> None:
    if len(singles) == 0:
        return
    x, y = [1000 * p.cost_usd for p in singles], [100 * p.quality for p in singles]
    ax.scatter(x, y, s=26, color="#9aa5b1", edgecolor="white", linewidth=0.6, zorder=3)
    labels.avoid(x, y)
    best = max(singles, key=lambda p: p.quality)
    corners = set() if hull is None else set(zip(*hull, strict=True))
    # Models on the hull are labeled first.
    named = [(p is best or (p.cost_usd, p.quality) in corners, p) for p in singles]
    for corner, p in sorted(named, key=lambda pair: not pair[0]):
        labels.add(
            p.name,
            1000 * p.cost_usd,
            100 * p.quality,
            color=INK if corner else MUTED,
            size=9 if corner else 8,
            required=p is best or len(singles) <= 4,
        )


def _draw_curve(ax: Axes, labels: Labels, curve: list[StrategyPoint], color: str) -> None:
    x = np.array([1000 * p.cost_usd for p in curve])
    y = np.array([100 * p.quality for p in curve])
    low = np.array([np.nan if p.low is None else 100 * p.low for p in curve])
    high = np.array([np.nan if p.high is None else 100 * p.high for p in curve])
    if len(curve) == 1:
        bars = None if np.isnan(low[0]) else [y - low, high - y]
        ax.errorbar(x, y, bars, color=color, capsize=3, linewidth=1.4, fmt="none", zorder=5)
        ax.scatter(x, y, s=70, color=color, edgecolor="white", linewidth=1, zorder=6)
    else:
        ax.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0, zorder=2)
        few = "o" if len(curve) <= 15 else None
        ax.plot(x, y, color=color, linewidth=2.2, marker=few, markersize=4.5, zorder=5)
    labels.avoid(x, y, line=len(curve) > 1)
    step = max(1, len(curve) // 25)
    # Labels start at the expensive end, where curves are far apart.
    labels.add(curve[0].name, x[::-step], y[::-step], color=color, size=11, bold=True)


def _draw_oracle(ax: Axes, labels: Labels, oracle: StrategyPoint) -> None:
    x, y = 1000 * oracle.cost_usd, 100 * oracle.quality
    ax.scatter([x], [y], s=130, marker="*", color="#e69f00", edgecolor="white", zorder=6)
    labels.avoid(x, y)
    labels.add(f" {oracle.name} (perfect routing) ", x, y, color="#b07a00", size=10)


def _draw_saving(
    ax: Axes,
    labels: Labels,
    curves: dict[str, list[StrategyPoint]],
    singles: Sequence[StrategyPoint],
) -> None:
    """Draw an arrow from the best single model to the same quality at a lower cost."""
    if len(singles) == 0:
        return
    best = max(singles, key=lambda p: (p.quality, -p.cost_usd))
    saving = _first_saving(curves, best)
    if saving is None or best.cost_usd <= 0:
        return
    name, cost = saving
    saved = 1 - cost / best.cost_usd
    text = f"same quality, {format_share(saved)} cheaper"
    if len(curves) > 1:
        text += f" ({name})"
    _draw_arrow(ax, labels, best, StrategyPoint(name, cost, best.quality), text)


def _draw_chosen(
    ax: Axes, labels: Labels, chosen: StrategyPoint, singles: Sequence[StrategyPoint]
) -> None:
    """Draw the chosen operating point, and an arrow to it from the best single model."""
    x, y = 1000 * chosen.cost_usd, 100 * chosen.quality
    ax.scatter(
        [x], [y], s=_DIAMOND_AREA, marker="D", color=INK, edgecolor="white", linewidth=1.2, zorder=8
    )
    labels.avoid(x, y, radius=math.sqrt(_DIAMOND_AREA / 2))
    if len(singles) == 0:
        return
    best = max(singles, key=lambda p: (p.quality, -p.cost_usd))
    gap = 100 * (chosen.quality - best.quality)
    if best.cost_usd > 0:
        cheaper = 1 - chosen.cost_usd / best.cost_usd
        price = f"{format_share(abs(cheaper))} {'cheaper' if cheaper >= 0 else 'dearer'}"
    else:
        price = "dearer" if chosen.cost_usd > 0 else "as free"
    _draw_arrow(ax, labels, best, chosen, f"{price}, {gap:+.1f} points".replace("-", "−"))


def _draw_arrow(
    ax: Axes, labels: Labels, start: StrategyPoint, end: StrategyPoint, text: str
) -> None:
    x, y = (1000 * end.cost_usd, 1000 * start.cost_usd), (100 * end.quality, 100 * start.quality)
    ax.annotate(
        "",
        (x[0], y[0]),
        xytext=(x[1], y[1]),
        arrowprops={
            "arrowstyle": "-|>",
            "color": INK,
            "linewidth": 1.4,
            "shrinkA": 4,
            "shrinkB": 6,
        },
        zorder=7,
    )
    labels.avoid(x, y, line=True)
    log = ax.get_xscale() == "log"
    along = np.geomspace(*x, 7)[1:-1] if log else np.linspace(*x, 7)[1:-1]
    order = [2, 1, 3, 0, 4]
    labels.add(text, along[order], np.linspace(*y, 7)[1:-1][order], size=11, bold=True)


def _first_saving(
    curves: dict[str, list[StrategyPoint]], best: StrategyPoint
) -> tuple[str, float] | None:
    for name, curve in curves.items():
        cost = cost_at_quality(
            [p.cost_usd for p in curve], [p.quality for p in curve], best.quality
        )
        if cost is not None and cost < 0.98 * best.cost_usd:
            return name, cost
    return None
