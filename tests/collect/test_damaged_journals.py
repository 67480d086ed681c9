"""Journals that were damaged, edited or made to do harm: one error each, or nothing is lost."""

import json
import os

import pytest

from langchain_llm_router import Candidate
from langchain_llm_router.collect import collect, load_journal
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.training import load_data

ROWS = [{"id": str(i), "query": f"What is 2 + {i}?", "reference": "5"} for i in range(3)]


def run(path, rows=ROWS):
    pool = [Candidate(name, ScriptedChatModel(*["5"] * 9)) for name in "ab"]
    return collect(rows, pool, journal=path, grader="number")


@pytest.fixture
def journal(tmp_path):
    run(tmp_path / "run.jsonl")
    return tmp_path / "run.jsonl"


def change(path, kind, **fields):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row in lines if row["kind"] == kind)
    row.update(fields)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("answer", {"input_tokens": 10**400}, "`input_tokens` must be a finite number"),
        ("answer", {"cost_usd": -1}, "`cost_usd` must be >= 0"),
        ("run", {"settings": {"models": None}}, "`models` must map names to dict"),
        ("run", {"settings": {"models": {"a": True}}}, "`models` must map names to dict"),
        ("run", {"settings": {"prompts": []}}, "`prompts` must map names to str"),
        ("run", {"settings": {"candidates": "ab"}}, "`candidates` must be a list of names"),
    ],
)
def test_values_that_no_run_writes_are_refused_with_their_line(journal, kind, fields, said):
    change(journal, kind, **fields)
    for read in (load_journal, run):
        with pytest.raises(ValueError, match=r"run\.jsonl line \d+: ") as caught:
            read(journal)
        assert said in str(caught.value)


def test_a_line_of_any_length_is_refused_before_it_fills_the_memory(journal):
    with journal.open("ab") as file:
        file.truncate(1 << 40)  # a terabyte of nothing, which takes no room
    for read in (load_journal, run):
        with pytest.raises(ValueError, match="has more than 33,554,432 bytes"):
            read(journal)


def test_an_end_of_line_that_an_editor_dropped_loses_no_fact(journal):
    whole = journal.read_bytes()
    journal.write_bytes(whole.rstrip(b"\n"))
    assert len(load_journal(journal).ids) == 3
    run(journal)
    assert journal.read_bytes() == whole


def test_groups_that_some_questions_lack_are_kept_for_the_others(tmp_path):
    rows = [dict(row, group="sums" if i else None) for i, row in enumerate(ROWS)]
    assert run(tmp_path / "run.jsonl", rows).outcomes.groups == ("", "sums", "sums")


def test_a_pipe_is_refused_where_a_kind_of_file_is_guessed(tmp_path):
    os.mkfifo(tmp_path / "run.jsonl")
    with pytest.raises(ValueError, match="a pipe or a device"):
        load_data(tmp_path / "run.jsonl")
