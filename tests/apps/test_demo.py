"""The demo: what is evaluated is what runs."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from langchain_llm_router.apps.demo.demo import DRAFTER, POOL, STRONG, Demo
from langchain_llm_router.evaluation import replay
from tests.support.commands import last_json
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def demo() -> Demo:
    demo = Demo(seed=1)
    demo.validation, demo.test = demo.validation[:250], demo.test[:80]
    return demo


def test_the_parts_are_disjoint_and_no_question_is_seen_twice(demo):
    whole = Demo(seed=1)
    rows = np.concatenate([whole.train, whole.validation, whole.test])
    assert len(np.unique(rows)) == len(rows) == len(whole.outcomes) == 2840
    assert len(set(whole.outcomes.queries)) == 2840


def test_replaying_the_route_equals_row_by_row_what_the_live_router_did(demo):
    fitted = demo.fit_route()
    live = demo.live("route", demo.answer_with_route(fitted))
    unseen = demo.outcomes.take(demo.test)
    replayed = replay(
        fitted.policy,
        fitted.estimator.predict(unseen.queries),
        unseen,
        expected_cost_usd=fitted.expected_cost_usd,
    )
    np.testing.assert_array_equal(live.quality, replayed.quality)
    np.testing.assert_allclose(live.cost_usd, replayed.cost_usd, rtol=1e-12)


def test_replaying_the_pool_equals_row_by_row_what_the_live_router_did(demo):
    fitted = demo.fit_pool()
    readable = (fitted.evaluations.answer_groups[demo.test] >= 0).all(axis=1)
    records = demo.answer_with_pool(fitted)
    live = demo.live("pool", records)
    replayed = replay(
        fitted.policy,
        None,
        demo.unseen,
        evaluations=fitted.evaluations.take(demo.test),
        expected_cost_usd=demo.outcomes.take(demo.train).mean_cost_usd,
    )
    # A live router asks another candidate in place of one whose answer is empty.
    np.testing.assert_array_equal(live.quality[readable], replayed.quality[readable])
    np.testing.assert_allclose(live.cost_usd[readable], replayed.cost_usd[readable], rtol=1e-12)


def test_replaying_the_cascade_equals_row_by_row_what_the_graph_did(demo):
    fitted = demo.fit_cascade()
    records = demo.answer_with_cascade(fitted)
    live = demo.live("cascade", records, fitted.peers)
    replayed = replay(
        fitted.policy,
        None,
        demo.outcomes.take(demo.test).select((DRAFTER, STRONG)),
        evaluations=fitted.evaluations.take(demo.test),
    )
    np.testing.assert_array_equal(live.quality, replayed.quality)
    np.testing.assert_allclose(live.cost_usd, replayed.cost_usd, rtol=1e-12)
    assert [record["candidate"] for record in records] == [
        (DRAFTER, STRONG)[column] for column in replayed.accepted
    ]


def test_the_oracle_is_never_beaten_and_never_dearer_than_the_best_single_model(demo):
    *alone, perfect = demo.baselines()
    assert perfect.quality.mean() >= max(strategy.quality.mean() for strategy in alone)
    assert perfect.cost_usd.mean() <= demo.best().cost_usd.mean()


def test_the_command_draws_the_picture_and_prints_what_the_readme_says(tmp_path):
    from langchain_llm_router.apps.cli import build_app

    done = CliRunner().invoke(build_app(), ["demo", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    figures = last_json(done.stdout)
    assert figures["n_test"] == 1420
    assert set(POOL) <= set(figures["strategies"])
    assert (tmp_path / "cost_quality.png").stat().st_size > 20_000
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = (ROOT / "tests/benchmarks/README.md").read_text(encoding="utf-8")
    for name, verdict in figures["verdicts"].items():
        saved, low, high = (round(100 * share) for share in verdict["saved"])
        gain = f"{100 * verdict['quality_above_best_single'][0]:+.1f} points".replace("-", "−")
        usd = figures["strategies"][name]["usd_per_1k"]
        row = next(line for line in table.splitlines() if f"{saved} % cheaper ({low} to" in line)
        assert f"{saved} % cheaper ({low} to {high}), {gain}" in row, (name, row)
        assert f"{usd:.2f}" in row, (name, row)
    said = figures["verdicts"]["pooled answers"]["sentence"]
    saving, gain = re.match(r"(\d+ % cheaper).*quality (\S+ points \(.*?\))", said).groups()
    assert readme.count(saving) == 3, saving
    assert readme.count(gain) == 2, gain
    kind, alone = "chosen by the question alone", figures["verdicts"]["one-shot route"]["saved"][0]
    assert f"| all three, {kind} | {alone:.0%}".replace("%", " % cheaper") in readme


@pytest.mark.local_llm
def test_the_local_demo_answers_and_judges_live():
    from rich.console import Console

    from langchain_llm_router.apps.demo import local
    from langchain_llm_router.types.errors import MissingExtraError

    console = Console(record=True, width=100)
    try:
        local.show_local(console)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert "cascade (live)" in console.export_text()
