"""FrugalGPT's chains and the AutoMix repository's sets, against exhaustive search."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import AutoMix, FrugalCascade
from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.fakes import make_evaluations, make_outcomes


def small_tables(seed, n=12, k=3):
    rng = np.random.default_rng(seed)
    quality = (rng.random((n, k)) < np.linspace(0.4, 0.9, k)) * 1.0
    cost = np.tile(np.geomspace(1.0, 10.0, k), (n, 1))
    outcomes = Outcomes([str(i) for i in range(n)], list("abc"[:k]), quality, cost)
    scores = np.clip(0.25 + 0.5 * quality + rng.normal(0, 0.2, (n, k)), 0, 1)
    return outcomes, SelfEvaluations(list("abc"[:k]), scores, np.full((n, k), 0.1))


def exhaustive(outcomes, evaluations, budget):
    """Best mean quality of any chain of up to two with any threshold, within the budget."""
    best = 0.0
    quality, cost, score = outcomes.quality, outcomes.cost_usd, evaluations.confidence
    for j in range(quality.shape[1]):
        if cost[:, j].mean() <= budget:
            best = max(best, quality[:, j].mean())
    for i, j in permutations(range(quality.shape[1]), 2):
        for bar in score[:, i]:
            kept = score[:, i] >= bar
            spent = (cost[:, i] + 0.1 + np.where(kept, 0, cost[:, j])).mean()
            if spent <= budget + 1e-12:
                best = max(best, np.where(kept, quality[:, i], quality[:, j]).mean())
    return best


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(1.5, 12.0))
def test_the_chain_of_two_is_as_good_as_exhaustive_search(seed, budget):
    outcomes, evaluations = small_tables(seed)
    policy = FrugalCascade(max_length=2).fit(outcomes, evaluations, max_cost_usd=budget)
    done = replay(policy, None, outcomes, evaluations=evaluations)
    assert done.mean_cost_usd <= budget + 1e-9
    assert done.mean_quality >= exhaustive(outcomes, evaluations, budget) - 1e-9


def test_longer_chains_are_never_worse_on_training_rows():
    outcomes, evaluations = small_tables(3, n=60)
    reached = [
        replay(
            FrugalCascade(max_length=length, n_grid=20).fit(
                outcomes, evaluations, max_cost_usd=6.0
            ),
            None,
            outcomes,
            evaluations=evaluations,
        ).mean_quality
        for length in (1, 2, 3)
    ]
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]


def test_a_chain_may_run_in_any_order_and_keeps_the_budget_on_new_rows():
    outcomes = make_outcomes(n=600)
    evaluations = make_evaluations(outcomes)
    train, test = np.arange(300), np.arange(300, 600)
    policy = FrugalCascade(n_grid=20).fit(
        outcomes.take(train), evaluations.take(train), max_cost_usd=0.006
    )
    done = replay(policy, None, outcomes.take(test), evaluations=evaluations.take(test))
    assert done.mean_cost_usd < 0.006 * 1.15
    assert done.mean_quality > 0.75


def arms():
    return tuple(Arm(name, cost_usd=1.0) for name in "abc")


def chain_policy():
    policy = FrugalCascade()
    policy.chain_, policy.thresholds_, policy.mean_score_ = ("b", "a", "c"), (0.7, 0.5), (0.6, 0.9)
    return policy


def test_a_step_keeps_iff_the_score_reaches_its_threshold():
    policy = chain_policy()
    first = policy.decide(Situation("q", arms()))
    assert (first.action, first.candidate, first.final) == ("ask", "b", False)
    asked = Attempt(candidate="b")
    assert policy.decide(Situation("q", arms(), (asked,))).action == "verify"
    for score, action in ((0.7, "accept"), (0.69, "ask"), (None, "ask")):
        seen = Situation("q", arms(), (Attempt(candidate="b", verified=True, confidence=score),))
        assert policy.decide(seen).action == action
    second = (
        Attempt(candidate="b", verified=True, confidence=0.1),
        Attempt(candidate="a", verified=True, confidence=None),
    )
    assert policy.decide(Situation("q", arms(), second)).action == "accept"
    last = (*second[:1], Attempt(candidate="a", verified=True, confidence=0.1))
    decision = policy.decide(Situation("q", arms(), last))
    assert (decision.candidate, decision.final) == ("c", True)


def test_when_the_rest_of_the_chain_fails_the_best_held_answer_is_kept():
    seen = (
        Attempt(candidate="b", verified=True, confidence=0.6),
        Attempt(candidate="a", verified=True, confidence=0.1),
        Attempt(candidate="c", error="TimeoutError: slow"),
    )
    decision = chain_policy().decide(Situation("q", arms(), seen))
    assert (decision.action, decision.candidate) == ("accept", "b")


def test_frugal_saved_and_loaded_decides_the_same(tmp_path):
    policy = chain_policy()
    again = FrugalCascade.load(policy.save(tmp_path / "it"))
    seen = Situation("q", arms(), (Attempt(candidate="b", verified=True, confidence=0.69),))
    assert again.decide(seen) == policy.decide(seen)
    with pytest.raises(ArtifactError, match="AutoMix"):
        AutoMix.load(tmp_path / "it")


def test_frugal_refuses_wrong_arguments_with_words():
    outcomes, evaluations = small_tables(0)
    with pytest.raises(ValueError, match="max_length"):
        FrugalCascade(max_length=0)
    with pytest.raises(ValueError, match="No candidate costs at most"):
        FrugalCascade().fit(outcomes, evaluations, max_cost_usd=0.5)
    with pytest.raises(ValueError, match="must have costs"):
        FrugalCascade().fit(
            outcomes, SelfEvaluations(list("abc"), evaluations.confidence), max_cost_usd=5.0
        )
    with pytest.raises(NotFittedError, match="fit"):
        FrugalCascade().decide(Situation("q", arms()))


def pair_tables(seed=0, n=800):
    rng = np.random.default_rng(seed)
    small = (rng.random(n) < 0.5) * 1.0
    large = np.maximum(small, (rng.random(n) < 0.8) * 1.0)
    scores = np.column_stack([rng.binomial(8, 0.2 + 0.6 * small) / 8, np.full(n, np.nan)])
    cost = np.tile([1.0, 50.0], (n, 1))
    outcomes = Outcomes(
        [str(i) for i in range(n)], ("s", "l"), np.column_stack([small, large]), cost
    )
    return outcomes, SelfEvaluations(("s", "l"), scores, np.tile([1.0, np.nan], (n, 1)))


@pytest.mark.parametrize("family", ["threshold", "double_threshold", "greedy", "needy", "union"])
def test_every_family_escalates_low_scores_of_a_sound_verifier(family):
    outcomes, evaluations = pair_tables()
    policy = AutoMix(family, lambda_=0.005).fit(outcomes, evaluations)
    assert policy.escalate_[1:4].all()
    assert not policy.escalate_[7:].any()
    done = replay(policy, None, outcomes, evaluations=evaluations)
    assert done.mean_quality > 0.8
    assert done.mean_cost_usd < 40


def test_by_benefit_per_cost_alone_it_escalates_hardly_anything():
    outcomes, evaluations = pair_tables()
    by_ibc = AutoMix("double_threshold").fit(outcomes, evaluations)
    by_utility = AutoMix("double_threshold", lambda_=0.005).fit(outcomes, evaluations)
    volume = [
        replay(policy, None, outcomes, evaluations=evaluations).shares["l"]
        for policy in (by_ibc, by_utility)
    ]
    assert volume[0] < volume[1]


def test_the_union_is_at_least_as_good_in_training_as_each_family():
    outcomes, evaluations = pair_tables(seed=4)

    def value(family):
        policy = AutoMix(family, lambda_=0.004).fit(outcomes, evaluations)
        done = replay(policy, None, outcomes, evaluations=evaluations)
        return done.mean_quality - 0.004 * done.mean_cost_usd

    families = ("threshold", "double_threshold", "greedy", "needy")
    assert value("union") >= max(value(family) for family in families) - 1e-9


def test_the_needy_rule_is_the_repositorys_pomdp():
    """Its rewards: stay -r·P_N - (r + 1)·P_H, escalate -100·(P_N + P_G) - (r + 100)·P_H."""
    rng = np.random.default_rng(0)
    small, large = rng.integers(0, 2, 400) * 1.0, rng.integers(0, 2, 400) * 1.0
    score = rng.integers(0, 9, 400)
    tried = {tuple(chosen) for chosen in AutoMix("needy")._sets(score, small, large)}
    needy = small < large
    hopeless = (small == 0) & (large == 0)
    good = (small == large) & ~hopeless
    for r in range(1, 4999, 37):
        n, g, h = (np.bincount(score[rows], minlength=9) for rows in (needy, good, hopeless))
        stay = -r * n - (r + 1) * h
        escalate = -100 * (n + g) - (r + 100) * h
        chosen = tuple(escalate > stay)
        assert chosen in tried or not any(chosen)


def test_automix_saved_loaded_and_failing(tmp_path):
    outcomes, evaluations = pair_tables()
    policy = AutoMix(lambda_=0.005).fit(outcomes, evaluations)
    again = AutoMix.load(policy.save(tmp_path / "it"))
    two = (Arm("s", cost_usd=1.0), Arm("l", cost_usd=50.0))
    for score in (0.0, 0.5, 1.0, None):
        seen = Situation("q", two, (Attempt(candidate="s", verified=True, confidence=score),))
        assert again.decide(seen) == policy.decide(seen)
    failed = policy.decide(Situation("q", two, (Attempt(candidate="s", error="x"),)))
    assert (failed.action, failed.candidate, failed.final) == ("ask", "l", True)


def test_automix_refuses_wrong_arguments_with_words():
    with pytest.raises(ValueError, match="family"):
        AutoMix("magic")
    with pytest.raises(ValueError, match="n_samples"):
        AutoMix(n_samples=0)
    with pytest.raises(ValueError, match="must have two candidates"):
        AutoMix().fit(make_outcomes(), make_evaluations(make_outcomes()))
    with pytest.raises(NotFittedError, match="fit"):
        AutoMix().decide(Situation("q", arms()))
