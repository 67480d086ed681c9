"""A router that was given nothing but candidates with prices."""

import logging
from dataclasses import replace

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.policies import AnswerPool, ConfidenceThreshold
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.verification import AnswerGroups, SelfReported
from tests.support.fakes import ScriptedModel

PRICES = {"small": Price(0.1, 0.4), "medium": Price(0.2, 0.8), "large": Price(3, 15)}
FREE_TEXT = "A long story of a fox that wanted grapes, " * 10


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class ToolModel(ScriptedModel):
    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        return self.bind()


def pool(**answers) -> list[Candidate]:
    return [Candidate(n, ToolModel(text), PRICES[n]) for n, text in answers.items()]


def asked(candidates) -> list[str]:
    return [c.name for c in candidates if len(c.model.seen) > 0]


def test_cheap_candidates_that_agree_answer_and_the_dearest_is_not_asked():
    candidates = pool(small="It is 4.", medium="The answer is 4", large="5")
    router = ChatLLMRouter(candidates=candidates)
    answer = router.invoke("What is 2 + 2?")
    assert answer.text == "It is 4."
    assert asked(candidates) == ["small", "medium"]
    reason = answer.response_metadata["llm_router"]["steps"][-1]["reason"]
    assert "2 of 2 answers agree" in reason or "agree" in reason
    assert "assumed from prices, not measured" in reason


def test_the_dearest_is_asked_where_the_cheap_ones_differ():
    candidates = pool(small="4", medium="5", large="6")
    assert ChatLLMRouter(candidates=candidates).invoke("q").text == "6"
    assert asked(candidates) == ["small", "medium", "large"]


def test_free_text_comes_from_the_dearest_at_once_after_one_draft():
    candidates = pool(small=FREE_TEXT, medium=FREE_TEXT, large="Better. " + FREE_TEXT)
    assert ChatLLMRouter(candidates=candidates).invoke("q").text.startswith("Better.")
    assert asked(candidates) == ["small", "large"]


@pytest.mark.parametrize(
    ("args", "expected"), [({"a": 1, "b": 2}, ["small"]), ({"a": "x"}, ["small", "large"])]
)
def test_a_valid_tool_call_is_taken_and_an_invalid_one_is_not(args, expected):
    call = AIMessage("", tool_calls=[{"name": "add", "args": args, "id": "1"}])
    good = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "2"}])
    candidates = pool(small=call, medium=good, large=good)
    router = ChatLLMRouter(candidates=candidates)
    answer = router.invoke("q", tools=[add])
    assert answer.tool_calls[0]["args"] == {"a": 1, "b": 2}
    assert asked(candidates) == expected


def test_of_two_candidates_the_dearest_is_asked_for_tool_calls_too_as_nothing_can_agree_before():
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    candidates = pool(small=call, large=call)
    assert ChatLLMRouter(candidates=candidates).invoke("q", tools=[add]).tool_calls
    assert asked(candidates) == ["large"]


def in_tool_loop(router):
    """Let a router begin a tool loop, and return what it says to the tool's result."""
    question = HumanMessage("What is 1 + 2?")
    call = router.invoke([question], tools=[add])
    result = ToolMessage("3", tool_call_id=call.tool_calls[0]["id"])
    return router.invoke([question, call, result], tools=[add])


@pytest.mark.parametrize(
    ("last", "expected", "taken"),
    [("It is 3.", ["small", "medium"], "small"), (FREE_TEXT, ["small", "large"], "large")],
)
def test_the_last_text_of_a_tool_loop_is_taken_as_any_other_text(last, expected, taken):
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    candidates = pool(small=call, medium="3", large="Better. " + FREE_TEXT)
    candidates[0] = replace(candidates[0], model=ToolModel(call, last))
    answer = in_tool_loop(ChatLLMRouter(candidates=candidates))
    assert asked(candidates) == expected
    assert len(candidates[0].model.seen) == 2
    assert route_of(answer)["candidate"] == taken


def test_the_dearest_finishes_alone_the_tool_loop_that_it_has():
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    broken = AIMessage("", tool_calls=[{"name": "add", "args": {"a": "x"}, "id": "2"}])
    candidates = pool(small=broken, medium="3", large=FREE_TEXT)
    candidates[2] = replace(candidates[2], model=ToolModel(call, FREE_TEXT))
    in_tool_loop(ChatLLMRouter(candidates=candidates))
    assert [len(c.model.seen) for c in candidates] == [1, 0, 2]


def test_graph_and_middleware_do_the_same():
    graph = create_cascade(pool(small="4", medium="4", large="5")).compile()
    assert graph.invoke({"messages": [("human", "q")]})["messages"][-1].text == "4"
    router = ChatLLMRouter(candidates=pool(small="4", medium="4", large="5"))
    assert isinstance(LLMRouterMiddleware(router)._parts.policy, AnswerPool)


def test_what_it_assumes_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "langchain_llm_router")
    router = ChatLLMRouter(candidates=pool(small="4", medium="4", large="5"))
    router.model_copy(update={"turns": 2}).invoke("q")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "says little about your questions" in caplog.text
    assert "AnswerPool" in repr(router)
    assert isinstance(router.verifier, AnswerGroups)


def test_other_parts_keep_their_own_policies():
    candidates = pool(small="4", large="5")
    router = ChatLLMRouter(candidates=candidates, verifier=SelfReported())
    assert isinstance(router.policy, ConfidenceThreshold)


def test_of_many_candidates_six_are_asked_with_the_cheapest_and_the_dearest():
    many = [Candidate(f"m{i}", ScriptedModel("4"), Price(1 + i, 1 + i)) for i in range(9)]
    policy = ChatLLMRouter(candidates=many[::-1]).policy
    assert policy.named_candidates == ("m0", "m2", "m3", "m5", "m6", "m8")


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"small": Price(1, 2)}, "from 'small' alone"),
        ({"small": None, "large": Price(1, 2)}, r"without a price of \['small'\].*`--price`"),
        ({"small": Price(0, 0), "large": Price(0, 0)}, "all equal"),
        ({"small": Price(1, 2), "large": Price(1, 2)}, "all equal.*`verifier`"),
    ],
)
def test_prices_that_order_nothing_are_refused_in_words(prices, message):
    candidates = [Candidate(name, ScriptedModel("4"), price) for name, price in prices.items()]
    for make in (lambda: ChatLLMRouter(candidates=candidates), lambda: create_cascade(candidates)):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_free_candidate_is_asked_first():
    free = Candidate("local", ScriptedModel("4"), Price(0, 0))
    candidates = [free, *pool(medium="4", large="5")]
    assert ChatLLMRouter(candidates=candidates).invoke("q").text == "4"
    assert asked(candidates) == ["local", "medium"]
