"""The kinds of routers that apply to the data, each as a family of policies over λ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import (
    BradleyTerry,
    Clusters,
    Heuristics,
    Linear,
    NearestNeighbors,
    QualityEstimator,
    out_of_fold,
)
from langchain_llm_router.evaluation import replay
from langchain_llm_router.evaluation.trials import Family
from langchain_llm_router.policies import (
    Always,
    AnswerPool,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Policy,
    Pomdp,
    Utility,
    choose_pool,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["CHEAP_ESTIMATORS", "HEURISTICS", "Contender", "Tables", "contenders"]

_Estimators = Mapping[str, Callable[[], QualityEstimator]]

HEURISTICS = "heuristics (length, code, keywords)"
"""Name of the baseline by rules, which learns nothing from the words of a query."""

CHEAP_ESTIMATORS: _Estimators = {
    HEURISTICS: Heuristics,
    "nearest neighbors": NearestNeighbors,
    "clusters": Clusters,
    "linear": Linear,
    "Bradley-Terry": BradleyTerry,
}
"""Estimators that need no pretrained model and are fitted within seconds."""

_POOL_READER = "linear"
"""Name of the estimator whose predictions a pool starts from; one, because each is refitted in
every fold of a fold."""

_SMALLEST_POOL = 3
_N_BUDGETS = 3
_N_GRID = 5


@dataclass(frozen=True)
class Tables:
    """The data of the contest, with candidates from cheap to expensive.

    Args:
        outcomes: Quality and cost.
        evaluations: Scores of each verifier by its name.
        estimators: Constructors of estimators by name.
        timed: Whether contenders whose latency is unknown on some rows do not apply.
    """

    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    estimators: _Estimators
    timed: bool = False
    _fitted: dict[tuple[str, bytes], QualityEstimator] = field(default_factory=dict)

    def take(self, rows: Indices) -> Tables:
        """Select rows by index."""
        evaluations = {name: it.take(rows) for name, it in self.evaluations.items()}
        return Tables(self.outcomes.take(rows), evaluations, self.estimators, self.timed)

    def of(
        self, chain: Sequence[str], verifier: str, rows: Indices
    ) -> tuple[Outcomes, SelfEvaluations]:
        """Select rows and candidates, with a verifier's evaluations of them."""
        evaluations = self.evaluations[verifier].select(chain).take(rows)
        return self.outcomes.select(chain).take(rows), evaluations

    def estimator(self, name: str, rows: Indices) -> QualityEstimator:
        """Return the named estimator fitted on these rows; it is fitted only once."""
        key = (name, rows.tobytes())
        if key not in self._fitted:
            self._fitted[key] = self.estimators[name]().fit(self.outcomes.take(rows))
        return self._fitted[key]


@dataclass(frozen=True)
class Contender:
    """One kind of router over some candidates.

    Args:
        name: Name in the report.
        train: Function from row indices to a family of policies, from λ in quality per dollar.
        candidates: Names of the candidates it may ask, from cheap to expensive.
        verifier: Name of the verifier it uses, if any.
        estimator: Name of the estimator it uses, if any.
        one_shot: Whether its policies are `Utility(cost=λ)`, replayed on all rows at once.
        slow: Whether its decisions take so long that only every second λ is tried.
    """

    name: str
    train: Callable[[Indices], Family]
    candidates: tuple[str, ...]
    verifier: str | None = None
    estimator: str | None = None
    one_shot: bool = False
    slow: bool = False

    def replay_tables(
        self, tables: Tables, fit_rows: Indices, rows: Indices
    ) -> tuple[Floats | None, Outcomes, SelfEvaluations | None, Floats | None]:
        """Return the arguments of `replay`: predictions, outcomes, evaluations, expected costs."""
        chain = self.candidates
        outcomes = tables.outcomes.select(chain).take(rows)
        quality, evaluations = None, None
        if self.estimator is not None:
            quality = tables.estimator(self.estimator, fit_rows).predict(outcomes.queries)
        if self.verifier is not None:
            evaluations = tables.evaluations[self.verifier].select(chain).take(rows)
        costs = tables.outcomes.select(chain).take(fit_rows).mean_cost_usd
        return quality, outcomes, evaluations, costs


