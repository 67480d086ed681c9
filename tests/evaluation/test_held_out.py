"""Do no harm: the report says when an estimator should not be routed by."""

import json

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Linear, Random
from langchain_llm_router.evaluation import (
    HeldOutReport,
    Interval,
    Resampling,
    apgr,
    held_out_report,
    win_rate_curve,
)
from tests.support.fakes import make_outcomes

FAST = Resampling(200)


def unpriced(outcomes: Outcomes, candidates=None) -> Outcomes:
    return Outcomes(outcomes.queries, outcomes.candidates, outcomes.quality, None, outcomes.groups)


def test_a_router_that_reads_the_wording_helps():
    train, test = make_outcomes(300, seed=1), make_outcomes(300, seed=2)
    report = held_out_report(Linear().fit(train), test, resampling=FAST)
    assert (report.metric, report.verdict) == ("aiq", "helps")
    assert report.lift.low > 0
    assert "beats a random choice of candidates" in report.sentence
    assert report.n_rows == 300


def test_a_router_without_a_clue_is_not_recommended():
    train, test = make_outcomes(300, seed=1), make_outcomes(300, seed=2)
    report = held_out_report(Random().fit(train), test, resampling=FAST)
    assert report.verdict != "helps"
    assert "Do not route by it" in report.sentence


def test_a_router_that_is_systematically_wrong_harms():
    class Upside(Linear):
        def _predict(self, queries):
            return 1 - super()._predict(queries)

    pair = ("weak", "strong")
    train, test = make_outcomes(300, pair, seed=1), make_outcomes(300, pair, seed=2)
    report = held_out_report(Upside().fit(train), unpriced(test), resampling=FAST)
    assert (report.metric, report.verdict) == ("apgr", "harms")
    assert "worse than a random choice of candidates" in report.sentence


def test_two_candidates_without_prices_are_judged_by_apgr():
    pair = ("weak", "strong")
    train, test = make_outcomes(300, pair, seed=1), unpriced(make_outcomes(300, pair, seed=2))
    fitted = Linear().fit(train)
    report = held_out_report(fitted, test, resampling=FAST)
    predicted = fitted.predict(test.queries)
    expected = apgr(win_rate_curve(predicted[:, 1] - predicted[:, 0], *test.quality.T))
    assert report.value.value == pytest.approx(expected)
    assert report.baseline == pytest.approx(0.5)


def test_knowing_only_the_group_is_said():
    """The groups are the two wordings, so within them nothing is left to know."""
    pair = ("weak", "strong")
    train, test = make_outcomes(400, pair, seed=1), unpriced(make_outcomes(400, pair, seed=2))
    report = held_out_report(Linear().fit(train), test, resampling=FAST)
    assert report.verdict == "helps"
    assert report.within_groups.low <= 0.5 <= report.within_groups.high
    assert "distinguishes groups" in report.sentence


def test_a_share_of_a_tiny_gap_is_warned_of():
    pair = ("weak", "strong")
    train, test = make_outcomes(200, pair, seed=1), unpriced(make_outcomes(200, pair, seed=2))
    equal = np.column_stack([test.quality[:, 0], np.roll(test.quality[:, 0], 7)])
    even = Outcomes(test.queries, pair, equal, None, test.groups)
    fitted = Linear().fit(train)
    report = held_out_report(fitted, even, resampling=FAST)
    assert report.verdict == "no evidence"
    assert report.sentence.endswith(f"Do not route by it. {report.warning}")
    assert "a share of it says little" in report.as_dict()["warning"]
    assert held_out_report(fitted, test, resampling=FAST).warning is None
    known = Interval(0.7, 0.6, 0.8)
    within = Interval(0.6, -np.inf, np.inf)
    priced = HeldOutReport("aiq", known, 0.5, known, within, 0.1, 0.1, 9, "The gap is tiny.")
    assert priced.sentence.endswith("within groups too cannot be said. The gap is tiny.")


def test_many_candidates_without_prices_are_compared_with_the_best_single_one():
    train, test = make_outcomes(200, seed=1), unpriced(make_outcomes(200, seed=2))
    report = held_out_report(Linear().fit(train), test, resampling=FAST)
    assert report.metric == "quality"
    assert report.baseline == pytest.approx(test.quality.mean(axis=0).max())


def test_the_report_is_json_and_travels_with_the_estimator(tmp_path):
    train, test = make_outcomes(50, seed=1), make_outcomes(50, seed=2)
    fitted = Linear().fit(train)
    report = held_out_report(fitted, test, resampling=FAST)
    fitted.report_ = report.as_dict()
    assert Linear.load(fitted.save(tmp_path / "it")).report_ == report.as_dict()
    assert fitted.fit(train).report_ is None
    data = json.loads(json.dumps(report.as_dict()))
    assert data["verdict"] == report.verdict
    assert data["lift"] == [report.lift.value, report.lift.low, report.lift.high]


def test_other_candidates_are_refused():
    fitted = Linear().fit(make_outcomes(20))
    with pytest.raises(ValueError, match="must have the candidates of the estimator"):
        held_out_report(fitted, make_outcomes(20, ("a", "b")))


def test_an_interval_around_zero_is_no_evidence():
    middle = Interval(0.0, -0.1, 0.1)
    report = HeldOutReport("apgr", middle, 0.5, middle, None, 0.1, 0.1, 9)
    assert report.verdict == "no evidence"
    assert report.as_dict()["within_groups"] is None
    assert np.isfinite(report.as_dict()["value"]).all()
