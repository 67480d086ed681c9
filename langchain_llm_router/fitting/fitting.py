"""From data to a router in one call: everything that applies competes on held-out rows.

Three parts of the data do three jobs: the first teaches every contender, the second picks the
winner, and the third, untouched until then, says what the winner is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.collect import Collected, load_journal
from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.estimators import BradleyTerry, NearestNeighbors, QualityEstimator
from langchain_llm_router.evaluation import Replay, best_single, replay
from langchain_llm_router.evaluation.intervals import Interval, mean_interval
from langchain_llm_router.observation import KernelDensity
from langchain_llm_router.policies import (
    Always,
    CascadeRouting,
    ConfidenceThreshold,
    Policy,
    Pomdp,
    Utility,
)
from langchain_llm_router.saved_router import SavedRouter, mean_costs

__all__ = ["Fitted", "Standing", "fit_router", "load_data"]

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Standing:
    """How one contender did on the rows that picked the winner."""

    name: str
    utility: float
    """Mean quality - λ·cost."""

    quality: float
    cost_usd: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """The winner, fitted again on all rows but the last part, and what it is worth on those.

    Attributes:
        router: What `ChatLLMRouter.load` reads once it is saved.
        lambda_: λ, quality per dollar, that everybody was judged by.
        standings: All contenders, the best first.
        left_out: Contenders that do not apply to these data, and why.
        test: The untouched rows.
        replay: What the winner did on them.
        gain: Mean utility on them above the best single model's, with its interval.
    """

    router: SavedRouter
    lambda_: float
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    test: Outcomes
    replay: Replay
    single: str
    gain: Interval
    quality: Interval = field(init=False)
    cost_usd: Interval = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quality", mean_interval(self.replay.quality))
        object.__setattr__(self, "cost_usd", mean_interval(self.replay.cost_usd))

    @property
    def worth_it(self) -> bool:
        """Whether the gain over the best single model is above 0 beyond its interval."""
        return self.gain.low > 0

    def save(self, folder: str | Path) -> Path:
        """Write the router; `ChatLLMRouter.load` reads it."""
        return self.router.save(folder)


def load_data(*paths: str | Path) -> Outcomes | Collected:
    """Read what `fit_router` takes: journals of `collect`, or one table that `Outcomes` saved.

    Raises:
        ValueError: If a file can be read as neither.
    """
    if len(paths) == 0:
        msg = "There is nothing to fit on: name a journal of `collect` or a table of outcomes."
        raise ValueError(msg)
    first = Path(paths[0])
    with first.open("rb") as file:
        is_journal = first.suffix == ".jsonl" and b'"kind"' in file.readline()
    if is_journal:
        return load_journal(*paths)
    if len(paths) > 1:
        msg = f"Only journals add up; {first.name!r} is a table: give it alone."
        raise ValueError(msg)
    return Outcomes.load(first)


def fit_router(
    data: Outcomes | Collected,
    evaluations: Mapping[str, SelfEvaluations] | None = None,
    *,
    lambda_: float | None = None,
    estimators: Mapping[str, Callable[[], QualityEstimator]] | None = None,
    shares: Sequence[float] = (0.5, 0.25, 0.25),
    seed: int = 0,
) -> Fitted:
    """Let every estimator, verifier and policy that applies compete, and fit the winner.

    Contenders: each candidate alone; `Utility` over each estimator; over each verifier and each
    chain of candidates (all, and every pair) `ConfidenceThreshold`, `Pomdp`, `CascadeRouting`.

    Args:
        data: Measured quality and cost, or what `collect` returned.
        evaluations: Verifier name → what it said, same rows and columns; None: those of `data`.
        lambda_: λ, quality per dollar. None: the rate at which the cheapest and the best candidate
            are worth the same, so that only what beats mixing them at random gains anything.
        estimators: Name → constructor; None: nearest neighbors and Bradley-Terry.
        shares: Of the rows for teaching, picking and testing; equal queries stay together.
        seed: Another seed, another split.

    Raises:
        ValueError: If costs are unknown or a part has no rows.
    """
    outcomes = data if isinstance(data, Outcomes) else data.outcomes
    if evaluations is None:
        evaluations = {} if isinstance(data, Outcomes) else data.evaluations
    if outcomes.cost_usd is None or bool(np.isnan(outcomes.cost_usd).any()):
        msg = "Choosing a router weighs quality against cost: give every candidate a price."
        raise ValueError(msg)
    order = np.argsort(outcomes.cost_usd.mean(axis=0), kind="stable")
    names = [outcomes.candidates[j] for j in order]
    tables = {name: _columns(it, names) for name, it in evaluations.items()}
    parts = split_indices(len(outcomes), shares, seed=seed, groups=outcomes.queries)
    if min(len(part) for part in parts) == 0:
        msg = f"{len(outcomes)} rows are too few for parts of {tuple(shares)}."
        raise ValueError(msg)
    contest = _Contest(
        outcomes.select(names),
        tables,
        _default_lambda(outcomes) if lambda_ is None else lambda_,
        estimators or {"nearest neighbors": NearestNeighbors, "Bradley-Terry": BradleyTerry},
    )
    return contest.hold(*parts)


def _default_lambda(outcomes: Outcomes) -> float:
    quality, cost = outcomes.quality.mean(axis=0), outcomes.mean_cost_usd
    assert cost is not None, "checked before"
    best, cheap = best_single(outcomes), int(cost.argmin())
    gap = float(cost[best] - cost[cheap])
    if gap > 0:
        return float(quality[best] - quality[cheap]) / gap
    # The cheapest is the best already; any price on dollars keeps it so.
    return float(quality[best] / cost[best]) if cost[best] > 0 else 1.0


def _columns(evaluations: SelfEvaluations, names: Sequence[str]) -> SelfEvaluations:
    columns = [list(evaluations.candidates).index(name) for name in names]
    cost, verdicts = evaluations.cost_usd, evaluations.verdicts
    return SelfEvaluations(
        names,
        evaluations.confidence[:, columns],
        None if cost is None else cost[:, columns],
        None if verdicts is None else verdicts[:, columns],
    )


@dataclass(frozen=True)
class _Contender:
    name: str
    build: Callable[[Rows], Policy]
    candidates: tuple[str, ...]
    verifier: str | None = None
    estimator: str | None = None


@dataclass(frozen=True)
class _Contest:
    """The tables, and what can be built from some of their rows."""

    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    lambda_: float
    estimators: Mapping[str, Callable[[], QualityEstimator]]
    _fitted: dict[tuple[str, bytes], QualityEstimator] = field(default_factory=dict)

    def hold(self, teach: Rows, pick: Rows, test: Rows) -> Fitted:
        """Everybody learns, is compared, and the winner learns again and is tested."""
        standings: list[tuple[Standing, _Contender]] = []
        left_out: dict[str, str] = {}
        for contender in self._contenders():
            try:
                done = self._replay(contender, teach, pick)
                standings.append((self._standing(contender.name, done), contender))
            except ValueError as error:
                left_out[contender.name] = str(error)
        standings.sort(key=lambda pair: -pair[0].utility)
        winner = standings[0][1]
        known = np.concatenate([teach, pick])
        done = self._replay(winner, known, test)
        single = self._best_single(known)
        alone = self.outcomes.take(test).select([single])
        assert alone.cost_usd is not None, "checked before"
        baseline = alone.quality[:, 0] - self.lambda_ * alone.cost_usd[:, 0]
        return Fitted(
            router=self._router(winner, known),
            lambda_=self.lambda_,
            standings=tuple(standing for standing, _ in standings),
            left_out=left_out,
            test=self.outcomes.take(test),
            replay=done,
            single=single,
            gain=mean_interval(done.quality - self.lambda_ * done.cost_usd - baseline),
        )

    def _contenders(self) -> Iterator[_Contender]:
        names = tuple(self.outcomes.candidates)
        for name in names:
            yield _Contender(f"always {name}", _always(name), (name,))
        for estimator in self.estimators:
            yield _Contender(
                f"utility by {estimator}",
                lambda rows: Utility(cost=self.lambda_),
                names,
                estimator=estimator,
            )
        chains = [names] + [pair for pair in combinations(names, 2) if pair != names]
        for verifier in self.evaluations:
            for chain in chains:
                yield from self._cascades(verifier, chain)

    def _cascades(self, verifier: str, chain: tuple[str, ...]) -> Iterator[_Contender]:
        def tables(rows: Rows) -> tuple[Outcomes, SelfEvaluations]:
            evaluations = _columns(self.evaluations[verifier], chain).take(rows)
            return self.outcomes.select(chain).take(rows), evaluations

        def threshold(rows: Rows) -> Policy:
            outcomes, evaluations = tables(rows)
            observed = {
                name: KernelDensity().fit(
                    evaluations.confidence[:, j], outcomes.quality[:, j] >= 0.5
                )
                for j, name in enumerate(chain[:-1])
            }
            return ConfidenceThreshold(observed, lambda_=self.lambda_, use_prior=False)

        def pomdp(rows: Rows) -> Policy:
            return Pomdp(self.lambda_, likelihood="kde").fit(*tables(rows))

        def routing(rows: Rows) -> Policy:
            return CascadeRouting(self.lambda_).fit(*tables(rows))

        who = " → ".join(chain)
        for name, build in (
            ("threshold", threshold),
            ("POMDP", pomdp),
            ("cascade routing", routing),
        ):
            yield _Contender(f"{name} on {verifier}: {who}", build, chain, verifier)

    def _replay(self, contender: _Contender, known: Rows, judged: Rows) -> Replay:
        chain = contender.candidates
        outcomes = self.outcomes.select(chain).take(judged)
        quality, evaluations = None, None
        if contender.estimator is not None:
            quality = self._estimator(contender, known).predict(outcomes.queries)
        if contender.verifier is not None:
            evaluations = _columns(self.evaluations[contender.verifier], chain).take(judged)
        costs = self.outcomes.select(chain).take(known).mean_cost_usd
        policy = contender.build(known)
        done = replay(policy, quality, outcomes, evaluations=evaluations, expected_cost_usd=costs)
        if done.mean_cost_usd is None:
            msg = "what verifying cost is unknown for some answers"
            raise ValueError(msg)
        return done

    def _estimator(self, contender: _Contender, known: Rows) -> QualityEstimator:
        assert contender.estimator is not None, "asked for one that has one"
        key = (contender.estimator, known.tobytes())
        if key not in self._fitted:
            estimator = self.estimators[contender.estimator]()
            self._fitted[key] = estimator.fit(self.outcomes.take(known))
        return self._fitted[key]

    def _standing(self, name: str, done: Replay) -> Standing:
        quality, cost = float(done.quality.mean()), float(done.cost_usd.mean())
        return Standing(name, quality - self.lambda_ * cost, quality, cost)

    def _best_single(self, rows: Rows) -> str:
        known = self.outcomes.take(rows)
        assert known.cost_usd is not None, "checked before"
        utility = (known.quality - self.lambda_ * known.cost_usd).mean(axis=0)
        # With the default λ the cheapest and the best tie; the better one is the honest rival.
        close = np.flatnonzero(utility >= utility.max() - 1e-9)
        best = max(close, key=lambda j: known.quality[:, j].mean())
        return known.candidates[int(best)]

    def _router(self, contender: _Contender, known: Rows) -> SavedRouter:
        chain = contender.candidates
        costs = self.outcomes.select(chain).take(known).cost_usd
        return SavedRouter(
            candidates=chain,
            policy=contender.build(known),
            estimator=None if contender.estimator is None else self._estimator(contender, known),
            verifier=contender.verifier,
            expected_cost_usd=mean_costs(chain, costs),
        ).taught_by(self.outcomes.take(known).queries)


def _always(name: str) -> Callable[[Rows], Policy]:
    return lambda rows: Always(name)
