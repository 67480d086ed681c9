"""`llm-router evaluate`."""

from dataclasses import replace

import pytest

from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Exam, Goal
from langchain_llm_router.evaluation.saved_goals import with_goal
from tests.support.commands import last_json
from tests.support.journals import timed, write_journal
from tests.support.saved_routers import SAID, TABLE, TAUGHT, cascade, one_shot

pytest.importorskip("typer")

pytest.importorskip("rich")


@pytest.mark.parametrize("router", ["route", "cascade"])
def test_evaluate_replays_the_rows_that_had_no_part_in_the_router(run, router):
    code, out, err = run("evaluate", router, "--data", "run.jsonl", "--json")
    figures = last_json(out)
    assert code == EXIT_CODES[figures["verdict"]], err
    assert (figures["n_rows"], figures["n_left_out"]) == (len(TABLE) - TAUGHT, TAUGHT)
    saved = one_shot() if router == "route" else cascade()
    done = Exam.of(saved, TABLE, {"self": SAID}).replay()
    assert figures["quality"][0] == pytest.approx(done.mean_quality)
    assert figures["cost_usd"][0] == pytest.approx(done.mean_cost_usd)
    assert figures["quality"][1] <= figures["quality"][0] <= figures["quality"][2]
    assert out.startswith(figures["sentence"])
    assert "at equal quality" not in out
    assert "sending as many questions to each model at random, for the same money" in out


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("quality >= best - 5 points", "kept"),
        ("quality >= 0.99", "not_kept"),
        ("quality >= best - 1 point", "unknown"),
    ],
)
def test_the_verdict_is_on_the_targets_that_are_named_and_tells_by_the_exit_code(
    run, target, outcome
):
    arguments = ("cascade", "--data", "run.jsonl", "--target", target, "--confidence", "0.9")
    code, out, _ = run("evaluate", *arguments, "--json")
    figures = last_json(out)
    assert (code, figures["verdict"]) == (EXIT_CODES[outcome], outcome)
    assert (figures["target"], figures["confidence"]) == (target, 0.9)
    if outcome == "unknown":
        assert figures["more_rows"] > 0


def test_a_router_is_held_to_the_goal_that_it_was_fitted_for(run, made):
    with_goal(cascade(), Goal.of("quality >= 0.98", confidence=0.9)).save(made / "promised")
    code, out, _ = run("evaluate", "promised", "--data", "run.jsonl", "--json")
    assert code == EXIT_CODES["not_kept"]
    assert "the target `quality >= 0.98` is not kept" in out
    assert last_json(out)["confidence"] == 0.9
    with_goal(cascade(), Goal.of(None, lambda_=20.0)).save(made / "weighed")
    _, out, _ = run("evaluate", "weighed", "--data", "run.jsonl", "--json")
    assert last_json(out)["target"] == "quality - 20 * cost_usd > that of every single model"
    _, out, _ = run("evaluate", "cascade", "--data", "run.jsonl", "--json")
    assert last_json(out)["target"] == "quality >= best - 2 points"


def test_evaluate_on_rows_that_were_seen_must_be_asked_for(run, made):
    known = TABLE.take(range(TAUGHT))
    known.save(made / "known.jsonl")
    code, _, err = run("evaluate", "route", "--data", "known.jsonl")
    assert code == 1
    assert "All 80 rows were used to fit this router" in err
    code, out, _ = run("evaluate", "route", "--data", "known.jsonl", "--seen", "--json")
    assert code in EXIT_CODES.values()
    assert last_json(out)["n_left_out"] == 0


def test_what_it_cost_is_unknown_where_prices_are(run, made):
    Outcomes(TABLE.queries, TABLE.candidates, TABLE.quality).save(made / "unpriced.jsonl")
    data = ("--data", "unpriced.jsonl")
    code, out, _ = run("evaluate", "route", *data, "--target", "quality >= 0.3", "--json")
    figures = last_json(out)
    assert (code, figures["verdict"]) == (EXIT_CODES["unknown"], "unknown")
    assert figures["cost_saved_at_equal_quality"] is None
    assert figures["saved"] is None
    assert "the cost of some answers is unknown: give every model a price" in out
    assert "give every model a price" in out
    code, _, err = run("evaluate", "route", *data, "--target", "cost <= half of large")
    assert code == 1
    assert "needs every cost, but some are unknown" in err


@pytest.mark.parametrize(("most", "outcome"), [(4, "kept"), (2.5, "not_kept")])
def test_a_target_for_the_latency_counts_every_answer_and_verification(run, made, most, outcome):
    # An answer takes 1 s and a verification 1 s: a draft 2 s, an escalation 3 s.
    write_journal(made / "timed.jsonl", *timed(TABLE, SAID))
    target = f"p75 latency <= {most} s"
    code, out, err = run(
        "evaluate", "cascade", "--data", "timed.jsonl", "--target", target, "--json"
    )
    assert code == EXIT_CODES[outcome], out + err
    assert last_json(out)["target"] == target


def test_where_questions_were_answered_several_times_the_oracle_is_tested_on_other_runs(run, made):
    flipped = replace(TABLE, quality=1 - TABLE.quality)
    write_journal(made / "again.jsonl", flipped, SAID)
    _, out, err = run(
        "evaluate", "always", "--data", "run.jsonl", "--data", "again.jsonl", "--json"
    )
    assert err == ""
    figures = last_json(out)["repeated_runs"]
    assert figures["n_rows"] == 2 * figures["n_queries"]
    assert figures["naive"]["quality"] == 0.5
    assert figures["honest"]["quality"] < figures["naive"]["quality"]
    assert "oracle, tested on other runs" in out
    assert "oracle (perfect routing)" not in out
    assert "which is partly luck" in " ".join(out.split())
