"""Savings and gains of routing against a random mix of single models.

Savings are a share of the cost at equal quality, and gains are in quality at equal cost. For
intervals, the mix is computed again on each resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.intervals import Interval, Resampling, sums_bootstrap
from langchain_llm_router.evaluation.metrics import hull_quality, random_mix_hull
from langchain_llm_router.types.arrays import Floats

__all__ = ["Spent", "cost_saved", "cost_saved_interval", "quality_above_mix_interval"]


class Spent(Protocol):
    """Quality and cost of each row, from a `Replay` or from measurements of a live router."""

    @property
    def quality(self) -> Floats:
        """Quality of the accepted answers, of shape (n_rows,)."""

    @property
    def cost_usd(self) -> Floats:
        """Cost of all calls of each row in USD, same shape."""


def cost_saved(done: Spent, outcomes: Outcomes) -> float:
    """Compute the share of the cost that routing saves at equal quality.

    The mean cost is compared with that of a random mix of single models of the same mean quality,
    or with that of the best single model if routing is better. The share is negative if routing
    costs more.

    Args:
        done: What routing reached and spent.
        outcomes: The same rows, with all single models that may be mixed.

    Raises:
        ValueError: If any cost is unknown.
    """
    costs = _costs(done, outcomes)
    return _saved(
        float(done.quality.mean()),
        float(done.cost_usd.mean()),
        costs.mean(axis=0),
        outcomes.quality.mean(axis=0),
    )


def cost_saved_interval(
    done: Spent, outcomes: Outcomes, resampling: Resampling | None = None
) -> Interval:
    """Compute `cost_saved` with its interval.

    Args:
        done: What routing reached and spent.
        outcomes: The same rows, with all single models that may be mixed.
        resampling: How rows are redrawn.

    Raises:
        ValueError: If any cost is unknown.
    """
    return _interval(_saved, done, outcomes, resampling)


def quality_above_mix_interval(
    done: Spent, outcomes: Outcomes, resampling: Resampling | None = None
) -> Interval:
    """Compute the mean quality above that of a random mix of single models of equal mean cost.

    Args:
        done: What routing reached and spent.
        outcomes: The same rows, with all single models that may be mixed.
        resampling: How rows are redrawn.

    Raises:
        ValueError: If any cost is unknown.
    """
    return _interval(_above_mix, done, outcomes, resampling)


def _costs(done: Spent, outcomes: Outcomes) -> Floats:
    costs = outcomes.cost_usd
    if costs is None or np.isnan(costs).any() or np.isnan(done.cost_usd).any():
        msg = "Savings need every cost, but some are unknown: give every model a price."
        raise ValueError(msg)
    return costs


def _saved(quality: float, cost: float, single_costs: Floats, single_quality: Floats) -> float:
    hull_cost, hull_q = random_mix_hull(single_costs, single_quality)
    mix_cost = float(np.interp(quality, hull_q, hull_cost))
    if mix_cost > 0:
        return 1 - cost / mix_cost
    # Where a mix of free models is as good, there is nothing to save.
    return -math.inf if cost > 0 else 0.0


def _above_mix(quality: float, cost: float, single_costs: Floats, single_quality: Floats) -> float:
    return quality - hull_quality(cost, random_mix_hull(single_costs, single_quality))


def _interval(
    figure: Callable[[float, float, Floats, Floats], float],
    done: Spent,
    outcomes: Outcomes,
    resampling: Resampling | None,
) -> Interval:
    costs = _costs(done, outcomes)

    def statistic(
        n: Floats, quality: Floats, cost: Floats, single_costs: Floats, single_quality: Floats
    ) -> Floats:
        means = quality / n, cost / n, single_costs / n[:, None], single_quality / n[:, None]
        return np.array(
            [
                figure(float(reached), float(spent), costs, qualities)
                for reached, spent, costs, qualities in zip(*means, strict=True)
            ]
        )

    tables = [np.ones(len(outcomes)), done.quality, done.cost_usd, costs, outcomes.quality]
    return sums_bootstrap(statistic, tables, resampling or Resampling())
