"""Battles between candidates."""

import numpy as np
import pytest

from langchain_llm_router.data import Battles, NamedNumbers, Outcomes


def test_equal_quality_is_a_tie_and_every_pair_fights():
    battles = Outcomes(["q"], ("a", "b", "c"), [[0, 0, 1]]).to_battles()
    assert list(zip(battles.candidate_a, battles.candidate_b, battles.score_a, strict=True)) == [
        ("a", "b", 0.5),
        ("a", "c", 0.0),
        ("b", "c", 0.0),
    ]
    assert battles.candidates == ("a", "b", "c")


def battles():
    return Battles(["q", "r", "s"], ["a", "b", "a"], ["b", "c", "b"], [1, 0.5, 0.25])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_battles_come_back_from_disk_as_they_were(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    again = Battles.load(battles().save(tmp_path / f"battles.{suffix}"))
    for name in ("queries", "candidate_a", "candidate_b"):
        assert getattr(again, name) == getattr(battles(), name)
    np.testing.assert_array_equal(again.score_a, battles().score_a)


def test_battles_are_read_from_a_table_of_ones_own(tmp_path):
    path = tmp_path / "battles.csv"
    path.write_text("query,candidate_a,candidate_b,score_a\nhi,x,y,0.5\n", encoding="utf-8")
    assert Battles.load(path).score_a.tolist() == [0.5]


def test_a_malformed_battle_is_refused_by_file_and_line(tmp_path):
    path = tmp_path / "battles.csv"
    path.write_text("query,candidate_a,candidate_b,score_a\nhi,x,y,1\nhi,x,y,2\n", encoding="utf-8")
    wrong = r"battles\.csv line 3: `score_a` must be a finite number in \[0, 1\], got '2'"
    with pytest.raises(ValueError, match=wrong):
        Battles.load(path)
    with pytest.raises(ValueError, match="Row 0 has no `candidate_a`"):
        Battles.from_rows([{"query": "q"}])


def test_the_battles_of_each_candidate_are_counted():
    assert dict(battles().counts()) == {"b": 3, "a": 2, "c": 1}
    assert list(battles().counts()) == ["b", "a", "c"]
    assert dict(battles().counts("a")) == {"a": 2, "b": 1}
    assert battles().counts("a", share=True)["a"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="`side` must be 'a', 'b' or None, got 'left'"):
        battles().counts("left")


def test_counts_print_as_a_table():
    assert repr(battles().counts("a", share=True)).splitlines() == [
        "name  share of battles as a",
        "a                    0.6667",
        "b                    0.3333",
    ]
    assert repr(NamedNumbers("n", {})) == "name  n"
