"""The nouns and their manners."""

import math

import pytest
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router.types import (
    Arm,
    Attempt,
    Candidate,
    Decision,
    Price,
    RoutingOptions,
    Situation,
    candidate_names,
    sum_usd,
)


def test_unknown_plus_known_is_unknown():
    assert sum_usd([0.1, None]) is None
    assert sum_usd([]) == 0.0
    assert sum_usd([0.1, 0.2]) == pytest.approx(0.3)


def test_cached_tokens_are_part_of_the_input_and_cost_what_they_cost():
    usage = UsageMetadata(
        input_tokens=1000,
        output_tokens=100,
        total_tokens=1100,
        input_token_details={"cache_read": 800},
    )
    assert Price(1.0, 2.0).cost_usd(usage) == pytest.approx((1000 * 1 + 100 * 2) / 1e6)
    assert Price(1.0, 2.0, 0.1).cost_usd(usage) == pytest.approx((200 + 80 + 200) / 1e6)
    assert Price(1.0, 2.0).cost_usd(None) is None


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_price_is_a_finite_number(bad):
    with pytest.raises(ValueError, match="input_usd_per_mtok"):
        Price(bad, 1.0)


def test_names_must_be_there_and_differ():
    with pytest.raises(ValueError, match="non-empty"):
        Candidate("")
    with pytest.raises(ValueError, match="at least one"):
        candidate_names([])
    with pytest.raises(ValueError, match=r"\['a'\] occur more than once"):
        candidate_names([Candidate("a"), Candidate("b"), Candidate("a")])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"colour": 1}, r"Unknown routing options \['colour'\].*'force'.*'lambda'"),
        ({"lambda": -1.0}, "`lambda` must be a finite number >= 0"),
        ({"weights": {"taste": 1.0}}, r"'quality'.*got \['taste'\]"),
        ({"candidates": []}, "`candidates` is empty"),
    ],
)
def test_options_that_mean_nothing_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        RoutingOptions.parse(given)


def test_options_come_from_mappings_options_or_nothing():
    options = RoutingOptions.parse({"lambda": 0.0, "candidates": ["a"]})
    assert options.lambda_ == 0.0
    assert options.candidates == ("a",)
    assert RoutingOptions.parse(options) is options
    assert RoutingOptions.parse(None) == RoutingOptions()
    with pytest.raises(TypeError, match="mapping"):
        RoutingOptions.parse(3)


def test_a_situation_knows_who_is_left_and_who_answered():
    arms = (Arm("a"), Arm("b"), Arm("c"))
    attempts = (Attempt(candidate="a", error="x"), Attempt(candidate="b"))
    seen = Situation("q", arms, attempts)
    assert [arm.candidate for arm in seen.open_arms] == ["c"]
    assert [attempt["candidate"] for attempt in seen.answered] == ["b"]
    with pytest.raises(ValueError, match="Unknown candidate 'd'"):
        seen.arm("d")


def test_a_decision_reads_like_a_sentence_and_a_table():
    decision = Decision(
        action="ask",
        candidate="b",
        policy="Utility",
        reason="highest utility",
        scores={"a": {"quality": 0.5, "cost_usd": None}, "b": {"quality": 0.9, "cost_usd": 0.1}},
        flip="λ = 3",
    )
    assert decision.explain().splitlines() == [
        "ask b  (Utility: highest utility)",
        "    a: quality=0.5  cost_usd=unknown",
        "  → b: quality=0.9  cost_usd=0.1",
        "  flips: λ = 3",
    ]
