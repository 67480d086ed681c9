"""A policy replayed over a table."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import (
    apgr,
    curve,
    oracle,
    replay,
    win_rate_curve,
)
from langchain_llm_router.policies import Always, ConfidenceThreshold, Policy, Threshold
from langchain_llm_router.types import Decision
from tests.support.fakes import make_outcomes


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


def test_replay_counts_quality_cost_and_shares():
    outcomes = Outcomes(["x", "y"], ("weak", "strong"), [[0, 1], [1, 1]], [[1, 4], [1, 6]])
    done = replay(Always("strong"), None, outcomes)
    assert done.mean_quality == 1
    assert done.mean_cost_usd == 5
    assert done.shares == {"weak": 0, "strong": 1}
    assert done.asked_shares == {"weak": 0, "strong": 1}
    unpriced = Outcomes(["x"], ("weak", "strong"), [[0, 1]])
    assert replay(Always("weak"), None, unpriced).mean_cost_usd is None


def test_the_time_of_a_row_is_that_of_its_calls_alone_and_unknown_where_one_is():
    times = [[1.0, np.nan], [2.0, 5.0], [4.0, 8.0]]
    outcomes = Outcomes(["x", "y", "z"], ("weak", "strong"), [[1, 1]] * 3, latency_s=times)
    said = SelfEvaluations(
        ("weak", "strong"), [[0.9, 1], [0.1, 1], [0.1, 1]],
        latency_s=[[0.5, np.nan], [0.25, np.nan], [np.nan, np.nan]],
    )  # fmt: skip
    done = replay(ConfidenceThreshold(threshold=0.5), None, outcomes, evaluations=said)
    # Kept, escalated, and escalated after a verification of unknown time.
    np.testing.assert_array_equal(done.latency_s, [1.5, 7.25, np.nan])
    alone = replay(Always("strong"), None, outcomes)
    np.testing.assert_array_equal(alone.latency_s, [np.nan, 5.0, 8.0])


@dataclass(frozen=True)
class Pools(Policy):
    """Asks and compares in a given order, and keeps what it saw."""

    order: tuple[str, ...] = ()
    seen: list = field(default_factory=list)
    verifies = True

    def decide(self, situation):
        last = situation.attempts[-1] if situation.attempts else None
        if last is not None and not last.get("verified"):
            return Decision("verify", last["candidate"], "Pools", "is it the same?")
        if len(situation.attempts) < len(self.order):
            return Decision("ask", self.order[len(situation.attempts)], "Pools", "one more")
        self.seen.append(
            [(a.get("answer_group"), a.get("output_tokens")) for a in situation.attempts]
        )
        return Decision("accept", self.order[0], "Pools", "enough")


def test_groups_are_numbered_as_a_live_request_would_in_the_order_of_first_answers():
    names = ("a", "b", "c", "d")
    outcomes = Outcomes(
        ["x", "y"], names, np.ones((2, 4)), output_tokens=[[1, 2, 3, np.nan], [5, 6, 7, 8]]
    )
    groups = SelfEvaluations(
        names, np.full((2, 4), np.nan), answer_groups=[[0, 1, 1, 7], [-1, 3, 3, -1]]
    )
    policy = Pools(("d", "c", "a", "b"))
    replay(policy, None, outcomes, evaluations=groups)
    assert policy.seen == [
        [(0, None), (1, 3), (2, 1), (1, 2)],
        [(None, 8), (0, 7), (None, 5), (0, 6)],
    ]


def test_replay_refuses_tables_that_do_not_fit():
    outcomes = make_outcomes(5)
    with pytest.raises(ValueError, match="shape"):
        replay(Always("small"), np.zeros((5, 2)), outcomes)
    with pytest.raises(ValueError, match="giant"):
        replay(Always("giant"), None, outcomes)


def test_the_oracle_takes_a_best_answer_whose_cost_is_unknown_before_a_worse_one():
    quality, cost = [[0, 1, 1], [0, 1, 1]], [[0.1, np.nan, np.nan], [0.1, np.nan, 0.2]]
    assert list(oracle(Outcomes(["x", "y"], ("a", "b", "c"), quality, cost))) == [1, 2]


def test_the_oracle_without_prices_takes_the_first_of_the_best():
    assert list(oracle(Outcomes(["x"], ("a", "b", "c"), [[0, 1, 1]]))) == [1]
