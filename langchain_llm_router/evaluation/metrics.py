"""Metrics of routers and predictions, computed from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.types.arrays import Floats, Indices, label_indices

__all__ = [
    "ROUNDING",
    "Curve",
    "Hull",
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
"""Shares with a smaller difference are equal, because sums depend on the order of the rows."""

Hull = tuple[Floats, Floats]
"""Corners of a cost-quality hull: costs in USD, rising, and the quality at each."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Quality and cost at each value of a knob.

    Attributes:
        knob: Values of the knob, of shape (n_points,).
        quality: Mean quality at each value, same shape.
        cost_usd: Mean cost at each value in USD, same shape; NaN where unknown.
        strong_share: Share of the queries on which the last candidate was asked, same shape.
    """

    knob: Floats
    quality: Floats
    cost_usd: Floats
    strong_share: Floats


def check_pair(win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike) -> None:
    """Raise ValueError unless the three are equally long vectors with at least one row."""
    shapes = [np.shape(values) for values in (win_rate, weak_quality, strong_quality)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        msg = (
            "`win_rate`, `weak_quality` and `strong_quality` must be vectors of the same length, "
            f"at least 1, got the shapes {shapes}."
        )
        raise ValueError(msg)


def win_rate_curve(
    win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike
) -> Curve:
    """Compute the curve of a threshold router: one point per distinct predicted win rate.

    Queries with equal win rates change candidates together, as with a real threshold. Costs are
    unknown; the strong share is a substitute.

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
    """Compute the performance gap recovered: 0 for the weak candidate alone, 1 for the strong.

    Raises:
        ValueError: If both are equally good, so that there is no gap.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 3.
    """
    gap = strong_quality - weak_quality
    if gap == 0:
        msg = f"The candidates must differ in mean quality, but both have {weak_quality!r}."
        raise ValueError(msg)
    return (quality - weak_quality) / gap


def _pgr_points(points: Curve) -> tuple[Floats, Floats]:
    order = np.argsort(points.strong_share, kind="stable")
    share, quality = points.strong_share[order], points.quality[order]
    if share[0] > ROUNDING or share[-1] < 1 - ROUNDING:
        msg = (
            "The strong shares of the curve must reach from 0 (always weak) to 1 (always strong), "
            f"got {share[0]:.3g} to {share[-1]:.3g}."
        )
        raise ValueError(msg)
    return share, np.array([pgr(float(q), float(quality[0]), float(quality[-1])) for q in quality])


def apgr(points: Curve) -> float:
    """Compute the average performance gap recovered: ∫ PGR d(strong share), by trapezoids.

    A random router has 0.5. Deviation from RouteLLM's code: all thresholds are used instead of
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
    """Compute the APGR with the same strong share in every group.

    A predictor that only distinguishes data sets has 0.5. The result is the mean of the APGRs of
    the groups, weighted by their gaps: Σ n·gap·APGR / Σ n·gap. Groups without a gap have weight 0.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
        groups: Label of each query, e.g. its data set, subject or tenant.
    """
    check_pair(win_rate, weak_quality, strong_quality)
    rate, weak = np.asarray(win_rate, np.float64), np.asarray(weak_quality, np.float64)
    gain = np.asarray(strong_quality, np.float64) - weak
    codes = label_indices(groups)
    if len(codes) != len(rate):
        msg = f"`groups` has {len(codes)} entries for {len(rate)} queries."
        raise ValueError(msg)
    if gain.sum() == 0:
        msg = f"The candidates must differ in mean quality, but both have {weak.mean()!r}."
        raise ValueError(msg)
    area = 0.0
    for code in range(int(codes.max()) + 1):
        rows = codes == code
        points = win_rate_curve(rate[rows], np.zeros(rows.sum()), gain[rows])
        area += rows.sum() * float(np.trapezoid(points.quality, points.strong_share))
    return area / float(gain.sum())


def cpt(points: Curve, recovered: float) -> float:
    """Compute the call-performance threshold: the smallest strong share with a given PGR.

    It is the first crossing, with linear interpolation between points. (RouteLLM's code
    interpolates the inverse, which is wrong where the curve is not monotone.)

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 2.3.
    """
    share, gained = _pgr_points(points)
    # Without the tolerance, rounding could miss a share that is recovered exactly.
    reached = gained >= recovered - ROUNDING
    first = int(np.argmax(reached))
    if not reached[first]:
        msg = (
            f"`recovered` must be at most {gained.max():.3f}, the largest share of the gap on the "
            f"curve, got {recovered!r}."
        )
        raise ValueError(msg)
    if first == 0:
        return float(share[0])
    low, high = gained[first - 1], gained[first]
    part = (recovered - low) / (high - low)
    return float(share[first - 1] + part * (share[first] - share[first - 1]))


def random_mix_hull(cost_usd: ArrayLike, quality: ArrayLike) -> Hull:
    """Compute the corners (cost, quality) of the random mixes of single models, cheapest first.

    They are the upper concave hull, which does not decrease with cost.
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
    """Compute the quality of the random mix with a given mean cost."""
    return float(np.interp(cost_usd, *hull))


