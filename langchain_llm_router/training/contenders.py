"""The contenders: every kind of router that applies to the data, each with λ as its knob."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import (
    BradleyTerry,
    Clusters,
    Linear,
    NearestNeighbors,
    QualityEstimator,
)
from langchain_llm_router.evaluation import Replay, replay
from langchain_llm_router.policies import (
    Always,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Policy,
    Pomdp,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.training.trials import Family
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["CHEAP_ESTIMATORS", "Contender", "Tables", "contenders"]

Estimators = Mapping[str, Callable[[], QualityEstimator]]

CHEAP_ESTIMATORS: Estimators = {
    "nearest neighbors": NearestNeighbors,
    "clusters": Clusters,
    "linear": Linear,
    "Bradley-Terry": BradleyTerry,
}
"""Estimators that need no model of their own and are fitted within seconds."""

_N_BUDGETS = 6
_N_GRID = 10


@dataclass(frozen=True)
class Tables:
    """The data that contenders are trained and replayed on, candidates by their cost."""

    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    estimators: Estimators
    _fitted: dict[tuple[str, bytes], QualityEstimator] = field(default_factory=dict)

    def of(
        self, chain: Sequence[str], verifier: str, rows: Indices
    ) -> tuple[Outcomes, SelfEvaluations]:
        """Some rows and columns, with a verifier's evaluations of them."""
        evaluations = self.evaluations[verifier].select(chain).take(rows)
        return self.outcomes.select(chain).take(rows), evaluations

    def estimator(self, name: str, rows: Indices) -> QualityEstimator:
        """An estimator fitted on some rows, once."""
        key = (name, rows.tobytes())
        if key not in self._fitted:
            self._fitted[key] = self.estimators[name]().fit(self.outcomes.take(rows))
        return self._fitted[key]


@dataclass(frozen=True)
class Contender:
    """One kind of router over some candidates.

    Args:
        name: As the report calls it.
        train: From rows to a family of policies: λ, quality per dollar, → policy.
        candidates: The candidates it may ask, by cost.
        verifier: Name of the verifier it reads; None: it reads none.
        estimator: Name of the estimator it needs; None: it needs none.
    """

    name: str
    train: Callable[[Indices], Family]
    candidates: tuple[str, ...]
    verifier: str | None = None
    estimator: str | None = None

    def replayed(self, policy: Policy, tables: Tables, known: Indices, judged: Indices) -> Replay:
        """Replay a policy of this family on rows, with the mean costs of the `known` rows.

        Raises:
            ValueError: If any cost is unknown.
        """
        quality, outcomes, evaluations, costs = self.replay_tables(tables, known, judged)
        done = replay(policy, quality, outcomes, evaluations=evaluations, expected_cost_usd=costs)
        if done.mean_cost_usd is None:
            msg = "what verifying cost is unknown for some answers"
            raise ValueError(msg)
        return done

    def replay_tables(
        self, tables: Tables, known: Indices, judged: Indices
    ) -> tuple[Floats | None, Outcomes, SelfEvaluations | None, Floats | None]:
        """What `replay` needs: predictions, outcomes, evaluations, expected costs."""
        chain = self.candidates
        outcomes = tables.outcomes.select(chain).take(judged)
        quality, evaluations = None, None
        if self.estimator is not None:
            quality = tables.estimator(self.estimator, known).predict(outcomes.queries)
        if self.verifier is not None:
            evaluations = tables.evaluations[self.verifier].select(chain).take(judged)
        costs = tables.outcomes.select(chain).take(known).mean_cost_usd
        return quality, outcomes, evaluations, costs


def contenders(tables: Tables) -> Iterator[Contender]:
    """Each candidate alone, one-shot routes by estimator, cascades by verifier and chain."""
    names = tuple(tables.outcomes.candidates)
    for name in names:
        yield Contender(f"always {name}", _always(name), (name,))
    for estimator in tables.estimators:
        yield Contender(f"utility by {estimator}", _utility, names, estimator=estimator)
    if len(names) < 2:
        return
    chains = [names] + [pair for pair in combinations(names, 2) if pair != names]
    for verifier in tables.evaluations:
        yield Contender(f"FrugalGPT on {verifier}", _frugal(tables, verifier), names, verifier)
        for chain in chains:
            who = " → ".join(chain)
            for kind, train in (
                ("threshold", _threshold),
                ("POMDP", _pomdp),
                ("cascade routing", _routing),
            ):
                family = train(tables, verifier, chain)
                yield Contender(f"{kind} on {verifier}: {who}", family, chain, verifier)


def _always(name: str) -> Callable[[Indices], Family]:
    return lambda rows: lambda lambda_: Always(name)


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
    """FrugalGPT's knob is a budget: λ chooses the budget with the highest utility at that price."""

    def train(rows: Indices) -> Family:
        outcomes, scores = tables.of(tables.outcomes.candidates, verifier, rows)
        costs = outcomes.mean_cost_usd
        assert costs is not None, "a router is fitted on known costs only"
        budgets = np.geomspace(max(costs.min(), 1e-12) * 1.01, costs.sum() * 1.01, _N_BUDGETS)
        found = [
            FrugalCascade(n_grid=_N_GRID).fit(outcomes, scores, max_cost_usd=float(budget))
            for budget in budgets
        ]
        done = [replay(policy, None, outcomes, evaluations=scores) for policy in found]
        quality = np.array([each.quality.mean() for each in done])
        spent = np.array([each.cost_usd.mean() for each in done])
        if np.isnan(spent).any():
            msg = "what verifying cost is unknown for some answers"
            raise ValueError(msg)

        def family(lambda_: float) -> Policy:
            policy = found[int((quality - lambda_ * spent).argmax())]
            return Always(policy.chain_[0]) if len(policy.chain_) == 1 else policy

        return family

    return train
