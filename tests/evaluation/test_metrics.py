"""Metrics against counting by hand and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_llm_router.evaluation import (
    Curve,
    Resampling,
    aiq,
    apgr,
    apgr_interval,
    auc,
    brier,
    cost_at_quality,
    cpt,
    cpt_interval,
    ece,
    hull_quality,
    ibc_lift,
    pgr,
    quality_at_cost,
    random_mix_hull,
    reliability,
    win_rate_curve,
    within_group_apgr,
)
from tests.support.brute_force import RATE, STRONG, WEAK, brute_apgr


def pairs(n: int = 40):
    """Random predictions (with ties) and graded qualities of two candidates."""
    grades = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    row = st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), grades, grades)
    return st.lists(row, min_size=2, max_size=n)


def test_apgr_of_four_rows_by_hand():
    """RouteLLM, equation 4: gains 1, 1, 2, 1 of a gap of 1 over shares 1/4, 1/2, 3/4, 1."""
    points = win_rate_curve(RATE, WEAK, STRONG)
    np.testing.assert_allclose(points.quality, [0.5, 0.75, 0.75, 1.0, 0.75])
    assert apgr(points) == pytest.approx((0.5 + 1 + 1.5 + 1.5) / 4)


@given(pairs())
def test_apgr_equals_brute_force_over_every_threshold(rows):
    rate, weak, strong = np.array(rows).T
    if strong.mean() == weak.mean():
        with pytest.raises(ValueError, match="must differ in mean quality"):
            apgr(win_rate_curve(rate, weak, strong))
    else:
        expected = brute_apgr(rate, weak, strong)
        assert apgr(win_rate_curve(rate, weak, strong)) == pytest.approx(expected)
        interval = apgr_interval(rate, weak, strong, resampling=Resampling(n_resamples=2))
        assert interval.value == pytest.approx(expected)


def test_a_constant_win_rate_recovers_half():
    assert apgr(win_rate_curve(np.full(4, 0.3), WEAK, STRONG)) == pytest.approx(0.5)


def test_pgr_is_zero_and_one_at_the_ends_and_refuses_a_missing_gap():
    assert pgr(0.4, 0.4, 0.8) == 0
    assert pgr(0.8, 0.4, 0.8) == 1
    with pytest.raises(ValueError, match="must differ in mean quality"):
        pgr(0.5, 0.5, 0.5)


def test_a_curve_must_reach_both_ends():
    half = Curve(np.zeros(2), np.array([0.1, 0.2]), np.full(2, np.nan), np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="from 0"):
        apgr(half)


def test_cpt_takes_the_first_crossing_of_a_curve_that_falls_again():
    points = win_rate_curve(RATE, WEAK, STRONG)
    assert cpt(points, 0.5) == pytest.approx(0.125)
    assert cpt(points, 1.0) == pytest.approx(0.25)
    assert cpt(points, 2.0) == pytest.approx(0.75)
    assert cpt(points, 0.0) == 0.0
    with pytest.raises(ValueError, match=r"at most 2\.000"):
        cpt(points, 2.1)


@given(pairs(), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
# The first two rows recover exactly a fifth; divided by the gap, a little less than 0.2.
@example(
    [(0.1, 0.0, 0.5), (0.1, 0.0, 0.5), (0.3, 0.0, 0.0), (0.5, 0.5, 0.25), (0.5, 0.5, 1.0)], 0.2
)
def test_cpt_interval_is_about_the_same_figure(rows, recovered):
    rate, weak, strong = np.array(rows).T
    if strong.mean() > weak.mean():
        found = cpt_interval(rate, weak, strong, recovered, resampling=Resampling(2)).value
        assert found == pytest.approx(cpt(win_rate_curve(rate, weak, strong), recovered))


def test_cpt_interval_refuses_more_than_the_gap():
    with pytest.raises(ValueError, match="recovered"):
        cpt_interval(RATE, WEAK, STRONG, 1.5)


def test_knowing_only_the_group_recovers_half_within_groups():
    groups = ["a"] * 50 + ["b"] * 50
    rng = np.random.default_rng(0)
    weak = np.zeros(100)
    strong = (rng.random(100) < np.repeat([0.2, 0.9], 50)).astype(float)
    rate = np.repeat([0.1, 0.8], 50)
    assert apgr(win_rate_curve(rate, weak, strong)) > 0.6
    assert within_group_apgr(rate, weak, strong, groups) == pytest.approx(0.5)


@given(pairs())
def test_within_group_apgr_is_the_gap_weighted_mean_of_the_groups(rows):
    rate, weak, strong = np.array(rows).T
    groups = [f"g{i % 3}" for i in range(len(rate))]
    gaps, areas = [], []
    for name in sorted(set(groups)):
        mine = np.array([group == name for group in groups])
        gap = (strong - weak)[mine].sum()
        gaps.append(gap)
        if gap != 0:
            areas.append(gap * brute_apgr(rate[mine], weak[mine], strong[mine]))
        else:
            points = win_rate_curve(rate[mine], weak[mine], strong[mine])
            over = points.quality - points.quality[0]
            areas.append(mine.sum() * np.trapezoid(over, points.strong_share))
    if abs(sum(gaps)) > 1e-9:
        expected = sum(areas) / sum(gaps)
        assert within_group_apgr(rate, weak, strong, groups) == pytest.approx(expected)
        found = apgr_interval(rate, weak, strong, groups=groups, resampling=Resampling(2))
        assert found.value == pytest.approx(expected)


def test_within_group_apgr_checks_its_groups():
    with pytest.raises(ValueError, match="2 entries for 4"):
        within_group_apgr(RATE, WEAK, STRONG, ["a", "b"])


def test_vectors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="vectors of the same length"):
        win_rate_curve(RATE, WEAK[:2], STRONG)


COST = np.array([1.0, 2.0, 3.0, 4.0])


QUALITY = np.array([0.2, 0.6, 0.5, 0.8])


def test_the_hull_of_four_models_by_hand():
    np.testing.assert_allclose(random_mix_hull(COST, QUALITY), ([1, 2, 4], [0.2, 0.6, 0.8]))
    assert hull_quality(3.0, random_mix_hull(COST, QUALITY)) == pytest.approx(0.7)


def test_a_dearer_and_worse_model_is_not_on_the_hull():
    np.testing.assert_allclose(random_mix_hull([1, 2], [0.7, 0.6]), ([1], [0.7]))


def test_aiq_is_the_mean_height_of_the_hull():
    """Trapezoids 0.4 over [1, 2] and 0.7 over [2, 4], flat 0.8 beyond."""
    assert aiq(COST, QUALITY, (1.0, 4.0)) == pytest.approx((0.4 + 1.4) / 3)
    assert aiq(COST, QUALITY, (1.0, 5.0)) == pytest.approx((0.4 + 1.4 + 0.8) / 4)
    with pytest.raises(ValueError, match="cheapest"):
        aiq(COST, QUALITY, (0.5, 4.0))
    with pytest.raises(ValueError, match="must be above the first"):
        aiq(COST, QUALITY, (4.0, 4.0))


@given(
    st.lists(st.tuples(st.floats(0.1, 9), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(0.01, 1),
)
def test_aiq_equals_the_mean_of_the_best_two_point_mixes(points, part):
    cost, quality = np.array(points).T
    low, high = cost.min(), cost.min() + part * 10
    grid = low + (np.arange(400) + 0.5) / 400 * (high - low)
    best = np.array([quality[cost <= budget].max() for budget in grid])
    for i, j in itertools.permutations(range(len(cost)), 2):
        if cost[j] > cost[i]:
            mix = (grid - cost[i]) / (cost[j] - cost[i])
            mixed = quality[i] + mix * (quality[j] - quality[i])
            best = np.maximum(best, np.where((mix >= 0) & (mix <= 1), mixed, 0))
    assert aiq(cost, quality, (low, high)) == pytest.approx(best.mean(), abs=0.01)


def test_quality_at_cost_and_cost_at_quality_read_the_same_hull():
    assert quality_at_cost(COST, QUALITY, 3.0) == pytest.approx(0.7)
    assert quality_at_cost(COST, QUALITY, 99.0) == pytest.approx(0.8)
    assert quality_at_cost(COST, QUALITY, 0.5) is None
    assert cost_at_quality(COST, QUALITY, 0.7) == pytest.approx(3.0)
    assert cost_at_quality(COST, QUALITY, 0.1) == pytest.approx(1.0)
    assert cost_at_quality(COST, QUALITY, 0.9) is None
    with pytest.raises(ValueError, match="every cost"):
        quality_at_cost([1.0, np.nan], [0.1, 0.2], 1.0)


def test_ibc_lift_by_hand():
    """AutoMix, equations 1 and 2: slope 0.3/10 against 0.5/50 is a lift of 2."""
    assert ibc_lift((11, 0.5), (1, 0.2), (51, 0.7)) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="must be better"):
        ibc_lift((1, 0.5), (1, 0.2), (51, 0.7))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.7]), st.booleans()), min_size=2))
def test_auc_equals_counting_every_pair(rows):
    score, label = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    if label.all() or not label.any():
        with pytest.raises(ValueError, match="must have positive and negative rows"):
            auc(score, label)
        return
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in score[label] for b in score[~label]]
    assert auc(score, label) == pytest.approx(np.mean(wins))


def test_reliability_ece_and_brier_of_five_rows_by_hand():
    """Bins [0, .5) and [.5, 1]: 0.2 against 1/2 (two rows), 0.8 against 2/3 (three rows)."""
    predicted, measured = [0.1, 0.3, 0.7, 0.7, 1.0], [0, 1, 1, 0, 1]
    found = reliability(predicted, measured, n_bins=2)
    np.testing.assert_allclose(found.predicted, [0.2, 0.8])
    np.testing.assert_allclose(found.measured, [0.5, 2 / 3])
    np.testing.assert_array_equal(found.count, [2, 3])
    assert ece(predicted, measured, n_bins=2) == pytest.approx(0.4 * 0.3 + 0.6 * (0.8 - 2 / 3))
    expected = (0.01 + 0.49 + 0.09 + 0.49 + 0) / 5
    assert brier(predicted, measured) == pytest.approx(expected)


def test_reliability_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        reliability([1.2], [1.0])
    with pytest.raises(ValueError, match="the same number of values"):
        reliability([0.2, 0.3], [1.0])
