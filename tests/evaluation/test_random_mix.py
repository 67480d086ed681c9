"""What routing saves and gains against the random mix."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import (
    Resampling,
    apgr_interval,
    best_single,
    bootstrap,
    cost_saved,
    cost_saved_interval,
    hull_quality,
    oracle,
    quality_above_mix_interval,
    random_mix_hull,
    replay,
)
from langchain_llm_router.policies import Always, RandomMix, Threshold
from tests.support.fakes import make_outcomes


def test_a_random_mix_recovers_half_within_its_interval():
    outcomes = make_outcomes(1000, ("weak", "strong"))
    covered = 0
    for seed in range(1, 41):
        rate = np.random.default_rng(seed).random(1000)
        found = apgr_interval(rate, *outcomes.quality.T, resampling=Resampling(200))
        covered += found.low < 0.5 < found.high
    assert covered >= 34


def test_savings_are_counted_against_the_mix_of_equal_quality():
    """The oracle scores 1 for (1 + 4)/2; the best mix of that quality is strong alone at 4."""
    outcomes = Outcomes(["x", "y"], ("weak", "strong"), [[1, 1], [0, 1]], [[1, 4], [1, 4]])
    assert list(oracle(outcomes)) == [0, 1]
    assert best_single(outcomes) == 1
    done = replay(Threshold(0.6), [[1, 1], [0, 1]], outcomes)
    assert cost_saved(done, outcomes) == pytest.approx(1 - 2.5 / 4)
    mixed = replay(Always("weak"), None, outcomes)
    assert cost_saved(mixed, outcomes) == pytest.approx(0)
    with pytest.raises(ValueError, match="every cost"):
        cost_saved(done, Outcomes(["x", "y"], ("weak", "strong"), [[1, 1], [0, 1]]))


def test_random_mix_replays_close_to_the_hull():
    outcomes = make_outcomes(3000, ("weak", "strong"))
    done = replay(RandomMix({"weak": 0.5, "strong": 0.5}), None, outcomes)
    hull = random_mix_hull(outcomes.mean_cost_usd, outcomes.quality.mean(axis=0))
    assert done.mean_quality == pytest.approx(hull_quality(done.mean_cost_usd, hull), abs=0.02)


def test_the_saving_s_interval_holds_the_saving_and_0_for_a_single_model():
    rng = np.random.default_rng(0)
    quality = (rng.random((200, 2)) < [0.5, 0.9]).astype(float)
    outcomes = Outcomes([str(i) for i in range(200)], ("a", "b"), quality, [[1.0, 10.0]] * 200)
    found = cost_saved_interval(replay(Always("b"), None, outcomes), outcomes, Resampling(200))
    assert found.value == pytest.approx(0)
    assert found.low == pytest.approx(0)
    assert found.high == pytest.approx(0)


def test_quality_is_counted_above_the_mix_of_equal_cost():
    """At 2.5 half weak (0.5), half strong (1) is the mix: 0.75."""
    outcomes = Outcomes(["x", "y"], ("weak", "strong"), [[1, 1], [0, 1]], [[1, 4], [1, 4]])
    done = replay(Threshold(0.6), [[1, 1], [0, 1]], outcomes)
    assert quality_above_mix_interval(done, outcomes).value == pytest.approx(0.25)
    with pytest.raises(ValueError, match="every cost"):
        quality_above_mix_interval(done, Outcomes(["x", "y"], ("weak", "strong"), np.ones((2, 2))))


def test_savings_intervals_are_those_of_redrawing_row_by_row():
    outcomes = make_outcomes(400, ("weak", "strong"))
    done = replay(RandomMix({"weak": 0.5, "strong": 0.5}), None, outcomes)

    def slow(rows) -> float:
        drawn, quality, cost = outcomes.take(rows), done.quality[rows], done.cost_usd[rows]
        hull = random_mix_hull(drawn.mean_cost_usd, drawn.quality.mean(axis=0))
        return 1 - cost.mean() / np.interp(quality.mean(), *hull[::-1])

    fast, oracles = cost_saved_interval(done, outcomes), bootstrap(slow, 400, seed=1)
    assert fast.value == pytest.approx(oracles.value)
    assert (fast.low, fast.high) == pytest.approx((oracles.low, oracles.high), abs=0.04)
