"""The replay of policies on tables of recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.metrics import Curve
from langchain_llm_router.loop.answer_numbers import number_group
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop, check_policy, observe
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Decision, sum_usd
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["Replay", "best_single", "curve", "oracle", "replay", "replay_all", "total_seconds"]


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
        verified: Whether each candidate's answer was verified, of shape (n_queries, n_candidates).
        streamed: Whether the accepted answer of each row can be passed on while it is written,
            because it is accepted unverified, of shape (n_queries,).
        latency_s: Seconds until the accepted answer of each row is complete, the verification
            included, same shape; NaN where unknown.
        abstained: Whether each row ended without an answer that is good enough, see
            `policies.Unsure`, same shape. Its quality is then the `value` of this end, its cost and
            latency include those of the end, and `accepted` is the best candidate.
    """

    candidates: tuple[str, ...]
    accepted: Indices
    asked: Bools
    quality: Floats
    cost_usd: Floats
    decisions: tuple[Decision, ...]
    verified: Bools
    streamed: Bools
    latency_s: Floats
    abstained: Bools

    @property
    def mean_quality(self) -> float:
        """Mean quality of the accepted answers."""
        return float(self.quality.mean())

    @property
    def abstained_share(self) -> float:
        """Share of queries that ended without an answer that is good enough."""
        return float(self.abstained.mean())

    @property
    def answered_quality(self) -> float | None:
        """Mean quality of the accepted answers alone; None if there is none."""
        return None if self.abstained.all() else float(self.quality[~self.abstained].mean())

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
    return replay_all(
        [policy], quality, outcomes, evaluations=evaluations, expected_cost_usd=expected_cost_usd
    )[0]


def replay_all(
    policies: Sequence[Policy],
    quality: ArrayLike | None,
    outcomes: Outcomes,
    *,
    evaluations: SelfEvaluations | None = None,
    expected_cost_usd: ArrayLike | None = None,
) -> list[Replay]:
    """Replay several policies on the same recorded outcomes; the arguments are those of `replay`.

    What every policy sees at the beginning of a row is made only once.

    Raises:
        ValueError: If shapes differ, or a policy that verifies has no `evaluations`.
    """
    for policy in policies:
        check_policy(policy, outcomes.candidates)
        if policy.verifies and evaluations is None:
            kind = type(policy).__name__
            msg = f"`evaluations` is None, but {kind} verifies answers: pass scores."
            raise ValueError(msg)
    tables = _Tables(outcomes, evaluations, quality, expected_cost_usd)
    return [tables.replay(policy) for policy in policies]


# More decisions are not kept for further rows; a few hundred cover most policies.
_MAX_NODES = 100_000


@dataclass(frozen=True)
class _Row:
    accepted: int
    asked: list[bool]
    verified: list[bool]
    streamed: bool
    cost_usd: float | None
    decision: Decision


