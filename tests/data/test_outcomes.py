"""Tables of outcomes and of verdicts: checked, immutable, cut by rows and columns."""

import json

import numpy as np
import pytest

from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
from tests.support.fakes import make_outcomes
from tests.support.small_tables import NAMES, outcomes

UNSCORED = [[np.nan, np.nan]]

BAD = [
    (lambda: outcomes([[0.0, np.nan]]), r"`quality` is NaN in row 0"),
    (lambda: outcomes([[0.0, 1.5]]), r"must be in \[0, 1\], got 1.5"),
    (lambda: outcomes([[0.0, -0.1]]), r"got -0.1"),
    (lambda: outcomes([[0.0, np.inf]]), r"got inf"),
    (lambda: outcomes([[0.0, 1.0, 1.0]]), r"shape \(1, 3\), expected \(1, 2\)"),
    (lambda: outcomes([[0.0, 1.0]], cost_usd=[[1.0]]), r"`cost_usd` has shape"),
    (lambda: outcomes([[0.0, 1.0]], cost_usd=[[-1.0, 1.0]]), r"finite and >= 0"),
    (lambda: outcomes([[0.0, 1.0]], latency_s=[[-1.0, 1.0]]), r"`latency_s` must be finite and"),
    (
        lambda: outcomes([[0.0, 1.0]], groups=["a", "b"]),
        r"each of the 1 queries, got 2",
    ),
    (lambda: Outcomes(["q"], ("a", "a"), [[0, 1]]), r"distinct names"),
    (lambda: Outcomes(["q"], (), [[]]), r"distinct names"),
    (lambda: Battles(["q"], ["a"], ["b"], [2.0]), r"`score_a` must be in .* got 2.0"),
    (lambda: Battles(["q"], ["a", "b"], ["b"], [1.0]), r"1 queries, got 2"),
    (lambda: outcomes([[0.0, 1.0]], output_tokens=[[-1, 1]]), r"`output_tokens` must be finite"),
    (lambda: SelfEvaluations(NAMES, UNSCORED, answer_groups=[[0, -2]]), r"from 0, .* got -2"),
    (lambda: SelfEvaluations(NAMES, UNSCORED, answer_groups=[[0, 0.5]]), r"whole numbers"),
    (lambda: SelfEvaluations(NAMES, UNSCORED, answer_groups=[[0]]), r"`answer_groups` has shape"),
    (lambda: SelfEvaluations(NAMES, [[0.5, 1.1]]), r"`confidence` must be in .* got 1.1"),
]


