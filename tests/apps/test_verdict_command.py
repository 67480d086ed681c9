"""`llm-router verdict`: what the scores in a decision log prove."""

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.evaluation import Goal, logged_scores
from langchain_llm_router.history import DecisionLog, read_log, stream_log
from langchain_llm_router.policies import Always
from tests.support.commands import last_json, run_main
from tests.support.fakes import ScriptedModel

pytest.importorskip("typer")
pytest.importorskip("rich")


def ask(log, name, n) -> list[str]:
    """Log requests that a candidate answers, and return their ids."""
    candidates = [
        Candidate("small", ScriptedModel("4"), Price(1, 2)),
        Candidate("large", ScriptedModel("4"), Price(10, 20)),
    ]
    router = ChatLLMRouter(candidates=candidates, policy=Always(name), log=log)
    return [route_of(router.invoke(f"question {i}"))["decision_id"] for i in range(n)]


@pytest.fixture
def log(tmp_path):
    return DecisionLog(tmp_path / "decisions.jsonl")


@pytest.fixture
def logged(log):
    """A log of 150 answers of the cheap candidate and three of the other; the ids of the 150."""
    ids = ask(log, "small", 150)
    ask(log, "large", 3)
    log.flush()
    return log, ids


def judge(log, ids, own, other) -> None:
    for i, decision_id in enumerate(ids):
        log.feedback(decision_id, own(i))
        log.feedback(decision_id, other(i), candidate="large")
    log.flush()


@pytest.mark.parametrize(
    ("n", "own", "other", "code", "words"),
    [
        (0, None, None, 4, "about 100 judged questions to begin with"),
        (20, lambda i: i % 2, lambda i: i % 2, 4, "more"),
        (150, lambda i: 1, lambda i: 1, 0, "is kept with 95 % confidence"),
        (150, lambda i: i % 2, lambda i: 1, 3, "is not kept"),
    ],
)
def test_the_verdict_is_given_as_soon_as_the_scores_suffice(
    logged, monkeypatch, capsys, n, own, other, code, words
):
    log, ids = logged
    judge(log, ids[:n], own, other)
    arguments = ["verdict", str(log.path), "--target", "quality >= best - 5 points", "--json"]
    found, out, err = run_main(arguments, monkeypatch, capsys)
    assert found == code, out + err
    assert words in out
    assert last_json(out)["n_rows"] == n


def test_a_log_that_is_streamed_has_the_same_scores(logged):
    log, ids = logged
    judge(log, ids[:20], lambda i: i % 2, lambda i: i % 3 / 2)
    whole = logged_scores(read_log(log.path), baseline="large")
    streamed = logged_scores(stream_log(log.path), baseline="large")
    for name in ("quality", "cost_usd", "baseline_quality", "baseline_cost_usd"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(whole, name))
    assert len(streamed) == 20


def test_lines_that_cannot_be_read_are_counted(logged, monkeypatch, capsys):
    log, ids = logged
    judge(log, ids[:20], lambda i: i % 2, lambda i: i % 2)
    with log.path.open("ab") as file:
        file.write(b"{broken\n{}\n")
    _, out, _ = run_main(["verdict", str(log.path), "--json"], monkeypatch, capsys)
    assert "Left out: 2 lines that cannot be read." in out
    assert last_json(out)["n_torn"] == 2


def test_a_baseline_must_be_a_candidate(logged, monkeypatch, capsys):
    log, _ = logged
    arguments = ["verdict", str(log.path), "--baseline", "huge"]
    code, _, err = run_main(arguments, monkeypatch, capsys)
    assert code == 1
    assert "must be one of ['large', 'small'], got 'huge'" in err


def test_a_score_of_another_candidate_is_not_that_of_the_answer(logged):
    log, ids = logged
    log.feedback(ids[0], 1.0, candidate="large")
    log.flush()
    history = read_log(log.path)
    assert history.score(ids[0]) is None
    assert history.score(ids[0], candidate="large") == 1.0


def test_the_saving_is_counted_from_recorded_costs_not_from_default_lengths(logged):
    log, ids = logged
    judge(log, ids, lambda i: 1, lambda i: 1)
    scores = logged_scores(read_log(log.path))
    recorded = [e.cost_usd for e in read_log(log.path).entries if e.candidate == "large"]
    assert scores.baseline_cost_usd == pytest.approx(sum(recorded) / 3, rel=0.01)
    # The prices of `large` are ten times those of `small`, and the answers are equally long.
    assert scores.verdict(Goal.of(None, None, 0.95)).saved.value == pytest.approx(0.9, rel=0.01)


def test_the_saving_against_a_model_that_was_never_asked_is_unknown(log, monkeypatch, capsys):
    judge(log, ask(log, "small", 150), lambda i: 1, lambda i: 1)
    code, out, err = run_main(["verdict", str(log.path), "--json"], monkeypatch, capsys)
    assert code == 4, out + err
    assert "The saving against `large` is unknown" in out
    assert "record some answers of the single model" in out
    assert last_json(out)["saved"] is None
