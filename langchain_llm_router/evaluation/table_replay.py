"""The replay of policies on tables of recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.metrics import Curve
from langchain_llm_router.loop.answer_numbers import number_group
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop, check_policy, observe
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Decision, Situation, sum_usd
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
        decisions: The last decision of each row, each made again when it is looked at.
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
    decisions: Sequence[Decision]
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

    What every policy sees at the beginning of a row is made only once, for some rows at a time.

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
    routes = [_Routes(policy, tables) for policy in policies]
    for start in range(0, len(outcomes), _ROWS_AT_ONCE):
        rows = tables.rows(start, start + _ROWS_AT_ONCE)
        for route in routes:
            route.take(rows)
    return [route.replay() for route in routes]


# More decisions are not kept for further rows; a few hundred cover most policies.
_MAX_NODES = 100_000
# As objects of Python, rows take some kilobytes each.
_ROWS_AT_ONCE = 4096

_Cell = float | None


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


@dataclass(frozen=True)
class _Row:
    """What is recorded of one row, as numbers of Python, None where unknown."""

    i: int
    situation: Situation
    """The situation before the first step."""

    cost_usd: Mapping[str, _Cell]
    output_tokens: Mapping[str, _Cell]
    confidence: Mapping[str, _Cell]
    verification_usd: Mapping[str, _Cell]
    groups: Mapping[str, int | None]
    """The group of each candidate's answer; None without one."""

    def answer(self, step: Decision, attempts: Sequence[Attempt]) -> Attempt:
        """Return the recorded result of a step, in place of the call of a live router."""
        name = step.candidate
        attempt = Attempt(candidate=name, cost_usd=self.cost_usd[name])
        n_tokens = self.output_tokens[name]
        if n_tokens is not None:
            attempt["output_tokens"] = round(n_tokens)
        if step.action == "verify":
            attempt["verified"] = True
            attempt["confidence"] = self.confidence[name]
            attempt["verification_cost_usd"] = self.verification_usd[name]
            group = number_group(self.groups, attempts, name)
            if group is not None:
                attempt["answer_group"] = group
        return attempt


class _Tables:
    """Recorded tables."""

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
        self.outcomes, self.evaluations = outcomes, evaluations
        self.names = list(outcomes.candidates)
        self.quality = _table("quality", quality, shape)
        self.expected_cost_usd = _table("expected_cost_usd", expected_cost, shape)

    def rows(self, start: int, stop: int) -> Iterable[_Row]:
        """Return some rows."""
        own, scores, part = self.outcomes, self.evaluations, slice(start, stop)
        queries = own.queries[part]
        shape = (len(queries), len(self.names))

        def cells(table: Floats | None) -> list[list[_Cell]]:
            return _cells(None if table is None else table[part], shape)

        def named(cells: list[_Cell]) -> Mapping[str, _Cell]:
            return dict(zip(self.names, cells, strict=True))

        groups: Sequence[Sequence[int]] = [()] * len(queries)
        if scores is not None and scores.answer_groups is not None:
            groups = scores.answer_groups[part].tolist()
        columns = zip(
            queries,
            cells(self.quality),
            cells(self.expected_cost_usd),
            cells(own.cost_usd),
            cells(own.output_tokens),
            cells(None if scores is None else scores.confidence),
            cells(None if scores is None else scores.cost_usd),
            groups,
            strict=True,
        )
        return [
            _Row(
                start + i,
                self._begin(query, guesses, expected),
                named(usd),
                named(tokens),
                named(confidence),
                named(verification_usd),
                {n: None if g < 0 else g for n, g in zip(self.names, numbers, strict=False)},
            )
            for i, (
                query,
                guesses,
                expected,
                usd,
                tokens,
                confidence,
                verification_usd,
                numbers,
            ) in enumerate(columns)
        ]

    def _begin(self, query: str, quality: list[_Cell], expected_usd: list[_Cell]) -> Situation:
        cells = zip(self.names, quality, expected_usd, strict=True)
        return begin(query, [Arm(name, quality=q, cost_usd=usd) for name, q, usd in cells])


