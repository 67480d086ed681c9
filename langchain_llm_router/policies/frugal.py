"""FrugalGPT's cascade: the best chain of candidates and thresholds under a mean budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise, permutations
from typing import Any, ClassVar, Self

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.policy import accept
from langchain_llm_router.policies.training_tables import check_tables, mean_costs
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["FrugalCascade"]


_INFEASIBLE = 10_000.0


@dataclass(eq=False)
class FrugalCascade(FittedPolicy):
    """Asks a fitted chain of candidates until a score reaches the threshold of its step.

    All chains of distinct candidates up to a length are tried, in any order; thresholds are
    searched as increasing quantiles of the scores that reach each step. A missing verdict counts
    as the candidate's mean score. The last answer of the chain is accepted unverified.

    Args:
        max_length: Maximum length of a chain.
        n_grid: Number of grid points per threshold.

    Attributes:
        chain_: Names of the candidates in the order of asking.
        thresholds_: Threshold of each step except the last.
        mean_score_: Mean training score of each candidate of the chain except the last.

    References:
        Chen et al., 2023, FrugalGPT, arXiv:2305.05176, section 3 (LLM cascade). Deviation: the
        cost of verification counts.
    """

    max_length: int = 3
    n_grid: int = 40

    verifies: ClassVar[bool] = True
    decides_by_verdicts: ClassVar[bool] = True
    _fitted_attribute: ClassVar[str] = "chain_"
    _fit_call: ClassVar[str] = "fit(outcomes, scores, max_cost_usd=)"

    def __post_init__(self) -> None:
        if self.max_length < 1 or self.n_grid < 2:
            msg = (
                "`max_length` must be >= 1 and `n_grid` >= 2, "
                f"got {self.max_length!r} and {self.n_grid!r}."
            )
            raise ValueError(msg)

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates of the fitted chain."""
        return getattr(self, "chain_", ())

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates of the fitted chain."""
        self._check_fitted()
        return self.chain_

    def fit(self, outcomes: Outcomes, scores: SelfEvaluations, *, max_cost_usd: float) -> Self:
        """Find the chain and thresholds with the best mean quality within the budget.

        Args:
            outcomes: Measured quality and cost of every candidate.
            scores: The verifier's scores and costs, for rows that it was not fitted on.
            max_cost_usd: Mean cost that a query may have, verification included.

        Raises:
            ValueError: If each candidate alone exceeds the budget.
        """
        check_tables(outcomes, scores)
        search = _Search(outcomes, scores, max_cost_usd, self.n_grid)
        best = search.run(min(self.max_length, len(outcomes.candidates)))
        if best is None:
            msg = (
                f"No candidate costs at most `max_cost_usd` {max_cost_usd!r} a query: they cost "
                f"{dict(zip(outcomes.candidates, search.mean_cost.tolist(), strict=True))}."
            )
            raise ValueError(msg)
        chain, thresholds = best
        self.chain_ = tuple(outcomes.candidates[j] for j in chain)
        self.thresholds_ = tuple(thresholds)
        self.mean_score_ = tuple(float(search.mean_score[j]) for j in chain[:-1])
        return self

    def decide(self, situation: Situation) -> Decision:
        """Ask along the chain; accept an answer whose score reaches its threshold."""
        self._check_fitted()
        name = type(self).__name__
        open_names = [arm.candidate for arm in situation.open_arms]
        waiting = [candidate for candidate in self.chain_ if candidate in open_names]
        answered = situation.answered
        if len(waiting) == 0 and len(answered) == 0:
            waiting = open_names
        if len(answered) == 0 or situation.attempts[-1].get("error") is not None:
            if len(waiting) > 0:
                final = len(waiting) == 1
                return Decision("ask", waiting[0], name, "the next in the chain", final=final)
            last = max(answered, key=self._margin, default=situation.attempts[-1])
            return accept(self, last, "no candidate is left to ask")
        last = answered[-1]
        if len(waiting) == 0 or last["candidate"] not in self.chain_[:-1]:
            return accept(self, last, "the last in the chain")
        if not last.get("verified", False):
            return Decision("verify", last["candidate"], name, "is this answer good enough?")
        margin = self._margin(last)
        bar = self.thresholds_[self.chain_.index(last["candidate"])]
        score = last.get("confidence")
        if margin >= 0:
            return accept(self, last, f"score {score} reaches {bar:.3f}", confidence=score)
        reason = f"score {score} of {last['candidate']} is below {bar:.3f}"
        return Decision("ask", waiting[0], name, reason, final=len(waiting) == 1, confidence=score)

    def _settings(self) -> dict[str, Any]:
        return {
            "chain": list(self.chain_),
            "thresholds": list(self.thresholds_),
            "mean_score": list(self.mean_score_),
        }

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.chain_ = tuple(settings["chain"])
        self.thresholds_ = tuple(settings["thresholds"])
        self.mean_score_ = tuple(settings["mean_score"])

    def _margin(self, attempt: Attempt) -> float:
        """Return the difference between an answer's score and its threshold."""
        if attempt["candidate"] not in self.chain_[:-1]:
            return 0.0
        step = self.chain_.index(attempt["candidate"])
        score = attempt.get("confidence")
        return (self.mean_score_[step] if score is None else score) - self.thresholds_[step]


