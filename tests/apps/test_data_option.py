"""`--data` of every command: files add up, and what does not fit ends in one line."""

import json

import pytest

from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.data import Outcomes
from tests.support.commands import last_json
from tests.support.journals import write_journal
from tests.support.saved_routers import SAID, TABLE, TAUGHT

pytest.importorskip("typer")
pytest.importorskip("rich")


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "route"),
        ("calibrate", "cascade", "--target", "quality >= 0.5", "--out", "other"),
        ("plot", "cascade", "--out", "pictures"),
        ("explain", "route", "What?"),
    ],
)
def test_data_of_other_candidates_end_in_one_line_that_names_both(run, made, command):
    names = ("tiny", "huge")
    Outcomes(TABLE.queries, names, TABLE.quality[:, :2]).save(made / "other.jsonl")
    code, _, err = run(*command, "--data", "other.jsonl")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "tuple.index" not in err


def test_a_router_is_evaluated_on_two_journals_with_the_same_row_numbers(run, made):
    half = len(TABLE) // 2
    for name, rows in (("one", range(half)), ("two", range(half, len(TABLE)))):
        write_journal(made / f"{name}.jsonl", TABLE.take(rows), SAID.take(rows))
    data = ("--data", "one.jsonl", "--data", "two.jsonl")
    code, out, err = run("evaluate", "cascade", *data, "--json")
    assert code in EXIT_CODES.values(), err
    assert last_json(out)["n_rows"] == len(TABLE) - TAUGHT
    assert (last_json(out)["left_out"], last_json(out)["repeated"]) == ({}, 0)


def test_what_is_left_out_of_the_data_is_said_before_the_figures(run, made):
    question = {"kind": "question", "id": "new", "query": "And 1 + 1?"}
    text = (made / "run.jsonl").read_text() + json.dumps(question) + "\n"
    (made / "more.jsonl").write_text(text)
    code, out, err = run("evaluate", "route", "--data", "more.jsonl", "--json")
    assert code in EXIT_CODES.values(), err
    n = len(TABLE) + 1
    verdict, title, left_out = out.splitlines()[:3]
    assert verdict == last_json(out)["sentence"]
    assert title.startswith("route on ")
    assert left_out.startswith(f"1 of {n} questions are left out: 1 without an answer of ")
    assert last_json(out)["left_out"] == {"without an answer of 'small'": 1}


def test_equal_questions_of_a_table_are_averaged_and_counted(run, made):
    rows = list(TABLE.to_rows())
    Outcomes.from_rows([*rows, *rows[-3:]]).save(made / "twice.jsonl")
    code, out, err = run("evaluate", "route", "--data", "twice.jsonl", "--json")
    assert code in EXIT_CODES.values(), err
    assert last_json(out)["n_rows"] == len(TABLE) - TAUGHT
    assert last_json(out)["repeated"] == 3
    assert "3 repeated measurements of questions are averaged with the first." in out
