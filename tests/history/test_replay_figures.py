"""The figures of a replay: from columns the same, to the last bit, as from the requests."""

import math
from dataclasses import replace

import pytest

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.history import Changes, LogReplay, replay_log
from langchain_llm_router.history.replay_figures import ReplayColumns, ReplayFigures
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix, Utility
from langchain_llm_router.types import sum_usd
from tests.support.logged_routers import ESTIMATOR, cascade, pool, read


def expected_figures(replay: LogReplay) -> dict:
    """The figures, added up request by request."""
    rows = [row for row in replay.rows if row.entry.outcome == "answered"]
    paid, expected = {}, {}
    for row in replay.rows:
        arms = {arm.candidate: arm.cost_usd for arm in row.went.situation.arms}
        for attempt in row.entry.attempts:
            name, cost = attempt["candidate"], attempt.get("cost_usd")
            if cost is not None and arms.get(name) is not None:
                paid[name] = paid.get(name, 0.0) + cost
                expected[name] = expected.get(name, 0.0) + arms[name]
    ratio = {name: paid[name] / total for name, total in expected.items() if total > 0}
    costs = []
    for row in rows:
        beyond = row.went.expected_cost_usd
        if beyond is not None and row.went.candidate is not None:
            beyond *= ratio.get(row.went.candidate, 1.0)
        costs.append(sum_usd([row.went.recorded_cost_usd, beyond]))
    names = dict.fromkeys(a["candidate"] for row in rows for a in row.entry.frames[0]["arms"])
    return {
        "n_identical": sum(row.identical for row in replay.rows),
        "n_answered": len(rows),
        "recorded_cost_usd": mean([row.entry.cost_usd for row in rows]),
        "cost_usd": mean(costs),
        "share_on_record": sum(row.went.on_record for row in rows) / len(rows),
        "share_agreeing": sum(row.agrees for row in rows) / len(rows),
        "shares": {
            name: (
                sum(row.entry.candidate == name for row in rows) / len(rows),
                sum(row.went.candidate == name for row in rows) / len(rows),
            )
            for name in names
        },
    }


def mean(values):
    return None if None in values or not values else math.fsum(values) / len(values)


def figures(replay: ReplayFigures) -> dict:
    return {
        name: value() if callable(value := getattr(replay, name)) else value
        for name in (
            *("n_identical", "n_answered", "recorded_cost_usd", "cost_usd", "share_on_record"),
            *("share_agreeing", "shares"),
        )
    }


@pytest.fixture(params=["one shot", "cascade"])
def entries(request, log):
    if request.param == "cascade":
        router = cascade(log, ["yes", "no", "garbage", "yes"])
    else:
        mix = RandomMix({"small": 0.5, "large": 0.5})
        router = ChatLLMRouter(candidates=pool(), policy=mix, estimator=ESTIMATOR, log=log)
    for i in range(40):
        router.invoke(f"{'prove a theorem' if i % 3 else 'add numbers'} {i}")
    found = list(read(log).entries)
    # A failed request, and one that could not ask every candidate.
    found[3] = replace(found[3], outcome="failed", candidate=None, cost_usd=None)
    frame = found[5].frames[0]
    arms = [arm for arm in frame["arms"] if arm["candidate"] == found[5].steps[0].candidate]
    found[5] = replace(found[5], frames=({**frame, "arms": arms},) * len(found[5].frames))
    return found


POLICIES = [
    (Always("small"), Changes()),
    (Utility(cost=40.0), Changes(ESTIMATOR, lambda_=2000.0)),
    (ConfidenceThreshold(threshold=0.7), Changes()),
    (ConfidenceThreshold(threshold=0.7), Changes(threshold=2.0)),
    (ConfidenceThreshold(threshold=0.0), Changes()),
]


@pytest.mark.parametrize(("policy", "changes"), POLICIES)
def test_the_figures_are_those_of_the_requests(entries, policy, changes):
    replay = replay_log(entries, policy, changes=changes)
    assert figures(replay) == expected_figures(replay)


def test_an_unknown_cost_makes_the_mean_unknown(entries):
    entries[8] = replace(entries[8], cost_usd=None, attempts=[{**entries[8].attempts[0]}])
    entries[8].attempts[0]["cost_usd"] = None
    replay = replay_log(entries, Always("small"))
    assert replay.recorded_cost_usd is None
    assert figures(replay) == expected_figures(replay)


def test_every_request_was_answered_failed_or_abandoned(entries):
    entries[8] = replace(entries[8], outcome="abandoned", candidate=None, cost_usd=None)
    replay = replay_log(entries, Always("small"))
    assert (replay.n_answered, replay.n_failed, replay.n_abandoned) == (38, 1, 1)
    assert replay.recorded_cost_usd is not None


@pytest.mark.parametrize("cut", [0, 1, 7, 39, 40])
def test_joined_columns_are_those_of_all_rows(entries, cut):
    replay = replay_log(entries, Always("small"))
    parts = [ReplayColumns.of(replay.rows[:cut]), ReplayColumns.of(replay.rows[cut:])]
    assert figures(ReplayFigures(ReplayColumns.joined(parts))) == figures(replay)


def test_chosen_rows_have_the_figures_of_a_replay_of_them(entries):
    policy, changes = POLICIES[1]
    replay = replay_log(entries, policy, changes=changes)
    some = list(range(1, 40, 2))
    taken = ReplayFigures(replay.columns.take(some))
    of_some = replay_log([entries[i] for i in some], policy, changes=changes)
    assert figures(taken) == figures(of_some)
    assert len(taken) == 20


def test_a_cost_that_is_no_number_is_refused_by_the_request(entries):
    entries[0] = replace(entries[0], cost_usd="much")
    with pytest.raises(ValueError, match=f"A cost of the request '{entries[0].decision_id}'"):
        replay_log(entries, Always("small"))
