"""The choice among many settings, and what it flatters."""

import numpy as np
import pytest

from langchain_llm_router.evaluation import Goal, decide_verdict
from langchain_llm_router.evaluation.trials import Trials
from langchain_llm_router.training.selection import Selection


def settings(n, rng, *, n_noise=40, good=None):
    """Routers that send 35 % of the rows to the small model at random, and perhaps one that knows.

    Args:
        good: Share of rows on which the router that knows is wrong; None without such a router.
    """
    easy = rng.random(n) < 0.4
    large = (rng.random(n) < 0.85).astype(float)
    small = np.where(easy, large, np.where(rng.random(n) < 0.4, 0.0, large))
    single = np.stack([small, large], axis=1)
    costs = np.tile([0.001, 0.01], (n, 1)) * rng.lognormal(0, 0.3, (n, 2))
    chosen = [np.where(rng.random(n) < 0.35, 0, 1) for _ in range(n_noise)]
    if good is not None:
        chosen.append(np.where(easy ^ (rng.random(n) < good), 0, 1))
    columns = np.array(chosen)
    rows = np.arange(n)
    return Trials(
        knob=np.arange(len(columns), dtype=float),
        quality=single[rows, columns],
        cost_usd=costs[rows, columns],
        strong=columns == 1,
        single_quality=single,
        single_cost_usd=costs,
        cost_ceiling_usd=1.0,
        candidates=("small", "large"),
    )


def test_the_router_that_knows_is_chosen():
    trials = settings(400, np.random.default_rng(0), good=0.0)
    choice = Selection(trials, Goal.of("quality >= best - 3 points")).choose()
    assert choice.setting == len(trials.knob) - 1
    assert choice.scores.argmax() == choice.setting
    assert choice.optimism.quality < 0.01


def test_the_luck_of_the_best_of_many_is_taken_off():
    goal = Goal.of("quality >= best - 5 points")
    raw, corrected = [], []
    for seed in range(60):
        trials = settings(300, np.random.default_rng(seed))
        choice = Selection(trials, goal, seed=seed).choose()
        k = choice.setting
        # Every setting loses 35 % of the gap between the models, in truth.
        truth = 0.35 * (0.6 * 0.4 * 0.85)
        gap = float((trials.quality[k] - trials.single_quality[:, 1]).mean())
        raw.append(gap + truth)
        corrected.append(gap - choice.optimism.quality + truth)
    assert np.mean(raw) > 0.012
    assert abs(np.mean(corrected)) < 0.006


@pytest.mark.parametrize("n", [10, 50, 400])
def test_of_many_random_routers_hardly_one_is_kept(n):
    goal, kept = Goal.of("quality >= best - 5 points"), 0
    for seed in range(60):
        trials = settings(n, np.random.default_rng(seed))
        choice = Selection(trials, goal, seed=seed).choose()
        verdict = decide_verdict(trials.pick(choice.setting), goal, optimism=choice.optimism)
        kept += verdict.outcome == "kept"
    # 5 % and three Monte Carlo errors.
    assert kept <= 60 * (0.05 + 3 * np.sqrt(0.05 * 0.95 / 60))


def test_a_target_of_cost_chooses_the_best_quality_within_it():
    rng = np.random.default_rng(1)
    trials = settings(1000, rng, good=0.02)
    goal = Goal.of("cost <= 90 % of large")
    choice = Selection(trials, goal).choose()
    assert choice.setting == len(trials.knob) - 1


def test_the_same_seed_chooses_the_same():
    trials = settings(100, np.random.default_rng(0), good=0.1)
    goal = Goal.of(None)
    first, again = (Selection(trials, goal, seed=3).choose() for _ in range(2))
    assert first.optimism == again.optimism
    assert first.setting == again.setting
