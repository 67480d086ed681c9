"""Cascade routing against brute force, and its rehearsal against the real replay."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import CascadeRouting, Utility
from langchain_llm_router.policies.supermodels import LinearUpdate, Search, sobol_normals
from langchain_llm_router.types import Arm, Attempt, RoutingOptions, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError

NAMES = ("a", "b", "c", "d")


def brute_force(quality, cost, lambda_, noise, run, allowed, depth, *, chain):
    """The best superset by trying all of them; the candidate it begins with."""
    best, paid, begins = -np.inf, 0.0, -1
    if run:
        best = quality[list(run)].max()
    for size in range(1, depth + 1):
        sets = [allowed[:size]] if chain else combinations(allowed, size)
        for added in sets:
            members = [*run, *added]
            value = (quality[members] + noise[:, members]).max(axis=1).mean()
            utility = value - lambda_ * cost[list(added)].sum()
            price = cost[list(added)].sum()
            if utility > best + 1e-12 or (abs(utility - best) <= 1e-12 and price < paid):
                best, paid = utility, price
                begins = added[0] if chain else min(added, key=lambda j: cost[j])
    return best, begins


@settings(max_examples=150)
@given(st.integers(0, 100_000), st.booleans())
def test_the_pruned_search_finds_what_trying_every_set_finds(seed, chain):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 6))
    quality, cost = rng.random(k), rng.random(k)
    run = tuple(sorted(rng.permutation(k)[: int(rng.integers(0, k))].tolist()))
    allowed = tuple(j for j in range(k) if j not in run)
    noise = sobol_normals(32, k, 0) * rng.random(k) * 0.3
    noise[:, list(run)] = 0
    depth = int(rng.integers(1, k + 1))
    lambda_ = float(rng.choice([0.0, 0.05, 0.2, 1.0]))
    search = Search(noise, run, allowed, depth, chain=chain)
    found = search.next(quality[None], cost[None], np.array([lambda_]))
    expected = brute_force(
        quality, cost, lambda_, noise, run, allowed, min(depth, len(allowed)), chain=chain
    )
    assert found[0] == expected[1]


def test_rows_searched_together_decide_as_rows_searched_alone():
    rng = np.random.default_rng(1)
    quality, cost = rng.random((50, 4)), rng.random((50, 4))
    search = Search(sobol_normals(64, 4, 0) * 0.2, (), (0, 1, 2, 3), 4)
    lambda_ = np.full(50, 0.1)
    together = search.next(quality, cost, lambda_)
    alone = [search.next(quality[i : i + 1], cost[i : i + 1], lambda_[:1])[0] for i in range(50)]
    assert together.tolist() == alone


def test_without_uncertainty_it_is_one_shot_routing():
    rng = np.random.default_rng(0)
    quality, cost = rng.random((40, 4)), rng.random((40, 4))
    found = Search(np.zeros((8, 4)), (), (0, 1, 2, 3), 4).next(quality, cost, np.full(40, 0.3))
    for i in range(40):
        arms = tuple(Arm(NAMES[j], quality=quality[i, j], cost_usd=cost[i, j]) for j in range(4))
        assert NAMES[found[i]] == Utility(cost=0.3).decide(Situation("q", arms)).candidate


def test_estimates_given_any_subset_are_the_gaussian_conditionals():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    rows = rng.normal(size=(200_000, 5)) @ mixing.T
    x, y = rows[:, :3], rows[:, 3:]
    update = LinearUpdate.fit(x, y)
    true = mixing @ mixing.T
    for observed in ((), (0,), (2,), (0, 2), (0, 1, 2)):
        index = list(observed)
        expected = np.zeros((3, 2))
        expected[index] = np.linalg.solve(true[np.ix_(index, index)], true[np.ix_(index, [3, 4])])
        np.testing.assert_allclose(update.weights(observed), expected, atol=0.05)


def test_the_spread_is_the_covariance_of_the_change_over_training_rows():
    """Dekoninck et al., section 4, computed literally."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = x @ rng.normal(size=(3, 2)) + rng.normal(size=(500, 2))
    update = LinearUpdate.fit(x, y)
    now, later = update.weights((0,)), update.weights((0, 1, 2))
    change = update.predict(x, later) - update.predict(x, now)
    literal = np.cov(change.T, bias=True)
    np.testing.assert_allclose(update.spread(now, later), literal, rtol=0.02, atol=1e-3)


def test_constant_and_missing_features_do_no_harm():
    x = np.column_stack([np.full(30, 0.5), np.where(np.arange(30) % 2 == 0, np.nan, 0.2)])
    y = np.linspace(0, 1, 30)[:, None]
    update = LinearUpdate.fit(x, y)
    predicted = update.predict(x, update.weights((0, 1)))
    np.testing.assert_allclose(predicted, 0.5, atol=1e-9)


