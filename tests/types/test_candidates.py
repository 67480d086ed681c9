"""Candidates and what their answers cost."""

import math

import pytest
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router.types import (
    Candidate,
    Price,
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
    ("levels", "budget"), [((["low"],), ()), ((), "1024"), ((), [True]), ((3,), ()), ((), ["1"])]
)
def test_efforts_of_another_kind_are_refused_in_words(levels, budget):
    with pytest.raises(TypeError, match=r"must be (a word|numbers of tokens)"):
        Candidate("mini").efforts(*levels, thinking_budget=budget)
