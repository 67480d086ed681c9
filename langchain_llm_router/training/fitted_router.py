"""The result of `fit_router`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Interval, LatencyCost, RepeatedRuns, Sweep
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.evaluation.judgement import Optimism
from langchain_llm_router.evaluation.saved_goals import with_goal
from langchain_llm_router.evaluation.verdict import Verdict
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["CrossFitted", "Fitted", "Standing"]


@dataclass(frozen=True)
class Standing:
    """The best setting of one contender, on rows that it was not fitted on."""

    name: str
    score: float
    """What it gains, times the probability that this can be proven; see `Selection`."""

    quality: float
    cost_usd: float
    lambda_: float
    """Its setting, in quality per dollar."""


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """What the winner reached on each row when it was fitted without the row.

    Attributes:
        candidates: Names of the candidates.
        quality: Quality of the accepted answers, of shape (n_rows,).
        cost_usd: Cost of each row in USD, verification included, same shape.
        accepted: Column of the accepted answer, same shape.
        asked: Whether each candidate was asked, of shape (n_rows, n_candidates).
        verified: Whether each candidate's answer was verified, same shape.
        streamed: Whether the accepted answer can be passed on while it is written, of shape
            (n_rows,).
        verifier: Name of its verifier; None without one.
    """

    candidates: tuple[str, ...]
    quality: Floats
    cost_usd: Floats
    accepted: Indices
    asked: Bools
    verified: Bools
    streamed: Bools
    verifier: str | None


@dataclass(frozen=True, eq=False)
class Fitted:
    """The router of `fit_router` and the verdict on it.

    Attributes:
        router: The router to use: the winner if its verdict is "kept", else the best single model.
        winner: The winner of the contest, fitted on all rows.
        verdict: Whether the winner keeps the goal.
        goal: What the router is to reach.
        standings: Results of the contenders, the winner first.
        left_out: Reason by name for each contender that does not apply.
        outcomes: The rows of the contest, with the candidates from cheap to expensive.
        done: What the winner reached on each row.
        optimism: By how much `done` flatters the winner, because these rows also chose it.
        lambda_: The winner's setting, in quality per dollar.
        sweep: Results of the winner at other settings.
        n_folds: Number of parts, each of which was left out once.
        n_rows: Number of rows that the winner was fitted on; more than `outcomes` has where some
            were drawn for the contest.
        latency: The winner's time to the first token and to the whole answer, with those of the
            best single model; None if latencies are unknown.
        runs: Single measurements of questions that were answered several times and have their mean
            in `outcomes`; None if there are none.
    """

    router: SavedRouter
    winner: SavedRouter
    verdict: Verdict
    goal: Goal
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    outcomes: Outcomes
    done: CrossFitted
    optimism: Optimism
    lambda_: float
    sweep: Sweep
    n_folds: int
    n_rows: int
    latency: LatencyCost | None = None
    runs: Outcomes | None = None

    @property
    def single(self) -> str:
        """Name of the best single model."""
        return self.verdict.best

    @property
    def gain(self) -> Interval:
        """Quality of the winner minus that of the best single model."""
        return self.verdict.gap

    @property
    def saved(self) -> Interval | None:
        """Share of the best single model's cost that the winner saves; None if it is free."""
        return self.verdict.saved

    @property
    def repeated(self) -> RepeatedRuns | None:
        """What perfect routing is worth where questions were answered several times.

        None if no question was.
        """
        return RepeatedRuns.of(self.outcomes if self.runs is None else self.runs)

    @property
    def worth_it(self) -> bool:
        """Whether the winner keeps its goal."""
        return self.verdict.outcome == "kept"

    def save(self, folder: str | Path) -> Path:
        """Write the router and the verdict into a folder, for `ChatLLMRouter.load`."""
        path = with_goal(self.router, self.goal).save(folder)
        self.verdict.save(path)
        return path
