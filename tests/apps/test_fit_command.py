"""`llm-router fit`."""

import json
from pathlib import Path

import pytest

from langchain_llm_router.apps.cli import fit_command, parameters
from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import last_json
from tests.support.journals import write_journal
from tests.support.saved_routers import SAID, TABLE

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")


def test_the_first_line_is_the_verdict_and_the_exit_code_tells_the_outcome(run, made):
    half = range(len(TABLE) // 2)
    write_journal(made / "half.jsonl", TABLE.take(half), SAID.take(half))
    question = {"kind": "question", "id": "new", "query": "And 1 + 1?"}
    with (made / "half.jsonl").open("a") as file:
        file.write(json.dumps(question) + "\n")
    arguments = ("fit", "--data", "half.jsonl", "--out", "half", "--target", "quality >= 0.999")
    code, out, err = run(*arguments, "--json")
    figures = last_json(out)
    assert code == EXIT_CODES["not_kept"], err
    assert out.splitlines()[0] == figures["sentence"]
    assert "Saved: `large` alone." in out.splitlines()[1]
    assert "in time is unknown" in out.splitlines()[2]
    assert figures["verdict"] == "not_kept"
    assert figures["saved_candidates"] == ["large"]
    assert figures["left_out"] == {"without an answer of 'small'": 1}
    assert figures["repeated"] == 0
    assert figures["latency"] is None
    assert figures["n_rows_given"] == figures["n_rows"] == len(TABLE) // 2
    assert "drawn from" not in out
    saved = SavedRouter.load("half")
    assert saved.goal["target"] == "quality >= 0.999"
    # The page reads the same sentence.
    assert (
        json.loads((made / "half" / "verdict.json").read_text())["sentence"] == figures["sentence"]
    )


def test_where_nothing_can_be_written_nothing_is_fitted(run, made, monkeypatch):
    monkeypatch.setattr(fit_command, "load_data_option", lambda paths: pytest.fail("too late"))
    code, _, err = run("fit", "--data", "run.jsonl", "--out", "table.jsonl/router")
    assert code == 1
    assert "a folder is needed there" in err
    (made / "closed").mkdir()
    with monkeypatch.context() as patched:
        # The tests may run as root, who may write everywhere.
        patched.setattr(parameters.os, "access", lambda path, mode: Path(path).name != "closed")
        code, _, err = run("fit", "--data", "run.jsonl", "--out", "closed/router")
    assert code == 1
    assert "closed': choose another path, or change its permissions" in err
    before = (made / "route" / "manifest.json").read_bytes()
    code, _, err = run("fit", "--data", "run.jsonl", "--out", "route")
    assert code == 1
    assert "'route' exists already: choose another `--out`, or overwrite it with `--force`" in err
    assert (made / "route" / "manifest.json").read_bytes() == before


def test_figures_on_drawn_questions_say_of_how_many(run, made, monkeypatch):
    monkeypatch.setattr("langchain_llm_router.training.fit._MOST_QUERIES", 100)
    code, out, err = run("fit", "--data", "table.jsonl", "--out", "drawn", "--json")
    assert code in EXIT_CODES.values(), err
    figures = last_json(out)
    assert (figures["n_rows"], figures["n_rows_given"]) == (100, len(TABLE))
    assert f"On 100 questions drawn from {len(TABLE):,}." in out.splitlines()
