"""Optimal routing under a budget: against a linear programme, and on rows it has not seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import BudgetedRouting
from langchain_llm_router.types import Arm, RoutingOptions, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError


def arms(quality, cost):
    return tuple(
        Arm("abcdef"[j], quality=float(q), cost_usd=float(c))
        for j, (q, c) in enumerate(zip(quality, cost, strict=True))
    )


def expected(policy, quality, cost):
    """Mean quality and cost over the policy's own randomness, by its propensities."""
    total = np.zeros(2)
    for row, price in zip(quality, np.broadcast_to(cost, quality.shape), strict=True):
        seen = {}
        for i in range(3000):
            decision = policy.choose(Situation(f"q{i}", arms(row, price)))
            seen[decision.candidate] = decision.propensity
            if sum(seen.values()) > 1 - 1e-3:
                break
        for name, share in seen.items():
            j = "abcdef".index(name)
            total += share / sum(seen.values()) * np.array([row[j], price[j]])
    return total / len(quality)


def best_by_linear_programme(quality, cost, budget):
    from scipy.optimize import linprog

    n, k = quality.shape
    cost = np.broadcast_to(cost, quality.shape)
    done = linprog(
        -quality.ravel() / n,
        A_ub=cost.ravel()[None] / n,
        b_ub=[budget],
        A_eq=np.kron(np.eye(n), np.ones(k)),
        b_eq=np.ones(n),
        bounds=(0, 1),
    )
    return -done.fun


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98), st.booleans())
def test_it_is_as_good_as_the_linear_programme_and_meets_the_budget(seed, part, coarse):
    rng = np.random.default_rng(seed)
    quality = rng.random((6, 3))
    if coarse:
        quality = np.round(quality * 4) / 4
    cost = np.sort(rng.random(3)) + 0.01
    budget = float(cost[0] + part * (cost[-1] - cost[0]))
    policy = BudgetedRouting(budget).fit(quality, cost)
    reached, spent = expected(policy, quality, cost)
    assert spent <= budget + 2e-3
    assert reached == pytest.approx(best_by_linear_programme(quality, cost, budget), abs=2e-3)


def test_ties_are_mixed_with_the_papers_gamma():
    """By hand: all rows tie at λ = 0.4 / 4; C_min = 1, C_max = 5, γ = (2 - 1) / (5 - 1)."""
    policy = BudgetedRouting(2.0).fit([[0.5, 0.9]] * 10, [1.0, 5.0])
    assert policy.lambda_ == pytest.approx(0.1)
    assert policy.gamma_ == pytest.approx(0.25)
    chosen = [
        policy.choose(Situation(f"query {i}", arms([0.5, 0.9], [1.0, 5.0]))) for i in range(4000)
    ]
    share = np.mean([decision.candidate == "b" for decision in chosen])
    assert share == pytest.approx(0.25, abs=0.025)
    assert {round(decision.propensity, 6) for decision in chosen} == {0.25, 0.75}


def test_a_budget_that_does_not_bind_buys_the_best():
    policy = BudgetedRouting(100.0).fit([[0.5, 0.9], [0.9, 0.5]], [1.0, 5.0])
    assert (policy.lambda_, policy.gamma_) == (0.0, 0.0)


def make_rows(n, seed):
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    quality = rng.random((n, 3)) < np.clip([0.9, 0.95, 1.0] - hard[:, None] * [0.8, 0.5, 0.1], 0, 1)
    predicted = np.clip([0.9, 0.95, 1.0] - hard[:, None] * [0.8, 0.5, 0.1], 0, 1)
    cost = rng.gamma(4, [[1e-4, 1e-3, 1e-2]], (n, 3)) / 4
    return Outcomes([f"{seed}-{i}" for i in range(n)], list("abc"), quality * 1.0, cost), predicted


