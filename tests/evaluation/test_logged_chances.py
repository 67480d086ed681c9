"""The probability of logged steps: by the replay's decisions, or made again, it is one."""

from dataclasses import replace

import numpy as np
import pytest

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.evaluation import logged_chances
from langchain_llm_router.evaluation.logged_chances import LoggedChances
from langchain_llm_router.history import replay_log
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    RandomMix,
    Threshold,
    Unsure,
    Utility,
)
from tests.support.logged_routers import ESTIMATOR, cascade, pool, read

MIX = RandomMix({"small": 0.5, "large": 0.5})
POLICIES = [
    MIX,
    RandomMix({"small": 0.9, "large": 0.1}, seed=7),
    Always("large"),
    Threshold(0.6),
    Utility(cost=400.0),
    ConfidenceThreshold(threshold=0.7),
    ConfidenceThreshold(threshold=0.0),
    ConfidenceThreshold(threshold=2.0),
    Unsure(ConfidenceThreshold(threshold=0.7), 0.9),
]
COLUMNS = ("usable", "chance", "propensity", "predicted", "predicted_new", "failed")


@pytest.fixture(params=["one shot", "cascade"])
def entries(request, log):
    if request.param == "cascade":
        router = cascade(log, ["yes", "no", "garbage", "yes"])
    else:
        router = ChatLLMRouter(candidates=pool(), policy=MIX, estimator=ESTIMATOR, log=log)
    for i in range(30):
        router.invoke(f"{'prove a theorem' if i % 3 else 'add numbers'} {i}")
    found = list(read(log).entries)
    found[3] = replace(found[3], declined=True)
    found[4] = replace(found[4], outcome="abandoned")
    return found


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_chance_by_the_replay_is_that_of_deciding_again(entries, policy, monkeypatch):
    rows = replay_log(entries, policy).rows
    quick = LoggedChances.of(rows, policy)
    monkeypatch.setattr(logged_chances, "_chance_by_replay", lambda row: None)
    again = LoggedChances.of(rows, policy)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(quick, name), getattr(again, name))
    assert quick.usable.tolist() == [i not in (3, 4) for i in range(30)]


def test_the_replay_tells_the_chance_of_steps_that_the_policy_takes_too(entries):
    cascade = any(step.action == "verify" for step in entries[0].steps)
    policy = ConfidenceThreshold(threshold=0.7) if cascade else MIX
    rows = replay_log(entries, policy).rows
    told = {logged_chances._chance_by_replay(row) for row in rows}
    assert told == ({1.0} if cascade else {0.5})


def test_the_replay_tells_that_a_policy_never_takes_other_steps(entries):
    rows = replay_log(entries, Always("large")).rows
    told = {row.agrees: logged_chances._chance_by_replay(row) for row in rows}
    cascade = any(step.action == "verify" for step in entries[0].steps)
    assert told == ({False: 0.0} if cascade else {False: 0.0, True: 1.0})


def test_joined_and_chosen_columns_are_those_of_the_rows(entries):
    rows = replay_log(entries, MIX).rows
    whole = LoggedChances.of(rows, MIX)
    joined = LoggedChances.joined(
        [LoggedChances.of(rows[:7], MIX), LoggedChances.of(rows[7:], MIX)]
    )
    some = np.arange(1, 30, 3)
    chosen = LoggedChances.of([rows[i] for i in some], MIX)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(whole.take(some), name), getattr(chosen, name))


def test_an_error_is_raised_only_where_a_chosen_request_has_it(entries):
    class Lots(Always):
        def choose(self, situation):
            draw = super().choose(situation)
            return replace(draw, propensity=0.5) if situation.query.endswith("7") else draw

    rows = replay_log(entries, Lots("small")).rows
    found = LoggedChances.of(rows, Lots("small"))
    # Without predictions only other steps than the recorded ones need a chance, and here is none.
    predicted = rows[0].situations[0].arms[0].quality is not None
    assert found.failed.any() == predicted
    if predicted:
        with pytest.raises(NotImplementedError, match="chance"):
            found.check()
    found.take(np.flatnonzero(~found.failed)).check()
