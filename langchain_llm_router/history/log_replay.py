"""Make every decision of a log again, with the same router or as another one would have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history.log_lines import same
from langchain_llm_router.history.log_reader import Entry, History
from langchain_llm_router.history.retraced import Retraced, retrace
from langchain_llm_router.loop.arms import replace_quality
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Decision, Situation, sum_usd
from langchain_llm_router.types.arguments import CheckedArguments, check_range

__all__ = ["Changes", "LogReplay", "Replayed", "replay_log"]


@dataclass(frozen=True)
class Changes(CheckedArguments):
    """What differs from the log: everything that is None stays as recorded.

    Args:
        estimator: Predicts the qualities again; needs the queries' texts.
        lambda_: λ in quality per dollar, in place of the policy's and the requests'.
        threshold: In place of the policy's and the requests'.
    """

    estimator: QualityEstimator | None = None
    lambda_: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "lambda_", "threshold")

    def situations(self, entry: Entry, quality: dict[str, float] | None) -> list[Situation]:
        """The entry's situations, changed."""
        found = entry.situations
        if self.lambda_ is not None:
            found = [replace(s, options=replace(s.options, lambda_=self.lambda_)) for s in found]
        if self.threshold is not None:
            options = [replace(s.options, threshold=self.threshold) for s in found]
            found = [replace(s, options=o) for s, o in zip(found, options, strict=True)]
        return found if quality is None else [replace_quality(s, quality) for s in found]


_NOTHING = Changes()


@dataclass(frozen=True)
class Replayed:
    """One request, decided again."""

    entry: Entry
    situations: Sequence[Situation]
    """Before each recorded step, with the changes applied."""

    went: Retraced
    identical: bool
    """Whether every recorded decision was reproduced, equal to the last bit: choice, reason,
    every arm's numbers, confidence, propensity."""

    @property
    def agrees(self) -> bool:
        """Whether the same steps were taken, whatever the numbers behind them."""
        ours = [(step.action, step.candidate) for step in self.went.steps]
        return ours == [(step.action, step.candidate) for step in self.entry.steps]


@dataclass(frozen=True)
class LogReplay:
    """A log, decided again.

    Attributes:
        rows: Every request that reached a decision.
        n_undecided: Requests that never did: no candidate was allowed, or an option was invalid.
    """

    rows: Sequence[Replayed]
    n_undecided: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_identical(self) -> int:
        """Requests whose decisions all came out equal to the last bit."""
        return sum(row.identical for row in self.rows)

    @property
    def differing(self) -> tuple[Replayed, ...]:
        """Requests with a decision that came out different."""
        return tuple(row for row in self.rows if not row.identical)

    @property
    def recorded_cost_usd(self) -> float | None:
        """Mean recorded cost of a request; None if any is unknown."""
        return _mean([row.entry.cost_usd for row in self._answered])

    @property
    def cost_usd(self) -> float | None:
        """Mean cost of a request now, over the same requests; None if any is unknown.

        Where the replay leaves the record, the call that was never made counts with its expected
        cost, times that candidate's ratio of actual to expected cost. Calls after it are not
        counted: see `share_on_record`.
        """
        ratio = self._cost_ratios()
        costs: list[float | None] = []
        for row in self._answered:
            went, expected = row.went, row.went.expected_cost_usd
            if expected is not None and went.candidate is not None:
                expected *= ratio.get(went.candidate, 1.0)
            costs.append(sum_usd([went.recorded_cost_usd, expected]))
        return _mean(costs)

    @property
    def share_on_record(self) -> float:
        """Share of answered requests whose costs are fully known from the record."""
        rows = self._answered
        return sum(row.went.on_record for row in rows) / len(rows) if rows else math.nan

    @property
    def share_agreeing(self) -> float:
        """Share of answered requests on which the same steps are taken."""
        rows = self._answered
        return sum(row.agrees for row in rows) / len(rows) if rows else math.nan

    def shares(self) -> dict[str, tuple[float, float]]:
        """For every candidate, its share of the answers: as recorded, and now."""
        rows = self._answered
        arms = [arm for row in rows for arm in row.entry.frames[0]["arms"]]
        names = dict.fromkeys(arm["candidate"] for arm in arms)
        return {
            name: (
                sum(row.entry.candidate == name for row in rows) / len(rows),
                sum(row.went.candidate == name for row in rows) / len(rows),
            )
            for name in names
        }

    def _cost_ratios(self) -> dict[str, float]:
        """Actual over expected cost by candidate: answer lengths are guesses until measured."""
        paid: dict[str, float] = {}
        expected: dict[str, float] = {}
        for row in self.rows:
            arms = {arm.candidate: arm.cost_usd for arm in row.went.situation.arms}
            for attempt in row.entry.attempts:
                name, cost = attempt["candidate"], attempt.get("cost_usd")
                believed = arms.get(name)
                if cost is not None and believed is not None:
                    paid[name] = paid.get(name, 0.0) + cost
                    expected[name] = expected.get(name, 0.0) + believed
        return {name: paid[name] / total for name, total in expected.items() if total > 0}

    @property
    def _answered(self) -> list[Replayed]:
        return [row for row in self.rows if row.entry.outcome == "answered"]


def replay_log(
    entries: History | Iterable[Entry], policy: Policy, *, changes: Changes = _NOTHING
) -> LogReplay:
    """Decide every request of a log again, from what was known then; no candidate is asked.

    Under the router that wrote the log, every decision comes out equal to the last bit.

    Args:
        entries: What `read_log` returned, or its entries (so that progress can be watched).
        policy: The policy that decides.
        changes: What else differs from the log.

    Raises:
        ValueError: If the log lacks the queries' texts and the policy or the estimator reads them,
            or if the policy names candidates that the log does not know.
    """
    rows: list[Replayed] = []
    n_undecided = 0
    for entry in entries.entries if isinstance(entries, History) else entries:
        if len(entry.frames) == 0:
            n_undecided += 1
            continue
        quality = _quality(entry, policy, changes.estimator)
        situations = changes.situations(entry, quality)
        went = retrace(policy, situations, entry.attempts)
        rows.append(Replayed(entry, situations, went, _identical(entry, went)))
    return LogReplay(tuple(rows), n_undecided)


def _quality(
    entry: Entry, policy: Policy, estimator: QualityEstimator | None
) -> dict[str, float] | None:
    if entry.query is None and (policy.reads_query or estimator is not None):
        reader = type(policy if estimator is None else estimator).__name__
        msg = f"{reader} reads the queries, but this log was kept without their texts."
        raise ValueError(msg)
    if estimator is None or entry.query is None:
        return None
    # One at a time, as a live router does: in a batch, sums are rounded differently.
    row = estimator.predict([entry.query])[0]
    return dict(zip(estimator.fitted_candidates, row.tolist(), strict=True))


def _identical(entry: Entry, went: Retraced) -> bool:
    recorded = list(entry.steps)
    # Where a person declined, the policy's own step was not kept.
    whole = entry.outcome == "answered" and not entry.declined
    if entry.declined:
        recorded.pop()
    taken = list(went.steps)
    if whole and len(taken) != len(recorded):
        return False
    if len(taken) < len(recorded):
        return False
    return all(_same(a, b, entry) for a, b in zip(taken, recorded, strict=False))


def _same(taken: Decision, recorded: Decision, entry: Entry) -> bool:
    if not entry.texts_kept:
        taken = replace(taken, reason=recorded.reason)
    return same(taken, recorded)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(values) == 0:
        return None
    return math.fsum(known) / len(known)
