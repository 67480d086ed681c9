"""The demo on agents: what each signal is worth, on issues that the policies were not fitted on."""

import numpy as np
import pytest
from typer.testing import CliRunner

from langchain_llm_router.apps.demo import agents_demo
from langchain_llm_router.apps.demo.agents_demo import CHEAP, SIGNALS, STRONG, AgentsDemo
from langchain_llm_router.data import OpenHandsIndex
from langchain_llm_router.evaluation import quality_above_mix_interval
from tests.support.commands import last_json


@pytest.fixture(autouse=True)
def two_splits(monkeypatch):
    monkeypatch.setattr(agents_demo, "_N_SPLITS", 2)


@pytest.fixture(scope="module")
def demo():
    return AgentsDemo(seed=1)


def above_mix(demo, tried):
    return quality_above_mix_interval(tried, demo.runs)


def test_a_perfect_check_keeps_every_good_run_of_the_cheap_agent_and_both_runs_are_paid(demo):
    tried = demo.try_signal("perfect check")
    cheap, strong = demo.runs.quality.T
    np.testing.assert_array_equal(tried.quality, np.where(cheap == 1, cheap, strong))
    spent = demo.runs.cost_usd[:, 0] + (1 - cheap) * demo.runs.cost_usd[:, 1]
    np.testing.assert_allclose(tried.cost_usd, spent)


def test_a_check_that_is_right_nine_times_in_ten_gains_and_halves_the_cost(demo):
    tried = demo.try_signal("check, 90 % right")
    assert tried.quality.mean() > demo.runs.quality[:, 1].mean()
    assert tried.cost_usd.mean() < 0.55 * demo.runs.cost_usd[:, 1].mean()


@pytest.mark.parametrize("name", ["check, 50 % right", "run cost alone"])
def test_a_worthless_signal_does_no_harm_and_is_worth_no_more_than_a_random_mix(demo, name):
    above = above_mix(demo, demo.try_signal(name))
    assert -0.02 < above.value < 0.02
    assert above.low < 0 < above.high


def test_an_unknown_signal_is_named_with_those_that_there_are(demo):
    with pytest.raises(ValueError, match=r"'perfect check'.*got 'tea leaves'"):
        demo.try_signal("tea leaves")


def test_the_command_prints_the_table_and_draws_the_picture(tmp_path):
    from langchain_llm_router.apps.cli import build_app

    arguments = ["demo", "--agents", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 0, done.output
    figures = last_json(done.stdout)
    assert figures["n_tasks"] == len(OpenHandsIndex.load().outcomes["swe-bench"])
    assert set(figures["alone"]) == {CHEAP, STRONG}
    assert set(figures["strategies"]) == set(SIGNALS)
    assert "does as well" in " ".join(done.stderr.split())
    assert (tmp_path / "agents.png").stat().st_size > 20_000


def test_agents_and_the_local_model_exclude_each_other(run):
    code, _, err = run("demo", "--agents", "--local")
    assert code == 1
    assert "exclude each other" in err
