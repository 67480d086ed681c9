"""Battles between candidates."""

from langchain_llm_router.data import Outcomes


def test_equal_quality_is_a_tie_and_every_pair_fights():
    battles = Outcomes(["q"], ("a", "b", "c"), [[0, 0, 1]]).to_battles()
    assert list(zip(battles.candidate_a, battles.candidate_b, battles.score_a, strict=True)) == [
        ("a", "b", 0.5),
        ("a", "c", 0.0),
        ("b", "c", 0.0),
    ]
    assert battles.candidates == ("a", "b", "c")
