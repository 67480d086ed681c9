"""One-shot routing under a mean budget: λ by bisection, with an exact mixture of ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.one_shot import require_cost, require_quality
from langchain_llm_router.policies.policy import OneShot, query_uniform
from langchain_llm_router.types import Arm, Decision, Situation
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["BudgetedRouting"]


# Utilities within this distance are tied; the error of λ after bisection is smaller.
_TIE = 1e-9


@dataclass(eq=False)
class BudgetedRouting(FittedPolicy, OneShot):
    """Asks the candidate with the best predicted quality - λ·cost, at the λ that fits a budget.

    Among ties the cheapest is asked with probability 1 - γ and the most expensive with γ, so that
    the mean cost equals the budget where the budget binds. The draw depends on the query and the
    seed alone.

    Args:
        max_cost_usd: Mean cost that a query may have.
        seed: Seed of the draw among ties.

    Attributes:
        lambda_: λ in quality per USD; 0 where the budget does not bind.
        gamma_: γ in [0, 1].

    References:
        Dekoninck et al., 2024, arXiv:2410.10347, theorem 1 (optimal routing):
        γ = (B - C_min(λ)) / (C_max(λ) - C_min(λ)).

    Example:
        >>> policy = BudgetedRouting(2.0).fit([[0.5, 0.9], [0.5, 0.9]], [1.0, 5.0])
        >>> round(policy.lambda_, 6), round(policy.gamma_, 6)
        (0.1, 0.25)
    """

    max_cost_usd: float
    seed: int = 0

    _fitted_attribute: ClassVar[str] = "lambda_"
    _fit_call: ClassVar[str] = "fit(quality, cost_usd)"

    def __post_init__(self) -> None:
        if not 0 < self.max_cost_usd < np.inf:
            msg = f"`max_cost_usd` must be > 0, got {self.max_cost_usd!r}."
            raise ValueError(msg)

    def fit(
        self, quality: ArrayLike, cost_usd: ArrayLike, *, spent_usd: ArrayLike | None = None
    ) -> Self:
        """Find λ and γ on queries like those to be routed.

        Args:
            quality: Predicted quality in [0, 1], of shape (n_queries, n_candidates), for rows that
                the estimator was not fitted on, because it is overconfident on training rows.
            cost_usd: Expected cost of a call, of shape (n_candidates,) or like `quality`.
            spent_usd: Actual cost of each call, like `quality`. The budget then applies to it,
                because the queries routed to a candidate may cost more than its mean.

        Raises:
            ValueError: If the cheapest candidates cost more than the budget.
        """
        q = np.asarray(quality, dtype=np.float64)
        if q.ndim != 2 or q.size == 0 or np.isnan(q).any():
            msg = (
                f"`quality` must have shape (n_queries, n_candidates), without NaN, got {q.shape}."
            )
            raise ValueError(msg)
        c = np.broadcast_to(np.asarray(cost_usd, dtype=np.float64), q.shape)
        if np.isnan(c).any() or c.min() < 0:
            msg = "`cost_usd` must be >= 0, without NaN: give each candidate a price."
            raise ValueError(msg)
        paid = c if spent_usd is None else np.asarray(spent_usd, dtype=np.float64)
        if paid.shape != q.shape or np.isnan(paid).any():
            msg = f"`spent_usd` must have shape {q.shape}, without NaN, got {paid.shape}."
            raise ValueError(msg)
        least = float(np.take_along_axis(paid, c.argmin(axis=1)[:, None], axis=1).mean())
        if least > self.max_cost_usd:
            msg = (
                f"The cheapest candidates cost {least:.6g} USD a query on average, more than "
                f"`max_cost_usd` {self.max_cost_usd!r}."
            )
            raise ValueError(msg)
        self.lambda_, self.gamma_ = self._find(q, c, paid)
        return self

    def choose(self, situation: Situation) -> Decision:
        """Choose the argmax of quality - λ·cost over the arms not asked yet; draw among ties."""
        self._check_fitted()
        lambda_, gamma = self.lambda_, self.gamma_
        if situation.options.lambda_ is not None:
            lambda_, gamma = situation.options.lambda_, 0.0
        name = type(self).__name__
        scored: list[tuple[float, float, Arm]] = []
        for arm in situation.open_arms:
            cost = require_cost(arm, name)
            scored.append((require_quality(arm, name) - lambda_ * cost, cost, arm))
        best = max(utility for utility, _, _ in scored)
        ties = [item for item in scored if best - item[0] <= _TIE]
        cheapest, dearest = min(ties, key=_cost), max(ties, key=_cost)
        chosen, propensity = cheapest, 1.0
        if dearest[1] > cheapest[1]:
            drawn = query_uniform(situation.query, self.seed) < gamma
            chosen, propensity = (dearest, gamma) if drawn else (cheapest, 1 - gamma)
        scores = {
            arm.candidate: {"quality": arm.quality, "cost_usd": cost, "utility": utility}
            for utility, cost, arm in scored
        }
        reason = f"highest quality - λ·cost {chosen[0]:.4g} at λ = {lambda_:.4g} per USD"
        if propensity < 1:
            reason += f", drawn among {len(ties)} ties with probability {propensity:.3g}"
        return self.ask(chosen[2].candidate, reason, scores, propensity=propensity)

    @property
    def knob(self) -> Knob:
        """λ; the budget is met only at the fitted value."""
        self._check_fitted()
        return Knob("lambda", self.lambda_, more="cheaper answers")

    def with_knob(self, value: float) -> Self:
        """Return this policy with another λ, where ties go to the cheapest."""
        other = super().with_knob(value)
        other.gamma_ = self.gamma_ if value == self.lambda_ else 0.0
        return other

    @property
    def reads_query(self) -> bool:
        """Whether ties are drawn, which depends on the query."""
        return getattr(self, "gamma_", 0.0) > 0

    def chance(self, situation: Situation, step: Decision) -> float:
        """Return 1 or 0 without ties; among ties the most expensive one has probability γ."""
        own = self.decide(situation)
        if own.propensity == 1.0 or own.candidate == step.candidate:
            return own.propensity if own.candidate == step.candidate else 0.0
        numbers = {
            name: (s["utility"] or 0.0, s["cost_usd"] or 0.0) for name, s in own.scores.items()
        }
        best = max(utility for utility, _ in numbers.values())
        costs = {name: cost for name, (value, cost) in numbers.items() if best - value <= _TIE}
        ends = {min(costs, key=costs.__getitem__), max(costs, key=costs.__getitem__)}
        return 1 - own.propensity if step.candidate in ends else 0.0

    def _settings(self) -> dict[str, Any]:
        return {"lambda": self.lambda_, "gamma": self.gamma_}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.lambda_, self.gamma_ = float(settings["lambda"]), float(settings["gamma"])

    def _find(self, quality: Floats, cost: Floats, paid: Floats) -> tuple[float, float]:
        budget = self.max_cost_usd

        def spends(lambda_: float) -> tuple[float, float]:
            return _cost_bounds(quality, cost, paid, lambda_)

        if spends(0.0)[0] <= budget:
            return 0.0, 0.0
        low, high = 0.0, 1.0 / max(float(cost.max()), 1e-12)
        for _ in range(200):
            if spends(high)[0] <= budget:
                break
            low, high = high, 2 * high
        for _ in range(200):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            if spends(middle)[0] > budget:
                low = middle
            else:
                high = middle
        least, most = spends(high)
        gamma = 0.0 if most <= least else (budget - least) / (most - least)
        return high, min(max(gamma, 0.0), 1.0)


def _cost(item: tuple[float, float, Arm]) -> float:
    return item[1]


def _cost_bounds(
    quality: Floats, cost: Floats, paid: Floats, lambda_: float
) -> tuple[float, float]:
    """Return the mean cost when ties go to the cheapest, and to the most expensive."""
    utility = quality - lambda_ * cost
    tied = utility.max(axis=1, keepdims=True) - utility <= _TIE
    rows = np.arange(len(cost))
    least = paid[rows, np.where(tied, cost, np.inf).argmin(axis=1)].mean()
    return float(least), float(paid[rows, np.where(tied, cost, -np.inf).argmax(axis=1)].mean())
