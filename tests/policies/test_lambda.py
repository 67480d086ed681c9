"""λ means one thing, quality per USD: the higher it is, the cheaper is what a policy chooses."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import (
    AutoMix,
    BudgetedRouting,
    CascadeRouting,
    ConfidenceThreshold,
    Pomdp,
    SafeArm,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.options import RoutingOptions
from tests.support.fakes import make_evaluations, make_outcomes
from tests.test_contracts import POLICIES, policy_of

TABLE = make_outcomes(n=240)
SAID = make_evaluations(TABLE)
PREDICTED = NearestNeighbors(n_neighbors=9).fit(TABLE).predict(TABLE.queries)
LAMBDAS = [0.0, *np.geomspace(0.1, 1e5, 40).tolist()]


def observed():
    return {
        name: KernelDensity().fit(SAID.confidence[:, j], TABLE.quality[:, j] >= 0.5)
        for j, name in enumerate(TABLE.candidates[:-1])
    }


# On every single query, a higher λ never makes the choice of these dearer.
PER_QUERY = {
    "Utility": Utility,
    "BudgetedRouting": lambda: BudgetedRouting(0.02).fit(PREDICTED, TABLE.mean_cost_usd),
    "SafeArm": lambda: SafeArm(Utility(), safe="large"),
    "ConfidenceThreshold": lambda: ConfidenceThreshold(observed(), lambda_=0.0, use_prior=False),
}


def at(policy, lambda_):
    return policy.with_options(RoutingOptions(lambda_=lambda_))


@pytest.mark.parametrize("name", PER_QUERY)
def test_a_higher_lambda_never_chooses_dearer_on_any_query(name):
    policy = PER_QUERY[name]()
    before = np.full(len(TABLE), np.inf)
    # Each candidate costs the same on every row, so that what it costs is what was expected.
    even = Outcomes(TABLE.queries, TABLE.candidates, TABLE.quality,
                    np.tile(TABLE.mean_cost_usd, (len(TABLE), 1)))  # fmt: skip
    for lambda_ in LAMBDAS:
        done = replay(at(policy, lambda_), PREDICTED, even, evaluations=SAID)
        assert (done.cost_usd <= before + 1e-12).all(), lambda_
        before = done.cost_usd
    assert (before <= even.mean_cost_usd.max()).all()


@pytest.mark.parametrize("mode", ["exact", "article"])
def test_a_higher_lambda_never_makes_a_pomdp_dearer_in_its_own_expectation(mode):
    policy = Pomdp(n_samples=2, mode=mode).fit(TABLE, SAID)
    names, before = policy.candidates_, np.inf
    scores = [None, 0.0, 0.5, 1.0]

    def expected_cost(lambda_, attempts=(), weights=None) -> float:
        """Follow every branch of the policy, weighted by how likely the belief says it is."""
        situation = Situation("q", tuple(Arm(n) for n in names), attempts,
                              options=RoutingOptions(lambda_=lambda_))  # fmt: skip
        step = policy.decide(situation)
        if step.action == "accept":
            return 0.0
        j = names.index(step.candidate)
        if step.action == "ask":
            asked = (*attempts, Attempt(candidate=step.candidate, verified=False))
            if step.final:
                return float(policy.cost_usd_[j])
            return float(policy.cost_usd_[j]) + expected_cost(lambda_, asked, weights)
        total = float(policy.verification_cost_usd_[j])
        for score in scores:
            seen = SAID.confidence[:, j]
            k = np.full(len(seen), -1) if score is None else np.rint(seen * 2) / 2
            match = np.isnan(seen) if score is None else k == score
            mass = weights * match
            if mass.sum() > 0:
                last = Attempt(candidate=step.candidate, verified=True, confidence=score)
                after = expected_cost(lambda_, (*attempts[:-1], last), mass)
                total += mass.sum() / weights.sum() * after
        return total

    for lambda_ in LAMBDAS:
        cost = expected_cost(lambda_, weights=np.ones(len(TABLE)))
        assert cost <= before + 1e-9, lambda_
        before = cost


@pytest.mark.parametrize("seed", range(4))
def test_a_higher_lambda_makes_cascade_routing_cheaper_but_for_a_few_rows(seed):
    # Theory speaks of the set that is planned; of that, routing asks as much as it turns out to
    # need, so that a few rows may cost more.
    table = make_outcomes(n=240, seed=seed)
    policy = CascadeRouting().fit(table, make_evaluations(table, seed))
    _, spent = policy.rehearse(LAMBDAS, table, make_evaluations(table, seed))
    mean = spent.mean(axis=1)
    assert np.diff(mean).max() <= 0.03 * (mean.max() - mean.min())
    assert mean[-1] == mean.min()


def test_a_higher_lambda_never_makes_automix_fit_a_dearer_set_of_scores():
    pair = ["small", "large"]
    table, said = TABLE.select(pair), SAID.select(pair)
    costs = [
        replay(AutoMix(lambda_=x).fit(table, said), None, table, evaluations=said).mean_cost_usd
        for x in LAMBDAS
    ]
    assert (np.diff(costs) <= 1e-9).all()


@pytest.mark.parametrize("name", POLICIES)
def test_every_knob_that_is_lambda_says_that_more_of_it_is_cheaper(name):
    knob = policy_of(name).knob
    if knob is not None and knob.name == "lambda":
        assert knob.more == "cheaper answers"
