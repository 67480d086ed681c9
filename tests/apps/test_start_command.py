"""`llm-router start`: the whole way from questions to a served router."""

import json
import os
import pty
import shlex
import signal
import sys
import time

import httpx
import pytest

from langchain_llm_router.apps.cli import start_command
from langchain_llm_router.apps.cli.start_interview import Answers, check_answers
from langchain_llm_router.collect import load_questions
from tests.support.commands import CODE, run_main
from tests.support.forks import Forked
from tests.support.journals import write_journal
from tests.support.local_server import LocalServer
from tests.support.questions import pool, write_questions
from tests.support.saved_routers import SAID, TABLE, one_shot, start

pytest.importorskip("typer")
pytest.importorskip("rich")

UNPRICED = ("--candidate", "a=openai:a@http://127.0.0.1:1/v1",
            "--candidate", "b=openai:b@http://127.0.0.1:1/v1")  # fmt: skip
PRICED = (*UNPRICED, "--price", "a=1,2", "--price", "b=3,4")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write_questions(tmp_path / "q.jsonl", 3)
    return lambda *arguments: run_main(("start", *arguments), monkeypatch, capsys)


def printed(out: str) -> list[list[str]]:
    """The commands that it printed, as a shell would split them."""
    return [shlex.split(line[2:]) for line in out.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
def test_from_questions_to_a_served_router_without_a_terminal(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("fastapi")
    write_questions(tmp_path / "q.jsonl", 40)
    with LocalServer() as server:
        words = ("start", "q.jsonl", "--yes", "--samples", "2", "--port", "0", *pool(server.url))
        process = start(*words, cwd=tmp_path)
        address = next(line.split()[-5] for line in process.stderr if "Uvicorn running" in line)
        setup = httpx.get(f"{address}/live/setup", timeout=60).json()
        assert setup["examples"][0] == "What is 0 + 0?"
        body = {"model": "router", "messages": [{"role": "user", "content": "What is 4 + 4?"}]}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()
        assert answer["choices"][0]["message"]["content"] == "8"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "strong alone: quality 100.0 of 100" in out
        commands = printed(out)
        assert [words[1] for words in commands] == ["collect", "fit", "serve"]
        asked = server.n_requests
        # What it printed is what it ran: pasted, it finds everything done.
        pasted = start(*commands[0][1:], cwd=tmp_path)
        assert "In all 0 calls" in pasted.communicate(timeout=60)[1]
        again = start(*words, "--until", "collect", cwd=tmp_path)
        assert again.communicate(timeout=60)[0].count("Learned from 40 questions") == 1
        assert server.n_requests == asked


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_command_that_goes_on(tmp_path):
    write_questions(tmp_path / "q.jsonl", 30)
    samples = ("--samples", "1", "--until", "collect")
    with LocalServer(delay_s=0.2) as server:
        process = start("start", "q.jsonl", "--yes", *samples, *pool(server.url), cwd=tmp_path)
        while server.n_requests < 20:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        *_, how, last = err.strip().splitlines()
        assert last == "llm-router: interrupted"
        assert "Traceback" not in err
        words = shlex.split(how.removeprefix("To go on where this stopped: llm-router "))
        again = start(*words, "--until", "collect", cwd=tmp_path)
        out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "Learned from 30 questions" in out
    # At most those in flight were asked twice.
    assert server.n_requests < 120 + 20


MISTAKES = [
    ((), "there is no terminal: add `--yes`"),
    (("q.jsonl", *PRICED), "there is no terminal: add `--yes`"),
    (("--yes",), "needs QUESTIONS, a file with `query` and `reference` (or --from-log) and"),
    (("q.jsonl", "--yes", "--candidate", "openai:one"), "twice or more"),
    (("q.jsonl", "--yes", *PRICED, "--from-log", "log.jsonl"), "leave one out"),
    (("--from-log", "log.jsonl", "--yes", *PRICED), "`--judge` is missing"),
    (("q.jsonl", "--yes", *UNPRICED), "give --price a=input,output"),
    (
        ("open.jsonl", "--yes", *PRICED),
        "`--judge` is missing: not every question has a `reference`",
    ),
    (("q.jsonl", "--yes", *PRICED, "--grader", "judge"), "`--judge` is missing"),
    (("q.jsonl", "--yes", *PRICED, "--until", "noon"), "one of collect, fit, serve, got 'noon'"),
    (("nothing.jsonl", "--yes", *PRICED), "nothing.jsonl"),
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    MISTAKES,
    ids=lambda it: (it if isinstance(it, str) else " ".join(it))[:40],
)
def test_what_is_missing_is_one_line_and_nothing_is_asked_or_written(
    run, tmp_path, arguments, words
):
    (tmp_path / "open.jsonl").write_text('{"query": "Why?"}\n')
    code, _, err = run(*arguments)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "my-router").exists()


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    """The three commands, of which only the calls are noted; `fit` ends with the given code."""
    calls = []

    def collect(questions=None, *, from_log=(), recorded=(), candidate, price, journal, grader,
                judge=None, samples=8, yes):  # fmt: skip
        calls.append("collect")
        write_journal(journal, TABLE, SAID)

    def fit(*, data, out, target=None, force=False):
        calls.append(("fit", force))
        if made.code is not None:
            one_shot().save(out)
            sys.exit(made.code)

    def serve(router, *, candidate, price, samples=8, port):
        calls.append("serve")

    class Made:
        code = 0

    made = Made()
    made.calls = calls
    for stub in (collect, fit, serve):
        monkeypatch.setattr(start_command, stub.__name__, stub)
    return made


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "can be served"), (3, "does not pay on these questions"), (4, "too few to say")],
)
def test_whatever_the_verdict_is_it_is_explained_and_what_was_saved_can_be_served(
    run, stubs, code, words
):
    stubs.code = code
    ended, out, _ = run("q.jsonl", "--yes", *PRICED, "--until", "fit")
    assert ended == code
    assert words in out
    ended, out, _ = run("q.jsonl", "--yes", *PRICED)
    assert ended == 0
    # The second run made the folder anew, which was its own.
    assert stubs.calls == ["collect", ("fit", False), "collect", ("fit", True), "serve"]
    assert "--force" in out


