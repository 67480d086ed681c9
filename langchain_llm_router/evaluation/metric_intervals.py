"""Intervals of the metrics APGR, CPT and AIQ, and of paired differences of them.

A difference is one on the same rows for both routers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.intervals import (
    Interval,
    Resampling,
    bounded_mean_interval,
    difference_interval,
    ratio_interval,
    smooth_interval,
    weighted_bootstrap,
)
from langchain_llm_router.evaluation.metrics import ROUNDING, aiq, check_pair
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.types.arrays import Floats, label_indices

__all__ = ["aiq_interval", "apgr_interval", "cpt_interval", "tiny_gap_warning"]

_DEFAULT = Resampling()

# Sums of qualities that differ by rounding alone.
_NO_GAP = 1e-9


class _Pair:
    """Rows ranked by predicted win rate, to be scored under many weights."""

    def __init__(self, win_rate: Floats, gain: Floats) -> None:
        self.order = np.argsort(-win_rate, kind="stable")
        ranked = win_rate[self.order]
        self.starts = np.concatenate([[0], np.flatnonzero(np.diff(-ranked)) + 1])
        self.gain = gain[self.order]

    def path(self, weights: Floats) -> tuple[Floats, Floats]:
        """Compute cumulative sums of the rows sent to strong and of the quality gained."""
        drawn = weights[:, self.order]
        share = np.add.reduceat(drawn, self.starts, axis=1).cumsum(axis=1)
        gained = np.add.reduceat(drawn * self.gain, self.starts, axis=1).cumsum(axis=1)
        first = np.zeros((len(weights), 1))
        return np.hstack([first, share]), np.hstack([first, gained])


def apgr_interval(
    win_rate: ArrayLike,
    weak_quality: ArrayLike,
    strong_quality: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
    resampling: Resampling = _DEFAULT,
) -> Interval:
    """Compute the APGR with its interval, or its difference from another router's APGR.

    It is `ratio_interval` of the area and the gap, so both ends are infinite where the gap cannot
    be told from 0 by `difference_interval`; `tiny_gap_warning` asks the same and says so in words.

    Where no query loses by strong (or none gains), the APGR is a share, and the interval is widened
    to the score interval of as many unweighted scores as have the same standard error: at 95 % it
    held 96 to 100 % where 5 to 30 % of 200 or 800 queries gain and the router is good, Fieller's 85
    to 95 %. Where a few queries gain and others lose, Fieller's alone is left, which can be short.
    The difference of a router from one with the same ranking is exactly 0.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
        baseline: Predicted win rates of another router. If None, there is no difference.
        groups: Label of each query, for the APGR within groups (`within_group_apgr`).
        resampling: Confidence level and clusters; no rows are redrawn.

    Raises:
        ValueError: If lengths differ, a win rate is NaN, or a quality is not in [0, 1].
    """
    rates = [_rates(win_rate, weak_quality, strong_quality)]
    if baseline is not None:
        rates.append(_rates(baseline, weak_quality, strong_quality))
    gap = _gap(weak_quality, strong_quality, resampling)
    gain = np.asarray(strong_quality, np.float64) - np.asarray(weak_quality, np.float64)
    codes = np.zeros(len(gain), dtype=np.intp)
    if groups is not None:
        if len(groups) != len(gain):
            msg = f"`groups` has {len(groups)} entries for {len(gain)} queries."
            raise ValueError(msg)
        codes = label_indices(groups)
    areas = np.zeros((len(rates), len(gain)))
    for code in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == code)
        for area, rate in zip(areas, rates, strict=True):
            area[rows] = _area_by_row(rate[rows], gain[rows])
    above = areas[0] - areas[1:].sum(axis=0)
    found = ratio_interval(above, gain, resampling)
    if baseline is not None and found.value == 0 and _same_order(*rates):
        return Interval(0.0, 0.0, 0.0)
    if _is_tiny(gap):
        return Interval(found.value, -math.inf, math.inf)
    one_sign = gain.min() >= 0 or gain.max() <= 0
    if baseline is not None or not one_sign:
        return found
    n_gains = len(np.unique(resampling.codes(len(gain))[gain != 0]))
    return _of_share(found, n_gains, resampling.confidence)


def _of_share(found: Interval, n_gains: int, confidence: float) -> Interval:
    """Widen the interval of a share in [0, 1] to the score interval with its standard error."""
    value, width = found.value, found.high - found.low
    if not (0 <= value <= 1 and width < math.inf):
        return found
    variance, n = value * (1 - value), float(n_gains)
    if variance > 0 and width > 0:
        n = variance * (2 * float(norm.ppf((1 + confidence) / 2)) / width) ** 2
    # With less than one and a half scores any mean is possible anyway.
    score = bounded_mean_interval(value, variance, n, max(n, 1.5), confidence, bounds=(0.0, 1.0))
    return replace(found, low=min(found.low, score.low), high=max(found.high, score.high))


def _rates(win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike) -> Floats:
    check_pair(win_rate, weak_quality, strong_quality)
    rates = np.asarray(win_rate, dtype=np.float64)
    if np.isnan(rates).any():
        msg = "Win rates must be numbers, got nan: leave out the queries without one."
        raise ValueError(msg)
    return rates


def _same_order(first: Floats, second: Floats) -> bool:
    ranks, others = (np.unique(rates, return_inverse=True)[1] for rates in (first, second))
    return bool(np.array_equal(ranks, others))


def _gap(weak_quality: ArrayLike, strong_quality: ArrayLike, resampling: Resampling) -> Interval:
    """Compute the gap between strong and weak with the interval that decides if it is tiny."""
    for name, quality in (("weak_quality", weak_quality), ("strong_quality", strong_quality)):
        values = np.asarray(quality, dtype=np.float64)
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            msg = f"`{name}` must be in [0, 1], got {float(values[wrong][0])!r}."
            raise ValueError(msg)
    return difference_interval(strong_quality, weak_quality, resampling)


def _is_tiny(gap: Interval) -> bool:
    return gap.low <= 0 <= gap.high


def _area_by_row(win_rate: Floats, gain: Floats) -> Floats:
    """Return values whose mean is ∫ gain d(share), and whose spread gives its standard error.

    The area is the mean of g·h over rows, where g is the gain of a row and h the share of the rows
    that are sent to strong after it. As each row also counts in the h of others, its
    influence on the area is larger than g·h by the gain of the rows that are sent earlier.
    """
    _, code, count = np.unique(win_rate, return_inverse=True, return_counts=True)
    sums = np.bincount(code, gain)
    # Of rows with equal win rates half counts as sent before a row, half as sent after it.
    later = (count.cumsum() - count / 2) / len(gain)
    earlier = (sums.sum() - sums.cumsum() + sums / 2) / len(gain)
    twice = gain * later[code] + earlier[code]
    rows: Floats = twice - twice.mean() / 2
    return rows


def tiny_gap_warning(
    weak_quality: ArrayLike, strong_quality: ArrayLike, *, resampling: Resampling = _DEFAULT
) -> str | None:
    """Return a warning about shares of a quality gap that cannot be told from 0; else None.

    Args:
        weak_quality: Measured quality of the weak candidate, of shape (n_queries,).
        strong_quality: Measured quality of the strong candidate, same shape.
        resampling: Confidence level and clusters.

    Raises:
        ValueError: If a quality is not in [0, 1].
    """
    gap = _gap(weak_quality, strong_quality, resampling)
    if not _is_tiny(gap):
        return None
    value, low, high = (100 * end for end in (gap.value, gap.low, gap.high))
    return (
        f"The gap between strong and weak is {value:+.1f} points ({low:+.1f} to {high:+.1f}): a "
        "share of it says little."
    )


def cpt_interval(
    win_rate: ArrayLike,
    weak_quality: ArrayLike,
    strong_quality: ArrayLike,
    recovered: float,
    *,
    resampling: Resampling = _DEFAULT,
) -> Interval:
    """Compute the call-performance threshold (`cpt`) with its interval.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
        recovered: Share of the gap to recover, in (0, 1].
        resampling: Settings of the bootstrap.
    """
    rates = _rates(win_rate, weak_quality, strong_quality)
    if not 0 < recovered <= 1:
        msg = f"`recovered` must be in (0, 1], got {recovered!r}."
        raise ValueError(msg)
    gain = np.asarray(strong_quality, np.float64) - np.asarray(weak_quality, np.float64)
    pair = _Pair(rates, gain)

    def statistic(weights: Floats) -> Floats:
        share, gained = pair.path(weights)
        gap = gained[:, -1:].copy()
        gap[np.abs(gap) < _NO_GAP] = np.nan
        gained, share = gained / gap, share / share[:, -1:]
        first = np.maximum(np.argmax(gained >= recovered - ROUNDING, axis=1), 1)
        row = np.arange(len(weights))
        low, high = gained[row, first - 1], gained[row, first]
        part = (recovered - low) / np.where(high == low, 1.0, high - low)
        crossing: Floats = share[row, first - 1] + part * (
            share[row, first] - share[row, first - 1]
        )
        return crossing

    return weighted_bootstrap(statistic, len(gain), resampling)


def aiq_interval(
    sweep: Sweep,
    outcomes: Outcomes,
    *,
    baseline: Sweep | None = None,
    resampling: Resampling = _DEFAULT,
) -> Interval:
    """Compute the AIQ with its interval, or its difference from another router's AIQ.

    The span of costs is that of the single models, the cheapest of which is added to the points of
    each router because it can always be asked. The interval is `smooth_interval`.

    Args:
        sweep: Quality and cost of the router on every row at every setting.
        outcomes: Outcomes of the same rows, with every cost.
        baseline: Sweep of another router on the same rows, e.g. `single_sweep(outcomes)`.
        resampling: Confidence level and clusters; no rows are redrawn.
    """
    if outcomes.cost_usd is None or np.isnan(outcomes.cost_usd).any():
        msg = "`outcomes` must have every cost for the AIQ: give every model a price."
        raise ValueError(msg)
    sweeps = [sweep] if baseline is None else [sweep, baseline]
    points = [part.T for each in sweeps for part in (each.cost_usd, each.quality)]

    def figure(costs: Floats, quality: Floats, *means: Floats) -> float:
        heights = [
            _height(costs, quality, *pair) for pair in zip(means[::2], means[1::2], strict=True)
        ]
        return heights[0] - sum(heights[1:])

    return smooth_interval(figure, [outcomes.cost_usd, outcomes.quality, *points], resampling)


def _height(costs: Floats, quality: Floats, point_cost: Floats, point_quality: Floats) -> float:
    cheapest = int(costs.argmin())
    return aiq(
        np.append(point_cost, costs[cheapest]),
        np.append(point_quality, quality[cheapest]),
        (float(costs[cheapest]), float(costs.max())),
    )
