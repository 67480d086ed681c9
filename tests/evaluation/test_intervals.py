"""Intervals by drawing rows again."""

import numpy as np
import pytest

from langchain_llm_router.evaluation import (
    Interval,
    Resampling,
    apgr_interval,
    bootstrap,
    mean_interval,
    weighted_bootstrap,
)
from tests.support.brute_force import RATE, STRONG, WEAK, brute_apgr
from tests.support.fakes import make_outcomes


def test_an_interval_shrinks_with_the_rows_and_covers_the_truth():
    rng = np.random.default_rng(0)
    covered, widths = 0, {100: [], 400: []}
    for trial in range(60):
        for n, seen in widths.items():
            values = rng.normal(0.3, 1.0, n)
            found = mean_interval(values, Resampling(300, seed=trial))
            seen.append(found.high - found.low)
            covered += (found.low <= 0.3 <= found.high) and n == 400
    assert 0.86 * 60 <= covered <= 60
    assert np.mean(widths[100]) == pytest.approx(2 * np.mean(widths[400]), rel=0.1)


def test_both_bootstraps_agree():
    outcomes = make_outcomes(200)
    values = outcomes.quality[:, 0]
    slow = bootstrap(lambda rows: float(values[rows].mean()), 200, seed=3)
    fast = mean_interval(values, Resampling(seed=4))
    assert slow.value == pytest.approx(fast.value)
    assert slow.low == pytest.approx(fast.low, abs=0.02)
    assert f"{fast:.1f}".startswith(f"{fast.value:.1f} [")


def test_apgr_interval_equals_resampling_rows_one_by_one():
    rng = np.random.default_rng(1)
    rate, weak = rng.random(60).round(1), (rng.random(60) < 0.4).astype(float)
    strong = (rng.random(60) < 0.6 + 0.4 * rate).astype(float)
    how = Resampling(40, seed=5)
    draws = []
    for block in how.weights(60):
        for weights in block.astype(int):
            rows = np.repeat(np.arange(60), weights)
            draws.append(brute_apgr(rate[rows], weak[rows], strong[rows]))
    found = apgr_interval(rate, weak, strong, resampling=how)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_the_difference_of_a_router_to_itself_is_exactly_zero():
    found = apgr_interval(RATE, WEAK, STRONG, baseline=RATE)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_rows_of_a_cluster_are_drawn_together():
    clusters = ["a", "a", "b", "c"]
    for weights in Resampling(30, clusters=clusters).weights(4):
        np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    with pytest.raises(ValueError, match="9 rows, got 4"):
        next(Resampling(clusters=clusters).weights(9))


def test_a_resampling_checks_its_arguments():
    with pytest.raises(ValueError, match="n_resamples"):
        Resampling(0)


def test_resamples_without_a_figure_are_left_out():
    found = Interval.of_draws(1.0, [np.nan, 1.0, 2.0], 0.5)
    assert 1.0 < found.low < found.high < 2.0
    nothing = weighted_bootstrap(lambda w: np.full(len(w), np.nan), 3, Resampling(2))
    assert (nothing.low, nothing.high) == (-np.inf, np.inf)
