"""Metrics of cascades: the benefit per cost over random mixes, and the area under the curve.

Costs are mean costs per query and include every rejected answer and every verification.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.intervals import Interval, Resampling, weighted_bootstrap
from langchain_llm_router.evaluation.metrics import hull_quality, random_mix_hull
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.types.arrays import Floats

__all__ = [
    "cost_quality_area",
    "cost_quality_area_interval",
    "ibc",
    "region_ibc_lift",
    "region_ibc_lift_interval",
]

_Point = tuple[float, float]


def ibc(point: _Point, weak: _Point) -> float:
    """Compute the incremental benefit per cost: quality gained over the weak candidate per USD.

    Args:
        point: (mean cost, mean quality) of the router, verification included.
        weak: (mean cost, mean quality) of the weak candidate alone.

    Raises:
        ValueError: If the router costs no more than the weak candidate.

    References:
        Aggarwal et al., 2024, AutoMix, arXiv:2310.12963, equation 1.

    Example:
        >>> ibc((11.0, 0.5), (1.0, 0.2))
        0.03
    """
    if not point[0] > weak[0]:
        msg = f"`point` must cost more than the weak candidate's {weak[0]!r}, got {point[0]!r}."
        raise ValueError(msg)
    return (point[1] - weak[1]) / (point[0] - weak[0])


def region_ibc_lift(
    cost_usd: ArrayLike,
    quality: ArrayLike,
    single_cost_usd: ArrayLike,
    single_quality: ArrayLike,
    *,
    n_regions: int = 5,
) -> float:
    """Compute the mean lift of the benefit per cost over regions of cost.

    0 is a random mix of single models; 0.5 is 50 % more benefit per cost. The costs from the
    cheapest candidate to the cheapest best candidate are divided into equal regions. In the middle
    of each region, the router's curve is compared with the upper hull of the single models, which
    with two candidates is the paper's baseline. The curve is linear between operating points, with
    single models at its ends.

    Args:
        cost_usd: Mean cost of each operating point in USD, of shape (n_points,).
        quality: Mean quality of each operating point, same shape.
        single_cost_usd: Mean cost of each single candidate in USD, of shape (n_candidates,).
        single_quality: Mean quality of each single candidate, same shape.
        n_regions: Number of regions.

    Raises:
        ValueError: If the cheapest candidate is also the best.

    References:
        Aggarwal et al., 2024, AutoMix, arXiv:2310.12963, equations 1 and 2, section 5.1 (five equal
        cost regions). Deviation: the middle of each region is used instead of a point in it.
    """
    hull = random_mix_hull(single_cost_usd, single_quality)
    if len(hull[0]) < 2:
        msg = "The best candidate must cost more than the cheapest, but they are the same."
        raise ValueError(msg)
    low, high = hull[0][0], hull[0][-1]
    edges = np.linspace(low, high, n_regions + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    reached = _quality_at(middles, cost_usd, quality, hull)
    chord = np.array([hull_quality(float(at), hull) for at in middles])
    return float(np.mean((reached - chord) / (chord - hull[1][0])))


def cost_quality_area(
    cost_usd: ArrayLike,
    quality: ArrayLike,
    single_cost_usd: ArrayLike,
    single_quality: ArrayLike,
) -> float:
    """Compute the mean quality over the costs between the single candidates.

    Unlike in `aiq`, the curve is not replaced by its hull, so poor settings of the knob reduce the
    result. Below its cheapest point the curve is connected to the cheapest candidate; above its
    most expensive point it is horizontal.

    Args:
        cost_usd: Mean cost of each operating point in USD, of shape (n_points,).
        quality: Mean quality of each operating point, same shape.
        single_cost_usd: Mean cost of each single candidate in USD, of shape (n_candidates,).
        single_quality: Mean quality of each single candidate, same shape.

    References:
        Dekoninck et al., 2024, A Unified Approach to Routing and Cascading for LLMs,
        arXiv:2410.10347, section 5 (area under the quality-cost curve, normalized by the span).
    """
    single = np.asarray(single_cost_usd, dtype=np.float64)
    cheapest = int(single.argmin())
    low, high = float(single.min()), float(single.max())
    if not high > low:
        msg = f"The single candidates must differ in cost, but all cost {low!r}."
        raise ValueError(msg)
    cost, value = _sorted(
        np.append(np.asarray(cost_usd, np.float64), low),
        np.append(np.asarray(quality, np.float64), np.asarray(single_quality, float)[cheapest]),
    )
    inside = (cost > low) & (cost < high)
    grid = np.concatenate([[low], cost[inside], [high]])
    return float(np.trapezoid(np.interp(grid, cost, value), grid) / (high - low))


def region_ibc_lift_interval(
    sweep: Sweep,
    outcomes: Outcomes,
    *,
    baseline: Sweep | None = None,
    n_regions: int = 5,
    resampling: Resampling | None = None,
) -> Interval:
    """Compute `region_ibc_lift` with its interval, or the difference from another router.

    Args:
        sweep: Quality and cost of the router on every row at every setting.
        outcomes: Outcomes of the same rows, with every cost.
        baseline: Sweep of another router on the same rows.
        n_regions: Number of regions.
        resampling: Settings of the bootstrap. If None, the defaults.
    """

    def lift(*points: Floats) -> float:
        return region_ibc_lift(*points, n_regions=n_regions)

    return _interval(lift, sweep, outcomes, baseline, resampling)


def cost_quality_area_interval(
    sweep: Sweep,
    outcomes: Outcomes,
    *,
    baseline: Sweep | None = None,
    resampling: Resampling | None = None,
) -> Interval:
    """Compute `cost_quality_area` with its interval, or the difference from another router.

    Args:
        sweep: Quality and cost of the router on every row at every setting.
        outcomes: Outcomes of the same rows, with every cost.
        baseline: Sweep of another router on the same rows.
        resampling: Settings of the bootstrap. If None, the defaults.
    """
    return _interval(cost_quality_area, sweep, outcomes, baseline, resampling)


def _sorted(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Sort points by cost; points of equal cost are averaged because their order is arbitrary."""
    if len(cost) == 0 or np.isnan(cost).any():
        msg = "`cost_usd` must have at least one point and every cost, but lacks some."
        raise ValueError(msg)
    levels, code = np.unique(cost, return_inverse=True)
    return levels, np.bincount(code, quality) / np.bincount(code)


