"""`llm-router calibrate`."""

import json

import pytest

from langchain_llm_router.apps.cli.calibrate_command import calibrate
from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.evaluation.targets import ALLOWED
from langchain_llm_router.policies import Utility
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import last_json
from tests.support.saved_routers import TABLE, TAUGHT, cascade, one_shot

pytest.importorskip("typer")

pytest.importorskip("rich")

DATA = ("--data", "run.jsonl")


def test_without_a_promise_calibrate_turns_the_knob_and_what_only_checked_it_stays_unseen(run):
    code, out, err = run(
        "calibrate", "route", *DATA, "--target", "cost_usd <= 0.5 * best", "--no-promise",
        "--out", "cheap", "--even-if-worse", "--json",
    )  # fmt: skip
    figures = last_json(out)
    assert code == EXIT_CODES[figures["verdict"]], err
    assert out.startswith(figures["sentence"])
    assert figures["knob_name"] == "lambda"
    assert figures["n_rows"] == [60, 60]
    assert figures["confidence"] is None
    changed = SavedRouter.load("cheap")
    assert changed.policy == Utility(cost=figures["knob"])
    assert changed.goal == {
        "target": "cost_usd <= 0.5 * best", "lambda_": None, "confidence": 0.95
    }  # fmt: skip
    assert len(changed.seen) == TAUGHT + 60
    assert SavedRouter.load("route").policy == Utility(cost=20.0)


def test_a_calibrated_cascade_is_written_in_place_and_promises_use_up_every_row(run, made):
    cascade().save(made / "promised")
    arguments = (*DATA, "--target", "strong share <= 0.9", "--confidence", "0.9")
    code, out, err = run("calibrate", "promised", *arguments, "--json")
    figures = last_json(out)
    assert code == EXIT_CODES[figures["verdict"]], err
    assert figures["confidence"] == 0.9
    changed = SavedRouter.load("promised")
    assert changed.policy.threshold == figures["knob"]
    assert changed.knows(TABLE.queries).all()
    assert changed.goal["target"] == "strong share <= 0.9"
    # The live page reads this.
    written = json.loads((made / "promised" / "verdict.json").read_text())
    assert written["sentence"] == figures["sentence"]


def test_too_few_labels_for_a_promise_are_unknown_and_say_how_many_would_do(run, made):
    before = (made / "cascade" / "manifest.json").read_bytes()
    target = "quality >= best - 1 point"
    code, out, _ = run("calibrate", "cascade", *DATA, "--target", target, "--json")
    figures = last_json(out)
    assert (code, figures["verdict"]) == (EXIT_CODES["unknown"], "unknown")
    assert figures["more_labels"] > 0
    assert out.startswith(
        f"120 labeled rows cannot guarantee {target!r} with confidence 0.95: label about "
        f"{figures['more_labels']:,} more."
    )
    assert (made / "cascade" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("promise", [(), ("--no-promise",)])
def test_a_target_that_no_setting_meets_is_not_kept(run, promise):
    arguments = ("cascade", *DATA, "--target", "quality >= 0.999", *promise)
    code, out, _ = run("calibrate", *arguments, "--json")
    assert code == EXIT_CODES["not_kept"]
    assert out.startswith("No setting meets 'quality >= 0.999': the closest, knob ")
    figures = last_json(out)
    assert (figures["verdict"], figures["more_labels"]) == ("not_kept", None)
    assert figures["router"] is None


def test_a_setting_whose_target_is_neither_promised_nor_kept_is_saved_on_demand_only(run, made):
    cascade().save(made / "doubtful")
    arguments = ("doubtful", *DATA, "--target", "quality >= best - 1 point", "--no-promise")
    code, out, _ = run("calibrate", *arguments, "--json")
    assert code == EXIT_CODES[last_json(out)["verdict"]] != 0
    assert "Nothing was saved. `--even-if-worse` saves this setting." in out
    assert last_json(out)["router"] is None
    assert SavedRouter.load("doubtful").goal is None
    run("calibrate", *arguments, "--even-if-worse")
    assert SavedRouter.load("doubtful").goal["target"] == "quality >= best - 1 point"


def test_the_help_lists_every_form_of_a_target():
    text = " ".join(calibrate.__doc__.split())
    assert [form for form in ALLOWED if form not in text] == []


def test_an_equation_is_met_or_not_and_has_no_verdict(run, made):
    one_shot().save(made / "shared")
    (made / "shared" / "verdict.json").write_text('{"sentence": "of another setting"}')
    arguments = ("shared", *DATA, "--target", "strong share = 0.5", "--no-promise", "--json")
    code, out, err = run("calibrate", *arguments)
    assert code == 0, err
    assert last_json(out)["verdict"] is None
    assert last_json(out)["strong_share"][0] == pytest.approx(0.5, abs=0.15)
    assert not (made / "shared" / "verdict.json").exists()
    assert SavedRouter.load("shared").goal is None
