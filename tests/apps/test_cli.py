"""The command line over saved routers: calibrate, evaluate, plot, serve, and how runs end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from inspect import signature
from typing import get_type_hints

import httpx
import numpy as np
import pytest

from langchain_llm_router.apps.cli.collect_command import collect
from langchain_llm_router.apps.cli.serve_command import serve
from langchain_llm_router.collect import Limits, acollect, grader_by_name
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import Exam
from langchain_llm_router.history import read_log, replay_log
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.verification import YesNo
from tests.support.commands import CODE, ROOT, environment, last_json, run_main
from tests.support.fakes import make_evaluations, make_outcomes
from tests.support.journals import write_journal
from tests.support.loading import loaded_by
from tests.support.local_server import LocalServer

pytest.importorskip("typer")
pytest.importorskip("rich")

TABLE = make_outcomes(n=200, candidates=("small", "large"))
SAID = make_evaluations(TABLE)
TAUGHT = 80
COSTS = dict(zip(TABLE.candidates, TABLE.mean_cost_usd.tolist(), strict=True))


def one_shot() -> SavedRouter:
    known = TABLE.take(range(TAUGHT))
    router = SavedRouter(
        TABLE.candidates,
        Utility(cost=20.0),
        NearestNeighbors(n_neighbors=10).fit(known),
        expected_cost_usd=COSTS,
    )
    return router.taught_by(known.queries)


def cascade() -> SavedRouter:
    known, said = TABLE.take(range(TAUGHT)), SAID.take(range(TAUGHT))
    model = KernelDensity().fit(said.confidence[:, 0], known.quality[:, 0] >= 0.5)
    policy = ConfidenceThreshold({"small": model}, threshold=0.6)
    router = SavedRouter(TABLE.candidates, policy, verifier="self", expected_cost_usd=COSTS)
    return router.taught_by(known.queries)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two routers, a journal and a table."""
    folder = tmp_path_factory.mktemp("made")
    write_journal(folder / "run.jsonl", TABLE, SAID)
    TABLE.save(folder / "table.jsonl")
    one_shot().save(folder / "route")
    cascade().save(folder / "cascade")
    SavedRouter(TABLE.candidates, Always("large")).save(folder / "always")
    return folder


@pytest.fixture
def run(monkeypatch, made, capsys):
    monkeypatch.chdir(made)
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)


@pytest.mark.parametrize("router", ["route", "cascade"])
def test_evaluate_replays_the_rows_that_had_no_part_in_the_router(run, router):
    code, out, err = run("evaluate", router, "--data", "run.jsonl", "--json")
    assert code == 0, err
    figures = last_json(out)
    assert (figures["n_rows"], figures["n_left_out"]) == (len(TABLE) - TAUGHT, TAUGHT)
    saved = one_shot() if router == "route" else cascade()
    done = Exam.of(saved, TABLE, {"self": SAID}).replay()
    assert figures["quality"][0] == pytest.approx(done.mean_quality)
    assert figures["cost_usd"][0] == pytest.approx(done.mean_cost_usd)
    assert figures["quality"][1] <= figures["quality"][0] <= figures["quality"][2]
    assert "of the cost at equal quality" in out


