"""Replay of a log: every decision is made again, by the same or another policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history.log_lines import is_identical
from langchain_llm_router.history.log_reader import Entry, History
from langchain_llm_router.history.retraced import Retraced, retrace
from langchain_llm_router.loop.arms import replace_quality
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Decision, Situation, sum_usd
from langchain_llm_router.types.arguments import CheckedArguments, check_range

__all__ = ["Changes", "LogReplay", "Replayed", "replay_log"]


@dataclass(frozen=True)
class Changes(CheckedArguments):
    """The settings that a replay changes; those that are None stay as recorded.

    Args:
        estimator: The estimator that predicts the qualities again; needs the queries' texts.
        lambda_: λ in quality per dollar, replacing that of the policy and of the requests.
        threshold: Confidence threshold, replacing that of the policy and of the requests.
    """

    estimator: QualityEstimator | None = None
    lambda_: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "lambda_", "threshold")

    def situations(self, entry: Entry, quality: dict[str, float] | None) -> list[Situation]:
        """Return the entry's situations with the changes applied."""
        situations = entry.situations
        if self.lambda_ is not None:
            situations = [
                replace(s, options=replace(s.options, lambda_=self.lambda_)) for s in situations
            ]
        if self.threshold is not None:
            options = [replace(s.options, threshold=self.threshold) for s in situations]
            situations = [replace(s, options=o) for s, o in zip(situations, options, strict=True)]
        return situations if quality is None else [replace_quality(s, quality) for s in situations]


_NO_CHANGES = Changes()


@dataclass(frozen=True)
class Replayed:
    """One replayed request."""

    entry: Entry
    situations: Sequence[Situation]
    """The situation before each recorded step, with the changes applied."""

    went: Retraced
    """The steps taken in the replay."""

    identical: bool
    """Whether every recorded decision was reproduced, equal to the last bit: choice, reason,
    every arm's numbers, confidence, propensity."""

    @property
    def agrees(self) -> bool:
        """Whether the same steps were taken, even if their numbers differ."""
        taken = [(step.action, step.candidate) for step in self.went.steps]
        return taken == [(step.action, step.candidate) for step in self.entry.steps]


@dataclass(frozen=True)
class LogReplay:
    """The replay of a log.

    Attributes:
        rows: The requests that reached a decision.
        n_undecided: Number of requests that did not, because no candidate was allowed or an option
            was invalid.
    """

    rows: Sequence[Replayed]
    n_undecided: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_identical(self) -> int:
        """Number of requests whose decisions were all reproduced, equal to the last bit."""
        return sum(row.identical for row in self.rows)

    @property
    def differing(self) -> tuple[Replayed, ...]:
        """Requests with a decision that was not reproduced."""
        return tuple(row for row in self.rows if not row.identical)

    @property
    def recorded_cost_usd(self) -> float | None:
        """Mean recorded cost of an answered request; None if any cost is unknown."""
        return _mean([row.entry.cost_usd for row in self._answered])

    @property
    def cost_usd(self) -> float | None:
        """Mean cost of the same requests in the replay; None if any cost is unknown.

        If a replayed step was not recorded, its expected cost is used, times the candidate's ratio
        of actual to expected cost. Steps after it are not counted: see `share_on_record`.
        """
        ratio = self._cost_ratios()
        costs: list[float | None] = []
        for row in self._answered:
            path, expected = row.went, row.went.expected_cost_usd
            if expected is not None and path.candidate is not None:
                expected *= ratio.get(path.candidate, 1.0)
            costs.append(sum_usd([path.recorded_cost_usd, expected]))
        return _mean(costs)

    @property
    def share_on_record(self) -> float:
        """Share of answered requests in which every replayed step was recorded."""
        rows = self._answered
        return sum(row.went.on_record for row in rows) / len(rows) if rows else math.nan

    @property
    def share_agreeing(self) -> float:
        """Share of answered requests in which the same steps are taken."""
        rows = self._answered
        return sum(row.agrees for row in rows) / len(rows) if rows else math.nan

    def shares(self) -> dict[str, tuple[float, float]]:
        """Return every candidate's share of the answers, as recorded and in the replay."""
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
        """Return the ratio of actual to expected cost by candidate.

        They differ because expected costs are based on estimated answer lengths.
        """
        paid: dict[str, float] = {}
        expected: dict[str, float] = {}
        for row in self.rows:
            arms = {arm.candidate: arm.cost_usd for arm in row.went.situation.arms}
            for attempt in row.entry.attempts:
                name, cost = attempt["candidate"], attempt.get("cost_usd")
                estimate = arms.get(name)
                if cost is not None and estimate is not None:
                    paid[name] = paid.get(name, 0.0) + cost
                    expected[name] = expected.get(name, 0.0) + estimate
        return {name: paid[name] / total for name, total in expected.items() if total > 0}

    @property
    def _answered(self) -> list[Replayed]:
        return [row for row in self.rows if row.entry.outcome == "answered"]


def replay_log(
    entries: History | Iterable[Entry], policy: Policy, *, changes: Changes = _NO_CHANGES
) -> LogReplay:
    """Make every decision of a log again from the recorded situations; no candidate is asked.

    The policy that wrote the log reproduces every decision, equal to the last bit.

    Args:
        entries: The history from `read_log`, or an iterable of its entries.
        policy: The policy that decides.
        changes: Other settings that differ from the log.

    Raises:
        ValueError: If the policy or the estimator reads the queries, and the log does not have
            their texts.
    """
    rows: list[Replayed] = []
    n_undecided = 0
    for entry in entries.entries if isinstance(entries, History) else entries:
        if len(entry.frames) == 0:
            n_undecided += 1
            continue
        quality = _quality(entry, policy, changes.estimator)
        situations = changes.situations(entry, quality)
        path = retrace(policy, situations, entry.attempts)
        rows.append(Replayed(entry, situations, path, _is_identical(entry, path)))
    return LogReplay(tuple(rows), n_undecided)


def _quality(
    entry: Entry, policy: Policy, estimator: QualityEstimator | None
) -> dict[str, float] | None:
    if entry.query is None and (policy.reads_query or estimator is not None):
        reader = type(policy if estimator is None else estimator).__name__
        msg = (
            f"{reader} reads the queries, but this log does not have their texts: it must be "
            "written with `texts='full'`."
        )
        raise ValueError(msg)
    if estimator is None or entry.query is None:
        return None
    # One query at a time, as in a live router, because sums in a batch are rounded differently.
    row = estimator.predict([entry.query])[0]
    return dict(zip(estimator.fitted_candidates, row.tolist(), strict=True))


def _is_identical(entry: Entry, path: Retraced) -> bool:
    recorded = list(entry.steps)
    # If a person declined, the policy's last step was replaced in the log.
    is_complete = entry.outcome == "answered" and not entry.declined
    if entry.declined:
        recorded.pop()
    taken = list(path.steps)
    if is_complete and len(taken) != len(recorded):
        return False
    if len(taken) < len(recorded):
        return False
    return all(_matches(a, b, entry) for a, b in zip(taken, recorded, strict=False))


def _matches(taken: Decision, recorded: Decision, entry: Entry) -> bool:
    if not entry.texts_kept:
        taken = replace(taken, reason=recorded.reason)
    return is_identical(taken, recorded)


def _mean(values: Sequence[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    if len(known_values) < len(values) or len(values) == 0:
        return None
    return math.fsum(known_values) / len(known_values)