class _Routes:
    """The steps of a policy on every row."""

    def __init__(self, policy: Policy, tables: _Tables) -> None:
        shape = tables.outcomes.quality.shape
        self.policy, self.tables = policy, tables
        self.column = {name: j for j, name in enumerate(tables.names)}
        shared = policy.decides_by_verdicts and not policy.reads_query
        self._roots: dict[tuple[Arm, ...], _Node] | None = {} if shared else None
        self._n_nodes = count()
        self.accepted = np.zeros(shape[0], dtype=np.intp)
        self.asked, self.verified = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        self.streamed, self.abstained = np.zeros((2, shape[0]), dtype=bool)
        self.cost_usd = np.full(shape[0], np.nan)

    def take(self, rows: Iterable[_Row]) -> None:
        """Run the loop of some rows to its end."""
        for row in rows:
            situation, steps = self.steps(row)
            i, decision = row.i, steps[-1]
            for attempt in situation.attempts:
                j = self.column[attempt["candidate"]]
                self.asked[i, j] = True
                self.verified[i, j] = attempt.get("verified", False)
            self.accepted[i] = self.column[decision.candidate]
            self.streamed[i] = len(steps) > 1 and steps[-2].final
            self.abstained[i] = decision.action == "abstain"
            cost = sum_usd([situation.spent_usd, decision.ending_cost_usd or 0.0])
            if cost is not None:
                self.cost_usd[i] = cost

    def steps(self, row: _Row) -> tuple[Situation, list[Decision]]:
        """Return the last situation of a row, and its decisions.

        Where an earlier row saw the same, its decision is taken.
        """
        policy, situation, steps = self.policy, row.situation, list[Decision]()
        roots = self._roots
        node = _Node() if roots is None else roots.setdefault(situation.arms, _Node())
        while True:
            if node.decision is None:
                node.decision = Loop(policy, situation, steps).next()
                assert node.decision is not None, "a recorded answer cannot fail"
            steps.append(node.decision)
            if node.decision.ends:
                return situation, steps
            attempt = row.answer(node.decision, situation.attempts)
            situation = observe(situation, attempt)
            node = _Node() if roots is None else node.after(policy.read_of(attempt), self._n_nodes)

    def replay(self) -> Replay:
        """Return the replay, when all rows were taken."""
        own, scores, terms = self.tables.outcomes, self.tables.evaluations, self.policy.exit_terms
        reached = own.quality[np.arange(len(own)), self.accepted]
        verification_s = None if scores is None else scores.latency_s
        seconds = total_seconds(self.asked, self.verified, own.latency_s, verification_s)
        if terms is not None:
            reached = np.where(self.abstained, terms.value, reached)
            waiting = np.nan if terms.latency_s is None else terms.latency_s
            seconds = np.where(self.abstained, seconds + waiting, seconds)
        return Replay(
            candidates=tuple(self.tables.names),
            accepted=self.accepted,
            asked=self.asked,
            quality=reached,
            cost_usd=self.cost_usd,
            decisions=_Decisions(self),
            verified=self.verified,
            streamed=self.streamed,
            latency_s=seconds,
            abstained=self.abstained,
        )


class _Decisions(Sequence[Decision]):
    """The last decision of each row: kept, those of a million rows would take gigabytes."""

    def __init__(self, routes: _Routes) -> None:
        self._routes = routes

    def __len__(self) -> int:
        return len(self._routes.accepted)

    @overload
    def __getitem__(self, i: int) -> Decision: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Decision]: ...
    def __getitem__(self, i: int | slice) -> Decision | Sequence[Decision]:
        """Make the decision of a row again, or those of some rows."""
        rows = range(len(self))[i]
        if isinstance(rows, range):
            return [self[row] for row in rows]
        (row,) = self._routes.tables.rows(rows, rows + 1)
        return self._routes.steps(row)[1][-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _table(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> Floats | None:
    if values is None:
        return None
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        msg = f"`{name}` has shape {table.shape}, but the outcomes have {shape}."
        raise ValueError(msg)
    return table


def _cells(table: Floats | None, shape: tuple[int, ...]) -> list[list[_Cell]]:
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
