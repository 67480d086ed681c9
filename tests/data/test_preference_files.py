"""Recorded votes and rankings become battles, or are refused by line."""

import csv
import json
import time

import numpy as np
import pytest

from langchain_llm_router.data import clean_text, load_arena, load_rankings

VOTES = ["id", "model_a", "model_b", "prompt", "response_a", "response_b"]
VOTES += ["winner_model_a", "winner_model_b", "winner_tie"]


def vote(prompt='["hi"]', winner=(1, 0, 0), a="gpt", b="llama"):
    return [7, a, b, prompt, '["x\n\ny"]', "[null]", *winner]


def write_votes(path, *rows, header=VOTES):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_votes_of_an_arena_become_battles_in_the_order_of_the_file(tmp_path):
    path = write_votes(
        tmp_path / "train.csv",
        vote(),
        vote('["one, two", "three"]', (0, 1, 0)),
        vote('["tie \\ud83d"]', (0, 0, 1), "llama", "gpt"),
        vote('["half", null]', ("1.0", "0.0", "0.0")),
    )
    battles = load_arena(path)
    assert battles.queries == ("hi", "one, two\n\nthree", "tie \ud83d", "half")
    assert battles.candidate_a == ("gpt", "gpt", "llama", "gpt")
    np.testing.assert_array_equal(battles.score_a, [1, 0, 0.5, 1])


@pytest.mark.parametrize(("turns", "query"), [("first", "one"), ("last", "three")])
def test_a_single_turn_of_a_conversation_can_be_the_query(tmp_path, turns, query):
    path = write_votes(tmp_path / "train.csv", vote('["one", "two", "three"]'))
    assert load_arena(path, turns=turns).queries == (query,)


