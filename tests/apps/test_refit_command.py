"""`llm-router feedback` and `refit`: from what people thought of answers to a router that knows."""

import json
from uuid import uuid4

import pytest
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from langsmith.utils import get_env_var

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.estimators import Linear, NearestNeighbors
from langchain_llm_router.history import DecisionLog, read_log, scored_rows
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.router.default_pool import save_pool
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import last_json, run_main
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.fakes import ScriptedModel, make_outcomes

pytest.importorskip("typer")
pytest.importorskip("rich")

NAMES = ("small", "large")
TABLE = make_outcomes(n=80, candidates=NAMES)
TAUGHT = TABLE.take(range(60))
SONNETS = [f"write a sonnet about the sea {i}" for i in range(20)]


def asked(log=None) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel("small says"), Price(1, 2)),
            Candidate("large", ScriptedModel("large says"), Price(10, 20)),
        ],
        policy=Always("small"),
        log=log,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two fitted routers and one without an estimator, and a log of a bad day with feedback."""
    folder = tmp_path_factory.mktemp("made")
    TABLE.save(folder / "table.jsonl")
    for name, estimator in (
        ("router", NearestNeighbors(n_neighbors=5)),
        ("linear", Linear(n_surface=32)),
    ):
        saved = SavedRouter(NAMES, Utility(cost=10.0), estimator.fit(TAUGHT))
        saved.taught_by(TAUGHT.queries).save(folder / name)
    SavedRouter(NAMES, Always("large")).save(folder / "large")
    log = DecisionLog(folder / "log.jsonl")
    router = asked(log)
    for query in [*SONNETS, "nobody scored this"]:
        record = route_of(router.invoke(query))
        if query in SONNETS:
            log.feedback(record["decision_id"], 0.0, key="thumb")
    log.flush()
    return folder


@pytest.fixture
def run(monkeypatch, made, capsys):
    monkeypatch.chdir(made)
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)


@pytest.mark.parametrize("router", ["router", "linear"])
def test_a_refitted_router_knows_what_people_thought(run, router):
    data = [] if router == "router" else ["--data", "table.jsonl"]
    code, out, err = run("refit", router, "--log", "log.jsonl", "--out", "better", *data, "--json")
    assert code == 0, err
    assert "20 of 21 requests have a score: small 20 (mean 0.000)" in out
    figures = last_json(out)
    assert figures["candidates"]["large"] == {"n": 0, "mean_score": None}
    # The rows that judge the router taught nothing, though they are in the same file.
    assert figures["n_training"] == (None if router == "router" else 60)
    before, after = SavedRouter.load(router), SavedRouter.load("better")
    query = "write a sonnet about the sea and the sky"
    assert after.predict([query])[0, 0] < before.predict([query])[0, 0] - 0.1
    assert after.policy == before.policy
    assert not before.knows(SONNETS).any()
    assert after.knows([*SONNETS, *TAUGHT.queries]).all()
    assert not after.knows(TABLE.queries[60:]).all()


def test_how_many_lines_cannot_be_read_is_said(run, made, tmp_path):
    lines = (made / "log.jsonl").read_text(encoding="utf-8").splitlines()
    lines.append(json.dumps(json.loads(lines[0]) | {"query": 5, "decision_id": "damaged"}))
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, "cut off", ""]), encoding="utf-8")
    damaged = str(tmp_path / "log.jsonl")
    code, out, err = run("refit", "router", "--log", damaged, "--out", "b2", "--json")
    assert code == 0, err
    assert "Left out: 2 lines that cannot be read." in out
    figures = last_json(out)
    assert (figures["n_requests"], figures["n_scored"], figures["n_torn"]) == (21, 20, 2)
    code, out, _ = run("refit", "router", "--log", "log.jsonl", "--out", "b3", "--json")
    assert "Left out" not in out
    assert last_json(out)["n_torn"] == 0


def test_a_router_made_of_prices_learns_from_scores(run, tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    prices = {"small": Price(0.1, 0.1), "medium": Price(0.2, 0.2), "large": Price(3, 4)}
    router = ChatLLMRouter(
        candidates=[Candidate(n, ScriptedModel("4"), price) for n, price in prices.items()], log=log
    )
    save_pool(router.parts.candidates, tmp_path / "router")
    records = [route_of(router.invoke(f"question {i}")) for i in range(20)]
    log.flush()
    paths = "refit", str(tmp_path / "router"), "--log", str(log.path), "--out", str(tmp_path / "b")
    code, _, err = run(*paths)
    assert code == 1
    assert "None of the 20 requests" in err
    for record in records:
        log.feedback(record["decision_id"], 0.0)
    log.flush()
    code, out, err = run(*paths, "--json")
    assert code == 0, err
    figures = last_json(out)
    assert (figures["n_scored"], figures["n_torn"]) == (20, 0)
    before, after = (SavedRouter.load(tmp_path / name).policy for name in ("router", "b"))
    rates = [policy.model_.classes.rates[1, :, 0] for policy in (before, after)]
    assert (rates[1] < rates[0])[:2].all()
    assert before.is_assumed
    assert not after.is_assumed


@pytest.mark.parametrize("candidate", [None, "large"])
def test_scores_of_the_dearest_answer_teach_a_router_made_of_prices(run, tmp_path, candidate):
    prices = {"small": Price(0.1, 0.1), "medium": Price(0.2, 0.2), "large": Price(3, 4)}
    log = DecisionLog(tmp_path / "log.jsonl")
    pool = [Candidate(n, ScriptedModel(str(i)), p) for i, (n, p) in enumerate(prices.items())]
    router = ChatLLMRouter(candidates=pool, log=log)
    save_pool(router.parts.candidates, tmp_path / "router")
    records = [route_of(router.invoke(f"question {i}")) for i in range(20)]
    assert {record["candidate"] for record in records} == {"large"}
    able = {}
    for score in (0.0, 1.0):
        for record in records:
            log.feedback(record["decision_id"], score, candidate=candidate)
        log.flush()
        folder = tmp_path / f"taught {score}"
        arguments = [
            "refit",
            str(tmp_path / "router"),
            "--log",
            str(log.path),
            "--out",
            str(folder),
        ]
        code, out, err = run(*arguments)
        assert code == 0, err
        assert "20 of 20 requests with compared or scored answers have a score." in out
        classes = SavedRouter.load(folder).policy.model_.classes
        able[score] = classes.prior @ classes.rates[:, 2, 0]
    assert able[0.0] < able[1.0]


def test_an_estimator_learns_the_scores_of_named_candidates_too(made):
    log = DecisionLog(made / "named.jsonl")
    record = route_of(asked(log).invoke("q"))
    log.feedback(record["decision_id"], 0.0)
    log.feedback(record["decision_id"], 1.0, candidate="large")
    log.flush()
    assert scored_rows(read_log(log.path), NAMES).quality.tolist() == [[0.0, 1.0]]


MISTAKES = [
    (["refit", "large", "--log", "log.jsonl", "--out", "x"], "has no estimator to refit"),
    (["refit", "router", "--log", "nothing.jsonl", "--out", "x"], "nothing.jsonl"),
    (
        ["refit", "router", "--log", "log.jsonl", "--key", "stars", "--out", "x"],
        "feedback with the key 'stars'",
    ),
    (["refit", "linear", "--log", "log.jsonl", "--out", "x"], "pass them as `training`"),
    (["feedback", "log.jsonl", "--worst", "5", "--best", "1"], "above `--worst` = 5.0, got 1.0"),
    (["feedback", "table.jsonl"], "must be a decision log"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda it: " ".join(it)[:40])
def test_a_mistake_ends_in_one_line(run, made, arguments, words):
    code, _, err = run(*arguments)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1
    assert not (made / "x").exists()


@pytest.fixture
def smith(monkeypatch):
    with FakeLangSmith() as fake:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", fake.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2_x")
        get_env_var.cache_clear()
        yield fake
    get_env_var.cache_clear()


def traced(path, client) -> DecisionLog:
    """The log of one request that LangSmith knows of."""
    log = DecisionLog(path)
    asked(log).invoke("q", {"callbacks": [LangChainTracer(client=client)]})
    client.flush()
    log.flush()
    return log


def test_langsmiths_stars_come_into_the_log_once(run, smith, made):
    client = Client()
    log = traced(made / "traced.jsonl", client)
    (entry,) = read_log(log.path).entries
    for key, score in (("stars", 4), ("note", None)):
        client.create_feedback(entry.run_id, key, score=score, session_id=uuid4())
    client.flush()
    client.cleanup()
    for _ in range(2):
        code, out, err = run("feedback", "traced.jsonl", "--worst", "1", "--best", "5", "--json")
        assert code == 0, err
        assert "1 scores for 1 requests, 1 of them traced." in out
        counts = {"n_imported": 1, "n_without_score": 1, "n_ambiguous": 0}
        assert last_json(out).items() >= counts.items()
    history = read_log(log.path)
    assert history.score(entry.decision_id) == 0.75
    code, _, err = run("feedback", "traced.jsonl", "--key", "stars")
    assert code == 1
    assert "must be on the scale" in err


def test_a_langsmith_that_refuses_is_told_in_one_line(run, smith, made):
    client = Client()
    traced(made / "untold.jsonl", client)
    client.cleanup()
    smith.refuses = True
    code, _, err = run("feedback", "untold.jsonl")
    assert code == 1
    assert "LangSmith did not return" in err
    assert err.count("\n") == 1
