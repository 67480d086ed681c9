"""Pools of models that cost nothing, or of which one does, work from fitting to every figure."""

from dataclasses import replace

import numpy as np
import pytest

from langchain_llm_router import plots
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import (
    cost_saved,
    cost_saved_interval,
    quality_above_mix_interval,
    replay,
    utility_sweep,
)
from langchain_llm_router.policies import (
    Always,
    BudgetedRouting,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Pomdp,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import fit_router
from tests.support.commands import run_main
from tests.support.fakes import make_evaluations, make_outcomes
from tests.support.journals import write_journal

KINDS = ["all free", "the weak one free", "the strong one free"]


def table(kind: str, n: int = 120) -> Outcomes:
    known = make_outcomes(n, candidates=("small", "large"))
    cost = np.array(known.cost_usd)
    free = {"all free": [0, 1], "the weak one free": [0], "the strong one free": [1]}[kind]
    cost[:, free] = 0.0
    return replace(known, cost_usd=cost)


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_every_policy_can_be_fitted(kind):
    outcomes = table(kind)
    scores = make_evaluations(outcomes)
    fitted = [
        BudgetedRouting(0.02).fit(outcomes.quality, outcomes.mean_cost_usd),
        CascadeRouting(lambda_=5.0).fit(outcomes, scores),
        CascadeRouting().fit(outcomes, scores, max_cost_usd=0.004),
        FrugalCascade(n_grid=10).fit(outcomes, scores, max_cost_usd=0.005),
        Pomdp(lambda_=20.0).fit(outcomes, scores),
    ]
    for policy in fitted:
        done = replay(policy, outcomes.quality, outcomes, evaluations=scores)
        assert np.isfinite(done.cost_usd).all()


@kinds
@pytest.mark.parametrize("target", [None, "quality >= 0.9 * best"])
def test_a_router_is_fitted(kind, target):
    outcomes = table(kind)
    fitted = fit_router(outcomes, {"self": make_evaluations(outcomes)}, target=target)
    assert fitted.standings


@kinds
def test_what_is_saved_is_a_number(kind):
    outcomes = table(kind)
    done = replay(Always("large"), None, outcomes)
    free = kind != "the weak one free"
    assert cost_saved(done, outcomes) == (0.0 if free else pytest.approx(0.0))
    assert cost_saved_interval(done, outcomes).value == pytest.approx(0.0)
    assert quality_above_mix_interval(done, outcomes).value == pytest.approx(0.0)


@kinds
def test_the_figures_can_be_drawn(kind):
    outcomes = table(kind)
    curve = plots.sweep_points("route", utility_sweep(outcomes.quality, outcomes))
    singles = plots.single_points(outcomes)
    for chosen in (None, *singles):
        oracle = plots.oracle_point(outcomes)
        assert plots.cost_quality_curve(curve, singles=singles, oracle=oracle, chosen=chosen)


@kinds
def test_every_command_works(kind, tmp_path, monkeypatch, capsys):
    outcomes = table(kind, 200)
    scores = make_evaluations(outcomes)
    known = outcomes.take(range(80))
    model = KernelDensity().fit(scores.confidence[:80, 0], known.quality[:, 0] >= 0.5)
    costs = dict(zip(outcomes.candidates, outcomes.mean_cost_usd.tolist(), strict=True))
    routers = {
        "route": SavedRouter(
            outcomes.candidates,
            Utility(cost=20.0),
            NearestNeighbors(n_neighbors=10).fit(known),
            expected_cost_usd=costs,
        ),
        "cascade": SavedRouter(
            outcomes.candidates,
            ConfidenceThreshold({"small": model}, threshold=0.6),
            verifier="self",
            expected_cost_usd=costs,
        ),
    }
    write_journal(tmp_path / "run.jsonl", outcomes, scores)
    monkeypatch.chdir(tmp_path)
    for name, router in routers.items():
        router.taught_by(known.queries).save(tmp_path / name)
        for command in (
            ["evaluate", name, "--data", "run.jsonl"],
            ["calibrate", name, "--data", "run.jsonl", "--target", "quality >= 0.8 * best",
             "--out", f"{name}_set"],
            ["plot", name, "--data", "run.jsonl", "--out", f"{name}_figures"],
            ["explain", name, "prove hard theorem 5"],
        ):  # fmt: skip
            code, _, err = run_main(command, monkeypatch, capsys)
            assert "Traceback" not in err
            assert code == 0 or len(err.strip().splitlines()) <= 2, (command, err)
    code, _, err = run_main(["fit", "--data", "run.jsonl", "--out", "new"], monkeypatch, capsys)
    assert code in (0, 3, 4), err
