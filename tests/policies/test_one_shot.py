"""Policies that ask once. What all policies promise is in test_contracts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.policies import (
    Always,
    RandomMix,
    Threshold,
    Utility,
    win_rate,
)
from langchain_llm_router.types import Arm, Situation
from tests.support.situations import two

UNIT = st.floats(0, 1)


@given(UNIT, UNIT)
def test_threshold_zero_always_asks_the_strong_candidate(weak, strong):
    assert Threshold(0.0).decide(two(weak, strong)).candidate == "strong"


@given(UNIT, UNIT)
def test_a_threshold_above_one_never_does(weak, strong):
    assert Threshold(1.01).decide(two(weak, strong)).candidate == "weak"


@given(UNIT, UNIT, UNIT, UNIT)
def test_a_higher_threshold_never_asks_the_strong_candidate_more(weak, strong, a, b):
    low, high = sorted((a, b))
    asked = [Threshold(t).decide(two(weak, strong)).candidate == "strong" for t in (low, high)]
    assert asked[0] >= asked[1]


def test_the_win_rate_counts_ties_half():
    assert win_rate(1.0, 1.0) == win_rate(0.0, 0.0) == 0.5
    assert win_rate(0.0, 1.0) == 1.0


def test_the_request_may_replace_the_threshold_even_with_zero():
    policy = Threshold(0.99)
    assert policy.decide(two()).candidate == "weak"
    assert policy.decide(two(threshold=0.0)).candidate == "strong"


@given(st.lists(st.tuples(UNIT, st.floats(0, 1)), min_size=1, max_size=5))
def test_utility_without_weights_is_the_best_quality(pairs):
    arms = tuple(Arm(f"m{i}", q, c) for i, (q, c) in enumerate(pairs))
    chosen = Utility().decide(Situation("q", arms)).candidate
    assert Situation("q", arms).arm(chosen).quality == max(q for q, _ in pairs)


@given(UNIT, UNIT, st.floats(0, 100), st.floats(0, 100))
def test_a_higher_price_of_money_never_buys_the_dearer_model_more(weak, strong, a, b):
    low, high = sorted((a, b))
    asked = [Utility(cost=x).decide(two(weak, strong)).candidate == "strong" for x in (low, high)]
    assert asked[0] >= asked[1]


def test_utility_is_the_one_formula_by_hand():
    arm = Arm("a", quality=0.8, cost_usd=0.01, ttft_s=0.5, itl_s=0.02)
    decision = Utility(quality=2.0, cost=3.0, ttft=0.1, itl=5.0).decide(Situation("q", (arm,)))
    expected = 2 * 0.8 - 3 * 0.01 - 0.1 * 0.5 - 5 * 0.02
    assert decision.scores["a"]["utility"] == pytest.approx(expected)


def test_the_lambda_that_flips_really_flips():
    decision = Utility(cost=1.0).decide(two(0.4, 0.9))
    assert decision.candidate == "strong"
    switch = (0.9 - 0.4) / (0.1 - 0.001)
    assert f"{switch:.4g}" in decision.flip
    assert Utility(cost=switch * 1.001).decide(two(0.4, 0.9)).candidate == "weak"
    assert Utility(cost=switch * 0.999).decide(two(0.4, 0.9)).candidate == "strong"


def test_ties_go_to_the_cheaper_arm():
    assert Utility().decide(two(0.5, 0.5)).candidate == "weak"


def test_a_missing_latency_says_what_to_give():
    with pytest.raises(ValueError, match="`ttft_s` of 'weak' is unknown"):
        Utility(ttft=1.0).decide(two())


def test_a_random_mix_keeps_its_shares_and_its_draws():
    policy = RandomMix({"weak": 0.7, "strong": 0.3})
    drawn = [policy.decide(two(query=f"q{i}")).candidate for i in range(4000)]
    assert Counter(drawn)["strong"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn == [policy.decide(two(query=f"q{i}")).candidate for i in range(4000)]
    assert policy.decide(two()).propensity in (0.7, 0.3)
    with pytest.raises(ValueError, match="sum to 1"):
        RandomMix({"weak": 0.7})


def test_a_policy_names_whom_it_needs():
    assert Always("x").named_candidates == ("x",)
    with pytest.raises(ValueError, match="Unknown candidate 'x'"):
        Always("x").decide(two())


@pytest.mark.parametrize("name", ["cost", "quality", "ttft", "itl", "errors"])
def test_a_negative_weight_of_the_utility_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number >= 0, got -1.0"):
        Utility(**{name: -1.0})