def contenders(tables: Tables) -> Iterator[Contender]:
    """Yield a policy per estimator, and cascades per verifier and chain of candidates.

    `CascadeRouting` competes with all candidates only: it may skip any of them by itself, and
    takes ten times as long as the others.
    """
    names = tuple(tables.outcomes.candidates)
    if len(names) < 2:
        return
    for estimator in tables.estimators:
        yield Contender(
            f"utility by {estimator}", _utility, names, estimator=estimator, one_shot=True
        )
    chains = [names] + [pair for pair in combinations(names, 2) if pair != names]
    for verifier, evaluations in tables.evaluations.items():
        if evaluations.answer_groups is not None:
            yield from _pools(tables, verifier)
        if not evaluations.has_scores:
            continue
        yield Contender(f"FrugalGPT on {verifier}", _frugal(tables, verifier), names, verifier)
        for chain in chains:
            who = " → ".join(chain)
            kinds = {"threshold": _threshold, "POMDP": _pomdp}
            if chain == names:
                kinds["cascade routing"] = _routing
            for kind, train in kinds.items():
                family = train(tables, verifier, chain)
                slow = train is _routing
                name = f"{kind} on {verifier}: {who}"
                yield Contender(name, family, chain, verifier, slow=slow)


def _pools(tables: Tables, verifier: str) -> Iterator[Contender]:
    """Yield pools of answers, without and with a belief from the query."""
    names = tuple(tables.outcomes.candidates)
    if len(names) < _SMALLEST_POOL:
        return
    yield Contender(f"answer pool on {verifier}", _pool(tables, verifier, None), names, verifier)
    if _POOL_READER in tables.estimators:
        yield Contender(
            f"answer pool on {verifier}, query read by {_POOL_READER}",
            _pool(tables, verifier, _POOL_READER),
            names,
            verifier,
            estimator=_POOL_READER,
        )


def _pool(tables: Tables, verifier: str, reader: str | None) -> Callable[[Indices], Family]:
    def train(rows: Indices) -> Family:
        outcomes, groups = tables.of(tables.outcomes.candidates, verifier, rows)
        guess = None
        if reader is not None:
            guess = out_of_fold(tables.estimators[reader](), outcomes)
        pool = choose_pool(outcomes)
        return AnswerPool(0.0).fit(outcomes, groups, guess, pool=pool).with_knob

    return train


def _utility(rows: Indices) -> Family:
    return lambda lambda_: Utility(cost=lambda_)


def _threshold(
    tables: Tables, verifier: str, chain: tuple[str, ...]
) -> Callable[[Indices], Family]:
    def train(rows: Indices) -> Family:
        outcomes, evaluations = tables.of(chain, verifier, rows)
        observed = {
            name: KernelDensity().fit(evaluations.confidence[:, j], outcomes.quality[:, j] >= 0.5)
            for j, name in enumerate(chain[:-1])
        }
        return lambda lambda_: ConfidenceThreshold(observed, lambda_=lambda_, use_prior=False)

    return train


def _pomdp(tables: Tables, verifier: str, chain: tuple[str, ...]) -> Callable[[Indices], Family]:
    return lambda rows: (
        Pomdp(0.0, likelihood="kde").fit(*tables.of(chain, verifier, rows)).with_knob
    )


def _routing(tables: Tables, verifier: str, chain: tuple[str, ...]) -> Callable[[Indices], Family]:
    return lambda rows: CascadeRouting(0.0).fit(*tables.of(chain, verifier, rows)).with_knob


def _frugal(tables: Tables, verifier: str) -> Callable[[Indices], Family]:
    """Return FrugalGPT as a family over λ: each λ selects the budget with the highest utility."""

    def train(rows: Indices) -> Family:
        outcomes, scores = tables.of(tables.outcomes.candidates, verifier, rows)
        costs = outcomes.mean_cost_usd
        assert costs is not None, "fit_router requires every cost"
        budgets = np.geomspace(max(costs.min(), 1e-12) * 1.01, costs.sum() * 1.01, _N_BUDGETS)
        policies = [
            FrugalCascade(n_grid=_N_GRID).fit(outcomes, scores, max_cost_usd=float(budget))
            for budget in budgets
        ]
        done = [replay(policy, None, outcomes, evaluations=scores) for policy in policies]
        quality = np.array([each.quality.mean() for each in done])
        spent = np.array([each.cost_usd.mean() for each in done])
        if np.isnan(spent).any():
            msg = "the verification cost of some answers is unknown"
            raise ValueError(msg)

        def family(lambda_: float) -> Policy:
            policy = policies[int((quality - lambda_ * spent).argmax())]
            return Always(policy.chain_[0]) if len(policy.chain_) == 1 else policy

        return family

    return train
