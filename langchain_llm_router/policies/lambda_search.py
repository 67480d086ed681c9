"""Cascade routing over a training table in batches, to find the λ that fits a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from langchain_llm_router.policies.supermodels import Planner, Stage
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["Rehearsal", "best_first_step", "lambda_for"]


_FACTORS = (1.0, 2.0, 4.0, 8.0)
_ROWS = 400


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """A table for cascade routing; rows at the same stage are computed together.

    Attributes:
        features: Predictions (if any) and confidences, of shape (n_rows, n_features).
        expected: Expected cost of a call, of shape (n_rows, n_candidates).
        actual: Actual cost of the call, of the same shape.
        quality: Quality of the answer, of the same shape.
        verifying: Cost of verifying the answer, of the same shape.
    """

    planner: Planner
    features: Floats
    expected: Floats
    actual: Floats
    quality: Floats
    verifying: Floats
    max_depth: int

    def run(self, lambda_: float, first_step: float = 1.0) -> tuple[Floats, Floats]:
        """Return the quality of the accepted answer and the total cost of each row at one λ."""
        n, k = self.quality.shape
        run, observed = np.zeros((n, k), dtype=bool), np.zeros((n, k), dtype=bool)
        spent, accepted = np.zeros(n), np.zeros(n, dtype=np.intp)
        active = np.arange(n)
        while len(active) > 0:
            continuing: list[Indices] = []
            codes = np.hstack([run[active], observed[active]])
            _, code = np.unique(codes, axis=0, return_inverse=True)
            code = code.ravel()
            for group in range(int(code.max()) + 1):
                rows = active[code == group]
                stage = self._stage(run, observed, rows[0])
                factor = first_step if len(stage.run) == 0 else 1.0
                chosen, best = self._choose(rows, stage, factor * lambda_)
                accepted[rows] = best
                ask, to = rows[chosen >= 0], chosen[chosen >= 0]
                run[ask, to] = True
                spent[ask] += self.actual[ask, to]
                for j in np.unique(to):
                    self._verify(ask[to == j], int(j), run, observed, spent, lambda_)
                continuing.append(ask)
            active = np.concatenate(continuing)
        rows = np.arange(n)
        return self.quality[rows, accepted], spent

    def thin(self, n_rows: int) -> Rehearsal:
        """Return at most `n_rows` rows, evenly spread over the table."""
        rows = np.unique(np.linspace(0, len(self.quality) - 1, n_rows).astype(int))
        return replace(
            self,
            features=self.features[rows],
            expected=self.expected[rows],
            actual=self.actual[rows],
            quality=self.quality[rows],
            verifying=self.verifying[rows],
        )

    def _stage(self, run: Bools, observed: Bools, row: np.intp | int) -> Stage:
        done = np.flatnonzero(run[row])
        allowed = np.flatnonzero(~run[row])
        if self.planner.chain and len(done) > 0:
            allowed = allowed[allowed > done[-1]]
        return Stage(
            tuple(done.tolist()),
            tuple(np.flatnonzero(observed[row]).tolist()),
            tuple(allowed.tolist()),
            self.max_depth - len(done),
        )

    def _choose(self, rows: Indices, stage: Stage, lambda_: float) -> tuple[Indices, Indices]:
        """Return the candidate to ask next (-1 for none) and the one to accept if it stops here."""
        quality = self.planner.quality(self.features[rows], stage.observed)
        ratio = self.actual[rows] / np.maximum(self.expected[rows], 1e-30)
        cost = self.planner.cost(self.expected[rows], ratio, stage)
        chosen = self.planner.next(stage, quality, cost, np.full(len(rows), lambda_))
        if len(stage.run) == 0:
            return chosen, np.zeros(len(rows), dtype=np.intp)
        columns = np.array(stage.run)
        return chosen, columns[quality[:, columns].argmax(axis=1)]

    def _verify(
        self,
        rows: Indices,
        j: int,
        run: Bools,
        observed: Bools,
        spent: Floats,
        lambda_: float,
    ) -> None:
        codes = np.hstack([run[rows], observed[rows]])
        _, code = np.unique(codes, axis=0, return_inverse=True)
        code = code.ravel()
        for group in range(int(code.max()) + 1):
            members = rows[code == group]
            stage = self._stage(run, observed, members[0])
            quality = self.planner.quality(self.features[members], stage.observed)
            lambdas = np.full(len(members), lambda_)
            worth = members[self.planner.worth_verifying(stage, j, quality, lambdas)]
            spent[worth] += self.verifying[worth, j]
            known = ~np.isnan(self.features[worth, self.planner.n_priors + j])
            observed[worth[known], j] = True


def best_first_step(rehearsal: Rehearsal) -> float:
    """Return the ratio of the first step's λ to later ones with the highest training utility.

    Utility is averaged over λ from where the most expensive candidate is well worth its cost to
    where it barely is. A few hundred rows are enough for so coarse a choice.
    """
    rehearsal = rehearsal.thin(_ROWS)
    dearest = float(rehearsal.expected.mean(axis=0).max())
    lambdas = np.linspace(0.05, 1.0, 5) / max(dearest, 1e-30)
    best, best_utility = 1.0, -np.inf
    for factor in _FACTORS:
        utility = 0.0
        for lambda_ in lambdas:
            quality, cost = rehearsal.run(float(lambda_), factor)
            utility += float(quality.mean() - lambda_ * cost.mean())
        if utility > best_utility + 1e-9:
            best, best_utility = factor, utility
    return best


def lambda_for(
    rehearsal: Rehearsal, max_cost_usd: float, first_step: float = 1.0
) -> tuple[float, float, float]:
    """Return the two adjacent λ between which the budget lies, and how to mix them.

    Returns:
        The λ that spends more, the λ that spends at most the budget, the probability of the former.

    Raises:
        ValueError: If every λ spends more than the budget.
    """

    def mean_cost(lambda_: float) -> float:
        return float(rehearsal.run(lambda_, first_step)[1].mean())

    cost = mean_cost(0.0)
    if cost <= max_cost_usd:
        return 0.0, 0.0, 0.0
    low, high = 0.0, 1.0 / (max_cost_usd if max_cost_usd > 0 else cost)
    dear, cheap = cost, mean_cost(high)
    for _ in range(40):
        if cheap <= max_cost_usd:
            break
        low, dear = high, cheap
        high *= 2
        cheap = mean_cost(high)
    else:
        msg = (
            f"`max_cost_usd` {max_cost_usd!r} is below what the cheapest policy spends on a "
            f"training query: {cheap:.6g} USD."
        )
        raise ValueError(msg)
    for _ in range(20):
        middle = (low + high) / 2
        cost = mean_cost(middle)
        if cost > max_cost_usd:
            low, dear = middle, cost
        else:
            high, cheap = middle, cost
    return low, high, (max_cost_usd - cheap) / (dear - cheap) if dear > cheap else 0.0
