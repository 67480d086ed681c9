"""Tokens of answers that may still be replaced, and of models that a user's own node calls."""

import asyncio
import time

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, create_cascade
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.verification import SelfEvaluator
from tests.support.fakes import CapableModel, ScriptedModel

QUESTION = {"messages": [("human", "Who are you?")]}


def shown(graph) -> str:
    return "".join(m.text for m, _ in graph.stream(QUESTION, stream_mode="messages"))


async def ashown(graph) -> str:
    chunks = [m.text async for m, _ in graph.astream(QUESTION, stream_mode="messages")]
    return "".join(chunks)


async def tokens(graph) -> str:
    events = [event async for event in graph.astream_events(QUESTION, version="v2")]
    found = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    return "".join(found)


class CutOff(CapableModel):
    """A model whose answers end in the middle."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        result = super()._generate(messages, stop, run_manager, **kwargs)
        result.generations[0].message.response_metadata["finish_reason"] = "length"
        return result


def one_shot(**fields) -> ChatLLMRouter:
    best = Outcomes(["q"], ("small", "large"), [[1, 0.9]])
    small, large = CutOff(reply="HALF secret"), CapableModel(reply="whole words")
    pool = [Candidate("small", small), Candidate("large", large)]
    return ChatLLMRouter(
        candidates=pool, policy=Utility(), estimator=Constant().fit(best), **fields
    )


def in_a_node(router):
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [router.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    return graph.compile()


def as_middleware(router):
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    return create_agent(never, [], middleware=[LLMRouterMiddleware(router)])


@pytest.mark.parametrize("build", [in_a_node, as_middleware, lambda r: create_agent(r, [])])
async def test_an_answer_that_a_flaw_may_still_replace_shows_no_tokens(build):
    graph = build(one_shot(fallback_on=("cut_off",)))
    assert shown(graph) == "whole words"
    assert "HALF" not in await tokens(graph)


async def test_an_answer_that_no_flaw_can_replace_shows_its_tokens_as_they_arrive():
    assert await tokens(in_a_node(one_shot())) == "HALF secret"
    alone = ChatLLMRouter(
        candidates=[Candidate("small", CutOff(reply="HALF but all"))],
        policy=ConfidenceThreshold(),
        verifier=SelfEvaluator(n_samples=2),
        fallback_on=("cut_off",),
    )
    assert await tokens(in_a_node(alone)) == "HALF but all"


def cascade(**nodes):
    small = CapableModel(reply="DRAFT secret", verdict="Incorrect")
    pool = [Candidate("small", small), Candidate("large", CapableModel(reply="final words"))]
    return create_cascade(
        pool,
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=2),
        nodes=nodes,
    ).compile()


MODEL = CapableModel(reply="secret")


def drafts(state) -> AIMessage:
    return MODEL.invoke(state["messages"])


def verifies(state) -> float:
    MODEL.invoke(state["messages"])
    return 0.0


def wraps(state, node):
    return node.invoke(state)


async def adrafts(state) -> AIMessage:
    return await MODEL.ainvoke(state["messages"])


async def averifies(state) -> float:
    await MODEL.ainvoke(state["messages"])
    return 0.0


async def awraps(state, node):
    return await node.ainvoke(state)


@pytest.mark.parametrize(
    ("node", "function", "afunction"),
    [
        ("small", drafts, adrafts),
        ("self_evaluate", verifies, averifies),
        ("small", wraps, awraps),
        ("self_evaluate", wraps, awraps),
    ],
)
async def test_a_model_that_a_users_node_calls_without_a_config_shows_no_draft(
    node, function, afunction
):
    graph = cascade(**{node: function})
    assert shown(graph) == "final words"
    graph = cascade(**{node: afunction})
    assert await ashown(graph) == "final words"
    assert await tokens(graph) == "final words"


async def test_a_users_last_candidate_shows_its_tokens():
    graph = cascade(large=adrafts)
    assert await tokens(graph) == "secret"


# Calls of which one is given up


class Slow(CapableModel):
    """A model that streams for a handler; its first call is slow and says something else."""

    def _words(self) -> list[tuple[float, ChatGenerationChunk]]:
        self.calls.append(([], {}))
        seconds, late = (0.3, "LATE ") if len(self.calls) == 1 else (0.02, "")
        words = [f"{late}{word}" for word in ("one ", "two ", "three")]
        return [(seconds, ChatGenerationChunk(message=AIMessageChunk(word))) for word in words]

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for seconds, chunk in self._words():
            time.sleep(seconds)
            yield chunk

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for seconds, chunk in self._words():
            await asyncio.sleep(seconds)
            yield chunk


def guarded(model=None, **rules) -> ChatLLMRouter:
    router = ChatLLMRouter(
        candidates=[Candidate("slow", model or Slow())],
        policy=Always("slow"),
        live=Live(resilience=Resilience(**rules)),
    )
    telemetry, now = router.live.telemetry, [time.time() - 100]
    telemetry.clock = lambda: now[0]
    for _ in range(12):
        call = telemetry.began("slow", streamed=True)
        now[0] += 0.05
        call.got_first_token()
        call.answered(1)
    telemetry.clock = time.time
    return router


def and_waits(router):
    """Return a graph that still runs when the call that was given up ends."""

    def answer(state):
        message = router.invoke(state["messages"])
        time.sleep(1.0)
        return {"messages": [message]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph.compile()


@pytest.mark.parametrize("rules", [{"hedge_after": 0.9}, {"timeout_s": 0.2, "retries": 1}])
def test_a_call_that_is_given_up_shows_no_tokens(rules):
    router = guarded(**rules)
    assert shown(and_waits(router)) == "one two three"
    assert len(router.candidates[0].model.calls) == 2


async def test_of_two_hedged_calls_the_tokens_of_one_are_shown():
    router = guarded(hedge_after=0.9)

    async def answer(state):
        return {"messages": [await router.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    assert await ashown(graph.compile()) == "one two three"


class Halting(Slow):
    """A model that is quick with its first words and slow with the others."""

    def _words(self):
        (_, first), *rest = super()._words()
        return [(0.0, first), *((0.3, chunk) for _, chunk in rest)]


async def test_no_second_call_is_made_after_words_of_the_first_were_shown():
    for shows in (shown, ashown):
        router = guarded(hedge_after=0.9, model=Halting())

        def answer(state, router=router):
            return {"messages": [router.invoke(state["messages"])]}

        async def aanswer(state, router=router):
            return {"messages": [await router.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer if shows is shown else aanswer)
        graph.add_edge(START, "answer")
        text = shows(graph.compile())
        assert (text if isinstance(text, str) else await text) == "LATE one LATE two LATE three"
        assert len(router.candidates[0].model.calls) == 1


async def test_of_two_hedged_calls_of_an_agent_the_tokens_of_one_are_shown():
    assert shown(as_middleware(guarded(hedge_after=0.9))) == "one two three"
    assert await ashown(as_middleware(guarded(hedge_after=0.9))) == "one two three"