def make_tables(n=200, seed=0, missing=0.05, costs=(1e-4, 1e-3, 2e-3, 1e-2)):
    rng = np.random.default_rng(seed)
    k = len(costs)
    difficulty = rng.normal(size=(n, 1))
    skill = np.linspace(0.3, 1.6, k) + rng.normal(0, 0.5, (n, k))
    quality = (skill > difficulty) * 1.0
    scores = np.clip(0.3 + 0.4 * quality + rng.normal(0, 0.15, (n, k)), 0, 1)
    scores = np.where(rng.random((n, k)) < missing, np.nan, scores)
    predicted = np.clip(0.6 + 0.1 * np.linspace(0, 1, k) - 0.15 * difficulty, 0, 1)
    predicted = np.clip(predicted + rng.normal(0, 0.05, (n, k)), 0, 1)
    cost = np.array(costs) * rng.gamma(8, 1 / 8, (n, 1)) * rng.gamma(20, 1 / 20, (n, k))
    outcomes = Outcomes([f"{seed}-{i}" for i in range(n)], NAMES[:k], quality, cost)
    return outcomes, SelfEvaluations(NAMES[:k], scores, cost * 0.05), predicted


@pytest.mark.parametrize(
    "settings_", [{}, {"chain": True}, {"greedy": True}, {"max_depth": 2, "first_step": 3.0}]
)
@pytest.mark.parametrize("with_predictions", [True, False])
def test_the_rehearsal_is_what_the_replay_does(settings_, with_predictions):
    outcomes, evaluations, predicted = make_tables(n=36)
    given_ = predicted if with_predictions else None
    policy = CascadeRouting(n_draws=32, **settings_).fit(outcomes, evaluations, predicted=given_)
    lambdas = (0.0, 10.0, 60.0, 1000.0)
    quality, cost = policy.rehearse(lambdas, outcomes, evaluations, predicted=given_)
    for i, lambda_ in enumerate(lambdas):
        done = replay(policy.with_lambda(lambda_), given_, outcomes, evaluations=evaluations)
        np.testing.assert_allclose(cost[i], done.cost_usd)
        np.testing.assert_allclose(quality[i], done.quality)


def test_who_can_not_be_verified_is_asked_all_the_same():
    outcomes, evaluations, _ = make_tables(n=200)
    said, paid = evaluations.confidence.copy(), evaluations.cost_usd.copy()
    said[:, 3], paid[:, 3] = np.nan, np.nan
    blind = SelfEvaluations(NAMES, said, paid)
    policy = CascadeRouting(1.0).fit(outcomes, blind)
    done = replay(policy, None, outcomes, evaluations=blind)
    assert done.asked_shares["d"] > 0
    assert done.mean_cost_usd is not None
    _, cost = policy.rehearse([1.0], outcomes, blind)
    np.testing.assert_allclose(cost[0], done.cost_usd)


@pytest.mark.parametrize("budget", [5e-4, 4e-3])
def test_a_budget_is_met_in_training_and_nearly_on_new_rows(budget):
    outcomes, evaluations, predicted = make_tables(n=600)
    policy = CascadeRouting(n_draws=32, first_step=1.0).fit(
        outcomes, evaluations, predicted=predicted, max_cost_usd=budget
    )
    done = replay(policy, predicted, outcomes, evaluations=evaluations)
    assert done.mean_cost_usd == pytest.approx(budget, rel=0.02)
    unseen, said, guess = make_tables(n=300, seed=1)
    new = replay(policy, guess, unseen, evaluations=said, expected_cost_usd=outcomes.mean_cost_usd)
    assert new.mean_cost_usd == pytest.approx(budget, rel=0.15)


@pytest.mark.slow
def test_cascade_routing_beats_the_chain_and_routing_at_equal_cost_on_new_rows():
    outcomes, evaluations, predicted = make_tables(n=1500)
    unseen, said, guess = make_tables(n=400, seed=1)
    budget, reached = 1.5e-3, {}
    for name, settings_ in (
        ("routing", {"max_depth": 1}),
        ("chain", {"chain": True}),
        ("free", {}),
    ):
        policy = CascadeRouting(**settings_).fit(
            outcomes, evaluations, predicted=predicted, max_cost_usd=budget
        )
        quality, cost = policy.rehearse([policy.lambda_], unseen, said, predicted=guess)
        assert cost.mean() < budget * 1.1
        reached[name] = quality.mean()
    assert reached["free"] >= reached["chain"] - 0.01
    assert reached["free"] >= reached["routing"] - 0.005


def arms(cost=(1e-4, 1e-3, 2e-3, 1e-2), quality=None):
    return tuple(
        Arm(NAMES[j], quality=None if quality is None else quality[j], cost_usd=c)
        for j, c in enumerate(cost)
    )


