"""Tokens that a graph's stream has shown: no other answer follows them."""

import pytest
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph

from langchain_llm_router import Candidate, ChatLLMRouter, create_cascade
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import Utility
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.fakes import ScriptedModel

QUESTION = {"messages": [("human", "q")]}


def half():
    return ScriptedChatModel(["half ", TimeoutError("cut")], "again")


def pool(first=None, **kwargs):
    first = half() if first is None else first
    candidates = [Candidate("a", first), Candidate("b", ScriptedChatModel("fine"))]
    rows = Outcomes(["q"], ("a", "b"), [[1.0, 0.5]])
    return {"candidates": candidates, "policy": Utility(), "estimator": Constant().fit(rows),
            **kwargs}  # fmt: skip


def in_a_node(**kwargs):
    router = ChatLLMRouter(**kwargs)
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [router.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    return graph.compile()


def as_graph(**kwargs):
    return create_cascade(**kwargs).compile()


def as_the_agents_model(**kwargs):
    return create_agent(ChatLLMRouter(**kwargs), [])


def as_middleware(**kwargs):
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    return create_agent(never, [], middleware=[LLMRouterMiddleware(ChatLLMRouter(**kwargs))])


in_every_shape = pytest.mark.parametrize(
    "build", [in_a_node, as_graph, as_the_agents_model, as_middleware]
)


def shown(runnable) -> tuple[str, bool]:
    """Return the text of a stream of messages, and whether it ended with an error."""
    texts = []
    try:
        for message, _ in runnable.stream(QUESTION, stream_mode="messages"):
            texts.append(str(message.text))
    except TimeoutError:
        return "".join(texts), True
    return "".join(texts), False


async def ashown(runnable) -> tuple[str, bool]:
    texts = []
    try:
        async for message, _ in runnable.astream(QUESTION, stream_mode="messages"):
            texts.append(str(message.text))
    except TimeoutError:
        return "".join(texts), True
    return "".join(texts), False


@in_every_shape
@pytest.mark.parametrize("retries", [None, 2])
async def test_no_other_answer_follows_half_an_answer_that_was_shown(build, retries):
    def routed():
        rules = None if retries is None else Resilience(retries=retries, backoff_s=0)
        return build(**pool(live=None if rules is None else Live(resilience=rules)))

    assert shown(routed()) == ("half ", True)
    assert await ashown(routed()) == ("half ", True)


@in_every_shape
def test_a_failure_before_the_first_token_fails_over(build):
    text, failed = shown(build(**pool(ScriptedChatModel(TimeoutError("none")))))
    assert (text, failed) == ("fine", False)


@in_every_shape
def test_where_nothing_is_shown_another_candidate_answers(build):
    found = build(**pool()).invoke(QUESTION)["messages"][-1]
    assert found.text == "fine"


@in_every_shape
def test_an_answer_that_a_flaw_may_replace_is_shown_only_when_it_is_whole(build):
    cut = ScriptedChatModel("half and more", max_tokens=1)
    assert shown(build(**pool(cut, fallback_on=("cut_off",)))) == ("fine", False)


async def test_events_of_a_router_show_one_answer():
    texts = []

    async def listen():
        async for event in ChatLLMRouter(**pool()).astream_events("q", version="v2"):
            if event["event"] == "on_chat_model_stream":
                texts.append(event["data"]["chunk"].text)

    with pytest.raises(TimeoutError):
        await listen()
    assert "fine" not in texts
