"""Tables of outcomes add up as journals do, or say why they do not."""

import numpy as np
import pytest

from langchain_llm_router.collect import collect
from langchain_llm_router.data import Outcomes
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.training import load_data
from langchain_llm_router.types import Candidate


def save(path, queries, candidates=("small", "large"), **fields):
    quality = [[0.25 * (1 + k) for k in range(len(candidates))]] * len(queries)
    return Outcomes(queries, candidates, quality, **fields).save(path)


def test_tables_of_the_same_candidates_add_up_in_any_order_of_columns(tmp_path):
    a = save(tmp_path / "a.jsonl", ["a?"], cost_usd=[[1, 2]], latency_s=[[3, 4]])
    b = save(tmp_path / "b.jsonl", ["b?"], ("large", "small"), groups=["sums"])
    table = load_data(a, b)
    assert table.queries == ("a?", "b?")
    assert table.quality.tolist() == [[0.25, 0.5], [0.5, 0.25]]
    assert np.array_equal(table.cost_usd, [[1, 2], [np.nan, np.nan]], equal_nan=True)
    assert np.array_equal(table.latency_s, [[3, 4], [np.nan, np.nan]], equal_nan=True)
    assert table.groups == ("", "sums")


def test_tables_of_parquet_and_jsonl_add_up(tmp_path):
    pytest.importorskip("pyarrow")
    a, b = save(tmp_path / "a.jsonl", ["a?"]), save(tmp_path / "b.parquet", ["b?"])
    assert load_data(a, b).queries == ("a?", "b?")


def test_a_question_in_two_tables_is_refused_with_both_rows(tmp_path):
    a, b = save(tmp_path / "a.jsonl", ["a?", "b?"]), save(tmp_path / "b.jsonl", ["b?"])
    with pytest.raises(ValueError, match=r"'a\.jsonl' row 1 and 'b\.jsonl' row 0 have the same"):
        load_data(a, b)


def test_tables_of_other_candidates_are_refused_with_both_named(tmp_path):
    a, b = save(tmp_path / "a.jsonl", ["a?"]), save(tmp_path / "b.jsonl", ["b?"], ("x", "y"))
    with pytest.raises(ValueError, match=r"'a\.jsonl' has \['small', 'large'\] and 'b\.jsonl'"):
        load_data(a, b)


def test_a_table_beside_a_journal_is_refused(tmp_path):
    table = save(tmp_path / "a.jsonl", ["a?"])
    pool = [Candidate("small", ScriptedChatModel("5"))]
    collect([{"query": "a?", "reference": "5"}], pool, journal=tmp_path / "run.jsonl")
    with pytest.raises(ValueError, match=r"'run\.jsonl' is a journal and 'a\.jsonl' is a table"):
        load_data(table, tmp_path / "run.jsonl")