def _known_hull(cost_usd: ArrayLike, quality: ArrayLike) -> Hull:
    cost = np.asarray(cost_usd, dtype=np.float64)
    if len(cost) == 0 or np.isnan(cost).any():
        msg = "`cost_usd` must have at least one point and every cost, but lacks some."
        raise ValueError(msg)
    return random_mix_hull(cost, quality)


def quality_at_cost(cost_usd: ArrayLike, quality: ArrayLike, budget_usd: float) -> float | None:
    """Compute the best mean quality of random mixes of points within a budget.

    Args:
        cost_usd: Mean cost of each operating point in USD, of shape (n_points,).
        quality: Mean quality of each operating point, same shape.
        budget_usd: Maximum mean cost of a query in USD.

    Returns:
        The quality on the hull of the points; None if every point costs more.
    """
    hull = _known_hull(cost_usd, quality)
    return None if budget_usd < hull[0][0] else hull_quality(budget_usd, hull)


def cost_at_quality(cost_usd: ArrayLike, quality: ArrayLike, target: float) -> float | None:
    """Compute the lowest mean cost of random mixes of points with a given mean quality.

    Args:
        cost_usd: Mean cost of each operating point in USD, of shape (n_points,).
        quality: Mean quality of each operating point, same shape.
        target: The mean quality to reach.

    Returns:
        The cost in USD on the hull of the points; None if every point has a lower quality.
    """
    hull_cost, hull_q = _known_hull(cost_usd, quality)
    return None if target > hull_q[-1] else float(np.interp(target, hull_q, hull_cost))


def aiq(cost_usd: ArrayLike, quality: ArrayLike, span_usd: tuple[float, float]) -> float:
    """Compute the average improvement in quality: the mean of the cost-quality hull over costs.

    Args:
        cost_usd: Mean cost of each operating point in USD, of shape (n_points,).
        quality: Mean quality of each operating point, same shape.
        span_usd: Lowest and highest cost in USD, usually those of the single models.

    Raises:
        ValueError: If the span is empty, or every point costs more than its lower end.

    References:
        Hu et al., 2024, RouterBench, arXiv:2403.12031, section 3 (non-decreasing convex hull,
        extended horizontally to the highest cost). Deviation: the span begins at the cheapest
        model instead of 0.
    """
    low, high = span_usd
    hull_cost, hull_q = _known_hull(cost_usd, quality)
    if not high > low:
        msg = f"The second cost of `span_usd` must be above the first, got {span_usd!r}."
        raise ValueError(msg)
    if hull_cost[0] > low + 1e-9 * (high - low):
        msg = (
            f"A point must cost {low:.6g}, the start of `span_usd`, or less, but the cheapest "
            f"costs {hull_cost[0]:.6g}: add the cheapest single model to the points."
        )
        raise ValueError(msg)
    inside = (hull_cost > low) & (hull_cost < high)
    grid = np.concatenate([[low], hull_cost[inside], [high]])
    return float(np.trapezoid(np.interp(grid, hull_cost, hull_q), grid) / (high - low))


