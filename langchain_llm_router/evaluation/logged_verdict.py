"""The verdict on a router in use, from the scores in its decision log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.evaluation.judgement import decide_verdict, trial_of
from langchain_llm_router.evaluation.verdict import Verdict
from langchain_llm_router.history.log_reader import Entry, History
from langchain_llm_router.types.arrays import Floats

__all__ = ["LoggedScores", "logged_scores"]


@dataclass(frozen=True, eq=False)
class LoggedScores:
    """Requests on which both the returned answer and the baseline's were scored.

    Attributes:
        baseline: Name of the single model that the router is compared with.
        quality: Score of the returned answers, of shape (n,).
        cost_usd: Recorded cost of the requests, of shape (n,); NaN where unknown.
        baseline_quality: Score of the baseline's answers, of shape (n,).
        baseline_cost_usd: Cost of the baseline's answers, of shape (n,). Where it was not asked,
            it is estimated from its answers to other requests of the log; NaN if there are none.
    """

    baseline: str
    quality: Floats
    cost_usd: Floats
    baseline_quality: Floats
    baseline_cost_usd: Floats

    def __len__(self) -> int:
        return len(self.quality)

    def verdict(self, goal: Goal) -> Verdict:
        """Decide whether the router keeps its goal, as `decide_verdict` does.

        Raises:
            ValueError: If no request has both scores.
        """
        if len(self) == 0:
            msg = (
                f"No request has a score of its answer and one of {self.baseline!r}: see "
                "`DecisionLog.feedback(..., candidate=...)`."
            )
            raise ValueError(msg)
        cost = self.baseline_cost_usd[:, None]
        single = Outcomes(
            [str(i) for i in range(len(self))],
            [self.baseline],
            self.baseline_quality[:, None],
            None if np.isnan(cost).any() else cost,
        )
        return decide_verdict(trial_of(self, single), goal)


def logged_scores(
    history: History, *, baseline: str | None = None, key: str | None = None
) -> LoggedScores:
    """Tabulate the requests with a score of the returned answer and one of the baseline's.

    The requests must be a random sample of all: then the verdict holds for all.

    Args:
        history: A log with feedback, that of the baseline with `candidate`.
        baseline: Name of the single model; if None, the dearest candidate by expected cost.
        key: The feedback key to read; if None, the mean of all feedback is used.

    Raises:
        ValueError: If no candidate has this name, or no answered request is in the log.
    """
    costs: dict[str, float | None] = {}
    for entry in _answered(history):
        costs.update(_expected(entry))
    if len(costs) == 0:
        msg = f"None of the {len(history):,} requests in the log was answered after a decision."
        raise ValueError(msg)
    name = max(costs, key=lambda it: costs[it] or 0.0) if baseline is None else baseline
    if name not in costs:
        msg = f"`baseline` must be one of {sorted(costs)}, got {name!r}."
        raise ValueError(msg)
    # A log may not fit in memory: of each request numbers alone are kept.
    rows = np.fromiter(
        (_numbers(history, entry, name, key) for entry in _answered(history)),
        dtype=np.dtype((np.float64, 5)),
    )
    own, cost, other, paid, expected = rows.T
    judged = ~np.isnan(own) & ~np.isnan(other)
    own_cost = _fill_in(paid, expected)
    return LoggedScores(name, own[judged], cost[judged], other[judged], own_cost[judged])


def _answered(history: History) -> Iterator[Entry]:
    return (e for e in history.entries if e.outcome == "answered" and len(e.frames) > 0)


def _numbers(history: History, entry: Entry, baseline: str, key: str | None) -> list[float]:
    """Return a request's score and cost, the baseline's, and its expected cost; NaN if unknown."""
    numbers = (
        history.score(entry.decision_id, key),
        entry.cost_usd,
        history.score(entry.decision_id, key, candidate=baseline),
        _paid(history, entry, baseline),
        _expected(entry).get(baseline),
    )
    return [np.nan if number is None else number for number in numbers]


def _expected(entry: Entry) -> Mapping[str, float | None]:
    return {arm["candidate"]: arm.get("cost_usd") for arm in entry.frames[0]["arms"]}


def _fill_in(paid: Floats, expected: Floats) -> Floats:
    """Return what each request cost the baseline, or would have cost it.

    An expected cost may be that of a default length, which says nothing of these answers. So it
    only tells requests apart, and their level is that of the recorded costs.
    """
    if not (expected > 0).all():
        expected = np.ones(len(paid))
    known = ~np.isnan(paid)
    if not known.any():
        return paid
    level = paid[known].sum() / expected[known].sum()
    costs: Floats = np.where(known, paid, level * expected)
    return costs


def _paid(history: History, entry: Entry, name: str) -> float | None:
    """Return the recorded cost of the baseline's answer; None if it gave none."""
    answers = [a for a in entry.attempts if a["candidate"] == name and a.get("error") is None]
    if len(answers) > 0:
        return answers[-1].get("cost_usd")
    scores = history.feedback.get(entry.decision_id, {}).values()
    costs = (it.cost_usd for it in scores if it.candidate == name and it.cost_usd is not None)
    return next(costs, None)
