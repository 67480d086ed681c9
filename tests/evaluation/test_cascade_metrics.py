"""Benefit per cost and areas, by hand and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.cascade_metrics import (
    cost_quality_area,
    cost_quality_area_interval,
    ibc,
    region_ibc_lift,
    region_ibc_lift_interval,
)
from langchain_llm_router.evaluation.intervals import Resampling
from langchain_llm_router.evaluation.metrics import ibc_lift
from langchain_llm_router.evaluation.sweeps import Sweep, single_sweep

PAIR = ([1.0, 11.0], [0.5, 0.9])


def test_ibc_is_the_slope_above_the_weak_candidate():
    assert ibc((11.0, 0.5), (1.0, 0.2)) == pytest.approx(0.03)
    with pytest.raises(ValueError, match="must cost more than the weak"):
        ibc((1.0, 0.5), (1.0, 0.2))


def test_a_random_mix_has_no_lift_in_any_region():
    cost = np.linspace(1, 11, 7)
    assert region_ibc_lift(cost, 0.5 + 0.04 * (cost - 1), *PAIR) == pytest.approx(0)


def test_with_two_candidates_each_region_is_the_papers_delta_ibc():
    """Equations 1 and 2 at the middles 2, 4, 6, 8, 10 of five regions, by hand."""
    middles = [2.0, 4.0, 6.0, 8.0, 10.0]
    quality = [0.6, 0.7, 0.8, 0.85, 0.9]
    by_hand = np.mean(
        [ibc_lift(point, (1.0, 0.5), (11.0, 0.9)) for point in zip(middles, quality, strict=True)]
    )
    assert region_ibc_lift(middles, quality, *PAIR) == pytest.approx(by_hand)
    assert by_hand == pytest.approx((1.5 + 0.666667 + 0.5 + 0.25 + 0.111111) / 5, abs=1e-5)


def test_with_three_candidates_the_best_chord_is_the_base():
    singles = ([1.0, 3.0, 11.0], [0.5, 0.8, 0.9])
    useless = ([1.0, 6.0, 11.0], [0.5, 0.55, 0.9])
    chord = ([2.0, 4.0], [0.65, 0.8125])
    assert region_ibc_lift(*singles, *singles) == pytest.approx(0)
    assert region_ibc_lift(*chord, *singles, n_regions=5) == pytest.approx(0, abs=1e-9)
    assert region_ibc_lift([6.0], [0.7], *useless) == pytest.approx(
        region_ibc_lift([6.0], [0.7], *PAIR)
    )


def test_no_benefit_to_buy_is_said():
    with pytest.raises(ValueError, match="must cost more than the cheapest"):
        region_ibc_lift([1.0], [0.5], [1.0, 2.0], [0.9, 0.5])


def test_area_by_hand():
    """Flat 0.9 from cost 6 on, a straight line from 0.5 before: (0.7·5 + 0.9·5) / 10."""
    assert cost_quality_area([6.0], [0.9], *PAIR) == pytest.approx(0.8)
    assert cost_quality_area(*PAIR, *PAIR) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="must differ in cost"):
        cost_quality_area([1.0], [0.5], [1.0, 1.0], [0.5, 0.9])
    with pytest.raises(ValueError, match="every cost"):
        cost_quality_area([np.nan], [0.5], *PAIR)


@given(
    st.lists(
        st.tuples(st.floats(1, 11), st.floats(0, 1)),
        min_size=1,
        max_size=6,
        unique_by=lambda p: p[0],
    ),
    st.floats(0, 0.2),
)
def test_more_quality_at_the_same_costs_is_never_less_lift_or_area(points, more):
    cost, quality = np.array(points).T
    for figure in (region_ibc_lift, cost_quality_area):
        assert figure(cost, quality + more, *PAIR) >= figure(cost, quality, *PAIR) - 1e-12


@given(st.floats(0.1, 1000.0))
def test_the_currency_does_not_matter(rate):
    cost, quality = np.array([2.0, 6.0]), [0.6, 0.9]
    scaled = (np.array(PAIR[0]) * rate, PAIR[1])
    for figure in (region_ibc_lift, cost_quality_area):
        assert figure(cost * rate, quality, *scaled) == pytest.approx(figure(cost, quality, *PAIR))


def test_intervals_hold_the_value_and_a_router_does_not_differ_from_itself():
    rng = np.random.default_rng(0)
    quality = (rng.random((200, 2)) < [0.5, 0.9]) * 1.0
    outcomes = Outcomes(
        [str(i) for i in range(200)], ("a", "b"), quality, np.tile([1, 11], (200, 1))
    )
    best = Sweep(
        np.zeros(1), quality.max(axis=1)[None], np.where(quality[:, 0] > 0, 1.0, 11.0)[None]
    )
    resampling = Resampling(n_resamples=100)
    for interval, figure in (
        (region_ibc_lift_interval, region_ibc_lift),
        (cost_quality_area_interval, cost_quality_area),
    ):
        found = interval(best, outcomes, resampling=resampling)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(
            figure(*best.points, outcomes.mean_cost_usd, outcomes.quality.mean(axis=0))
        )
        none = interval(best, outcomes, baseline=best, resampling=resampling)
        assert (none.low, none.value, none.high) == (0, 0, 0)
        assert (
            interval(best, outcomes, baseline=single_sweep(outcomes), resampling=resampling).low > 0
        )
    with pytest.raises(ValueError, match="every cost"):
        region_ibc_lift_interval(best, Outcomes(outcomes.queries, ("a", "b"), quality))