def _quality_at(
    costs: Floats, cost_usd: ArrayLike, quality: ArrayLike, hull: tuple[Floats, Floats]
) -> Floats:
    """Interpolate the router's curve, with the cheapest and the best single model at its ends."""
    at, value = _sorted(np.asarray(cost_usd, np.float64), np.asarray(quality, np.float64))
    if at[0] > hull[0][0]:
        at, value = np.append(hull[0][0], at), np.append(hull[1][0], value)
    if at[-1] < hull[0][-1]:
        at, value = np.append(at, hull[0][-1]), np.append(value, hull[1][-1])
    return np.interp(costs, at, value)


def _interval(
    figure: Callable[..., float],
    sweep: Sweep,
    outcomes: Outcomes,
    baseline: Sweep | None,
    resampling: Resampling | None,
) -> Interval:
    if outcomes.cost_usd is None or np.isnan(outcomes.cost_usd).any():
        msg = "`outcomes` must have every cost for an area or a lift: give every model a price."
        raise ValueError(msg)
    single_cost, single_quality = outcomes.cost_usd, outcomes.quality
    sweeps = [sweep] if baseline is None else [sweep, baseline]

    def statistic(weights: Floats) -> Floats:
        drawn = weights / weights.sum(axis=1, keepdims=True)
        singles = drawn @ single_cost, drawn @ single_quality
        values = np.zeros((len(sweeps), len(weights)))
        for s, each in enumerate(sweeps):
            points = drawn @ each.cost_usd.T, drawn @ each.quality.T
            for i in range(len(weights)):
                values[s, i] = _or_nan(figure, *(part[i] for part in (*points, *singles)))
        difference: Floats = values[0] - values[1:].sum(axis=0)
        return difference

    return weighted_bootstrap(statistic, len(outcomes), resampling or Resampling())


def _or_nan(figure: Callable[..., float], *points: Floats) -> float:
    """Compute a metric, or NaN for a resample in which the cheapest candidate is the best."""
    try:
        return figure(*points)
    except ValueError:
        return float("nan")
