"""Tables of outcomes add up as journals do, or say why they do not."""

import numpy as np
import pytest

from langchain_llm_router.collect import collect
from langchain_llm_router.data import Outcomes
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.training import load_data
from langchain_llm_router.training.data_files import read_data
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


def test_a_question_that_was_measured_twice_has_the_mean_in_one_table_and_in_two(tmp_path):
    one, two = {"quality": [[0, 1]], "cost_usd": [[1, np.nan]]}, {"quality": [[1, 1]]}
    two["cost_usd"] = [[3, np.nan]]
    other = {"quality": [[0, 0]], "cost_usd": [[5, 6]]}
    rows = [("b?", one), ("a?", other), ("b?", two)]
    tables = [Outcomes([query], ("small", "large"), **row) for query, row in rows]
    both = [(0, 1, 2), (0, 1), (2,)]
    paths = []
    for k, part in enumerate(both):
        lines = [row for i in part for row in tables[i].to_rows()]
        paths.append(Outcomes.from_rows(lines).save(tmp_path / f"{k}.jsonl"))
    for files in (paths[:1], paths[1:]):
        table, n_averaged = read_data(*files)
        assert n_averaged == 1
        assert table.queries == ("b?", "a?")
        assert table.quality.tolist() == [[0.5, 1], [0, 0]]
        assert np.array_equal(table.cost_usd, [[2, np.nan], [5, 6]], equal_nan=True)


def test_one_text_in_two_groups_is_two_questions(tmp_path):
    a = save(tmp_path / "a.jsonl", ["a?", "a?"], groups=["x", "y"])
    table, n_averaged = read_data(a)
    assert (table.queries, table.groups, n_averaged) == (("a?", "a?"), ("x", "y"), 0)


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
