"""A saved router examined on recorded rows: is it worth having, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation.held_out import HeldOutReport, held_out_report
from langchain_llm_router.evaluation.intervals import Interval, Resampling, mean_interval
from langchain_llm_router.evaluation.random_mix import (
    cost_saved_interval,
    quality_above_mix_interval,
)
from langchain_llm_router.evaluation.table_replay import (
    Replay,
    best_single,
    oracle,
    replay,
)
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.progress import Progress, Watch

__all__ = ["Exam", "RouterReport"]


@dataclass(frozen=True)
class RouterReport:
    """What a router is worth on rows it has not seen; all intervals are 95 %.

    Attributes:
        n_rows: How many rows it was examined on.
        n_left_out: How many more rows the table has, which the router has seen.
        quality: Mean quality of the accepted answers.
        cost_usd: Mean cost of a query, verification included; None where a cost is unknown.
        alone: The same two figures of every single candidate of the table.
        best: The single candidate with the highest mean quality.
        gap: Mean quality minus the best single candidate's, row by row.
        saved: Share of the cost saved against the random mix of single candidates of the same
            quality (above the best one's quality: against that one); None where unknown.
        lift: Quality above the random mix at the same cost; None where unknown.
        answered: Share of the answers that came from each of the router's candidates.
        asked: Share of the queries on which each was asked.
        oracle: Quality and cost of perfect routing.
        estimator: Whether its estimator beats a random mix; None without one.
    """

    n_rows: int
    n_left_out: int
    quality: Interval
    cost_usd: Interval | None
    alone: Mapping[str, tuple[Interval, Interval | None]]
    best: str
    gap: Interval
    saved: Interval | None
    lift: Interval | None
    answered: Mapping[str, float]
    asked: Mapping[str, float]
    oracle: tuple[float, float | None]
    estimator: HeldOutReport | None

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        gap = f"{100 * self.gap.value:+.1f} points ({_span(self.gap)}) against {self.best} alone"
        if self.saved is None:
            return f"Quality {gap}; what it saves is unknown, as some costs are."
        saved = f"saves {self.saved.value:.0%} ({_span(self.saved)} %) of the cost at equal quality"
        if self.saved.low > 0:
            return f"This router {saved}; quality {gap}."
        if self.saved.high < 0:
            return f"This router costs more than mixing single models: it {saved}; quality {gap}."
        return f"Not proven to save anything: it {saved}; quality {gap}. Examine it on more rows."

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready data; an interval is `[value, low, high]`."""
        return {
            "n_rows": self.n_rows,
            "n_left_out": self.n_left_out,
            "quality": self.quality.as_list(),
            "cost_usd": _as_list(self.cost_usd),
            "alone": {
                name: {"quality": quality.as_list(), "cost_usd": _as_list(cost)}
                for name, (quality, cost) in self.alone.items()
            },
            "best_single": self.best,
            "quality_above_best_single": self.gap.as_list(),
            "cost_saved_at_equal_quality": _as_list(self.saved),
            "quality_above_random_mix": _as_list(self.lift),
            "answered": dict(self.answered),
            "asked": dict(self.asked),
            "oracle": {"quality": self.oracle[0], "cost_usd": self.oracle[1]},
            "estimator": None if self.estimator is None else self.estimator.as_dict(),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, eq=False)
class Exam:
    """A saved router lined up with recorded rows; make one with `of`.

    Attributes:
        saved: The router.
        outcomes: What every candidate of the table scored and cost on the rows.
        own: The same of the router's candidates, in its order.
        quality: What its estimator predicts there; None without one.
        evaluations: What its verifier said there; None without one.
        n_left_out: How many rows were left out because the router has seen them.
    """

    saved: SavedRouter
    outcomes: Outcomes
    own: Outcomes
    quality: Floats | None
    evaluations: SelfEvaluations | None
    n_left_out: int

    @classmethod
    def of(
        cls,
        saved: SavedRouter,
        outcomes: Outcomes,
        evaluations: Mapping[str, SelfEvaluations] | None = None,
        *,
        seen: bool = False,
    ) -> Exam:
        """Line a router up with a table.

        Args:
            saved: The router.
            outcomes: A table with at least its candidates.
            evaluations: Verifier name → what it said, same rows.
            seen: Keep the rows that the router was fitted on or its knob set on: the result is then
                too optimistic.

        Raises:
            ValueError: If a candidate or the verifier is missing, or no row is left.
        """
        said = None
        if saved.verifier is not None:
            tables = evaluations or {}
            if saved.verifier not in tables:
                msg = (
                    f"The router was fitted on the verifier {saved.verifier!r}, but the data knows "
                    f"the verifiers {list(tables)}: give a journal in which it judged the answers."
                )
                raise ValueError(msg)
            said = tables[saved.verifier].select(saved.candidates)
        own = outcomes.select(saved.candidates)
        rows = np.arange(len(outcomes)) if seen else np.flatnonzero(~saved.knows(outcomes.queries))
        if len(rows) == 0:
            msg = (
                f"All {len(outcomes)} rows had a part in this router, so they cannot judge it: "
                "collect other questions, or keep the rows deliberately (`seen=True`, `--seen`)."
            )
            raise ValueError(msg)
        own = own.take(rows)
        return cls(
            saved=saved,
            outcomes=outcomes.take(rows),
            own=own,
            quality=saved.predict(own.queries),
            evaluations=None if said is None else said.take(rows),
            n_left_out=len(outcomes) - len(rows),
        )

    def replay(self, policy: Policy | None = None) -> Replay:
        """What the router's policy, or another one in its place, does on the rows."""
        return replay(
            self.saved.policy if policy is None else policy,
            self.quality,
            self.own,
            evaluations=self.evaluations,
            expected_cost_usd=self.saved.expected_costs,
        )

    def report(self, watch: Watch | None = None) -> RouterReport:
        """Replay the router and compare it with the single candidates.

        Args:
            watch: Is told the progress.
        """
        table, judged = self.outcomes, self._judged()
        progress = Progress(watch, 3 + len(table.candidates) + (judged is not None))
        progress.begin("replaying")
        done, how = self.replay(), Resampling(clusters=table.queries)
        best, costs = best_single(table), table.cost_usd
        priced = costs is not None and not np.isnan(costs).any() and _known(done.cost_usd)
        alone = {}
        for j, name in enumerate(table.candidates):
            progress.begin(f"redrawing the rows: {name} alone")
            cost = None if costs is None else _cost(costs[:, j], how)
            alone[name] = (mean_interval(table.quality[:, j], how), cost)
        progress.begin("redrawing the rows: this router")
        quality, cost = mean_interval(done.quality, how), _cost(done.cost_usd, how)
        gap = mean_interval(done.quality - table.quality[:, best], how)
        progress.begin("redrawing the rows: what it saves")
        saved = cost_saved_interval(done, table, how) if priced else None
        lift = quality_above_mix_interval(done, table, how) if priced else None
        report = None
        if judged is not None:
            estimator, known = judged
            progress.begin(f"redrawing the rows: {type(estimator).__name__}")
            report = held_out_report(estimator, known, resampling=how)
        return RouterReport(
            n_rows=len(table),
            n_left_out=self.n_left_out,
            quality=quality,
            cost_usd=cost,
            alone=alone,
            best=table.candidates[best],
            gap=gap,
            saved=saved,
            lift=lift,
            answered=done.shares,
            asked=done.asked_shares,
            oracle=_perfect(table),
            estimator=report,
        )

    def _judged(self) -> tuple[QualityEstimator, Outcomes] | None:
        """The estimator and the rows that judge it; None where there is nothing to judge."""
        estimator = self.saved.estimator
        if estimator is None or len(estimator.fitted_candidates) < 2:
            return None
        if not set(estimator.fitted_candidates) <= set(self.outcomes.candidates):
            return None
        return estimator, self.outcomes.select(estimator.fitted_candidates)


def _perfect(table: Outcomes) -> tuple[float, float | None]:
    """Quality and cost of perfect routing."""
    rows, perfect = np.arange(len(table)), oracle(table)
    spent = None if table.cost_usd is None else float(table.cost_usd[rows, perfect].mean())
    return (
        float(table.quality[rows, perfect].mean()),
        None if spent is None or np.isnan(spent) else spent,
    )


def _known(values: Floats) -> bool:
    return not bool(np.isnan(values).any())


def _cost(values: Floats, how: Resampling) -> Interval | None:
    return mean_interval(values, how) if _known(values) else None


def _span(interval: Interval) -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f}"


def _as_list(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else interval.as_list()
