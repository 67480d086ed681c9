"""What routing is worth against mixing single models at random, which needs no router at all.

At equal quality it is a share of the cost that is saved, at equal cost it is quality that is
gained. In the intervals the mix is computed again on each draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.intervals import Interval, Resampling, weighted_bootstrap
from langchain_llm_router.evaluation.metrics import hull_quality, random_mix_hull
from langchain_llm_router.types.arrays import Floats

__all__ = ["Spent", "cost_saved", "cost_saved_interval", "quality_above_mix_interval"]


class Spent(Protocol):
    """Quality reached and dollars spent, row by row: a `Replay`, or what was measured live."""

    @property
    def quality(self) -> Floats:
        """Of the accepted answers, of shape (n_rows,)."""

    @property
    def cost_usd(self) -> Floats:
        """Of every call made for them, same shape."""


def cost_saved(done: Spent, outcomes: Outcomes) -> float:
    """Share of the best single model's cost that is saved, counted at equal quality.

    The mean cost is compared with what a random mix of single models costs at the same mean
    quality; above the best single model's quality, with that model's cost. Negative where routing
    is dearer than the mix.

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
    """`cost_saved` with its interval.

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
    """Mean quality above that of a random mix of single models at the same mean cost.

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
        msg = "Savings need every cost: some prices are unknown."
        raise ValueError(msg)
    return costs


def _saved(quality: float, cost: float, single_costs: Floats, single_quality: Floats) -> float:
    hull_cost, hull_q = random_mix_hull(single_costs, single_quality)
    return 1 - cost / float(np.interp(quality, hull_q, hull_cost))


def _above_mix(quality: float, cost: float, single_costs: Floats, single_quality: Floats) -> float:
    return quality - hull_quality(cost, random_mix_hull(single_costs, single_quality))


def _interval(
    figure: Callable[[float, float, Floats, Floats], float],
    done: Spent,
    outcomes: Outcomes,
    resampling: Resampling | None,
) -> Interval:
    costs = _costs(done, outcomes)

    def statistic(weights: Floats) -> Floats:
        drawn = weights / weights.sum(axis=1, keepdims=True)
        quality, cost = drawn @ done.quality, drawn @ done.cost_usd
        single_costs, single_quality = drawn @ costs, drawn @ outcomes.quality
        return np.array(
            [
                figure(float(quality[i]), float(cost[i]), single_costs[i], single_quality[i])
                for i in range(len(drawn))
            ]
        )

    return weighted_bootstrap(statistic, len(outcomes), resampling or Resampling())