class _Search:
    """Search for the best chain under a budget on one table."""

    def __init__(
        self, outcomes: Outcomes, scores: SelfEvaluations, budget: float, n_grid: int
    ) -> None:
        self.quality, self.budget, self.n_grid = outcomes.quality, budget, n_grid
        self.mean_cost = mean_costs("outcomes", outcomes.cost_usd, outcomes.candidates)
        self.cost = _fill_missing(outcomes.cost_usd, self.mean_cost)
        verification = np.zeros((0, 0)) if scores.cost_usd is None else scores.cost_usd
        if verification.size == 0 or np.isnan(verification).all():
            msg = "`scores` must have costs, because the budget counts them (0 where free)."
            raise ValueError(msg)
        # A candidate whose verification cost is unknown can only be the last in a chain.
        sums, counts = np.nansum(verification, axis=0), (~np.isnan(verification)).sum(axis=0)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        self.verifying = _fill_missing(verification, means)
        known = np.where(np.isnan(scores.confidence), 0.0, scores.confidence)
        counts = (~np.isnan(scores.confidence)).sum(axis=0)
        self.mean_score = known.sum(axis=0) / np.maximum(counts, 1)
        # Columns lie next to each other in memory, because the search reads them many times.
        self._score_of = _fill_missing(scores.confidence, self.mean_score).T.copy()
        self._quality_of = self.quality.T.copy()
        self._cost_of = self.cost.T.copy()
        self._checked_cost_of = (self.cost + self.verifying).T.copy()

    def run(self, max_length: int) -> tuple[tuple[int, ...], list[float]] | None:
        """Return the best chain with its thresholds; None if none fits the budget."""
        best: tuple[tuple[int, ...], list[float]] | None = None
        best_value = _INFEASIBLE
        for length in range(1, max_length + 1):
            chains = permutations(range(self.quality.shape[1]), length)
            for bound, chain in sorted((self._bound(chain), chain) for chain in chains):
                # The bound is the quality of the chain's best answer on every row.
                if bound >= best_value or not self._affordable(chain):
                    continue
                value, quantiles = self._tune(chain)
                if value < best_value - 1e-12:
                    best, best_value = (chain, self._thresholds(chain, quantiles)), value
        return best

    def _bound(self, chain: tuple[int, ...]) -> float:
        return -float(self.quality[:, chain].max(axis=1).mean())

    def _affordable(self, chain: tuple[int, ...]) -> bool:
        first = self.cost[:, chain[0]].mean()
        if len(chain) > 1:
            first = first + self.verifying[:, chain[0]].mean()
        return bool(first <= self.budget)

    def _tune(self, chain: tuple[int, ...]) -> tuple[float, Floats]:
        if len(chain) == 1:
            return self._loss(np.empty(0), chain), np.empty(0)
        from scipy.optimize import fmin  # noqa: PLC0415 - slow, and only fitting needs it

        grid = combinations_with_replacement(np.linspace(0.0, 1.0, self.n_grid), len(chain) - 1)
        value, best = min((self._loss(quantiles, chain), quantiles) for quantiles in grid)
        start = np.array(best, dtype=np.float64)
        polished = np.atleast_1d(fmin(self._loss, start, args=(chain,), disp=False, maxiter=50))
        after = self._loss(polished, chain)
        return (after, polished) if after < value else (value, start)

    def _loss(self, quantiles: Sequence[float] | Floats, chain: tuple[int, ...]) -> float:
        q = [float(each) for each in quantiles]
        if any(not low <= high for low, high in pairwise([0.0, *q, 1.0])):
            return _INFEASIBLE
        _, quality, cost = self._walk(chain, q)
        return -quality if cost <= self.budget else _INFEASIBLE

    def _thresholds(self, chain: Sequence[int], quantiles: Floats) -> list[float]:
        return self._walk(chain, quantiles.tolist())[0]

    def _walk(
        self, chain: Sequence[int], quantiles: Sequence[float]
    ) -> tuple[list[float], float, float]:
        """Return the thresholds at these quantiles, and the mean quality and cost of the chain."""
        n = len(self.quality)
        rows = np.arange(n)
        thresholds: list[float] = []
        quality = spent = 0.0
        for j, q in zip(chain[:-1], quantiles, strict=True):
            scores = self._score_of[j][rows]
            bar = _quantile(scores, q)
            kept = scores >= bar
            quality += float(self._quality_of[j][rows[kept]].sum())
            spent += float(self._checked_cost_of[j][rows].sum())
            thresholds.append(bar)
            rows = rows[~kept]
        quality += float(self._quality_of[chain[-1]][rows].sum())
        spent += float(self._cost_of[chain[-1]][rows].sum())
        return thresholds, quality / n, spent / n


def _quantile(values: Floats, q: float) -> float:
    """Return `np.quantile(values, q)`, which would take most of the time of a fit; 0 of nothing."""
    if len(values) == 0:
        return 0.0
    position = q * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    ordered = np.partition(values, (below, above))
    low, high = float(ordered[below]), float(ordered[above])
    return low + (high - low) * (position - below)


def _fill_missing(table: Floats | None, means: Floats) -> Floats:
    assert table is not None, "it has means"
    return np.where(np.isnan(table), means[None, :], table)
