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
from langchain_llm_router.evaluation import table_replay as room
from langchain_llm_router.evaluation.table_replay import replay_all
from langchain_llm_router.policies import (
    Always,
    AutoMix,
    ConfidenceThreshold,
    FrugalCascade,
    KernelDensity,
    Policy,
    Pomdp,
    RandomMix,
    Threshold,
    Utility,
)
from langchain_llm_router.types import Arm, Decision, Situation
from tests.support.fakes import make_evaluations, make_outcomes


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


# One decision for rows that are alike


TABLE = make_outcomes(80)
COSTS = np.random.default_rng(1).lognormal(-7, 1, (80, 3))
PRICED = Outcomes(TABLE.queries, TABLE.candidates, TABLE.quality, COSTS)
SAID = make_evaluations(PRICED)
PAIR = ("small", "large")


def observed(table, said):
    return {
        name: KernelDensity().fit(said.confidence[:, j], table.quality[:, j] >= 0.5)
        for j, name in enumerate(table.candidates)
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda table, said: ConfidenceThreshold(threshold=0.5),
        lambda table, said: ConfidenceThreshold(observed(table, said), lambda_=20.0),
        lambda table, said: FrugalCascade(n_grid=8).fit(table, said, max_cost_usd=0.01),
        lambda table, said: Pomdp(20.0, likelihood="kde").fit(table, said),
        lambda table, said: Pomdp(20.0, recall=True).fit(table, said, predicted=table.quality),
        lambda table, said: AutoMix(lambda_=20.0).fit(table, said),
        lambda table, said: Always("large"),
    ],
)
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("guessed", [False, True])
def test_rows_that_are_alike_are_decided_once_and_exactly_as_alone(
    make, continuous, guessed, monkeypatch
):
    table, said = PRICED, SAID
    if continuous:
        scores = np.clip(said.confidence + np.random.default_rng(2).normal(0, 0.01, (80, 3)), 0, 1)
        said = SelfEvaluations(said.candidates, scores, said.cost_usd)
    policy = make(table.select(PAIR), said.select(PAIR))
    table, said = table.select(PAIR), said.select(PAIR)
    quality = np.random.default_rng(3).random((80, 2)) if guessed else None
    shared = replay(policy, quality, table, evaluations=said)
    monkeypatch.setattr(type(policy), "decides_by_verdicts", False)
    alone = replay(policy, quality, table, evaluations=said)
    assert_same_replay(shared, alone)


def assert_same_replay(first, second):
    """Assert that two replays are equal in every field."""
    for name in first.__dataclass_fields__:
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_a_policy_decides_only_once_where_rows_are_alike(monkeypatch):
    calls = []
    decide = ConfidenceThreshold.decide
    monkeypatch.setattr(
        ConfidenceThreshold, "decide", lambda *args: [calls.append(1), decide(*args)][1]
    )
    scores = np.tile([[0.9, 0.5], [0.1, 0.5]], (500, 1))
    table = Outcomes(
        ["q"] * 1000, PAIR, np.ones((1000, 2)), np.random.default_rng(0).random((1000, 2))
    )
    replay(
        ConfidenceThreshold(), None, table, evaluations=SelfEvaluations(PAIR, scores, 0 * scores)
    )
    assert len(calls) == 4


def test_a_subclass_that_reads_more_than_its_parent_is_decided_row_by_row():
    @dataclass(frozen=True)
    class ByLength(ConfidenceThreshold):
        """Keeps the first answer to a short question."""

        def decide(self, situation):
            step = super().decide(situation)
            short = len(situation.query) < 3 and len(situation.attempts) > 0
            return Decision("accept", "small", "ByLength", "short") if short else step

    table = Outcomes(["q", "a long question"], PAIR, np.ones((2, 2)), np.ones((2, 2)))
    said = SelfEvaluations(PAIR, [[0.1, 0.5]] * 2, np.zeros((2, 2)))
    assert replay(ByLength(), None, table, evaluations=said).accepted.tolist() == [0, 1]


@pytest.mark.parametrize("rows_at_once", [1, 7, 4096])
def test_rows_are_replayed_the_same_however_many_at_once(rows_at_once, monkeypatch):
    policies = [
        Threshold(0.5),
        RandomMix({PAIR[0]: 0.5, PAIR[1]: 0.5}),
        ConfidenceThreshold(threshold=0.6),
    ]
    quality = np.random.default_rng(3).random((80, 2))
    table, said = PRICED.select(PAIR), SAID.select(PAIR)
    whole = replay_all(policies, quality, table, evaluations=said)
    monkeypatch.setattr(room, "_ROWS_AT_ONCE", rows_at_once)
    parts = replay_all(policies, quality, table, evaluations=said)
    for one, other in zip(whole, parts, strict=True):
        assert_same_replay(one, other)


def test_a_decision_is_made_again_when_it_is_looked_at():
    quality = np.random.default_rng(3).random((80, 2))
    policy, table = Utility(cost=10.0), PRICED.select(PAIR)
    decisions = replay(policy, quality, table).decisions
    assert len(decisions) == 80
    assert decisions[-1] == decisions[79] == list(decisions)[79]
    assert decisions[3:5] == [decisions[3], decisions[4]]
    assert decisions != decisions[1:]
    for i, decision in enumerate(decisions):
        cost = table.mean_cost_usd
        arms = tuple(map(Arm, PAIR, quality[i].tolist(), cost.tolist()))
        asked = policy.decide(Situation(table.queries[i], arms))
        assert (decision.candidate, decision.reason) == (asked.candidate, asked.reason)
    with pytest.raises(IndexError):
        decisions[80]
