"""`llm-router collect --from-log`, against a real server on loopback."""

import json

import pytest

from langchain_llm_router.collect import load_journal
from tests.support.commands import CODE, last_json, run_main
from tests.support.forks import run_forked
from tests.support.local_server import LocalServer
from tests.support.questions import pool, write_questions

pytest.importorskip("typer")
pytest.importorskip("rich")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": f"What is {i} + {i}?"}],
            "completion": str(2 * i),
        }
        for i in range(4)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)


def test_recorded_answers_are_taken_and_only_the_other_candidate_is_asked(run, tmp_path):
    told = ("--yes", "--samples", "0", "--grader", "number", "--recorded", "gpt-4o=strong")
    with LocalServer() as server:
        # In a process of its own, whose end closes the clients' connections.
        words = ("collect", "--from-log", "log.jsonl", *told, "--json", *pool(server.url))
        done = run_forked(CODE, *words, cwd=tmp_path)
        out, err = done.stdout, done.stderr
        assert done.returncode == 0, err
        assert {name for name, _ in server.calls} == {"weak"}
    assert out.startswith("4 requests give 4 questions, with 4 of 'strong' recorded answers.")
    assert "answers of weak: 4 calls" in err
    assert "answers of strong" not in err
    assert last_json(out)["candidates"]["strong"]["quality"] == 1.0
    assert load_journal(tmp_path / "run.jsonl").outcomes.quality[:, 0].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--judge", "openai:x"), "say which candidate a model is, e.g. `--recorded gpt-4o=strong"),
        (("--recorded", "gpt-4o=strong"), "'pairwise' needs a model"),
        (("--recorded", "gpt-4o"), "`--recorded` must be written as model=candidate"),
        (("q.jsonl", "--judge", "openai:x"), "either a file of questions or `--from-log`"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write_questions(tmp_path / "q.jsonl", 1)
    candidates = pool("http://127.0.0.1:1/v1")
    code, _, err = run("collect", *arguments, "--from-log", "log.jsonl", *candidates)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1
