"""What a family of routers got on every single row: the table behind curves and intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["Sweep", "single_sweep", "utility_sweep"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Quality and cost of every row at every setting of a knob.

    Attributes:
        knob: The knob's values, of shape (n_points,).
        quality: Quality of the accepted answers, of shape (n_points, n_queries).
        cost_usd: What they cost, same shape; NaN where unknown.
    """

    knob: Floats
    quality: Floats
    cost_usd: Floats

    def __post_init__(self) -> None:
        shape = (len(self.knob), self.quality.shape[-1])
        if self.quality.shape != shape or self.cost_usd.shape != shape:
            msg = (
                f"`quality` and `cost_usd` must have shape {shape}: (points, queries), got "
                f"{self.quality.shape} and {self.cost_usd.shape}."
            )
            raise ValueError(msg)

    @property
    def points(self) -> tuple[Floats, Floats]:
        """Mean cost and mean quality at each setting."""
        return self.cost_usd.mean(axis=1), self.quality.mean(axis=1)


def single_sweep(outcomes: Outcomes) -> Sweep:
    """Every candidate alone: its hull is what random mixing reaches, the baseline to beat."""
    return Sweep(
        np.arange(len(outcomes.candidates), dtype=np.float64),
        np.array(outcomes.quality.T),
        _costs(outcomes).T,
    )


def utility_sweep(
    predicted: ArrayLike,
    outcomes: Outcomes,
    *,
    expected_cost_usd: ArrayLike | None = None,
    n_points: int = 100,
) -> Sweep:
    """Ask the candidate with the best predicted quality − λ·cost, for λ from ∞ down to 0.

    The same choice as the policy `Utility` with weight λ on cost, for all λ at once.

    Args:
        predicted: Predicted quality, of shape (n_queries, n_candidates).
        outcomes: What each candidate really scored and cost.
        expected_cost_usd: What a call is believed to cost, of shape (n_candidates,) or one per
            query and candidate; None: the mean of each candidate in `outcomes`.
        n_points: How many values of λ, spread over the places where choices change.
    """
    guess = np.asarray(predicted, dtype=np.float64)
    if guess.shape != outcomes.quality.shape:
        msg = f"`predicted` has shape {guess.shape}, the outcomes {outcomes.quality.shape}."
        raise ValueError(msg)
    costs = _costs(outcomes)
    believed = costs.mean(axis=0) if expected_cost_usd is None else expected_cost_usd
    believed = np.broadcast_to(np.asarray(believed, dtype=np.float64), guess.shape)
    if np.isnan(believed).any():
        msg = "A sweep over cost needs every expected cost: some are unknown."
        raise ValueError(msg)
    knobs = _break_points(guess, believed, n_points)[::-1]
    chosen = [_best(-believed, -guess), *(_best(guess - it * believed, believed) for it in knobs)]
    rows = np.arange(len(guess))
    return Sweep(
        np.concatenate([[np.inf], knobs]),
        np.array([outcomes.quality[rows, columns] for columns in chosen]),
        np.array([costs[rows, columns] for columns in chosen]),
    )


def _best(utility: Floats, cost: Floats) -> Indices:
    """Column of the highest utility per row; ties go to the lower cost, then to the first."""
    return np.lexsort((cost, -utility), axis=1)[:, 0]


def _costs(outcomes: Outcomes) -> Floats:
    if outcomes.cost_usd is None:
        return np.full(outcomes.quality.shape, np.nan)
    return outcomes.cost_usd


def _break_points(guess: Floats, cost: Floats, n_points: int) -> Floats:
    """Values of λ where some row is indifferent between two candidates, thinned; 0 is first."""
    some = np.unique(np.linspace(0, len(guess) - 1, min(len(guess), 2000)).astype(int))
    i, j = np.triu_indices(guess.shape[1], 1)
    gain, price = guess[some][:, i] - guess[some][:, j], cost[some][:, i] - cost[some][:, j]
    ratio = gain[price != 0] / price[price != 0]
    ratio = ratio[ratio > 0]
    if len(ratio) == 0:
        return np.zeros(1)
    # Midway between two break points no row is indifferent: ties cannot decide a choice.
    levels = np.unique(np.quantile(ratio, np.linspace(0, 1, n_points)))
    middle = np.concatenate([levels[:1] / 2, (levels[:-1] + levels[1:]) / 2, levels[-1:] * 2])
    return np.concatenate([[0.0], middle])
