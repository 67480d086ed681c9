"""The replay of policies on tables of recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.metrics import Curve
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop, check_policy
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Decision
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["Replay", "best_single", "curve", "oracle", "replay"]


@dataclass(frozen=True, eq=False)
class Replay:
    """The decisions of a policy on every row of a table, with their quality and cost.

    Attributes:
        candidates: Names of the candidates, in the order of the columns.
        accepted: Column of the accepted answer of each row, of shape (n_queries,).
        asked: Whether each candidate was asked, of shape (n_queries, n_candidates).
        quality: Quality of the accepted answer of each row, of shape (n_queries,).
        cost_usd: Cost of each row in USD, verification included, same shape; NaN where unknown.
        decisions: The last decision of each row.
    """

    candidates: tuple[str, ...]
    accepted: Indices
    asked: Bools
    quality: Floats
    cost_usd: Floats
    decisions: tuple[Decision, ...]

    @property
    def mean_quality(self) -> float:
        """Mean quality of the accepted answers."""
        return float(self.quality.mean())

    @property
    def mean_cost_usd(self) -> float | None:
        """Mean cost per query in USD; None if any cost is unknown."""
        mean = float(self.cost_usd.mean())
        return None if np.isnan(mean) else mean

    @property
    def shares(self) -> dict[str, float]:
        """Share of queries whose accepted answer came from each candidate."""
        counts = np.bincount(self.accepted, minlength=len(self.candidates)) / len(self.accepted)
        return {name: float(share) for name, share in zip(self.candidates, counts, strict=True)}

    @property
    def asked_shares(self) -> dict[str, float]:
        """Share of queries on which each candidate was asked."""
        means = self.asked.mean(axis=0)
        return {name: float(share) for name, share in zip(self.candidates, means, strict=True)}


def replay(
    policy: Policy,
    quality: ArrayLike | None,
    outcomes: Outcomes,
    *,
    evaluations: SelfEvaluations | None = None,
    expected_cost_usd: ArrayLike | None = None,
) -> Replay:
    """Replay a policy on recorded outcomes, without calling any model.

    Args:
        policy: The policy to replay, the same object as in a live router.
        quality: Predicted quality in [0, 1], of shape (n_queries, n_candidates). If None, there are
            no predictions.
        outcomes: Measured quality and cost, with the same rows and columns.
        evaluations: The verifier's scores, for policies that verify, with the same rows and
            columns.
        expected_cost_usd: Expected cost of a call in USD, of shape (n_candidates,) or (n_queries,
            n_candidates). If None, the mean cost of each candidate in `outcomes`.

    Raises:
        ValueError: If shapes differ, or a policy that verifies has no `evaluations`.
    """
    check_policy(policy, outcomes.candidates)
    if policy.verifies and evaluations is None:
        msg = f"`evaluations` is None, but {type(policy).__name__} verifies answers: pass scores."
        raise ValueError(msg)
    tables = _Tables(outcomes, evaluations, quality, expected_cost_usd)
    rows = [tables.route(policy, i) for i in range(len(outcomes))]
    accepted = np.array([row.accepted for row in rows], dtype=np.intp)
    return Replay(
        candidates=tuple(outcomes.candidates),
        accepted=accepted,
        asked=np.array([row.asked for row in rows], dtype=bool).reshape(outcomes.quality.shape),
        quality=outcomes.quality[np.arange(len(rows)), accepted],
        cost_usd=np.array([np.nan if row.cost_usd is None else row.cost_usd for row in rows]),
        decisions=tuple(row.decision for row in rows),
    )


@dataclass(frozen=True)
class _Row:
    accepted: int
    asked: list[bool]
    cost_usd: float | None
    decision: Decision


class _Tables:
    """Recorded tables that give the loop its results, in place of the calls of a live router."""

    def __init__(
        self,
        outcomes: Outcomes,
        evaluations: SelfEvaluations | None,
        quality: ArrayLike | None,
        expected_cost_usd: ArrayLike | None,
    ) -> None:
        shape = outcomes.quality.shape
        if evaluations is not None and evaluations.confidence.shape != shape:
            msg = f"`evaluations` has shape {evaluations.confidence.shape}, expected {shape}."
            raise ValueError(msg)
        expected_cost = outcomes.mean_cost_usd if expected_cost_usd is None else expected_cost_usd
        if expected_cost is not None:
            expected_cost = np.broadcast_to(np.asarray(expected_cost, dtype=np.float64), shape)
        self.names = list(outcomes.candidates)
        self.outcomes, self.evaluations = outcomes, evaluations
        self.quality = _table("quality", quality, shape)
        self.expected_cost = _table("expected_cost_usd", expected_cost, shape)

    def route(self, policy: Policy, i: int) -> _Row:
        """Run the loop of one row to its end."""
        arms = [
            Arm(name, quality=_cell(self.quality, i, j), cost_usd=_cell(self.expected_cost, i, j))
            for j, name in enumerate(self.names)
        ]
        loop = Loop(policy, begin(self.outcomes.queries[i], arms))
        while (decision := loop.next()) is not None and decision.action != "accept":
            loop.saw(self._answer(decision, i))
        assert decision is not None, "a recorded answer cannot fail"
        asked = {attempt["candidate"] for attempt in loop.situation.attempts}
        return _Row(
            accepted=self.names.index(decision.candidate),
            asked=[name in asked for name in self.names],
            cost_usd=loop.situation.spent_usd,
            decision=decision,
        )

    def _answer(self, step: Decision, i: int) -> Attempt:
        j = self.names.index(step.candidate)
        attempt = Attempt(candidate=step.candidate, cost_usd=_cell(self.outcomes.cost_usd, i, j))
        if step.action == "verify" and self.evaluations is not None:
            attempt["verified"] = True
            attempt["confidence"] = _cell(self.evaluations.confidence, i, j)
            attempt["verification_cost_usd"] = _cell(self.evaluations.cost_usd, i, j)
        return attempt


def _table(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> Floats | None:
    if values is None:
        return None
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        msg = f"`{name}` has shape {table.shape}, but the outcomes have {shape}."
        raise ValueError(msg)
    return table


def _cell(table: Floats | None, i: int, j: int) -> float | None:
    if table is None or np.isnan(table[i, j]):
        return None
    return float(table[i, j])


def curve(
    make_policy: Callable[[float], Policy],
    knobs: Sequence[float],
    quality: ArrayLike | None,
    outcomes: Outcomes,
    *,
    evaluations: SelfEvaluations | None = None,
    expected_cost_usd: ArrayLike | None = None,
    strong: str | None = None,
) -> Curve:
    """Replay a family of policies, one per value of a knob.

    Args:
        make_policy: Function from a value of the knob to a policy, e.g. `Threshold`.
        knobs: Values of the knob.
        quality: As in `replay`.
        outcomes: As in `replay`.
        evaluations: As in `replay`.
        expected_cost_usd: As in `replay`.
        strong: Name of the candidate for `strong_share`. If None, the last candidate.
    """
    name = outcomes.candidates[-1] if strong is None else strong
    points = []
    for knob in knobs:
        done = replay(
            make_policy(knob),
            quality,
            outcomes,
            evaluations=evaluations,
            expected_cost_usd=expected_cost_usd,
        )
        points.append((knob, done.mean_quality, done.cost_usd.mean(), done.asked_shares[name]))
    return Curve(*np.array(points, dtype=np.float64).T)


def best_single(outcomes: Outcomes) -> int:
    """Return the column of the candidate with the highest mean quality."""
    return int(outcomes.quality.mean(axis=0).argmax())


def oracle(outcomes: Outcomes) -> Indices:
    """Return the column of the cheapest of the best answers of each row: perfect routing."""
    best = outcomes.quality >= outcomes.quality.max(axis=1, keepdims=True)
    cost = outcomes.cost_usd
    if cost is None:
        return np.asarray(np.argmax(best, axis=1), np.intp)
    priced = np.where(best & ~np.isnan(cost), cost, np.inf)
    return np.asarray(np.argmin(priced, axis=1), np.intp)
