"""Intervals by drawing rows again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp

from langchain_llm_router.evaluation import (
    Interval,
    Resampling,
    Sweep,
    aiq_interval,
    apgr_interval,
    bootstrap,
    difference_interval,
    mean_interval,
    ratio_interval,
    tiny_gap_warning,
    weighted_bootstrap,
)
from langchain_llm_router.evaluation import intervals as room
from langchain_llm_router.evaluation.intervals import smooth_interval, sums_bootstrap
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
    fast = weighted_bootstrap(lambda w: w @ values / w.sum(axis=1), 200, Resampling(seed=4))
    assert slow.value == pytest.approx(fast.value)
    assert slow.low == pytest.approx(fast.low, abs=0.02)
    assert f"{fast:.1f}".startswith(f"{fast.value:.1f} [")


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(3, 40), st.sampled_from([0.8, 0.95]))
def test_a_ratio_has_the_values_that_a_t_test_does_not_refute(seed, n, confidence):
    rng = np.random.default_rng(seed)
    below = rng.normal(1.0, rng.choice([0.5, 3.0]), n)
    above = 0.5 * below + rng.normal(0.3, 1.0, n)
    found = ratio_interval(above, below, Resampling(confidence=confidence))
    assert found.value == pytest.approx(above.mean() / below.mean())
    is_bounded = ttest_1samp(below, 0.0).pvalue < 1 - confidence
    assert np.isfinite([found.low, found.high]).tolist() == [is_bounded] * 2
    if is_bounded:
        for end in (found.low, found.high):
            assert ttest_1samp(above - end * below, 0.0).pvalue == pytest.approx(1 - confidence)
        assert found.low <= found.value <= found.high


def test_a_smooth_function_of_means_has_student_s_interval_of_its_linear_part():
    rng = np.random.default_rng(0)
    rows, others = rng.random((50, 2)), 5 + rng.random((50, 1))
    found = smooth_interval(lambda a, b: a[0] * b[0] - 2 * a[1], [rows, others])
    a, b = rows.mean(axis=0), others.mean(axis=0)
    assert found.value == pytest.approx(a[0] * b[0] - 2 * a[1])
    linear = rows[:, 0] * b[0] + a[0] * (others[:, 0] - b[0]) - 2 * rows[:, 1]
    known = ttest_1samp(linear, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-6)


def test_a_ratio_of_copied_rows_is_as_uncertain_as_that_of_the_rows():
    rng = np.random.default_rng(0)
    above, below = rng.random(30), 1 + rng.random(30)
    copies = Resampling(clusters=[str(i) for i in np.repeat(np.arange(30), 4)])
    together = ratio_interval(np.repeat(above, 4), np.repeat(below, 4), copies)
    alone = ratio_interval(above, below)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    single = ratio_interval([1.0, 1.0], [2.0, 3.0], Resampling(clusters=["a", "a"]))
    assert (single.value, single.low, single.high) == (0.4, -np.inf, np.inf)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_apgr_is_as_uncertain_as_by_leaving_out_each_row(levels):
    rng = np.random.default_rng(1)
    n, groups = 300, ["a"] * 100 + ["b"] * 200
    rate = np.floor(levels * rng.random(n)) / levels
    weak, strong = (rng.random(n) < 0.1) * 1.0, (rng.random(n) < 0.7 + 0.3 * rate) * 1.0
    for parts in (None, groups):
        labels = np.array(["a"] * n if parts is None else parts)

        def area(rows, labels=labels):
            mine = [rows[labels[rows] == label] for label in np.unique(labels)]
            gaps = [(strong[part] - weak[part]).sum() for part in mine]
            areas = [brute_apgr(rate[part], weak[part], strong[part]) for part in mine]
            return np.dot(gaps, areas) / np.sum(gaps)

        everyone = np.arange(n)
        left = np.array([area(np.delete(everyone, i)) for i in range(n)])
        error = np.sqrt((n - 1) * left.var())
        found = apgr_interval(rate, weak, strong, groups=parts)
        assert found.value == pytest.approx(area(everyone))
        assert found.high - found.low == pytest.approx(2 * 1.968 * error, rel=0.03)


def test_a_share_of_a_gap_that_may_be_0_is_unbounded_and_warned_of():
    rng = np.random.default_rng(2)
    rate, weak = rng.random(100), (rng.random(100) < 0.5) * 1.0
    strong = weak[::-1].copy()
    strong[:2] = 1 - strong[:2]
    found = apgr_interval(rate, weak, strong)
    assert (found.low, found.high) == (-np.inf, np.inf)
    said = tiny_gap_warning(weak, strong)
    assert said is not None
    assert "a share of it says little" in said
    assert tiny_gap_warning(weak, np.ones(100)) is None


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


LEVELS = {
    "proportion .5": (lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5, None),
    "proportion .9": (lambda rng, n: (rng.random(n) < 0.9).astype(float), 0.9, None),
    "proportion .99": (lambda rng, n: (rng.random(n) < 0.99).astype(float), 0.99, None),
    "proportion .01": (lambda rng, n: (rng.random(n) < 0.01).astype(float), 0.01, None),
    "rare difference": (
        lambda rng, n: rng.choice([1.0, -1.0, 0.0], n, p=[0.01, 0.03, 0.96]), -0.02, (-1, 1),
    ),
    "difference": (
        lambda rng, n: rng.choice([1.0, -1.0, 0.0], n, p=[0.2, 0.1, 0.7]), 0.1, (-1, 1),
    ),
    "grade": (lambda rng, n: rng.beta(0.3, 0.1, n), 0.75, (0, 1)),
    "cost": (lambda rng, n: rng.lognormal(0, 0.5, n), np.exp(0.125), (0, np.inf)),
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 5, 30])
@pytest.mark.parametrize("kind", LEVELS)
def test_an_interval_of_a_mean_holds_its_level_for_few_rows(kind, n):
    make, truth, bounds = LEVELS[kind]
    rng, covered, times = np.random.default_rng(0), 0, 400
    for _ in range(times):
        found = mean_interval(make(rng, n), Resampling(300), bounds=bounds)
        covered += found.low <= truth <= found.high
    # 0.95 minus three Monte Carlo errors; a bootstrap of five skewed costs loses a little more.
    assert covered / times >= (0.88 if kind == "cost" else 0.915)


def test_equal_rows_are_no_proof():
    assert mean_interval([1.0] * 5).low < 0.6
    assert mean_interval([0.0] * 30, bounds=(-1, 1)).low < -0.05
    assert difference_interval([0.5] * 5, [0.5] * 5).high > 0.3


def test_one_row_bounds_nothing():
    assert mean_interval([1.0]).low == pytest.approx(0.025)
    found = mean_interval([3.7])
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert mean_interval([3.7], bounds=(0, np.inf)).low == 0
    assert difference_interval([1.0], [0.0]) == Interval(1.0, -1.0, 1.0)
    single = weighted_bootstrap(lambda w: np.ones(len(w)), 1)
    assert (single.low, single.high) == (-np.inf, np.inf)
    assert single.as_list() == [1.0, None, None]


def test_rows_of_one_cluster_count_as_one():
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 0.0, 1.0], 40)
    alone = mean_interval(values, bounds=(-1, 1))
    copies = np.repeat(values, 10)
    clusters = [str(i) for i in np.repeat(np.arange(40), 10)]
    together = mean_interval(copies, Resampling(clusters=clusters), bounds=(-1, 1))
    assert together.low == pytest.approx(alone.low, abs=0.01)
    assert together.high == pytest.approx(alone.high, abs=0.01)


def test_no_rows_have_no_mean():
    with pytest.raises(ValueError, match="at least one row"):
        mean_interval([])


# Many rows


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "é", "\U0001f600"]), min_size=1, max_size=30))
def test_clusters_are_numbered_in_the_order_of_their_labels(labels):
    expected = np.unique(np.array(labels, dtype=object), return_inverse=True)[1]
    np.testing.assert_array_equal(Resampling(clusters=labels).codes(len(labels)), expected)


@pytest.mark.parametrize("clusters", [None, [str(i % 17) for i in range(60)]])
def test_a_statistic_of_sums_has_the_interval_of_the_same_statistic_of_weights(clusters):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 60))
    how = Resampling(n_resamples=200, clusters=clusters)
    of_weights = weighted_bootstrap(lambda w: (w @ a) / (w @ b), 60, how)
    of_sums = sums_bootstrap(lambda x, y: x / y, [a, b], how)
    for name in ("value", "low", "high"):
        exact = clusters is None
        found, expected = getattr(of_sums, name), getattr(of_weights, name)
        assert found == (expected if exact else pytest.approx(expected, rel=1e-12))


def test_weights_in_smaller_blocks_are_the_same(monkeypatch):
    how = Resampling(n_resamples=70, clusters=["a", "b", "b", "c"])
    whole = np.concatenate(list(how.weights(4)))
    monkeypatch.setattr(room, "_MOST_WEIGHTS", 12)
    blocks = list(how.weights(4))
    assert max(map(len, blocks)) == 3
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("kind", ["mean", "ratio", "bootstrap-t"])
def test_many_clusters_drawn_in_groups_have_nearly_the_interval_of_each_alone(kind, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.exponential(size=(2, 5000))
    how = Resampling(n_resamples=1000)

    def interval():
        if kind == "bootstrap-t":
            return mean_interval(a, how)
        if kind == "mean":
            return sums_bootstrap(lambda x, n: x / n, [a, np.ones_like(a)], how)
        return weighted_bootstrap(lambda w: (w @ a) / (w @ b), len(a), how)

    alone = interval()
    monkeypatch.setattr(room, "_MOST_DRAWN", 1000)
    grouped = interval()
    assert grouped.value == pytest.approx(alone.value, rel=1e-12)
    width = alone.high - alone.low
    # 1,000 resamples give an end to some 3 % of the width, 1,000 groups the width to 2 %.
    assert grouped.low == pytest.approx(alone.low, abs=0.1 * width)
    assert grouped.high == pytest.approx(alone.high, abs=0.1 * width)


# What cannot be told, and what is refused


@pytest.mark.parametrize("below", [[1.0, -1.0, 0.0], [2.0], [0.0, 0.0, 0.0]])
def test_a_ratio_of_zeros_is_unbounded_unless_the_mean_below_is_known(below):
    found = ratio_interval([0.0] * len(below), below)
    assert (found.low, found.high) == (-np.inf, np.inf)
    known = ratio_interval([0.0] * 3, [1.0, 1.1, 0.9])
    assert (known.value, known.low, known.high) == (0, 0, 0)


@pytest.mark.parametrize("n", [2, 8, 40])
def test_the_warning_of_a_tiny_gap_and_an_unbounded_share_come_together(n):
    seen = set()
    for up in range(n + 1):
        for down in range(min(n - up, 6) + 1):
            gain = np.repeat([1.0, -1.0, 0.0], [up, down, n - up - down])
            weak, strong = np.maximum(-gain, 0), np.maximum(gain, 0)
            is_bounded = bool(np.isfinite(apgr_interval(np.linspace(1, 0, n), weak, strong).low))
            assert is_bounded == (tiny_gap_warning(weak, strong) is None)
            seen.add(is_bounded)
    assert False in seen


@pytest.mark.parametrize(("share", "noise"), [(0.05, 0.0), (0.1, 0.0), (0.1, 0.6)])
def test_the_apgr_of_a_good_router_holds_its_level_where_gains_are_rare(share, noise):
    """Fieller's interval alone held 85 to 91 %."""
    rng, covered, times = np.random.default_rng(1), 0, 300

    def draw(n):
        need = rng.random(n)
        gain = (need > 1 - share) * 1.0
        return norm.ppf(need) + noise * rng.standard_normal(n), np.zeros(n), gain

    rate, _, gain = draw(200_000)
    ranked = gain[np.argsort(-rate)]
    truth = ranked.cumsum().mean() / ranked.sum()
    for _ in range(times):
        found = apgr_interval(*draw(200))
        covered += found.low <= truth <= found.high
    assert covered / times >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