def test_a_doubtful_answer_lowers_what_is_expected_of_the_others():
    outcomes, evaluations, _ = make_tables()
    policy = CascadeRouting(5.0).fit(outcomes, evaluations)

    def believed(score):
        seen = (Attempt(candidate="a", cost_usd=1e-4, verified=True, confidence=score),)
        return policy.decide(Situation("q", arms(), seen)).scores

    low, none, high = believed(0.1), believed(None), believed(0.9)
    for name in NAMES:
        assert low[name]["quality"] < none[name]["quality"] < high[name]["quality"] + 1e-9


def test_a_dear_answer_raises_what_the_others_are_expected_to_cost():
    outcomes, evaluations, _ = make_tables()
    policy = CascadeRouting(5.0).fit(outcomes, evaluations)

    def believed(cost):
        seen = (Attempt(candidate="a", cost_usd=cost, verified=True, confidence=0.1),)
        return policy.decide(Situation("q", arms(), seen)).scores["d"]["cost_usd"]

    assert believed(3e-4) > 1.2 * believed(1e-4)
    assert believed(None) == pytest.approx(believed(1e-4), rel=0.1)


def test_at_no_price_it_asks_on_and_at_any_price_it_stops():
    outcomes, evaluations, _ = make_tables()
    policy = CascadeRouting().fit(outcomes, evaluations)
    seen = (Attempt(candidate="a", cost_usd=1e-4, verified=True, confidence=0.1),)
    free = Situation("q", arms(), seen, RoutingOptions(lambda_=0.0))
    dear = Situation("q", arms(), seen, RoutingOptions(lambda_=1e9))
    assert policy.decide(free).action == "ask"
    assert policy.decide(dear).action == "accept"


def test_the_last_answer_is_verified_only_to_choose_among_answers():
    outcomes, evaluations, _ = make_tables()
    policy = CascadeRouting(1.0, max_depth=2).fit(outcomes, evaluations)
    alone = policy.decide(Situation("q", arms()[:1]))
    assert alone.final
    doubtful = Attempt(candidate="a", cost_usd=1e-4, verified=True, confidence=0.5)
    both = Situation("q", arms(), (doubtful, Attempt(candidate="b", cost_usd=1e-3)))
    assert policy.decide(both).action == "verify"
    dear = Situation("q", arms(), both.attempts, RoutingOptions(lambda_=1e9))
    assert policy.decide(dear).action == "accept"


def test_the_chain_never_skips():
    outcomes, evaluations, _ = make_tables()
    policy = CascadeRouting(0.0, chain=True).fit(outcomes, evaluations)
    assert policy.decide(Situation("q", arms())).candidate == "a"
    seen = (Attempt(candidate="a", cost_usd=1e-4, verified=True, confidence=0.1),)
    assert policy.decide(Situation("q", arms(), seen)).candidate == "b"


def test_predictions_are_asked_for_where_it_was_fitted_with_them():
    outcomes, evaluations, predicted = make_tables()
    policy = CascadeRouting(1.0).fit(outcomes, evaluations, predicted=predicted)
    with pytest.raises(ValueError, match="predicted quality"):
        policy.decide(Situation("q", arms()))
    assert policy.decide(Situation("q", arms(quality=[0.5, 0.6, 0.7, 0.8]))).action == "ask"


def test_saved_and_loaded_it_decides_the_same(tmp_path):
    outcomes, evaluations, predicted = make_tables(n=60)
    policy = CascadeRouting(chain=True).fit(
        outcomes, evaluations, predicted=predicted, max_cost_usd=2e-3
    )
    again = CascadeRouting.load(policy.save(tmp_path / "it"))
    first, second = (
        replay(p, predicted, outcomes, evaluations=evaluations) for p in (policy, again)
    )
    assert first.decisions == second.decisions
    (tmp_path / "it" / "arrays.npz").write_bytes(b"no")
    with pytest.raises(ArtifactError):
        CascadeRouting.load(tmp_path / "it")


def test_wrong_arguments_are_refused_with_words():
    outcomes, evaluations, _ = make_tables(n=50)
    with pytest.raises(ValueError, match="lambda_"):
        CascadeRouting(-1.0)
    with pytest.raises(ValueError, match="max_depth"):
        CascadeRouting(max_depth=0)
    with pytest.raises(ValueError, match="first_step"):
        CascadeRouting(first_step=0.0)
    with pytest.raises(ValueError, match="power of 2"):
        CascadeRouting(n_draws=100)
    with pytest.raises(NotFittedError, match="fit"):
        CascadeRouting().decide(Situation("q", arms()))
    with pytest.raises(ValueError, match="below what the cheapest"):
        CascadeRouting().fit(outcomes, evaluations, max_cost_usd=1e-9)
    with pytest.raises(ValueError, match="predicted"):
        CascadeRouting().fit(outcomes, evaluations, predicted=[[0.5]])
