"""`llm-router calibrate`."""

import pytest

from langchain_llm_router.policies import Utility
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import last_json
from tests.support.saved_routers import TABLE, TAUGHT, cascade

pytest.importorskip("typer")

pytest.importorskip("rich")


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
