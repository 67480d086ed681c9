"""Situations, attempts and decisions."""

import pytest

from langchain_llm_router.types import (
    Arm,
    Attempt,
    Decision,
    Situation,
)


def test_a_situation_knows_who_is_left_and_who_answered():
    arms = (Arm("a"), Arm("b"), Arm("c"))
    attempts = (Attempt(candidate="a", error="x"), Attempt(candidate="b"))
    seen = Situation("q", arms, attempts)
    assert [arm.candidate for arm in seen.open_arms] == ["c"]
    assert [attempt["candidate"] for attempt in seen.answered] == ["b"]
    with pytest.raises(ValueError, match="Unknown candidate 'd'"):
        seen.arm("d")


def test_an_arm_has_the_name_of_its_model_or_its_own():
    assert Arm("small").model_name == "small"
    assert Arm("large@azure", model="large").model_name == "large"


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