def test_truth_values_say_who_won_as_well_as_numbers(tmp_path):
    path = write_votes(tmp_path / "train.csv", vote(winner=("True", "False", "False")))
    assert load_arena(path).score_a.tolist() == [1.0]
    row = dict(zip(VOTES, vote(["a"], (False, False, True)), strict=True))
    (tmp_path / "votes.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert load_arena(tmp_path / "votes.jsonl").score_a.tolist() == [0.5]
    path = write_votes(tmp_path / "train.csv", vote(winner=("True", "True", "False")))
    with pytest.raises(ValueError, match="must be 1 and the others 0"):
        load_arena(path)


def test_a_conversation_with_carriage_returns_is_read_by_its_turns(tmp_path):
    prompt = "\r\n\r\nHuman: hi\r\n\r\nAssistant: ok\r\n\r\nHuman: two\r\n\r\nAssistant:"
    answers = [{"model": "a", "rank": 1}, {"model": "b", "rank": 2}]
    path = tmp_path / "rankings.jsonl"
    path.write_text(json.dumps({"prompt": prompt, "answers": answers}), encoding="utf-8")
    assert load_rankings(path).queries == ("hi\n\ntwo",)


def test_votes_in_parquet_and_json_lines_are_read_alike(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = dict(zip(VOTES, vote(["a", "b"], (0, 1, 0)), strict=True))
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "votes.parquet")
    (tmp_path / "votes.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for name in ("votes.parquet", "votes.jsonl"):
        battles = load_arena(tmp_path / name)
        assert (battles.queries, battles.score_a.tolist()) == (("a\n\nb",), [0.0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (vote("hi"), r"train\.csv line 5: `prompt` must be a JSON list of texts, got 'hi'"),
        (vote("[1]"), r"line 5: `prompt` must be a JSON list"),
        (vote('[" "]'), r"line 5: a query must have a text, got ' '"),
        (vote(a="llama"), r"line 5: a vote must be about two models, got 'llama' and 'llama'"),
        (vote(winner=(1, 1, 0)), r"line 5: one of .* must be 1 and the others 0, got"),
        (vote(winner=(0, 0, 0)), r"line 5: one of .* must be 1"),
        (vote(winner=("", 0, 1)), r"line 5: `winner_model_a` must be a finite number .* got ''"),
        (vote(winner=("nan", 0, 1)), r"line 5: `winner_model_a` must be .* got 'nan'"),
        (vote()[:-1], r"line 5 has 8 fields, but the header has 9"),
    ],
)
def test_a_malformed_vote_is_refused_by_file_and_line(tmp_path, row, message):
    # The first vote takes three lines, because its answer has line breaks.
    path = write_votes(tmp_path / "train.csv", vote(), row)
    with pytest.raises(ValueError, match=message):
        load_arena(path)


def test_votes_without_a_column_or_a_row_are_refused(tmp_path):
    path = write_votes(tmp_path / "test.csv", vote()[:-1], header=VOTES[:-1])
    with pytest.raises(ValueError, match=r"test\.csv line 2 has no `winner_tie`"):
        load_arena(path)
    with pytest.raises(ValueError, match="at least one battle, got none"):
        load_arena(write_votes(tmp_path / "empty.csv"))
    with pytest.raises(ValueError, match="`turns` must be 'all', 'first' or 'last', got 'second'"):
        load_arena(path, turns="second")


def test_55_000_votes_are_read_in_seconds(tmp_path):
    answer = json.dumps(["word " * 20])
    row = vote(json.dumps(["Why is the sky blue? " * 10]))
    path = write_votes(tmp_path / "train.csv", *([[*row[:4], answer, answer, *row[6:]]] * 55_000))
    began = time.process_time()
    assert len(load_arena(path, clean=clean_text)) == 55_000
    # It takes some two seconds of one core.
    assert time.process_time() - began < 10


NECTAR = " \n\nHuman: Why? \n\nAssistant: Because. \n\nHuman: But why? \n\nAssistant: "


def write_rankings(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ranked(prompt, *ranks):
    return {
        "prompt": prompt,
        "answers": [{"answer": "..", "model": m, "rank": r} for m, r in ranks],
    }


def test_every_pair_of_a_ranking_is_a_battle_and_equal_ranks_are_a_tie(tmp_path):
    path = write_rankings(
        tmp_path / "nectar.jsonl", ranked(NECTAR, ("a", 2.0), ("b", 1.0), ("c", 2.0), ("b", 4.0))
    )
    battles = load_rankings(path)
    assert set(battles.queries) == {"Why?\n\nBut why?"}
    pairs = zip(battles.candidate_a, battles.candidate_b, battles.score_a.tolist(), strict=True)
    assert list(pairs) == [
        ("a", "b", 0.0),
        ("a", "c", 0.5),
        ("a", "b", 1.0),
        ("b", "c", 1.0),
        ("c", "b", 1.0),
    ]
    assert set(load_rankings(path, turns="last").queries) == {"But why?"}


@pytest.mark.parametrize("prompt", ["Why?", "As said:\n\nHuman: x"])
def test_a_prompt_that_is_no_conversation_is_taken_whole(tmp_path, prompt):
    path = write_rankings(tmp_path / "r.jsonl", ranked(prompt, ("a", 1), ("b", 2)))
    assert load_rankings(path).queries == (prompt,)


def test_rankings_in_parquet_are_read_alike(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [ranked("q", ("a", 2.0), ("b", 1.0))]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert load_rankings(tmp_path / "r.parquet").score_a.tolist() == [0.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ranked("q", ("a", 1), ("b", None)), r"r\.jsonl line 2, answer 2 has no `rank`"),
        (ranked("q", ("a", "first")), r"line 2, answer 1: `rank` must be a finite number"),
        (ranked("q", (3, 1)), r"line 2, answer 1: `model` must be a text"),
        ({"prompt": "q", "answers": {}}, r"line 2: `answers` must be a list"),
        ({"prompt": "q", "answers": ["x"]}, r"line 2, answer 1 must map fields to values"),
        (ranked(" ", ("a", 1), ("b", 2)), r"line 2: a query must have a text, got ' '"),
        ({"answers": []}, r"line 2 has no `prompt`"),
    ],
)
def test_a_malformed_ranking_is_refused_by_file_and_line(tmp_path, row, message):
    path = write_rankings(tmp_path / "r.jsonl", ranked("q", ("a", 1), ("b", 2)), row)
    with pytest.raises(ValueError, match=message):
        load_rankings(path)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("hi<|endoftext|> there", "hi there"),
        ("<|im_start|>user\nhi<|im_end|>", "user\nhi"),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>hi\x00 \ud83d", "hi "),
        ("a <| b |> c, x<y|z>w", "a <| b |> c, x<y|z>w"),
        ("smile \U0001f600", "smile \U0001f600"),
    ],
)
def test_cleaning_removes_marks_and_nothing_else(tmp_path, text, clean):
    assert clean_text(text) == clean
    path = write_votes(tmp_path / "train.csv", vote(json.dumps([text])))
    assert load_arena(path, clean=clean_text).queries == (clean,)
    assert load_arena(path).queries == (text,)