def ibc_lift(
    point: tuple[float, float], weak: tuple[float, float], strong: tuple[float, float]
) -> float:
    """Compute the lift of the benefit per cost over random mixes; 0.5 is 50 % more.

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
        msg = (
            f"`point` and `strong` must cost more than `weak` {weak!r}, and `strong` must be "
            f"better, got {point!r} and {strong!r}."
        )
        raise ValueError(msg)
    slope = (point[1] - weak[1]) / (point[0] - weak[0])
    base = (strong[1] - weak[1]) / (strong[0] - weak[0])
    return (slope - base) / base


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Compute the area under the ROC curve.

    It is the probability that a positive row has a higher score than a negative row, where a tie
    counts half.

    Raises:
        ValueError: If there are no positive or no negative rows.
    """
    scores, positive = np.asarray(score, np.float64), np.asarray(label, dtype=bool)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        msg = (
            "`label` must have positive and negative rows, "
            f"got {n_positive} positive and {n_negative} negative."
        )
        raise ValueError(msg)
    ordered = np.sort(scores[~positive])
    below = np.searchsorted(ordered, scores[positive], side="left")
    not_above = np.searchsorted(ordered, scores[positive], side="right")
    return float((below + not_above).sum() / (2 * n_positive * n_negative))


def brier(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Compute the mean squared error of predicted qualities over all entries; 0 is perfect."""
    return float(np.mean((np.asarray(predicted, float) - np.asarray(measured, float)) ** 2))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted and measured quality in bins of predicted quality, without empty bins.

    Attributes:
        predicted: Mean predicted quality per bin, of shape (n_bins,).
        measured: Mean measured quality per bin, same shape.
        count: Number of predictions per bin, same shape.
    """

    predicted: Floats
    measured: Floats
    count: Indices


def reliability(predicted: ArrayLike, measured: ArrayLike, *, n_bins: int = 10) -> Reliability:
    """Compute the reliability curve over equally wide bins of predicted quality.

    Args:
        predicted: Predicted qualities in [0, 1], of any shape.
        measured: Measured qualities, same shape.
        n_bins: Number of bins of the interval [0, 1].
    """
    guess = np.asarray(predicted, np.float64).ravel()
    truth = np.asarray(measured, np.float64).ravel()
    if guess.shape != truth.shape or len(guess) == 0:
        msg = (
            "`predicted` and `measured` must have the same number of values, at least 1, "
            f"got {len(guess)} and {len(truth)}."
        )
        raise ValueError(msg)
    if n_bins < 1 or guess.min() < 0 or guess.max() > 1:
        msg = (
            f"`predicted` must be in [0, 1] and `n_bins` >= 1, got values from {guess.min():.4g} "
            f"to {guess.max():.4g} and {n_bins!r} bins."
        )
        raise ValueError(msg)
    bins = np.minimum((guess * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    nonempty = count > 0
    return Reliability(
        np.bincount(bins, guess, n_bins)[nonempty] / count[nonempty],
        np.bincount(bins, truth, n_bins)[nonempty] / count[nonempty],
        count[nonempty].astype(np.intp),
    )


def ece(predicted: ArrayLike, measured: ArrayLike, *, n_bins: int = 10) -> float:
    """Compute the expected calibration error.

    It is the mean distance of the reliability curve from the diagonal.

    References:
        Guo et al., 2017, On calibration of modern neural networks, arXiv:1706.04599, equation 3.
    """
    curve = reliability(predicted, measured, n_bins=n_bins)
    return float(np.average(np.abs(curve.predicted - curve.measured), weights=curve.count))
