"""Replay, curves and figures: against numbers worked out by hand and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import (
    Curve,
    Interval,
    Resampling,
    aiq,
    aiq_interval,
    apgr,
    apgr_interval,
    auc,
    best_single,
    bootstrap,
    brier,
    cost_at_quality,
    cost_saved,
    cost_saved_interval,
    cpt,
    cpt_interval,
    curve,
    ece,
    hull_quality,
    ibc_lift,
    mean_interval,
    oracle,
    pgr,
    quality_above_mix_interval,
    quality_at_cost,
    random_mix_hull,
    reliability,
    replay,
    single_sweep,
    utility_sweep,
    weighted_bootstrap,
    win_rate_curve,
    within_group_apgr,
)
from langchain_llm_router.policies import Always, RandomMix, Threshold, Utility
from tests.support.fakes import make_outcomes

RATE = np.array([0.9, 0.8, 0.4, 0.1])
WEAK = np.array([0.0, 1.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])


def pairs(n: int = 40):
    """Random predictions (with ties) and graded qualities of two candidates."""
    grades = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    row = st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), grades, grades)
    return st.lists(row, min_size=2, max_size=n)


def brute_apgr(rate, weak, strong):
    """Every threshold tried in turn, the trapezoid rule by hand."""
    points = []
    for threshold in [np.inf, *sorted(set(rate), reverse=True)]:
        sent = rate >= threshold
        points.append((sent.mean(), np.where(sent, strong, weak).mean()))
    gap = strong.mean() - weak.mean()
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        total += (x1 - x0) * ((y0 - weak.mean()) + (y1 - weak.mean())) / 2 / gap
    return total


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


def test_threshold_curve_by_replay_equals_the_win_rate_curve():
    outcomes = make_outcomes(40, ("weak", "strong"))
    predicted = np.random.default_rng(0).random((40, 2))
    rate = (1 + predicted[:, 1] - predicted[:, 0]) / 2
    full = win_rate_curve(rate, *outcomes.quality.T)
    knobs = [1.0, *full.knob[1:-1], 0.0]
    by_replay = curve(Threshold, knobs, predicted, outcomes)
    np.testing.assert_allclose(by_replay.strong_share, full.strong_share)
    np.testing.assert_allclose(by_replay.quality, full.quality)
    assert apgr(by_replay) == pytest.approx(apgr(full))


def test_a_random_mix_recovers_half_within_its_interval():
    outcomes = make_outcomes(1000, ("weak", "strong"))
    covered = 0
    for seed in range(1, 41):
        rate = np.random.default_rng(seed).random(1000)
        found = apgr_interval(rate, *outcomes.quality.T, resampling=Resampling(200))
        covered += found.low < 0.5 < found.high
    assert covered >= 34


def test_replay_counts_quality_cost_and_shares():
    outcomes = Outcomes(["x", "y"], ("weak", "strong"), [[0, 1], [1, 1]], [[1, 4], [1, 6]])
    done = replay(Always("strong"), None, outcomes)
    assert done.mean_quality == 1
    assert done.mean_cost_usd == 5
    assert done.shares == {"weak": 0, "strong": 1}
    assert done.asked_shares == {"weak": 0, "strong": 1}
    unpriced = Outcomes(["x"], ("weak", "strong"), [[0, 1]])
    assert replay(Always("weak"), None, unpriced).mean_cost_usd is None


def test_replay_refuses_tables_that_do_not_fit():
    outcomes = make_outcomes(5)
    with pytest.raises(ValueError, match="shape"):
        replay(Always("small"), np.zeros((5, 2)), outcomes)
    with pytest.raises(ValueError, match="giant"):
        replay(Always("giant"), None, outcomes)


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


def test_the_oracle_without_prices_takes_the_first_of_the_best():
    assert list(oracle(Outcomes(["x"], ("a", "b", "c"), [[0, 1, 1]]))) == [1]


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
