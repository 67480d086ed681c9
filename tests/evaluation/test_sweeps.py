"""Sweeps of a setting over a table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import (
    Resampling,
    aiq,
    aiq_interval,
    cheapest_good_enough,
    replay,
    single_sweep,
    utility_sweep,
)
from langchain_llm_router.policies import Always, Utility
from tests.support.fakes import make_outcomes


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_sweep_is_the_replay_of_utility_policies(seed):
    rng = np.random.default_rng(seed)
    outcomes = make_outcomes(12, seed=seed)
    predicted = rng.random((12, 3)).round(1)
    swept = utility_sweep(predicted, outcomes, n_points=5)
    cost, quality = swept.points
    for i, knob in enumerate(swept.knob[1:], start=1):
        done = replay(Utility(cost=float(knob)), predicted, outcomes)
        np.testing.assert_allclose(swept.quality[i], done.quality)
        assert cost[i] == pytest.approx(done.mean_cost_usd)
        assert quality[i] == pytest.approx(done.mean_quality)
    cheapest = replay(Always("small"), None, outcomes)
    assert (cost[0], quality[0]) == pytest.approx((cheapest.mean_cost_usd, cheapest.mean_quality))


def test_predicting_the_truth_beats_the_hull_and_predicting_nothing_does_not():
    outcomes = make_outcomes(300)
    singles, how = single_sweep(outcomes), Resampling(100)
    perfect = utility_sweep(outcomes.quality, outcomes)
    assert aiq_interval(perfect, outcomes, baseline=singles, resampling=how).low > 0
    blind = utility_sweep(np.tile(outcomes.quality.mean(axis=0), (300, 1)), outcomes)
    found = aiq_interval(blind, outcomes, baseline=singles, resampling=how)
    assert found.value == pytest.approx(0, abs=1e-9)
    alone = aiq_interval(singles, outcomes, resampling=how)
    span = (outcomes.mean_cost_usd.min(), outcomes.mean_cost_usd.max())
    assert alone.value == pytest.approx(aiq(*singles.points, span))
    assert alone.low < alone.value < alone.high


def test_sweeps_check_shapes_and_costs():
    outcomes = make_outcomes(5)
    with pytest.raises(ValueError, match="shape"):
        utility_sweep(np.zeros((5, 2)), outcomes)
    unpriced = Outcomes(outcomes.queries, outcomes.candidates, outcomes.quality)
    with pytest.raises(ValueError, match="every cost"):
        utility_sweep(unpriced.quality, unpriced)
    with pytest.raises(ValueError, match="every cost"):
        aiq_interval(single_sweep(outcomes), unpriced)


def test_the_cheapest_setting_is_chosen_that_is_not_measurably_worse():
    rng = np.random.default_rng(0)
    single = (rng.random(400) < 0.8).astype(float)
    worse, hardly, same = single.copy(), single.copy(), single.copy()
    worse[np.flatnonzero(single)[:40]] = 0
    # Ten rows lost and nine won: well within half of the difference's standard error.
    hardly[np.flatnonzero(single)[:10]] = 0
    hardly[np.flatnonzero(single == 0)[:9]] = 1
    cost = np.repeat([[1.0], [2.0], [3.0]], 400, axis=1)
    assert cheapest_good_enough([worse, hardly, same], cost, single) == 1
    assert cheapest_good_enough([worse, hardly, same], cost, single, tolerance=0.0) == 2
    assert cheapest_good_enough([worse], cost[:1], single) == 0
    # Where none is good enough, the best counts and not the cheapest.
    both = [np.zeros(400), worse]
    assert cheapest_good_enough(both, cost[:2], single) == 1
