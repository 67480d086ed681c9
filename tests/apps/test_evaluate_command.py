"""`llm-router evaluate`."""

import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Exam
from tests.support.commands import last_json
from tests.support.saved_routers import SAID, TABLE, TAUGHT, cascade, one_shot

pytest.importorskip("typer")

pytest.importorskip("rich")


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
    assert "the savings are unknown" in out