@pytest.mark.parametrize("budget", [3e-4, 1e-3, 3e-3, 8e-3])
def test_the_average_stays_at_the_budget_on_rows_it_has_not_seen(budget):
    train, predicted = make_rows(2000, seed=0)
    test, unseen = make_rows(4000, seed=1)
    policy = BudgetedRouting(budget).fit(predicted, train.mean_cost_usd)
    done = replay(policy, unseen, test, expected_cost_usd=train.mean_cost_usd)
    error = done.cost_usd.std() / np.sqrt(len(test))
    assert done.mean_cost_usd <= budget + 3 * error
    assert done.mean_cost_usd >= budget - 3 * error - 0.03 * budget


def test_predictions_that_are_few_levels_meet_the_budget_only_by_mixing():
    train, _ = make_rows(2000, seed=0)
    test, _ = make_rows(4000, seed=1)
    level = np.tile([0.5, 0.7, 0.95], (2000, 1))
    policy = BudgetedRouting(4e-3).fit(level, train.mean_cost_usd)
    done = replay(
        policy, np.tile([0.5, 0.7, 0.95], (4000, 1)), test, expected_cost_usd=train.mean_cost_usd
    )
    assert done.mean_cost_usd == pytest.approx(4e-3, rel=0.05)
    assert sum(share > 0.05 for share in done.shares.values()) == 2


def test_queries_dearer_than_average_are_counted_at_what_they_cost():
    """Hard queries go to the dear candidate and take it twice its usual tokens."""
    rng = np.random.default_rng(0)
    hard = rng.random(2000)
    predicted = np.column_stack([1 - hard, np.full(2000, 0.9)])
    spent = np.column_stack([np.full(2000, 1.0), 10 * 2 * hard])
    policy = BudgetedRouting(4.0).fit(predicted, [1.0, 10.0], spent_usd=spent)
    naive = BudgetedRouting(4.0).fit(predicted, [1.0, 10.0])
    outcomes = Outcomes([str(i) for i in range(2000)], list("ab"), predicted, spent)
    really = [
        replay(each, predicted, outcomes, expected_cost_usd=[1.0, 10.0]).mean_cost_usd
        for each in (policy, naive)
    ]
    assert really[0] == pytest.approx(4.0, rel=0.01)
    assert really[1] > 4.5
    with pytest.raises(ValueError, match="spent_usd"):
        BudgetedRouting(4.0).fit(predicted, [1.0, 10.0], spent_usd=[1.0, 10.0])


def test_a_requests_lambda_replaces_the_fitted_one():
    policy = BudgetedRouting(2.0).fit([[0.5, 0.9]], [1.0, 5.0])
    for lambda_, name in ((0.0, "b"), (1.0, "a")):
        situation = Situation(
            "q", arms([0.5, 0.9], [1.0, 5.0]), (), RoutingOptions(lambda_=lambda_)
        )
        assert policy.choose(situation).candidate == name


def test_saved_and_loaded_it_decides_the_same(tmp_path):
    policy = BudgetedRouting(2.0, seed=3).fit([[0.5, 0.9]] * 3, [1.0, 5.0])
    again = BudgetedRouting.load(policy.save(tmp_path / "it"))
    for i in range(20):
        situation = Situation(f"q{i}", arms([0.5, 0.9], [1.0, 5.0]))
        assert again.decide(situation) == policy.decide(situation)
    (tmp_path / "it" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError):
        BudgetedRouting.load(tmp_path / "it")


def test_wrong_arguments_are_refused_with_words():
    with pytest.raises(ValueError, match="max_cost_usd"):
        BudgetedRouting(0.0)
    with pytest.raises(ValueError, match="cheapest candidates cost 1"):
        BudgetedRouting(0.5).fit([[0.5, 0.9]], [1.0, 5.0])
    with pytest.raises(ValueError, match="without NaN"):
        BudgetedRouting(0.5).fit([[0.5, 0.9]], [np.nan, 5.0])
    with pytest.raises(ValueError, match="shape"):
        BudgetedRouting(0.5).fit([0.5, 0.9], [1.0, 5.0])
    with pytest.raises(NotFittedError, match="fit"):
        BudgetedRouting(0.5).decide(Situation("q", arms([0.5], [1.0])))
