"""`llm-router replay`: the decisions of a log, made again"""

import os
import re

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.apps.cli import replay_command
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import last_json, run_main
from tests.support.fakes import ScriptedModel, make_outcomes

pytest.importorskip("typer")
pytest.importorskip("rich")

NAMES = ("small", "large")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A saved router, and the log of a week of it with feedback."""
    folder = tmp_path_factory.mktemp("made")
    table = make_outcomes(n=60, candidates=NAMES)
    estimator = NearestNeighbors(n_neighbors=10).fit(table)
    policy = Utility(cost=40.0)
    SavedRouter(NAMES, policy, estimator).save(folder / "router")
    SavedRouter(NAMES, Always("large")).save(folder / "large")
    fewer = NearestNeighbors(n_neighbors=10).fit(table.select(["small"]))
    SavedRouter(("small",), Always("small"), fewer).save(folder / "fewer")
    log = DecisionLog(folder / "log.jsonl")
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel("small says"), Price(1, 2)),
            Candidate("large", ScriptedModel("large says"), Price(10, 20)),
        ],
        policy=policy,
        estimator=estimator,
        log=log,
    )
    for i, query in enumerate(table.queries):
        record = route_of(router.invoke(query))
        good = table.quality[i, NAMES.index(record["candidate"])]
        log.feedback(record["decision_id"], float(good))
    log.flush()
    (folder / "other").write_text("hello\n")
    return folder


@pytest.fixture
def run(monkeypatch, made, capsys):
    monkeypatch.chdir(made)
    return lambda *arguments: run_main(["replay", *arguments], monkeypatch, capsys)


def test_the_router_that_wrote_the_log_decides_it_the_same_again(run):
    for more in ([], ["--predict"]):
        code, out, err = run("log.jsonl", "--router", "router", "--json", *more)
        assert code == 0, err
        assert "60 requests, of which 60 were decided identically" in out
        figures = last_json(out)
        assert figures["n_identical"] == figures["n_requests"] == figures["n_scored"] == 60
        assert figures["cost_usd"] == figures["recorded_cost_usd"]
        assert figures["overlap_enough"]
        assert figures["quality"]["ips"] == figures["quality"]["logged"]


def test_costs_are_of_the_answered_and_the_others_are_counted(run, made):
    log = DecisionLog(made / "streams.jsonl")
    small = Candidate("small", ScriptedModel("small says"), Price(1, 2))
    down = Candidate("large", ScriptedModel(RuntimeError("it is down")), Price(10, 20))
    for _ in range(2):
        ChatLLMRouter(candidates=[small, down], policy=Always("small"), log=log).invoke("q")
    stream = ChatLLMRouter(candidates=[small, down], policy=Always("small"), log=log).stream("q")
    next(stream)
    stream.close()
    with pytest.raises(RuntimeError):
        ChatLLMRouter(candidates=[small, down], policy=Always("large"), log=log).invoke("q")
    log.flush()
    code, out, err = run("streams.jsonl", "--router", "large", "--json")
    assert code == 0, err
    said = " ".join(out.split())
    assert "2 were answered, 1 failed, 1 were abandoned by their callers" in said
    figures = last_json(out)
    counts = [figures[name] for name in ("n_requests", "n_answered", "n_failed", "n_abandoned")]
    assert counts == [4, 2, 1, 1]


@pytest.mark.slow
def test_two_workers_say_what_one_says(run):
    alone = run("log.jsonl", "--router", "router", "--predict", "--json", "--workers", "1")
    assert run("log.jsonl", "--router", "router", "--predict", "--json", "--workers", "2") == alone


@pytest.mark.parametrize(("n_bytes", "most"), [(1000, 1), (40 << 20, 1000)])
def test_a_large_log_has_a_worker_for_each_processor(tmp_path, n_bytes, most):
    path = tmp_path / "log.jsonl"
    with path.open("wb") as file:
        file.truncate(n_bytes)
    n = replay_command._n_workers([path])
    assert 1 <= n <= most
    assert n == (1 if most == 1 else len(os.sched_getaffinity(0)))


def test_another_lambda_says_what_it_would_have_cost_and_what_cannot_be_known(run):
    code, out, _ = run("log.jsonl", "--router", "router", "--quality-per-usd", "1e5", "--json")
    assert code == 0
    figures = last_json(out)
    assert figures["shares"]["small"][1] == 1.0
    assert figures["cost_usd"] < figures["recorded_cost_usd"]
    assert figures["n_unsupported"] > 0
    assert not figures["overlap_enough"]
    assert re.search(r"On \d+ of 60 requests", out)
    assert "replayed, bounds" in out
    low, high = figures["quality_bounds"]
    assert low < figures["quality"]["dr"][0] < high


def test_another_router_is_replayed(run):
    code, out, _ = run("log.jsonl", "--router", "large", "--json")
    assert code == 0
    assert last_json(out)["shares"]["large"][1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.jsonl", "--router", "router"], "nothing.jsonl"),
        (["other", "--router", "router"], "must be a decision log"),
        (["log.jsonl", "--router", "nowhere"], "nowhere"),
        (["log.jsonl", "--router", "large", "--predict"], "has no estimator"),
        (["log.jsonl", "--router", "fewer", "--predict"], "the candidate 'large', which the Nea"),
        (
            ["log.jsonl", "--router", "router", "--threshold", "0.5"],
            "Utility decides by λ: omit it",
        ),
        (["log.jsonl", "--router", "large", "--threshold", "0.5"], "by neither λ nor a threshold"),
        (
            ["log.jsonl", "--router", "large", "--quality-per-usd", "9"],
            "λ = 9.0 would change nothing",
        ),
        (["log.jsonl", "--router", "router", "--workers", "0"], "`--workers` must be in [1, 1000]"),
        (["log.jsonl", "--router", "router", "--ray", "--workers", "2"], "of this machine alone"),
    ],
)
def test_a_mistake_ends_in_one_line(run, arguments, said):
    code, _, err = run(*arguments)
    assert code == 1
    assert said in err
    assert err.count("\n") == 1
