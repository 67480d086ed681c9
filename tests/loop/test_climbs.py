"""Which candidate a stuck tool loop escalates to: always a stronger one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price
from langchain_llm_router.estimators import Constant
from langchain_llm_router.loop import StuckRules
from langchain_llm_router.loop.arms import build_arms
from langchain_llm_router.loop.climbs import models_by_strength, read_tool_loop
from langchain_llm_router.policies import Always, RandomMix
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Endpoint

NAMES = ("a", "b", "c", "d")


def priced(**usd) -> list[Candidate]:
    return [
        Candidate(name, ScriptedChatModel("hm"), None if one is None else Price(one, one))
        for name, one in usd.items()
    ]


def order(candidates, quality=None, *, declared=False):
    arms = build_arms(candidates, quality, "q")
    return models_by_strength(candidates, arms, declared=declared)


def test_stronger_is_of_higher_predicted_quality_else_dearer_else_declared_later():
    candidates = priced(a=3, b=1, c=2)
    assert order(candidates, [0.5, 0.9, 0.1]) == ("c", "a", "b")
    assert order(candidates, [0.5, math.nan, 0.1]) == ("b", "c", "a")
    assert order(candidates) == ("b", "c", "a")
    assert order(priced(a=3, b=None, c=2)) == ("a", "b", "c")
    assert order(candidates, [0.5, 0.9, 0.1], declared=True) == ("a", "b", "c")


def turn(candidate, **fields):
    said = AIMessage("", tool_calls=[{"name": "run", "args": {}, "id": "1"}], **fields)
    said.response_metadata = {"llm_router": {"candidate": candidate}}
    return [said, ToolMessage("Error: no", tool_call_id="1")]


def loop_of(*candidates):
    return [HumanMessage("Do it."), *(message for name in candidates for message in turn(name))]


def test_the_strongest_that_answered_has_the_loop_and_is_judged_by_its_own_turns():
    model_of = {name: name for name in NAMES}
    told = read_tool_loop(loop_of("a", "c", "a", "c"), model_of, NAMES)
    assert told.holder == "c"
    assert len(told.messages) == 6
    assert read_tool_loop([*loop_of("d"), *loop_of("a")], model_of, NAMES).holder == "a"
    assert read_tool_loop(loop_of("unknown", None, 5), model_of, NAMES) is None


def test_endpoints_of_one_model_are_equally_strong():
    model = ScriptedChatModel("hm")
    small = Candidate("small", endpoints=[Endpoint("x", model), Endpoint("y", model)])
    large = Candidate("large", endpoints=[Endpoint("x", model), Endpoint("y", model)])
    router = ChatLLMRouter(
        candidates=[small, large], policy=RandomMix({"small": 1.0}), stuck=StuckRules()
    )
    assert router.route(loop_of("small@x", "small@y")).candidate == "small@y"
    decision = router.route(loop_of("small@x", "small@y", "small@x"))
    assert decision.candidate in ("large@x", "large@y")
    assert "the best endpoint" in decision.reason
    assert router.route(loop_of("small@x", "large@y", "large@x", "large@y")).candidate == "large@y"


@st.composite
def routers(draw):
    usd = draw(st.permutations([1.0, 2.0, 5.0, 9.0]))
    candidates = priced(**dict(zip(NAMES, usd, strict=True)))
    estimator = None
    if draw(st.booleans()):
        row = draw(st.permutations([0.1, 0.3, 0.6, 0.8]))
        estimator = Constant().fit(Outcomes(["q"] * 2, list(NAMES), np.array([row] * 2)))
        rank = dict(zip(NAMES, row, strict=True))
    else:
        rank = dict(zip(NAMES, usd, strict=True))
    limit = draw(st.integers(1, 3))
    router = ChatLLMRouter(
        candidates=candidates,
        policy=Always(draw(st.sampled_from(NAMES))),
        estimator=estimator,
        stuck=StuckRules(errors_in_a_row=limit, repeated_calls=None),
    )
    return router, rank


@given(
    routers(),
    st.lists(st.sampled_from(["fails", "works", "answered by another"]), max_size=12),
    st.data(),
)
def test_a_loop_never_climbs_down(made, results, data):
    router, rank = made
    messages, highest = [HumanMessage("Do it.")], -1.0
    for result in results:
        decision = router.route(messages)
        assert rank[decision.candidate] >= highest
        if decision.signal is not None:
            assert rank[decision.candidate] > highest
        name = decision.candidate
        if result == "answered by another":
            # The call failed, and another candidate stood in.
            name = data.draw(st.sampled_from(NAMES))
        said, returned = turn(name)
        if result == "works":
            returned = ToolMessage(f"part {len(messages)}", tool_call_id="1")
        messages += [said, returned]
        highest = max(highest, rank[name])


@pytest.mark.parametrize("junk", [None, 5, [], {}, math.nan, "e", True, [{}], {"a": 1}])
def test_no_record_of_a_loop_stops_a_request(junk):
    candidates = priced(a=1, b=2)
    router = ChatLLMRouter(candidates=candidates, policy=Always("a"), stuck=StuckRules())
    for record in (
        junk,
        {"candidate": junk},
        {"candidate": "a", "cost_usd": junk, "attempts": junk},
    ):
        messages = loop_of("a", "a", "a")
        for message in messages[1::2]:
            message.response_metadata = {"llm_router": record}
        assert router.route(messages).candidate in ("a", "b")