@pytest.mark.parametrize(("build", "says"), BAD, ids=[says for _, says in BAD])
def test_a_bad_table_is_refused_with_the_value_and_what_is_allowed(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_an_unknown_cost_is_nan_and_stays_unknown_in_the_mean():
    table = outcomes([[0, 1], [1, 1]], cost_usd=[[0.1, np.nan], [0.3, 1.0]])
    np.testing.assert_allclose(table.mean_cost_usd, [0.2, np.nan])
    assert outcomes([[0, 1]]).mean_cost_usd is None


def test_taking_rows_and_columns_keeps_them_together():
    table = make_outcomes(n=10)
    part = table.take([3, 1]).select(("large", "small"))
    assert part.queries == (table.queries[3], table.queries[1])
    np.testing.assert_array_equal(part.quality, table.quality[[3, 1]][:, [2, 0]])
    assert table.take(np.arange(10) < 2).queries == table.queries[:2]
    with pytest.raises(ValueError, match=r"got \['huge'\]"):
        table.select(["huge"])


def test_latencies_go_where_their_rows_and_columns_go(tmp_path):
    table = outcomes([[0, 1], [1, 1]], latency_s=[[0.5, np.nan], [1.5, 2.0]])
    path = table.save(tmp_path / "table.jsonl")
    for one in (table, Outcomes.load(path)):
        part = one.take([1, 0]).select(tuple(reversed(NAMES)))
        np.testing.assert_array_equal(part.latency_s, [[2.0, 1.5], [np.nan, 0.5]])
    assert outcomes([[0, 1]]).latency_s is None
    assert Outcomes.load(outcomes([[0, 1]]).save(path)).latency_s is None


def test_lengths_of_answers_go_where_their_rows_and_columns_go(tmp_path):
    table = outcomes([[0, 1], [1, 1]], output_tokens=[[10, 20], [30, np.nan]])
    part = table.take([1]).select(("strong", "weak"))
    np.testing.assert_array_equal(part.output_tokens, [[np.nan, 30]])
    for name in ("it.jsonl", "it.parquet"):
        np.testing.assert_array_equal(
            Outcomes.load(table.save(tmp_path / name)).output_tokens, table.output_tokens
        )
    assert outcomes([[0, 1]]).take([0]).select(NAMES).output_tokens is None


def test_groups_of_equal_answers_go_where_their_rows_and_columns_go():
    table = SelfEvaluations(NAMES, UNSCORED * 2, answer_groups=[[0, 1], [-1, 0]])
    part = table.take([1]).select(("strong", "weak"))
    assert part.answer_groups.tolist() == [[0, -1]]
    assert not table.has_scores
    assert SelfEvaluations(NAMES, [[0.5, np.nan]]).has_scores


def test_tables_cannot_be_changed_behind_their_back():
    table = make_outcomes(n=3)
    with pytest.raises(ValueError, match="read-only"):
        table.quality[0, 0] = 1.0


def test_taking_no_rows_gives_a_table_without_rows():
    outcomes = Outcomes(["a", "b"], ("x", "y"), [[0, 1], [1, 0]], groups=["g", "h"])
    assert len(outcomes.take([])) == 0
    assert outcomes.take([]).groups == ()
    assert len(outcomes.take([False, False])) == 0
    evaluations = SelfEvaluations(("x", "y"), np.full((2, 2), 0.5))
    assert evaluations.take([]).confidence.shape == (0, 2)


@pytest.mark.parametrize("values", [[1173, True], "ab", 5, True])
def test_rows_whose_qualities_are_not_by_name_are_refused_and_named(values):
    with pytest.raises(TypeError, match="Row 0: `quality` must map candidates to numbers"):
        Outcomes.from_rows([{"query": "q", "quality": values}])


@pytest.mark.parametrize("row", [None, True, 5, ["query"]])
def test_a_row_that_is_no_mapping_is_refused_and_named(row):
    with pytest.raises(TypeError, match="Row 0 must map fields to values"):
        Outcomes.from_rows([row])


def test_rows_are_read_one_by_one_and_what_some_lack_is_unknown():
    def rows():
        for i in range(3):
            row = {"query": f"q{i}", "quality": {"x": i / 2, "y": 1}}
            if i == 1:
                row |= {"group": "g", "latency_s": {"y": 2.5}}
            yield row

    found = Outcomes.from_rows(rows())
    assert found.queries == ("q0", "q1", "q2")
    assert found.quality.tolist() == [[0, 1], [0.5, 1], [1, 1]]
    assert found.groups == ("", "g", "")
    assert found.cost_usd is None
    np.testing.assert_array_equal(found.latency_s, [[np.nan] * 2, [np.nan, 2.5], [np.nan] * 2])


def test_rows_without_candidates_are_refused():
    with pytest.raises(ValueError, match="must be distinct names, at least one"):
        Outcomes.from_rows([{"query": "q", "quality": {}}])
    with pytest.raises(ValueError, match="at least one row"):
        Outcomes.from_rows([])


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("quality", {"a": 2.0, "b": 1}, r"`quality` of 'a' must be in \[0, 1\], got 2.0"),
        ("quality", {"a": 1, "b": None}, "`quality` of 'b' is NaN or null: drop the rows"),
        ("quality", {"a": 1, "b": float("nan")}, "`quality` of 'b' is NaN or null: drop the rows"),
        ("quality", {"a": 1}, r"the first row \(t.jsonl line 1\), \['a', 'b'\], got \['a'\]"),
        ("cost_usd", {"a": -1.0}, r"`cost_usd` of 'a' must be in \[0, 1e\+15\], got -1.0"),
        ("cost_usd", {"a": 1e308}, r"`cost_usd` of 'a' must be in \[0, 1e\+15\], got 1e\+308"),
        ("cost_usd", {"c": 1.0}, r"candidates of \['a', 'b'\], as `quality` has, got \['c'\]"),
        ("latency_s", {"a": "slow"}, "`latency_s` of 'a' must be a number or null, got 'slow'"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path, field, values, words):
    good = {"query": "q", "quality": {"a": 1, "b": 0}}
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, {**good, field: values})))
    with pytest.raises(ValueError, match=f"t.jsonl line 2: .*{words}"):
        Outcomes.load(path)
