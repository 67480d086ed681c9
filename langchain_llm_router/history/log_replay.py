"""Replay of a log: every decision is made again, by the same or another policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history.log_lines import is_identical
from langchain_llm_router.history.log_reader import Entry, History, each_once
from langchain_llm_router.history.replay_figures import (
    ReplayColumns,
    Replayed,
    ReplayFigures,
)
from langchain_llm_router.history.retraced import Retraced, retrace
from langchain_llm_router.loop.arms import replace_quality
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["Changes", "LogReplay", "replay_entry", "replay_log"]


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

    def check(self, policy: Policy) -> None:
        """Refuse a setting that this policy does not have.

        Raises:
            ValueError: If λ or a threshold is given, and the policy decides by something else.
        """
        given = {"lambda": self.lambda_, "threshold": self.threshold}
        if self.lambda_ is None and self.threshold is None:
            return
        options = RoutingOptions(lambda_=self.lambda_, threshold=self.threshold)
        knob = policy.with_options(options).knob
        name = None if knob is None else knob.name
        unused = [other for other, value in given.items() if value is not None and other != name]
        if unused:
            shown = {None: "neither λ nor a threshold", "lambda": "λ"}
            msg = (
                f"{shown.get(unused[0], '`threshold`')} = {given[unused[0]]!r} would change "
                f"nothing, because {type(policy).__name__} decides by "
                f"{shown.get(name, f'`{name}`')}: omit it."
            )
            raise ValueError(msg)

    def situations(self, entry: Entry, quality: dict[str, float] | None) -> tuple[Situation, ...]:
        """Return the entry's situations with the changes applied."""
        if quality is None and self.lambda_ is None and self.threshold is None:
            return entry.situations
        return each_once(entry.situations, lambda situation: self._changed(situation, quality))

    def _changed(self, situation: Situation, quality: dict[str, float] | None) -> Situation:
        options = situation.options
        if self.lambda_ is not None:
            options = replace(options, lambda_=self.lambda_)
        if self.threshold is not None:
            options = replace(options, threshold=self.threshold)
        if options is not situation.options:
            situation = replace(situation, options=options)
        if quality is None:
            return situation
        for arm in situation.arms:
            if arm.model_name not in quality:
                msg = (
                    f"The log has the candidate {arm.model_name!r}, which the "
                    f"{type(self.estimator).__name__} was not fitted on (it was on "
                    f"{list(quality)}): use an estimator that was, or the logged predictions "
                    "(without `--predict` on the command line)."
                )
                raise ValueError(msg)
        return replace_quality(situation, quality)


_NO_CHANGES = Changes()


@dataclass(frozen=True, eq=False)
class LogReplay(ReplayFigures):
    """The replay of a log, with every request; `evaluation.off_policy_of_logs` keeps figures alone.

    Attributes:
        rows: The requests that reached a decision.
    """

    rows: Sequence[Replayed] = ()

    @property
    def differing(self) -> tuple[Replayed, ...]:
        """Requests with a decision that was not reproduced."""
        return tuple(row for row in self.rows if not row.identical)


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
            their texts, if the estimator was not fitted on a logged candidate, or if the policy
            does not have a setting that is changed.
    """
    changes.check(policy)
    rows: list[Replayed] = []
    n_undecided = 0
    for entry in entries.entries if isinstance(entries, History) else entries:
        row = replay_entry(entry, policy, changes=changes)
        if row is None:
            n_undecided += 1
        else:
            rows.append(row)
    n_torn = entries.n_torn if isinstance(entries, History) else 0
    return LogReplay(ReplayColumns.of(rows), n_undecided, n_torn, tuple(rows))


def replay_entry(
    entry: Entry, policy: Policy, *, changes: Changes = _NO_CHANGES
) -> Replayed | None:
    """Make the decisions of one request again; None if it did not reach one.

    Raises:
        ValueError: As in `replay_log`.
    """
    if len(entry.frames) == 0:
        return None
    quality = _quality(entry, policy, changes.estimator)
    situations = changes.situations(entry, quality)
    path = retrace(policy, situations, entry.attempts)
    return Replayed(entry, situations, path, _is_identical(entry, path))


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
