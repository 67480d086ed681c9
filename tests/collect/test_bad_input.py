"""Bad input to `llm-router collect` ends in one line, and what was collected so far is kept."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from langchain_llm_router.apps.cli import main
from langchain_llm_router.collect import load_journal
from tests.support.commands import CODE
from tests.support.forks import run_forked
from tests.support.local_server import LocalServer
from tests.support.questions import pool, write_questions

pytest.importorskip("typer")
pytest.importorskip("rich")


@pytest.fixture
def collect(tmp_path):
    """Run the command in a process of its own; its exit code and the lines it wrote."""

    def command(*arguments: str, **env: str) -> tuple[int, list[str]]:
        done = run_forked(CODE, "collect", *arguments, cwd=tmp_path, **env)
        assert "Traceback" not in done.stderr
        return done.returncode, (done.stdout + done.stderr).strip().splitlines()

    return command


def answers(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(r["id"], r["candidate"]) for r in rows if r["kind"] == "answer" and "text" in r}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ('{"query": "1 + 1?", "reference": "2"}\n{"prompt": "2 + 2?"}\n', "q.jsonl row 1: `query`"),
        (
            '{"id": "a", "query": "x"}\n{"id": "a", "query": "y"}\n',
            "row 1: `id` must be unique, got 'a', which row 0 also has",
        ),
        (
            '{"query": "1 + 1?", "reference": "2"}\n{"query": "2 + 2?"}\n',
            "Row 1 (id '1') cannot be",
        ),
        ('{"query": "1 + 1?"}\nnonsense\n', "q.jsonl line 2 is not a JSON object"),
    ],
    ids=["missing field", "duplicate id", "missing reference", "not JSON"],
)
def test_an_unfit_row_is_named_in_one_line_before_any_call(
    monkeypatch, capsys, tmp_path, rows, words
):
    (tmp_path / "q.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    with LocalServer() as server:
        command = ["llm-router", "collect", "q.jsonl", "--yes", *pool(server.url)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        assert server.n_requests == 0
    assert stop.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("llm-router: ")
    assert words in said[0]
    assert not (tmp_path / "run.jsonl").exists()


def test_a_judge_that_answers_prose_is_named_with_the_answer_it_could_not_grade(collect, tmp_path):
    write_questions(tmp_path / "q.jsonl", 4)
    with LocalServer() as server:
        judge = ("--grader", "judge", "--judge", f"openai:prose@{server.url}")
        few = ("--samples", "0", "--concurrency", "1", *pool(server.url))
        code, said = collect("q.jsonl", "--yes", *judge, *few)
    assert code == 1
    assert said[-1].startswith("llm-router: Grade of candidate '")
    assert "question '" in said[-1]
    assert "failure 5 in a row" in said[-1]
    assert len(answers(tmp_path / "run.jsonl")) >= 5


@pytest.mark.slow
def test_a_server_that_dies_is_named_and_the_same_command_goes_on(collect, tmp_path):
    write_questions(tmp_path / "q.jsonl", 6)
    same = ("q.jsonl", "--yes", "--samples", "0", "--attempts", "2", "--concurrency", "1")
    with LocalServer(dies_after=5) as server:
        code, said = collect(*same, *pool(server.url))
    assert code == 1
    assert said[-1].startswith("llm-router: Candidate '")
    assert "question '" in said[-1]
    assert "Gave up after 2 attempts" in said[-1]
    kept = answers(tmp_path / "run.jsonl")
    assert len(kept) == 5
    assert "5 of 12 answers are in run.jsonl" in said[-1]
    with LocalServer() as server:
        code, said = collect(*same, *pool(server.url))
        assert server.n_requests == 12 - 5
    assert code == 0
    assert kept < answers(tmp_path / "run.jsonl")
    assert len(load_journal(tmp_path / "run.jsonl").ids) == 6


@pytest.mark.slow
def test_a_key_that_expires_is_named_and_everything_so_far_is_kept(collect, tmp_path):
    write_questions(tmp_path / "q.jsonl", 3)
    with LocalServer() as server:
        assert collect("q.jsonl", "--yes", "--samples", "0", *pool(server.url))[0] == 0
    kept = answers(tmp_path / "run.jsonl")
    write_questions(tmp_path / "q.jsonl", 5)
    with LocalServer(key="new") as server:
        code, said = collect("q.jsonl", "--yes", "--samples", "0", *pool(server.url))
    assert code == 1
    assert "Incorrect API key provided" in said[-1]
    assert answers(tmp_path / "run.jsonl") == kept
    assert len(load_journal(tmp_path / "run.jsonl").ids) == 3


@pytest.mark.slow
def test_a_budget_that_is_used_up_ends_in_one_line(collect, tmp_path):
    write_questions(tmp_path / "q.jsonl", 4)
    with LocalServer() as server:
        few = ("--samples", "0", "--concurrency", "1", "--budget", "0.0005")
        code, said = collect("q.jsonl", "--yes", *few, *pool(server.url))
    assert code == 1
    assert said[-1].startswith("llm-router: The next answer would exceed the budget. ")
    assert "answers are in run.jsonl" in said[-1]


class LangSmith(BaseHTTPRequestHandler):
    """As much of LangSmith as reading one dataset needs."""

    ID = "0f1e2d3c-0000-4000-8000-00000000000"

    def do_GET(self):
        found = []
        if self.path.startswith("/datasets"):
            found = [{"id": self.ID + "1", "name": "sums", "created_at": "2026-01-01T00:00:00Z"}]
        elif self.path.startswith("/examples") and "offset=0" in self.path:
            found = [
                {
                    "id": self.ID + str(i), "dataset_id": self.ID + "1",
                    "inputs": {"question": f"What is {i} + {i}?"},
                    "outputs": {"answer": str(2 * i)},
                    "created_at": "2026-01-01T00:00:00Z",
                }
                for i in (2, 3)
            ]  # fmt: skip
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_a_langsmith_dataset_is_a_source_like_a_file(collect, tmp_path):
    smith = ThreadingHTTPServer(("127.0.0.1", 0), LangSmith)
    threading.Thread(target=smith.serve_forever, daemon=True).start()
    env = {
        "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{smith.server_address[1]}",
        "LANGSMITH_API_KEY": "lsv2_x",
        "LANGSMITH_TRACING": "false",
    }
    try:
        with LocalServer() as server:
            code, said = collect(
                "langsmith:sums", "--yes", "--samples", "0", *pool(server.url), **env
            )
    finally:
        smith.shutdown()
        smith.server_close()
    assert code == 0, said
    done = load_journal(tmp_path / "run.jsonl")
    assert done.outcomes.queries == ("What is 2 + 2?", "What is 3 + 3?")
    assert done.outcomes.quality[:, 1].tolist() == [1.0, 1.0]
