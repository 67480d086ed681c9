"""Pacing: a budget that lasts for its period."""

import numpy as np
import pytest

from langchain_llm_router.budgets import (
    Budget,
    Budgets,
)
from langchain_llm_router.budgets.pacer import Pacer
from langchain_llm_router.policies import Utility
from tests.support.fakes import ScriptedModel
from tests.support.spending_pools import answer, router


def drive_pacer(start: float, seed: int = 0, surge: bool = False):
    """A day of traffic: quality gain and extra cost per query; λ decides who gets the large one."""
    rng = np.random.default_rng(seed)
    period, n = 1000.0, 20_000
    pacer = Pacer(10.0, period, start)
    at = np.sort(rng.random(n) * period if not surge else rng.beta(2, 5, n) * period)
    gain, price = rng.random(n), rng.lognormal(-5.5, 0.7, n)
    used, quality, last = 0.0, 0.0, 0.0
    for t, g, p in zip(at, gain, price, strict=True):
        if g > pacer.observe(used, t) * p and used + p <= 10.0:
            used, quality, last = used + p, quality + g, t
    # the best fixed λ in hindsight
    order = np.argsort(-gain / price)
    best = gain[order][np.cumsum(price[order]) <= 10.0].sum()
    return used, quality / best, last / period


@pytest.mark.parametrize("start", [0.1, 100.0, 1e5])
@pytest.mark.parametrize("surge", [False, True])
def test_a_paced_budget_lasts_for_the_period_and_is_used(start, surge):
    used, share, last = drive_pacer(start, surge=surge)
    assert used <= 10.0
    # pacing by time leaves money where the traffic comes early, and never runs dry
    assert used > (7.5 if surge else 9.9)
    assert last > (0.85 if surge else 0.99)
    assert share > (0.7 if surge else 0.9)


def test_pacing_sets_the_policys_lambda():
    now = [0.0]
    budgets = Budgets([Budget(0.01, period_s=1000.0, pace=50.0)], clock=lambda: now[0])
    seen = []

    class Watching(Utility):
        def choose(self, situation):
            seen.append(situation.options.lambda_)
            return super().choose(situation)

    from langchain_llm_router.estimators import Constant
    from tests.support.fakes import make_outcomes

    estimator = Constant().fit(make_outcomes(candidates=("first",)))
    model = router(
        ScriptedModel(answer(100)), budgets=budgets, policy=Watching(), estimator=estimator
    )
    for _ in range(5):
        model.invoke("hi")
        now[0] += 10
    assert seen[0] == pytest.approx(50.0)
    assert seen[-1] > 100
    config = {"configurable": {"llm_router": {"lambda": 1e6}}}
    model.invoke("hi", config)
    assert seen[-1] == 1e6