def test_a_log_is_handed_to_collect_and_its_answers_are_compared_by_a_judge(run, stubs):
    words = ("--from-log", "log.jsonl", "--recorded", "m=a", "--judge", "openai:j", *PRICED)
    code, out, _ = run(*words, "--yes", "--until", "collect")
    assert code == 0
    (command,) = printed(out)
    assert command[:5] == ["llm-router", "collect", "--from-log", "log.jsonl", "--recorded"]
    assert "pairwise" in command


def test_nothing_is_served_where_nothing_was_saved(run, stubs):
    stubs.code = None
    assert run("q.jsonl", "--yes", *PRICED)[0] == 0
    assert stubs.calls == ["collect", ("fit", False)]


def test_a_failure_of_a_step_keeps_its_own_code(run, stubs):
    stubs.code = 1
    assert run("q.jsonl", "--yes", *PRICED)[0] == 1
    assert "serve" not in stubs.calls


@pytest.mark.parametrize(
    ("references", "grader"),
    [
        (["1", "-2.5", "1,000", "5 %"], "number"),
        (["A", "c"], "exact"),
        (["A", "C"], "choice"),
        (["Lima", "5"], "exact"),
    ],
)
def test_the_grader_fits_the_references(tmp_path, references, grader):
    rows = [{"query": f"q{i}", "reference": text} for i, text in enumerate(references)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = Answers(path, (), (), UNPRICED[1::2], ("a=1,1", "b=1,1"), None, None, "")
    assert check_answers(known).grader == grader


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_in_a_terminal_it_asks_for_what_is_missing(tmp_path):
    master, slave = pty.openpty()
    process = Forked(CODE, "start", cwd=tmp_path, streams=(slave, slave, slave), TERM="dumb")
    os.close(slave)
    answers = [
        "typed", "What is 1 + 1?", "2", "What is 2 + 2?", "4", "",  # questions, typed
        "nonsense", UNPRICED[1], UNPRICED[3], "",  # models
        "1", "1,2", "",  # prices, of which the first is no price
        "n",  # the quote
    ]  # fmt: skip
    os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:
            break
    process.communicate(timeout=60)
    assert process.returncode == 1, shown.decode()
    text = " ".join(shown.decode().split())
    assert "got 'nonsense'" in text
    assert "--price a=1,2 --price b=0,0 --grader number" in text
    assert "The quote was not confirmed" in text
    rows = load_questions(tmp_path / "my-router" / "questions.jsonl")
    assert [row.reference for row in rows] == ["2", "4"]
