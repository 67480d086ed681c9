"""Means, rates and quantiles that forget."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.live.decayed_statistics import (
    DecayedHistogram,
    DecayedLogMean,
    DecayedRate,
)


def test_a_mean_halves_old_samples_after_its_half_life():
    mean = DecayedLogMean(half_life_s=10, idle_s=100)
    mean.add(1.0, 0.0)
    mean.add(4.0, 10.0)
    # weights ½ and 1: exp((½·ln 1 + ln 4) / 1.5) = 4^(2/3)
    assert mean.value(10.0) == pytest.approx(4 ** (2 / 3))


def test_a_mean_returns_to_its_prior_as_samples_age():
    mean = DecayedLogMean(half_life_s=10)
    for i in range(16):
        mean.add(10.0, i / 100)
    assert mean.value(0.16, prior=1.0) > 8
    assert mean.value(1000.0, prior=1.0) == pytest.approx(1.0, rel=0.01)
    assert mean.value(1000.0) == pytest.approx(10.0)
    assert DecayedLogMean().value(0.0) is None


def test_a_tenfold_slowdown_shows_after_a_few_samples_and_so_does_the_recovery():
    mean = DecayedLogMean()
    for i in range(1000):
        mean.add(0.1, i * 0.01)
    for i in range(5):
        mean.add(1.0, 10 + i)
    assert mean.value(15.0) > 0.18
    for i in range(60):
        mean.add(0.1, 15 + i * 0.01)
    assert mean.value(16.0) < 0.11


def test_rates_never_reach_zero_or_one():
    rate = DecayedRate(prior=0.01, strength=2)
    assert rate.value(0.0) == pytest.approx(0.01)
    for _ in range(1000):
        rate.add(0.0, hit=False)
    assert 0 < rate.value(0.0) < 0.001
    for _ in range(1000):
        rate.add(0.0, hit=True)
    assert 0.95 < rate.value(0.0) < 1


def test_rates_forget():
    rate = DecayedRate(half_life_s=10, prior=0.01, strength=2)
    for _ in range(8):
        rate.add(0.0, hit=True)
    # eight failures, three half-lives later: one failure on the prior's two calls
    assert rate.value(30.0) == pytest.approx((1 + 0.02) / 3)


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_right_to_one_bin(values, q):
    histogram = DecayedHistogram()
    for value in values:
        histogram.add(value, 0.0)
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.1)


def test_quantiles_forget_and_survive_rescaling():
    histogram = DecayedHistogram(half_life_s=10)
    for i in range(1000):
        histogram.add(1.0, i * 1.0)
    for i in range(10):
        histogram.add(0.01, 1100 + i / 10)
    assert histogram.quantile(0.5) == pytest.approx(0.01, rel=0.1)
    assert histogram.weight_at(1101.0) == pytest.approx(10, rel=0.1)


def test_merged_histograms_are_as_if_one_had_seen_everything():
    one, other, both = DecayedHistogram(10), DecayedHistogram(10), DecayedHistogram(10)
    rng = random.Random(1)
    for i in range(300):
        value, now = rng.lognormvariate(-2, 1), i / 10
        (one if i % 2 else other).add(value, now)
        both.add(value, now)
    one.merge(other, 30.0)
    assert one.quantile(0.9) == both.quantile(0.9)
    assert one.weight_at(30.0) == pytest.approx(both.weight_at(30.0))
