"""What holds for every command: help, mistakes, defaults, and how runs end."""

import io
import json
import re
import signal
import sys
import time
from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest

from langchain_llm_router.apps.cli.collect_command import collect
from langchain_llm_router.apps.cli.serve_command import serve
from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.collect import Limits, acollect, grader_by_name
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.verification import YesNo
from tests.support.commands import ROOT, run_main
from tests.support.loading import loaded_by
from tests.support.local_server import LocalServer
from tests.support.saved_routers import TABLE, TAUGHT, one_shot, start

pytest.importorskip("typer")

pytest.importorskip("rich")


def test_a_terminal_shows_what_is_being_done_and_how_far_it_has_come(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    # A narrow terminal cuts the names of steps off where times are long.
    monkeypatch.setenv("COLUMNS", "200")
    for arguments, last in (
        (["evaluate", "route"], ("redrawing the rows: NearestNeighbors", "5/6")),
        (["evaluate", "cascade"], ("redrawing the rows: what it saves", "4/5")),
        (["fit", "--out", "fitted"], ("on all rows", "10/11")),
    ):
        code, _, err = run(*arguments, "--data", "run.jsonl")
        assert code in EXIT_CODES.values(), err
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
        assert all(words in shown for words in last), shown


MISTAKES = [
    (["explain", "route", "q", "--options", "router@z:1"], "Unknown part 'z:1'"),
    (["explain", "route", "q", "--picture", "why.gif"], "got 'why.gif'"),
    (["evaluate", "nowhere", "--data", "run.jsonl"], "'nowhere' is not a saved artifact"),
    (["evaluate", "route"], "`--data` is missing"),
    (["evaluate", "route", "--data", "nothing.jsonl"], "nothing.jsonl"),
    (["evaluate", "cascade", "--data", "table.jsonl"], "router's verifier, 'self'"),
    (
        ["calibrate", "route", "--data", "run.jsonl", "--target", "qualty >= 1"],
        "'strong share = 0.3', with values of quality and shares in [0, 1], got 'qualty >= 1'",
    ),
    (
        ["calibrate", "always", "--data", "run.jsonl", "--target", "quality >= 0.1"],
        "no setting to calibrate",
    ),
    (
        ["calibrate", "route", "--data", "run.jsonl", "--target", "strong share = 0.3"],
        "no equation can be promised",
    ),
    (["calibrate", "route", "--target", "quality >= 0", "--out", "always"], "exists already"),
    (["fit", "--data", "run.jsonl", "--out", "table.jsonl"], "a folder is needed there"),
    (
        ["evaluate", "route", "--data", "table.jsonl", "--target", "at least 99 % of huge"],
        "names 'huge', but the candidates are ['small', 'large']",
    ),
    (
        ["evaluate", "route", "--data", "table.jsonl", "--target", "p95 latency <= 2 s"],
        "needs latencies, but the data has none",
    ),
    (["plot", "route", "--data", "run.jsonl", "--format", "gif"], "png, svg or pdf, got 'gif'"),
    (["serve", "route"], "--candidate small=provider:model"),
    (["serve", "route", "--cascade"], "`--cascade` must be omitted"),
    (["serve", "--baseline", "nobody"], "`baseline` must be one of"),
    (["serve", "--shadow", "nowhere"], "'nowhere' is not a saved artifact"),
    (["serve", "--log", "route"], "Is a directory: 'route'"),
    (["serve", "--candidate", "a=openai:x"], "cannot choose from 'a' alone"),
    (["serve", "--cascade", "--candidate", "a=openai:x"], "`--cascade` must be omitted"),
    (["serve", "--host", "999.1.1.1"], "Cannot listen on `--host` '999.1.1.1'"),
    (["fit", "--data", "number.jsonl"], "number.jsonl line 1: `query` must be a text, got '5'"),
    (["fit", "--data", "label.jsonl"], "label.jsonl line 1: `group` must be a text or a number"),
    (["collect", "q.jsonl", "--judge", "openai:x", "--candidate", "a=openai:x"], "`--judge` needs"),
]  # fmt: skip


@pytest.fixture
def _odd_tables(made, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (made / "number.jsonl").write_text('{"query": 5, "quality": {"s": 1, "l": 0}}\n')
    (made / "label.jsonl").write_text('{"query": "a", "group": {}, "quality": {"s": 1, "l": 0}}\n')


@pytest.mark.usefixtures("_odd_tables")
@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda it: " ".join(it)[:40])
def test_a_mistake_ends_in_one_line_that_says_what_is_allowed(run, arguments, words):
    code, _, err = run(*arguments)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["evaluate"], ["serve", "--port", "many"], ["evalute", "route"], ["plot", "--zzz"]],
)
def test_a_command_that_is_not_understood_is_a_2_and_points_to_the_help(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "--help" in err
    assert "Traceback" not in err


COMMANDS = [
    "demo", "start", "collect", "fit", "calibrate", "evaluate", "explain", "replay", "feedback",
    "refit", "plot", "serve",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options_and_shows_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: llm-router {command}" in " ".join(out.split())
    # Every option has words behind its type.
    options = [line for line in out.splitlines() if line.strip("│ *").startswith("--")]
    assert all(len(line.strip("│ ").split(">", 1)[-1].strip()) > 3 for line in options), options


def test_no_help_loads_a_room_that_it_does_not_print():
    helps = [["--help"], *([command, "--help"] for command in COMMANDS)]
    loaded = loaded_by(
        "import contextlib, sys\n"
        "from langchain_llm_router.apps.cli import main\n"
        f"for words in {helps}:\n"
        "    sys.argv = ['llm-router', *words]\n"
        "    with contextlib.suppress(SystemExit): main()"
    )
    assert "typer" in loaded
    own = {name.split(".")[1] for name in loaded if name.startswith("langchain_llm_router.")}
    assert own == {"apps", "types"}
    assert loaded & {"numpy", "scipy", "langchain_core", "langgraph", "langsmith", "httpx"} == set()


def test_what_commands_have_as_defaults_is_what_the_rooms_have(monkeypatch):
    limits, asked = Limits(), default_of(collect)
    assert asked["concurrency"] == limits.concurrency
    assert asked["attempts"] == limits.attempts
    assert asked["samples"] == YesNo().n_samples
    assert default_of(serve)["samples"] is None
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    named = re.findall(r"\w+", "exact, number, choice, judge, pairwise")
    text = get_type_hints(collect, include_extras=True)["grader"].__metadata__[0]
    models = {"judge": "openai:x", "pairwise": "openai:x"}
    assert all(name in text and grader_by_name(name, models.get(name)) for name in named)
    assert asked["grader"] is None
    assert f"by default {signature(acollect).parameters['grader'].default}" in text


def default_of(command) -> dict:
    return {name: p.default for name, p in signature(command).parameters.items()}


def test_every_command_that_the_readme_shows_has_the_options_it_shows(run):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    shown = re.findall(r"llm-router (\w+)([^\n#]*)", "\n".join(blocks))
    assert len(shown) >= 8
    for command, rest in shown:
        code, out, _ = run(command, "--help")
        assert code == 0, command
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in out


def test_the_version_and_the_commands_are_told(run):
    assert run("--version")[1].strip() == "0.1.0"
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_it(run, monkeypatch, shell):
    monkeypatch.setenv("_LLM_ROUTER_COMPLETE", f"source_{shell}")
    assert "llm-router" in run()[1]
    monkeypatch.setenv("_LLM_ROUTER_COMPLETE", f"complete_{shell}")
    words = {"COMP_WORDS": "llm-router ev", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "ev",
             "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    assert "evaluate" in run()[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_the_characters_of_an_answer_shows_them_escaped(
    made, monkeypatch, capsys, encoding
):
    written = io.BytesIO()
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    code, _, err = run_main(["explain", "route", "caf\u9462"], monkeypatch, capsys)
    sys.stdout.flush()
    assert code == 0, err
    assert "\\u9462" in written.getvalue().decode(encoding)


def test_ctrl_c_ends_a_command_with_130_and_one_line(tmp_path):
    rows = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(50)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with LocalServer(delay_s=1.0) as server:
        weak = ["--candidate", f"weak=openai:weak@{server.url}"]
        process = start("collect", "q.jsonl", "--yes", "--without-prices", *weak, cwd=tmp_path)
        for _ in range(600):
            if server.n_requests > 0:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "llm-router: interrupted"
    assert "Traceback" not in err


def test_the_rows_that_a_router_was_taught_by_are_known_after_loading(tmp_path):
    router = one_shot()
    assert router.knows(TABLE.queries).sum() == TAUGHT
    router.save(tmp_path / "router")
    loaded = SavedRouter.load(tmp_path / "router")
    assert loaded.seen == router.seen
    np.testing.assert_array_equal(loaded.predict(["add 1"]), router.predict(["add 1"]))
