"""Quality and cost of a family of policies on every row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["Sweep", "cheapest_good_enough", "single_sweep", "utility_choices", "utility_sweep"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Quality and cost of every row at every setting of a knob.

    Attributes:
        knob: Values of the knob, of shape (n_points,).
        quality: Quality of the accepted answers, of shape (n_points, n_queries).
        cost_usd: Cost of each query in USD, same shape; NaN where unknown.
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


def cheapest_good_enough(
    quality: ArrayLike, cost_usd: ArrayLike, single: ArrayLike, *, tolerance: float = 0.5
) -> int:
    """Return the cheapest setting that is not measurably worse than a single model.

    That is, whose mean quality is below the single model's by at most half of the standard error of
    the difference. Where there is none, the setting of the highest quality is returned.

    Args:
        quality: Quality of every row at each setting, of shape (n_settings, n_queries).
        cost_usd: Cost in USD, same shape.
        single: Quality of the single model's answers, of shape (n_queries,).
        tolerance: Number of standard errors, at least 0.

    Example:
        >>> quality, cost = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], [[1] * 4, [2] * 4, [9] * 4]
        >>> cheapest_good_enough(quality, cost, [1, 1, 1, 0])
        1
    """
    reached, cost = np.asarray(quality, dtype=np.float64), np.asarray(cost_usd, dtype=np.float64)
    difference = reached - np.asarray(single, dtype=np.float64)
    error = difference.std(axis=1) / np.sqrt(difference.shape[1])
    good = np.flatnonzero(difference.mean(axis=1) >= -tolerance * error)
    if len(good) == 0:
        return int(difference.mean(axis=1).argmax())
    return int(good[cost[good].mean(axis=1).argmin()])


def single_sweep(outcomes: Outcomes) -> Sweep:
    """Return a sweep with one point per single candidate; its hull is that of random mixes."""
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
    """Replay the policy `Utility` with λ on cost, for many λ from ∞ down to 0.

    Args:
        predicted: Predicted quality, of shape (n_queries, n_candidates).
        outcomes: Measured quality and cost, with the same rows and columns.
        expected_cost_usd: Expected cost of a call in USD, of shape (n_candidates,) or (n_queries,
            n_candidates). If None, the mean cost of each candidate in `outcomes`.
        n_points: Maximum number of values of λ at which choices change.
    """
    guess = np.asarray(predicted, dtype=np.float64)
    if guess.shape != outcomes.quality.shape:
        msg = f"`predicted` has shape {guess.shape}, the outcomes {outcomes.quality.shape}."
        raise ValueError(msg)
    costs = _costs(outcomes)
    expected_cost = costs.mean(axis=0) if expected_cost_usd is None else expected_cost_usd
    expected_cost = np.broadcast_to(np.asarray(expected_cost, dtype=np.float64), guess.shape)
    if np.isnan(expected_cost).any():
        msg = "`expected_cost_usd` must have every cost for a sweep over λ, but lacks some."
        raise ValueError(msg)
    knobs = _break_points(guess, expected_cost, n_points)[::-1]
    lambdas = np.concatenate([[np.inf], knobs])
    rows = np.arange(len(guess))
    quality, spent = np.empty((2, len(lambdas), len(rows)))
    for i, lambda_ in enumerate(lambdas.tolist()):
        # At infinity quality only breaks ties.
        columns = (
            _best(-expected_cost, -guess)
            if i == 0
            else utility_choices(guess, expected_cost, lambda_)
        )
        quality[i], spent[i] = outcomes.quality[rows, columns], costs[rows, columns]
    return Sweep(lambdas, quality, spent)


def utility_choices(quality: ArrayLike, cost_usd: ArrayLike, lambda_: float) -> Indices:
    """Return the column that `Utility(cost=lambda_)` chooses in each row, for all rows at once.

    Args:
        quality: Predicted quality, of shape (n_rows, n_candidates).
        cost_usd: Expected cost of a call in USD, same shape or (n_candidates,).
        lambda_: λ in quality per dollar.
    """
    guess = np.asarray(quality, dtype=np.float64)
    cost = np.broadcast_to(np.asarray(cost_usd, dtype=np.float64), guess.shape)
    return _best(guess - lambda_ * cost, cost)


def _best(utility: Floats, cost: Floats) -> Indices:
    """Return the column of the highest utility per row; ties go to the lower cost, then first."""
    return np.lexsort((cost, -utility), axis=1)[:, 0]


def _costs(outcomes: Outcomes) -> Floats:
    if outcomes.cost_usd is None:
        return np.full(outcomes.quality.shape, np.nan)
    return outcomes.cost_usd


def _break_points(guess: Floats, cost: Floats, n_points: int) -> Floats:
    """Return 0 and values of λ between those at which a row's choice may change."""
    some = np.unique(np.linspace(0, len(guess) - 1, min(len(guess), 2000)).astype(int))
    i, j = np.triu_indices(guess.shape[1], 1)
    gain, price = guess[some][:, i] - guess[some][:, j], cost[some][:, i] - cost[some][:, j]
    ratio = gain[price != 0] / price[price != 0]
    ratio = ratio[ratio > 0]
    if len(ratio) == 0:
        return np.zeros(1)
    # Midway between two break points the utilities of no row are equal.
    levels = np.unique(np.quantile(ratio, np.linspace(0, 1, n_points)))
    middle = np.concatenate([levels[:1] / 2, (levels[:-1] + levels[1:]) / 2, levels[-1:] * 2])
    return np.concatenate([[0.0], middle])
