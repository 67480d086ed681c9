"""A line of a decision log with other values than are written is skipped and counted."""

import copy
import json

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.evaluation import off_policy
from langchain_llm_router.history import (
    DecisionLog,
    read_log,
    replay_log,
    scored_rows,
    stream_log,
)
from langchain_llm_router.policies import Always
from langchain_llm_router.testing import ScriptedChatModel


def places(value, path=()):
    """Return the path of every value inside of JSON data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inside:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    log = DecisionLog(tmp_path_factory.mktemp("log") / "decisions.jsonl")
    pool = [Candidate(name, ScriptedChatModel("4")) for name in "ab"]
    router = ChatLLMRouter(candidates=pool, policy=Always("a"), log=log)
    decision_id = router.invoke("2 + 2?").response_metadata["llm_router"]["decision_id"]
    log.feedback(decision_id, 1.0)
    log.flush()
    return [json.loads(line) for line in log.path.read_text().splitlines()]


@pytest.mark.parametrize("value", [None, True, -1, "x", [], {}, 10**400, [1]], ids=str)
def test_any_value_in_any_place_of_a_log_is_read_or_skipped(lines, tmp_path, value):
    path = tmp_path / "decisions.jsonl"
    for i, line in enumerate(lines):
        for place in places(line):
            changed = copy.deepcopy(lines)
            inner = changed[i]
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_text("".join(json.dumps(each) + "\n" for each in changed))
            use(path)


def use(path):
    try:
        history = read_log(path)
        replay_log(history.entries, Always("a"))
        scored_rows(history, ("a", "b"))
        off_policy(history, Always("a"))
    except ValueError:
        return  # refused in words


def test_a_score_out_of_range_is_not_feedback(lines, tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text(
        "".join(json.dumps(each) + "\n" for each in (lines[0], lines[1] | {"score": 7}))
    )
    history = read_log(path)
    assert (len(history), history.n_torn, history.feedback) == (1, 1, {})


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_the_cost_of_a_scored_answer_is_a_number(tmp_path, cost):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    with pytest.raises(ValueError, match=r"`cost_usd` must be a number >= 0 or None, got"):
        log.feedback("a", 1.0, candidate="large", cost_usd=cost)


DAMAGES = {
    "no steps": {"steps": []},
    "a step of no arm": {"steps": [{"action": "ask", "candidate": "c", "policy": "Always",
                                    "reason": "it is the only one"}]},
    "a frame without arms": {"frame": {"arms": []}},
    "arms of another pool": {"frame": {"arms": [{"candidate": "other"}]}},
    "a number as query": {"query": 5},
    "an infinite cost": {"cost_usd": float("inf")},
    "no number as cost": {"cost_usd": float("nan")},
    "a negative cost": {"cost_usd": -5.0},
    "a text as cost": {"cost_usd": "0.1"},
    "a cost beyond floats": {"cost_usd": 10**400},
    "no number as quality": {"frame": {"arms": [{"candidate": "a", "quality": float("nan")}]}},
    "a text as quality": {"frame": {"arms": [{"candidate": "a", "quality": "good"}]}},
    "an expected cost below 0": {"frame": {"arms": [{"candidate": "a", "cost_usd": -1.0}]}},
    "a text as the cost of an attempt": {"attempts": [{"candidate": "a", "cost_usd": "0.1"}]},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_decision_that_no_router_writes_counts_as_unreadable(lines, tmp_path, damage):
    path = tmp_path / "decisions.jsonl"
    whole = lines[0] | {"decision_id": "whole"}
    damaged = [lines[0] | damage, lines[1], whole, lines[1] | {"decision_id": "whole"}]
    path.write_text("".join(json.dumps(each) + "\n" for each in damaged))
    for history in (read_log(path), stream_log(path)):
        assert [entry.decision_id for entry in history.entries] == ["whole"]
        assert history.n_torn == 1
        assert len(scored_rows(history, ("a", "b"))) == 1
    assert off_policy(read_log(path), Always("a")).replay.n_torn == 1
