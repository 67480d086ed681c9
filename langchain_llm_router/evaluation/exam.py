"""The evaluation of a saved router on recorded rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.evaluation.held_out import HeldOutReport, held_out_report
from langchain_llm_router.evaluation.intervals import Interval, Resampling, mean_interval
from langchain_llm_router.evaluation.judgement import decide_verdict, trial_of
from langchain_llm_router.evaluation.random_mix import (
    cost_saved_interval,
    quality_above_mix_interval,
)
from langchain_llm_router.evaluation.repeated_runs import RepeatedRuns
from langchain_llm_router.evaluation.saved_goals import goal_of
from langchain_llm_router.evaluation.table_replay import (
    Replay,
    oracle,
    replay,
)
from langchain_llm_router.evaluation.verdict import Verdict
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.progress import Progress, Watch

__all__ = ["Exam", "RouterReport"]


@dataclass(frozen=True)
class RouterReport:
    """Quality, cost and savings of a router on held-out rows, with 95 % intervals.

    Attributes:
        n_rows: Number of rows in the evaluation.
        n_left_out: Number of rows that were left out because the router was fitted on them.
        quality: Mean quality of the accepted answers.
        cost_usd: Mean cost of a query, verification included; None if a cost is unknown.
        alone: Mean quality and mean cost of every single candidate by its name.
        verdict: Whether the router keeps its goal, and what it saves against the best single
            candidate.
        saved: Share of the cost saved against sending questions to single candidates at random at
            equal quality, or against the best single candidate if the router is better; None if a
            cost is unknown.
        lift: Mean quality minus that of sending as many questions to each candidate at random, for
            the same money; None if a cost is unknown.
        answered: Share of the accepted answers from each candidate of the router.
        asked: Share of the queries on which each candidate was asked.
        oracle: Mean quality and mean cost of perfect routing.
        estimator: Report on the router's estimator; None without one.
        repeated: What perfect routing is worth where questions were answered several times; None
            without such questions.
    """

    n_rows: int
    n_left_out: int
    quality: Interval
    cost_usd: Interval | None
    alone: Mapping[str, tuple[Interval, Interval | None]]
    verdict: Verdict
    saved: Interval | None
    lift: Interval | None
    answered: Mapping[str, float]
    asked: Mapping[str, float]
    oracle: tuple[float, float | None]
    estimator: HeldOutReport | None
    repeated: RepeatedRuns | None = None

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        return self.verdict.sentence

    @property
    def best(self) -> str:
        """Name of the best single candidate."""
        return self.verdict.best

    @property
    def gap(self) -> Interval:
        """Mean quality minus that of the best single candidate."""
        return self.verdict.gap

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data; an interval is `[value, low, high]`."""
        return {
            **self.verdict.as_dict(),
            "n_rows": self.n_rows,
            "n_left_out": self.n_left_out,
            "quality": self.quality.as_list(),
            "cost_usd": _as_list(self.cost_usd),
            "alone": {
                name: {"quality": quality.as_list(), "cost_usd": _as_list(cost)}
                for name, (quality, cost) in self.alone.items()
            },
            "cost_saved_at_equal_quality": _as_list(self.saved),
            "quality_above_random_mix": _as_list(self.lift),
            "answered": dict(self.answered),
            "asked": dict(self.asked),
            "oracle": {"quality": self.oracle[0], "cost_usd": self.oracle[1]},
            "estimator": None if self.estimator is None else self.estimator.as_dict(),
            "repeated_runs": None if self.repeated is None else self.repeated.as_dict(),
        }