@pytest.mark.parametrize(
    ("values", "bounds", "said"),
    [
        ([0.5, np.nan], None, "`values` must be finite, got nan"),
        ([0.5, 0.6], (1, 0), r"`bounds` must be below the second, got \(1, 0\)"),
        ([0.5, 0.6], (0, np.nan), "`bounds` must be below"),
        ([0.5, 7.0], (0, 1), "got 7.0"),
    ],
)
def test_values_that_cannot_be_are_refused(values, bounds, said):
    with pytest.raises(ValueError, match=said):
        mean_interval(values, bounds=bounds)


def test_qualities_win_rates_and_groups_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"`weak_quality` must be in .*, got nan"):
        tiny_gap_warning([0.1, np.nan], [0.2, 0.3])
    with pytest.raises(ValueError, match=r"`strong_quality` must be in .*, got 80\.0"):
        tiny_gap_warning([0.1, 0.2], [80.0, 0.3])
    with pytest.raises(ValueError, match="Win rates must be numbers, got nan"):
        apgr_interval([0.1, np.nan], [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="2 entries for 3 queries"):
        apgr_interval([0.1, 0.2, 0.3], [0.0] * 3, [1.0] * 3, groups=["a", "b"])
    with pytest.raises(ValueError, match="at least one row"):
        ratio_interval([], [])


@pytest.mark.parametrize("unit", [1e-200, 1e-7, 1e200, 1e307])
def test_the_unit_of_the_values_does_not_matter(unit):
    x = np.random.default_rng(0).random(30)
    for scaled, plain in (
        (mean_interval(unit * x), mean_interval(x)),
        (mean_interval(unit * x, bounds=(0, unit)), mean_interval(x, bounds=(0, 1))),
        (ratio_interval(unit * x, 1 + x[::-1]), ratio_interval(x, 1 + x[::-1])),
    ):
        ends = np.array([scaled.low, scaled.high]) / unit
        assert ends == pytest.approx([plain.low, plain.high])


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_the_aiq_does_not_depend_on_the_unit_of_cost(unit):
    outcomes = make_outcomes(60)
    sent = np.random.default_rng(0).random((3, 60)) < np.array([[0.2], [0.5], [0.8]])
    weak, strong = outcomes.quality.T[0], outcomes.quality.T[-1]
    cheap, dear = outcomes.cost_usd.T[0], outcomes.cost_usd.T[-1]
    sweep = Sweep(np.arange(3.0), np.where(sent, strong, weak), np.where(sent, dear, cheap))
    other = replace(outcomes, cost_usd=unit * outcomes.cost_usd)
    plain = aiq_interval(sweep, outcomes)
    scaled = aiq_interval(replace(sweep, cost_usd=unit * sweep.cost_usd), other)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), rel=1e-5)


def test_ten_clusters_of_unequal_sizes_nearly_hold_the_level():
    rng, covered, times = np.random.default_rng(2), 0, 300
    for _ in range(times):
        code = np.repeat(np.arange(10), rng.integers(1, 21, 10))
        alike = rng.random(len(code)) < 0.8
        rows = np.where(alike, (rng.random(10) < 0.7)[code], rng.random(len(code)) < 0.7) * 1.0
        found = mean_interval(rows, Resampling(clusters=[str(i) for i in code]), bounds=(0, 1))
        covered += found.low <= 0.7 <= found.high
    # Measured 0.928; 0.912 with as many degrees of freedom as clusters less 1.
    assert covered / times >= 0.9
