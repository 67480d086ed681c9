"""Metrics of a router, from plain arrays: the gap recovered, areas, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.types.arrays import Floats, Indices

__all__ = [
    "Curve",
    "Reliability",
    "aiq",
    "apgr",
    "auc",
    "brier",
    "check_pair",
    "cost_at_quality",
    "cpt",
    "ece",
    "hull_quality",
    "ibc_lift",
    "pgr",
    "quality_at_cost",
    "random_mix_hull",
    "reliability",
    "win_rate_curve",
    "within_group_apgr",
]


ROUNDING = 1e-12
"""Shares this close are the same: sums over rows differ by their order."""

Hull = tuple[Floats, Floats]
"""Corners of a cost-quality hull: costs in USD, rising, and the quality at each."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Quality and cost while a knob is turned, in the order of the knob.

    Attributes:
        knob: The knob's values, of shape (n_points,).
        quality: Mean quality at each.
        cost_usd: Mean cost at each; NaN where unknown.
        strong_share: Share of queries that asked the dearest (last) candidate.
    """

    knob: Floats
    quality: Floats
    cost_usd: Floats
    strong_share: Floats


def check_pair(win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike) -> None:
    """Raise ValueError unless the three are equally long vectors with at least one row."""
    shapes = [np.shape(values) for values in (win_rate, weak_quality, strong_quality)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        msg = f"Need three equally long vectors, got shapes {shapes}."
        raise ValueError(msg)


def win_rate_curve(
    win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike
) -> Curve:
    """The whole curve of a threshold router over two candidates: one point per distinct win rate.

    Queries with equal win rates move together, as they do behind a real threshold. Costs are
    unknown here; the strong share stands for them.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
    """
    check_pair(win_rate, weak_quality, strong_quality)
    rate = np.asarray(win_rate, dtype=np.float64)
    weak, strong = np.asarray(weak_quality, np.float64), np.asarray(strong_quality, np.float64)
    order = np.argsort(-rate, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(rate)
    ends = np.concatenate([[0], np.flatnonzero(np.diff(-rate[order])) + 1, [len(rate)]])
    knob = np.concatenate([[np.inf], rate[order][ends[1:] - 1]])
    share = ends / len(rate)
    return Curve(knob, weak.mean() + gain[ends], np.full(len(ends), np.nan), share)


def pgr(quality: float, weak_quality: float, strong_quality: float) -> float:
    """Performance gap recovered: 0 is the weak candidate alone, 1 the strong one alone.

    Raises:
        ValueError: If both are equally good, so that there is no gap.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 3.
    """
    gap = strong_quality - weak_quality
    if gap == 0:
        msg = f"There is no gap to recover: both candidates score {weak_quality!r}."
        raise ValueError(msg)
    return (quality - weak_quality) / gap


def _pgr_points(points: Curve) -> tuple[Floats, Floats]:
    order = np.argsort(points.strong_share, kind="stable")
    share, quality = points.strong_share[order], points.quality[order]
    if share[0] > ROUNDING or share[-1] < 1 - ROUNDING:
        msg = (
            f"The curve covers strong shares {share[0]:.3g} to {share[-1]:.3g}; it must reach "
            "from 0 (always weak) to 1 (always strong)."
        )
        raise ValueError(msg)
    return share, np.array([pgr(float(q), float(quality[0]), float(quality[-1])) for q in quality])


def apgr(points: Curve) -> float:
    """Average performance gap recovered: ∫ PGR d(strong share), by the trapezoid rule.

    A random router has 0.5. Deviation from RouteLLM's code: over every threshold instead of
    eleven deciles.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 4.
    """
    share, recovered = _pgr_points(points)
    return float(np.trapezoid(recovered, share))


def within_group_apgr(
    win_rate: ArrayLike,
    weak_quality: ArrayLike,
    strong_quality: ArrayLike,
    groups: Sequence[str],
) -> float:
    """APGR with the same strong share in every group: what is left once the group is known.

    A predictor that only tells data sets apart has 0.5 here. Equals the mean of the groups' own
    APGRs weighted by their gaps, Σ n·gap·APGR / Σ n·gap, so that groups without a gap do no harm.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
        groups: The data set, subject or tenant of each query.
    """
    check_pair(win_rate, weak_quality, strong_quality)
    rate, weak = np.asarray(win_rate, np.float64), np.asarray(weak_quality, np.float64)
    gain = np.asarray(strong_quality, np.float64) - weak
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(codes) != len(rate):
        msg = f"`groups` has {len(codes)} entries for {len(rate)} queries."
        raise ValueError(msg)
    if gain.sum() == 0:
        msg = f"There is no gap to recover: both candidates score {weak.mean()!r}."
        raise ValueError(msg)
    area = 0.0
    for code in range(int(codes.max()) + 1):
        rows = codes == code
        points = win_rate_curve(rate[rows], np.zeros(rows.sum()), gain[rows])
        area += rows.sum() * float(np.trapezoid(points.quality, points.strong_share))
    return area / float(gain.sum())


def cpt(points: Curve, recovered: float) -> float:
    """Call-performance threshold: the smallest strong share whose PGR reaches `recovered`.

    The first crossing, linear between neighbouring points. (Interpolating the inverse, as
    RouteLLM's code does, is wrong where the curve is not monotone.)

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 2.3.
    """
    share, gained = _pgr_points(points)
    # Rounding in sums over rows may miss a share that is recovered exactly.
    reached = gained >= recovered - ROUNDING
    first = int(np.argmax(reached))
    if not reached[first]:
        msg = (
            f"No point recovers {recovered!r} of the gap; the best one recovers {gained.max():.3f}."
        )
        raise ValueError(msg)
    if first == 0:
        return float(share[0])
    low, high = gained[first - 1], gained[first]
    part = (recovered - low) / (high - low)
    return float(share[first - 1] + part * (share[first] - share[first - 1]))


def random_mix_hull(cost_usd: ArrayLike, quality: ArrayLike) -> Hull:
    """Corners (cost, quality) of what random mixing of single models reaches, cheapest first.

    The upper concave hull, non-decreasing in cost: beyond its last corner more money buys nothing.
    """
    points = sorted(
        zip(np.asarray(cost_usd, float), np.asarray(quality, float), strict=True),
        key=lambda point: (point[0], -point[1]),
    )
    hull: list[tuple[float, float]] = []
    for cost, value in points:
        if hull and value <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (cost, value)):
            hull.pop()
        hull.append((float(cost), float(value)))
    corners = np.array(hull)
    return corners[:, 0], corners[:, 1]


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def hull_quality(cost_usd: float, hull: Hull) -> float:
    """Quality that a random mix of single models reaches at a mean cost."""
    return float(np.interp(cost_usd, *hull))


def _known_hull(cost_usd: ArrayLike, quality: ArrayLike) -> Hull:
    cost = np.asarray(cost_usd, dtype=np.float64)
    if len(cost) == 0 or np.isnan(cost).any():
        msg = "Areas and costs need every cost: some are unknown, or there are no points."
        raise ValueError(msg)
    return random_mix_hull(cost, quality)


def quality_at_cost(cost_usd: ArrayLike, quality: ArrayLike, budget_usd: float) -> float | None:
    """Best mean quality at a mean cost of at most `budget_usd`, mixing points at random.

    Args:
        cost_usd: Mean cost of each operating point, of shape (n_points,).
        quality: Mean quality of each, same shape.
        budget_usd: What a query may cost on average.

    Returns:
        The quality on the hull of the points; None if no point is that cheap.
    """
    hull = _known_hull(cost_usd, quality)
    return None if budget_usd < hull[0][0] else hull_quality(budget_usd, hull)


def cost_at_quality(cost_usd: ArrayLike, quality: ArrayLike, target: float) -> float | None:
    """Least mean cost in USD that reaches a mean quality, mixing points at random.

    Args:
        cost_usd: Mean cost of each operating point, of shape (n_points,).
        quality: Mean quality of each, same shape.
        target: The mean quality wanted.

    Returns:
        The cost on the hull of the points; None if no point is that good.
    """
    hull_cost, hull_q = _known_hull(cost_usd, quality)
    return None if target > hull_q[-1] else float(np.interp(target, hull_q, hull_cost))


def aiq(cost_usd: ArrayLike, quality: ArrayLike, span_usd: tuple[float, float]) -> float:
    """Average improvement in quality: mean height of the cost-quality hull over a span of costs.

    Args:
        cost_usd: Mean cost of each operating point, of shape (n_points,).
        quality: Mean quality of each, same shape.
        span_usd: Cheapest and dearest cost of the span, usually those of the single models.

    Raises:
        ValueError: If the span is empty or no point is as cheap as its cheap end.

    References:
        Hu et al., 2024, RouterBench, arXiv:2403.12031, section 3 (non-decreasing convex hull,
        extended flat to the dearest cost). Deviation: the span begins at the cheapest model
        instead of 0, where nothing can be bought.
    """
    low, high = span_usd
    hull_cost, hull_q = _known_hull(cost_usd, quality)
    if not high > low:
        msg = f"`span_usd` must rise, got {span_usd!r}."
        raise ValueError(msg)
    if hull_cost[0] > low + 1e-9 * (high - low):
        msg = (
            f"The cheapest point costs {hull_cost[0]:.6g}, the span begins at {low:.6g}: add the "
            "cheapest single model to the points."
        )
        raise ValueError(msg)
    inside = (hull_cost > low) & (hull_cost < high)
    grid = np.concatenate([[low], hull_cost[inside], [high]])
    return float(np.trapezoid(np.interp(grid, hull_cost, hull_q), grid) / (high - low))


def ibc_lift(
    point: tuple[float, float], weak: tuple[float, float], strong: tuple[float, float]
) -> float:
    """Incremental benefit per cost over mixing weak and strong at random: 0.5 is 50 % more.

    Args:
        point: (mean cost, mean quality) of the router, verification included.
        weak: (mean cost, mean quality) of the weak candidate alone.
        strong: (mean cost, mean quality) of the strong candidate alone.

    Raises:
        ValueError: If the router costs no more than the weak candidate, or strong is no better.

    References:
        Aggarwal et al., 2024, AutoMix, arXiv:2310.12963, equations 1 and 2 (there in percent).
    """
    if not (point[0] > weak[0] and strong[0] > weak[0] and strong[1] > weak[1]):
        msg = f"The lift needs costs above {weak!r} and a better strong, got {point!r}, {strong!r}."
        raise ValueError(msg)
    slope = (point[1] - weak[1]) / (point[0] - weak[0])
    base = (strong[1] - weak[1]) / (strong[0] - weak[0])
    return (slope - base) / base


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Probability that a positive row scores above a negative one, ties counted half.

    Raises:
        ValueError: If only one kind of row is present.
    """
    scores, positive = np.asarray(score, np.float64), np.asarray(label, dtype=bool)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        msg = f"AUC needs both labels, got {n_positive} positive and {n_negative} negative rows."
        raise ValueError(msg)
    ordered = np.sort(scores[~positive])
    below = np.searchsorted(ordered, scores[positive], side="left")
    not_above = np.searchsorted(ordered, scores[positive], side="right")
    return float((below + not_above).sum() / (2 * n_positive * n_negative))


def brier(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Mean squared error of predicted qualities, over everything in the arrays: 0 is perfect."""
    return float(np.mean((np.asarray(predicted, float) - np.asarray(measured, float)) ** 2))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against measured quality, bin by bin; only bins that are not empty.

    Attributes:
        predicted: Mean predicted quality per bin, of shape (n_bins,).
        measured: Mean measured quality per bin.
        count: How many predictions fell into it.
    """

    predicted: Floats
    measured: Floats
    count: Indices


def reliability(predicted: ArrayLike, measured: ArrayLike, *, n_bins: int = 10) -> Reliability:
    """The reliability curve over `n_bins` equally wide bins of predicted quality.

    Args:
        predicted: Predicted qualities in [0, 1], any shape.
        measured: Measured qualities, same shape.
        n_bins: How many bins the interval [0, 1] is cut into.
    """
    guess = np.asarray(predicted, np.float64).ravel()
    truth = np.asarray(measured, np.float64).ravel()
    if guess.shape != truth.shape or len(guess) == 0:
        msg = f"Need equally many predictions and measurements, got {len(guess)} and {len(truth)}."
        raise ValueError(msg)
    if n_bins < 1 or guess.min() < 0 or guess.max() > 1:
        msg = f"Predictions must be in [0, 1] and `n_bins` >= 1, got {n_bins!r} bins."
        raise ValueError(msg)
    bins = np.minimum((guess * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    held = count > 0
    return Reliability(
        np.bincount(bins, guess, n_bins)[held] / count[held],
        np.bincount(bins, truth, n_bins)[held] / count[held],
        count[held].astype(np.intp),
    )


def ece(predicted: ArrayLike, measured: ArrayLike, *, n_bins: int = 10) -> float:
    """Expected calibration error: mean distance of the reliability curve from the diagonal.

    References:
        Guo et al., 2017, On calibration of modern neural networks, arXiv:1706.04599, equation 3.
    """
    curve = reliability(predicted, measured, n_bins=n_bins)
    return float(np.average(np.abs(curve.predicted - curve.measured), weights=curve.count))