@dataclass(frozen=True, eq=False)
class Exam:
    """A saved router with the recorded rows of its evaluation; `of` builds it.

    Attributes:
        saved: The router.
        outcomes: Outcomes of every candidate of the table.
        own: Outcomes of the router's candidates, in its order.
        quality: Quality that the router's estimator predicts; None without an estimator.
        evaluations: Scores of the router's verifier; None without a verifier.
        n_left_out: Number of rows that were left out because the router was fitted on them.
        runs: Single measurements of questions that were answered several times and have their mean
            in `outcomes`; None if there are none.
    """

    saved: SavedRouter
    outcomes: Outcomes
    own: Outcomes
    quality: Floats | None
    evaluations: SelfEvaluations | None
    n_left_out: int
    runs: Outcomes | None = None

    @classmethod
    def of(
        cls,
        saved: SavedRouter,
        outcomes: Outcomes,
        evaluations: Mapping[str, SelfEvaluations] | None = None,
        *,
        seen: bool = False,
        runs: Outcomes | None = None,
    ) -> Exam:
        """Select the rows and columns of a table for the evaluation of a router.

        Args:
            saved: The router.
            outcomes: A table with at least the router's candidates.
            evaluations: Scores of each verifier by its name, with the same rows.
            seen: Whether to keep the rows that were used to fit the router or to set its knob,
                which makes the result too optimistic.
            runs: Single measurements of repeated questions (`Collected.runs`).

        Raises:
            ValueError: If a candidate or the verifier is missing, the scores are of another
                verifier, or all rows are left out.
        """
        missing = [name for name in saved.candidates if name not in outcomes.candidates]
        if missing:
            msg = (
                f"The data must have the router's candidates {list(saved.candidates)}, but have "
                f"{list(outcomes.candidates)}: use data of {missing}, or fit a router on these."
            )
            raise ValueError(msg)
        scores = None
        if saved.verifier is not None:
            tables = evaluations or {}
            if saved.verifier not in tables:
                msg = (
                    f"`evaluations` must have the router's verifier, {saved.verifier!r}, but has "
                    f"{list(tables) or 'none'}: use a journal with its scores."
                )
                raise ValueError(msg)
            scores = tables[saved.verifier].select(saved.candidates)
            saved.check_scores(scores.verifier)
        own = outcomes.select(saved.candidates)
        rows = np.arange(len(outcomes)) if seen else np.flatnonzero(~saved.knows(outcomes.queries))
        if len(rows) == 0:
            msg = (
                f"All {len(outcomes)} rows were used to fit this router, so none can test it: "
                "collect other questions, or keep the rows with `seen=True` (`--seen`)."
            )
            raise ValueError(msg)
        own = own.take(rows)
        return cls(
            saved=saved,
            outcomes=outcomes.take(rows),
            own=own,
            quality=saved.predict(own.queries),
            evaluations=None if scores is None else scores.take(rows),
            n_left_out=len(outcomes) - len(rows),
            runs=runs if runs is None or seen else _unknown_rows(saved, runs),
        )

    def replay(self, policy: Policy | None = None) -> Replay:
        """Replay the router's policy, or another policy in its place, on the rows."""
        return replay(
            self.saved.policy if policy is None else policy,
            self.quality,
            self.own,
            evaluations=self.evaluations,
            expected_cost_usd=self.saved.expected_costs,
        )

    def report(self, watch: Watch | None = None, goal: Goal | None = None) -> RouterReport:
        """Replay the router, compare it with the single candidates, and decide the verdict.

        Args:
            watch: Callback that receives the progress.
            goal: What the router is to reach. If None, what it was fitted or calibrated for, or the
                default target if that is unknown.

        Raises:
            ValueError: If the data lacks what the goal is about.
        """
        goal = goal_of(self.saved) if goal is None else goal
        table, estimator_test = self.outcomes, self._estimator_test()
        progress = Progress(watch, 3 + len(table.candidates) + (estimator_test is not None))
        progress.begin("replaying")
        replayed, how = self.replay(), Resampling(clusters=table.queries)
        costs = table.cost_usd
        priced = costs is not None and not np.isnan(costs).any() and _known(replayed.cost_usd)
        alone = {}
        for j, name in enumerate(table.candidates):
            progress.begin(f"redrawing the rows: {name} alone")
            cost = None if costs is None else _cost(costs[:, j], how)
            alone[name] = (mean_interval(table.quality[:, j], how, bounds=(0, 1)), cost)
        progress.begin("redrawing the rows: this router")
        quality = mean_interval(replayed.quality, how, bounds=(0, 1))
        cost = _cost(replayed.cost_usd, how)
        verdict = self.verdict(replayed, goal)
        progress.begin("redrawing the rows: what it saves")
        saved = cost_saved_interval(replayed, table, how) if priced else None
        lift = quality_above_mix_interval(replayed, table, how) if priced else None
        report = None
        if estimator_test is not None:
            estimator, known = estimator_test
            progress.begin(f"redrawing the rows: {type(estimator).__name__}")
            report = held_out_report(estimator, known, resampling=how)
        return RouterReport(
            n_rows=len(table),
            n_left_out=self.n_left_out,
            quality=quality,
            cost_usd=cost,
            alone=alone,
            verdict=verdict,
            saved=saved,
            lift=lift,
            answered=replayed.shares,
            asked=replayed.asked_shares,
            oracle=_oracle_point(table),
            estimator=report,
            repeated=RepeatedRuns.of(table if self.runs is None else self.runs),
        )

    def verdict(self, replayed: Replay, goal: Goal) -> Verdict:
        """Decide whether a replay of a router on these rows keeps a goal.

        Raises:
            ValueError: If the data lacks what the goal is about.
        """
        costs = self.outcomes.cost_usd
        needs_costs = goal.lambda_ is not None or any(t.metric == "cost_usd" for t in goal.targets)
        if needs_costs and (costs is None or not _known(costs) or not _known(replayed.cost_usd)):
            msg = (
                f"The goal {str(goal)!r} needs every cost, but some are unknown: give every "
                "candidate a price, or name a target for quality (`--target`)."
            )
            raise ValueError(msg)
        trial = trial_of(replayed, self.outcomes, replayed.asked[:, -1], replayed.latency_s)
        return decide_verdict(trial, goal, clusters=self.outcomes.queries)

    def _estimator_test(self) -> tuple[QualityEstimator, Outcomes] | None:
        """Return the estimator and the rows to test it; None if there is nothing to test."""
        estimator = self.saved.estimator
        if estimator is None or len(estimator.fitted_candidates) < 2:
            return None
        if not set(estimator.fitted_candidates) <= set(self.outcomes.candidates):
            return None
        return estimator, self.outcomes.select(estimator.fitted_candidates)


def _unknown_rows(saved: SavedRouter, runs: Outcomes) -> Outcomes | None:
    """Return the rows that the router was not fitted on; None if there are none."""
    rows = np.flatnonzero(~saved.knows(runs.queries))
    return runs.take(rows) if len(rows) > 0 else None


def _oracle_point(table: Outcomes) -> tuple[float, float | None]:
    """Compute the quality and the cost of perfect routing."""
    rows, perfect = np.arange(len(table)), oracle(table)
    spent = None if table.cost_usd is None else float(table.cost_usd[rows, perfect].mean())
    return (
        float(table.quality[rows, perfect].mean()),
        None if spent is None or np.isnan(spent) else spent,
    )


def _known(values: Floats) -> bool:
    return not bool(np.isnan(values).any())


def _cost(values: Floats, how: Resampling) -> Interval | None:
    return mean_interval(values, how, bounds=(0, np.inf)) if _known(values) else None


def _as_list(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else interval.as_list()