def test_a_terminal_shows_what_is_being_done_and_how_far_it_has_come(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for arguments, last in (
        (["evaluate", "route"], ("redrawing the rows: NearestNeighbors", "5/6")),
        (["evaluate", "cascade"], ("redrawing the rows: what it saves", "4/5")),
        (["fit", "--out", "fitted"], ("testing", "10/11")),
    ):
        code, _, err = run(*arguments, "--data", "run.jsonl")
        assert code == 0, err
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
        assert all(words in shown for words in last), shown


def test_evaluate_on_rows_that_were_seen_must_be_asked_for(run, made):
    known = TABLE.take(range(TAUGHT))
    known.save(made / "known.jsonl")
    code, _, err = run("evaluate", "route", "--data", "known.jsonl")
    assert code == 1
    assert "All 80 rows were used to fit this router" in err
    code, out, _ = run("evaluate", "route", "--data", "known.jsonl", "--seen", "--json")
    assert code == 0
    assert last_json(out)["n_left_out"] == 0


def test_what_it_cost_is_unknown_where_prices_are(run, made):
    Outcomes(TABLE.queries, TABLE.candidates, TABLE.quality).save(made / "unpriced.jsonl")
    code, out, err = run("evaluate", "route", "--data", "unpriced.jsonl", "--json")
    assert code == 0, err
    assert last_json(out)["cost_saved_at_equal_quality"] is None
    assert "what it saves is unknown" in out


def test_calibrate_turns_the_knob_and_saves_it(run):
    code, out, err = run(
        "calibrate", "route", "--data", "run.jsonl", "--target", "cost_usd <= 0.5 * best",
        "--out", "cheap", "--json",
    )  # fmt: skip
    assert code == 0, err
    figures = last_json(out)
    assert figures["knob_name"] == "lambda"
    assert figures["n_rows"] == [60, 60]
    changed = SavedRouter.load("cheap")
    assert changed.policy == Utility(cost=figures["knob"])
    # What chose the setting cannot judge it any more; what only checked it still can.
    assert len(changed.seen) == TAUGHT + 60
    assert SavedRouter.load("route").policy == Utility(cost=20.0)


def test_a_calibrated_cascade_is_written_in_place_and_promises_use_up_every_row(run, made):
    cascade().save(made / "promised")
    arguments = ("--data", "run.jsonl", "--target", "strong share <= 0.9", "--confidence", "0.9")
    code, out, err = run("calibrate", "promised", *arguments, "--json")
    assert code == 0, err
    assert last_json(out)["confidence"] == 0.9
    changed = SavedRouter.load("promised")
    assert changed.policy.threshold == last_json(out)["knob"]
    assert changed.knows(TABLE.queries).all()


def test_plot_draws_every_figure_that_applies(run):
    pytest.importorskip("matplotlib")
    code, out, err = run("plot", "route", "--data", "run.jsonl", "--out", "a", "--json")
    assert code == 0, err
    assert sorted(last_json(out)["pictures"]) == ["cost_quality", "reliability", "verifiers"]
    code, out, err = run("plot", "cascade", "--data", "run.jsonl", "--out", "b", "--json")
    assert code == 0, err
    pictures = last_json(out)["pictures"]
    assert {"cost_quality", "separability_small", "p_good_curve_small"} <= set(pictures)
    assert all(os.path.getsize(path) > 5000 for path in pictures.values())


def test_explain_tells_why_and_draws_it(run):
    pytest.importorskip("matplotlib")
    arguments = ("--data", "run.jsonl", "--picture", "why.png", "--json")
    code, out, err = run("explain", "route", "prove hard theorem", *arguments)
    assert code == 0, err
    figures = last_json(out)
    assert figures["candidate"] == "large"
    assert "λ per USD, now 20" in out
    assert len(figures["neighbors"]) == 5
    assert os.path.getsize("why.png") > 10_000


def test_explain_follows_a_recorded_question_to_its_end(run):
    row = int(np.flatnonzero(SAID.confidence[:, 0] > 0.8)[0])
    arguments = ("--data", "run.jsonl", "--json")
    code, out, err = run("explain", "cascade", TABLE.queries[row], *arguments)
    assert code == 0, err
    actions = [step["action"] for step in last_json(out)["steps"]]
    assert actions == ["ask", "verify", "accept"]
    code, out, _ = run("explain", "cascade", "a new question", *arguments)
    assert "decisions by the score of the first answer" in out


MISTAKES = [
    (["explain", "route", "q", "--options", "router@z:1"], "Unknown part 'z:1'"),
    (["explain", "route", "q", "--picture", "why.gif"], "got 'why.gif'"),
    (["evaluate", "nowhere", "--data", "run.jsonl"], "'nowhere' is not a saved artifact"),
    (["evaluate", "route"], "`--data` is missing"),
    (["evaluate", "route", "--data", "nothing.jsonl"], "nothing.jsonl"),
    (["evaluate", "cascade", "--data", "table.jsonl"], "router's verifier, 'self'"),
    (
        ["calibrate", "route", "--data", "run.jsonl", "--target", "qualty >= 1"],
        "'strong share = 0.3', got 'qualty >= 1'",
    ),
    (["calibrate", "always", "--data", "run.jsonl", "--target", "quality >= 0.1"], "no knob"),
    (
        [
            "calibrate", "route", "--data", "run.jsonl", "--target", "quality >= 0.99",
            "--confidence", "0.95",
        ],
        "No setting meets",
    ),
    (["plot", "route", "--data", "run.jsonl", "--format", "gif"], "png, svg or pdf, got 'gif'"),
    (["serve", "route"], "--candidate small=provider:model"),
    (["serve", "route", "--cascade"], "`--cascade` must be omitted"),
    (["serve", "--baseline", "nobody"], "`baseline` must be one of"),
    (["serve", "--shadow", "nowhere"], "'nowhere' is not a saved artifact"),
    (["serve", "--log", "route"], "Is a directory: 'route'"),
]  # fmt: skip


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
    "demo", "collect", "fit", "calibrate", "evaluate", "explain", "replay", "feedback", "refit",
    "plot", "serve",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options_and_shows_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: llm-router {command}" in " ".join(out.split())
    # Every option has words behind its type.
    options = [line for line in out.splitlines() if line.strip("│ *").startswith("--")]
    assert all(len(line.strip("│ ").split(">")[-1].strip()) > 3 for line in options), options


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
    assert asked["samples"] == default_of(serve)["samples"] == YesNo().n_samples
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    named = re.findall(r"\w+", "exact, number, choice, judge, pairwise")
    text = get_type_hints(collect, include_extras=True)["grader"].__metadata__[0]
    assert all(name in text and grader_by_name(name, "openai:x") for name in named)
    assert asked["grader"] == signature(acollect).parameters["grader"].default


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


def start(*arguments: str, cwd, **env: str) -> subprocess.Popen:
    # A shell that starts the tests in its background lets them, and their children, ignore Ctrl-C.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return subprocess.Popen(
        [sys.executable, "-c", f"{heeds}; {CODE}", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment(**env),
    )  # fmt: skip


def test_ctrl_c_ends_a_command_with_130_and_one_line(tmp_path):
    rows = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(50)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with LocalServer(delay_s=1.0) as server:
        weak = ["--candidate", f"weak=openai:weak@{server.url}"]
        process = start("collect", "q.jsonl", "--yes", *weak, cwd=tmp_path)
        for _ in range(600):
            if server.n_requests > 0:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "llm-router: interrupted"
    assert "Traceback" not in err


def pool(server) -> list[str]:
    return [
        text
        for name in ("small", "large")
        for text in ("--candidate", f"{name}=openai:{name}@{server.url}", "--price", f"{name}=1,2")
    ]


def url_of(process) -> str:
    return next(line.split()[-5] for line in process.stderr if "Uvicorn running on" in line)


@pytest.mark.slow
def test_a_saved_router_is_served_and_lets_answers_end_when_told_to_stop(made):
    pytest.importorskip("fastapi")
    with LocalServer(delay_s=0.5) as server:
        process = start("serve", "cascade", "--port", "0", "--samples", "2", *pool(server),
                        cwd=made)  # fmt: skip
        url = url_of(process)
        body = {"model": "router", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**body, "stream": True}, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert first.startswith("data: {")
        assert rest[-2:] == ["data: [DONE]", ""]
        process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_served_router_keeps_a_log_and_lets_a_second_one_decide_beside_it(made):
    pytest.importorskip("fastapi")
    question = "What is 2 + 2?"
    with LocalServer() as server:
        process = start("serve", "cascade", "--port", "0", "--samples", "2", *pool(server),
                        "--log", "served.jsonl", "--shadow", "route", cwd=made)  # fmt: skip
        url = url_of(process)
        body = {"model": "router", "messages": [{"role": "user", "content": question}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        # Who asks on the page is on the books too.
        httpx.post(f"{url}/live/ask", json={"question": question}, timeout=60).raise_for_status()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    history = read_log(made / "served.jsonl")
    assert [entry.query for entry in history.entries] == [question] * 2
    assert history.entries[0].shadow == answer["llm_router"]["shadow"]
    assert answer["llm_router"]["shadow"]["name"] == "route"
    replayed = replay_log(history.entries, SavedRouter.load(made / "cascade").policy)
    assert replayed.n_identical == 2


def test_the_rows_that_a_router_was_taught_by_are_known_after_loading(tmp_path):
    router = one_shot()
    assert router.knows(TABLE.queries).sum() == TAUGHT
    router.save(tmp_path / "router")
    loaded = SavedRouter.load(tmp_path / "router")
    assert loaded.seen == router.seen
    np.testing.assert_array_equal(loaded.predict(["add 1"]), router.predict(["add 1"]))