class _Node:
    """A decision, and those that follow it, by what the policy reads of its result."""

    __slots__ = ("decision", "following")

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.following: dict[Hashable, _Node] = {}

    def after(self, read: Hashable, n_nodes: Iterator[int]) -> _Node:
        """Return the decision that follows a result."""
        node = self.following.get(read)
        if node is None:
            node = _Node()
            if next(n_nodes) < _MAX_NODES:
                self.following[read] = node
        return node


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
        self.column = {name: j for j, name in enumerate(self.names)}
        self.outcomes = outcomes
        self.cost = _cells(outcomes.cost_usd, shape)
        scores = evaluations
        self.confidence = _cells(None if scores is None else scores.confidence, shape)
        self.verification = _cells(None if scores is None else scores.cost_usd, shape)
        self.output_tokens = _cells(outcomes.output_tokens, shape)
        self.groups = self._groups(None if scores is None else scores.answer_groups)
        self.verification_s = None if scores is None else scores.latency_s
        quality_cells = _cells(_table("quality", quality, shape), shape)
        cost_cells = _cells(_table("expected_cost_usd", expected_cost, shape), shape)
        self.starts = [
            begin(
                query,
                [
                    Arm(name, quality=guess, cost_usd=cost)
                    for name, guess, cost in zip(self.names, guesses, costs, strict=True)
                ],
            )
            for query, guesses, costs in zip(
                outcomes.queries, quality_cells, cost_cells, strict=True
            )
        ]

    def _groups(self, groups: Indices | None) -> list[dict[str, int | None]]:
        """Return the group of each candidate's answer, per row; None without one."""
        if groups is None:
            return [{}] * len(self.outcomes)
        return [
            {
                name: None if group < 0 else group
                for name, group in zip(self.names, row, strict=True)
            }
            for row in groups.tolist()
        ]

    def replay(self, policy: Policy) -> Replay:
        """Run the loop of every row to its end."""
        shared = policy.decides_by_verdicts and not policy.reads_query
        roots: dict[tuple[Arm, ...], _Node] | None = {} if shared else None
        n_nodes = count()
        rows = [self._route(policy, i, roots, n_nodes) for i in range(len(self.outcomes))]
        accepted = np.array([row.accepted for row in rows], dtype=np.intp)
        quality = self.outcomes.quality
        asked = np.array([row.asked for row in rows], dtype=bool).reshape(quality.shape)
        verified = np.array([row.verified for row in rows], dtype=bool).reshape(quality.shape)
        abstained = np.array([row.decision.action == "abstain" for row in rows], dtype=bool)
        reached = quality[np.arange(len(rows)), accepted]
        seconds = total_seconds(asked, verified, self.outcomes.latency_s, self.verification_s)
        terms = policy.exit_terms
        if terms is not None:
            reached = np.where(abstained, terms.value, reached)
            waiting = np.nan if terms.latency_s is None else terms.latency_s
            seconds = np.where(abstained, seconds + waiting, seconds)
        return Replay(
            candidates=tuple(self.names),
            accepted=accepted,
            asked=asked,
            quality=reached,
            cost_usd=np.array([np.nan if row.cost_usd is None else row.cost_usd for row in rows]),
            decisions=tuple(row.decision for row in rows),
            verified=verified,
            streamed=np.array([row.streamed for row in rows], dtype=bool),
            latency_s=seconds,
            abstained=abstained,
        )

    def _route(
        self,
        policy: Policy,
        i: int,
        roots: dict[tuple[Arm, ...], _Node] | None,
        n_nodes: Iterator[int],
    ) -> _Row:
        """Run the loop of one row; where an earlier row saw the same, its decision is taken."""
        situation, steps = self.starts[i], list[Decision]()
        node = _Node() if roots is None else roots.setdefault(situation.arms, _Node())
        while True:
            if node.decision is None:
                node.decision = Loop(policy, situation, steps).next()
                assert node.decision is not None, "a recorded answer cannot fail"
            decision = node.decision
            steps.append(decision)
            if decision.ends:
                break
            attempt = self._answer(decision, i, situation.attempts)
            situation = observe(situation, attempt)
            node = _Node() if roots is None else node.after(policy.read_of(attempt), n_nodes)
        attempts = situation.attempts
        asked = {attempt["candidate"] for attempt in attempts}
        verified = {attempt["candidate"] for attempt in attempts if attempt.get("verified", False)}
        return _Row(
            accepted=self.column[decision.candidate],
            asked=[name in asked for name in self.names],
            verified=[name in verified for name in self.names],
            streamed=len(steps) > 1 and steps[-2].final,
            cost_usd=sum_usd([situation.spent_usd, decision.ending_cost_usd or 0.0]),
            decision=decision,
        )

    def _answer(self, step: Decision, i: int, attempts: Sequence[Attempt]) -> Attempt:
        j = self.column[step.candidate]
        attempt = Attempt(candidate=step.candidate, cost_usd=self.cost[i][j])
        n_tokens = self.output_tokens[i][j]
        if n_tokens is not None:
            attempt["output_tokens"] = round(n_tokens)
        if step.action == "verify":
            attempt["verified"] = True
            attempt["confidence"] = self.confidence[i][j]
            attempt["verification_cost_usd"] = self.verification[i][j]
            group = number_group(self.groups[i], attempts, step.candidate)
            if group is not None:
                attempt["answer_group"] = group
        return attempt


def _table(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> Floats | None:
    if values is None:
        return None
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        msg = f"`{name}` has shape {table.shape}, but the outcomes have {shape}."
        raise ValueError(msg)
    return table


def _cells(table: Floats | None, shape: tuple[int, ...]) -> list[list[float | None]]:
    """Return a table as numbers of Python, with None where unknown."""
    if table is None:
        return [[None] * shape[1] for _ in range(shape[0])]
    rows: list[list[float]] = table.tolist()
    return [[None if cell != cell else cell for cell in row] for row in rows]  # noqa: PLR0124 - NaN


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
    replayed = replay_all(
        [make_policy(knob) for knob in knobs],
        quality,
        outcomes,
        evaluations=evaluations,
        expected_cost_usd=expected_cost_usd,
    )
    points = [
        (knob, done.mean_quality, done.cost_usd.mean(), done.asked_shares[name])
        for knob, done in zip(knobs, replayed, strict=True)
    ]
    return Curve(*np.array(points, dtype=np.float64).T)


def total_seconds(
    asked: Bools, verified: Bools, latency_s: Floats | None, verification_s: Floats | None
) -> Floats:
    """Add up the seconds of the calls of each row, which follow each other.

    A call that is not made takes no time, also where its latency is unknown.

    Args:
        asked: Whether each candidate is asked, of shape (n_queries, n_candidates).
        verified: Whether each answer is verified, same shape.
        latency_s: Seconds of each answer, same shape, NaN where unknown; None if all are unknown.
        verification_s: Seconds of each verification, likewise.

    Returns:
        Seconds of each row, of shape (n_queries,), NaN where unknown.
    """
    total = np.zeros(len(asked))
    for made, seconds in ((asked, latency_s), (verified, verification_s)):
        known = np.full(made.shape, np.nan) if seconds is None else seconds
        total += np.where(made, known, 0.0).sum(axis=1)
    return total


def best_single(outcomes: Outcomes) -> int:
    """Return the column of the candidate with the highest mean quality."""
    return int(outcomes.quality.mean(axis=0).argmax())


def oracle(outcomes: Outcomes) -> Indices:
    """Return the column of the cheapest of the best answers of each row: perfect routing."""
    best = outcomes.quality >= outcomes.quality.max(axis=1, keepdims=True)
    cost = outcomes.cost_usd
    if cost is None:
        return np.asarray(np.argmax(best, axis=1), np.intp)
    # An answer of unknown cost counts as the dearest of the best, never as a worse one.
    priced = np.where(best, np.nan_to_num(cost, nan=np.finfo(np.float64).max), np.inf)
    return np.asarray(np.argmin(priced, axis=1), np.intp)
