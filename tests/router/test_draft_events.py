"""Drafts and judges in event streams: they start and end there, but none of their tokens shows."""

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.tracers.context import collect_runs
from langgraph.graph import START, MessagesState, StateGraph

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, create_cascade
from langchain_llm_router.calls.tracing import without_tokens
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from tests.support.fakes import CapableModel, ScriptedModel

QUESTION = {"messages": [("human", "Who are you?")]}


class Eager(CapableModel):
    """A model that streams whenever it is asked, as users configure it."""

    streaming: bool = True


def arguments(verdict: str, **kwargs) -> dict:
    small = kwargs.pop("model", CapableModel)(reply="DRAFT secret", verdict=verdict)
    return {
        "candidates": [
            Candidate("small", small),
            Candidate("large", CapableModel(reply="final words")),
        ],
        "policy": ConfidenceThreshold(threshold=0.6),
        "verifier": SelfEvaluator(n_samples=2),
        **kwargs,
    }


def as_model(**kwargs):
    return ChatLLMRouter(**kwargs), "Who are you?"


def as_graph(**kwargs):
    return create_cascade(**kwargs).compile(), QUESTION


def in_a_node(**kwargs):
    router = ChatLLMRouter(**kwargs)
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [router.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    return graph.compile(), QUESTION


def as_the_agents_model(**kwargs):
    return create_agent(ChatLLMRouter(**kwargs), []), QUESTION


def as_middleware(**kwargs):
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    router = ChatLLMRouter(**kwargs)
    return create_agent(never, [], middleware=[LLMRouterMiddleware(router)]), QUESTION


SHAPES = [as_model, as_graph, in_a_node, as_the_agents_model, as_middleware]
in_every_shape = pytest.mark.parametrize("build", SHAPES, ids=lambda build: build.__name__)
of_every_model = pytest.mark.parametrize("model", [CapableModel, Eager])


async def events_of(runnable, given) -> list[dict]:
    return [event async for event in runnable.astream_events(given, version="v2")]


def said(events: list[dict]) -> str:
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    return "".join(tokens)


@in_every_shape
@of_every_model
async def test_the_tokens_of_a_rejected_draft_and_its_judges_are_no_events(build, model):
    events = await events_of(*build(**arguments("Incorrect", model=model)))
    assert said(events) == "final words"


@in_every_shape
async def test_drafts_and_judges_start_and_end_in_the_events(build):
    events = await events_of(*build(**arguments("Incorrect")))
    names = [event["event"] for event in events]
    assert names.count("on_chat_model_start") == names.count("on_chat_model_end") == 4
    ended = [e["data"]["output"].text for e in events if e["event"] == "on_chat_model_end"]
    assert ended[0] == "DRAFT secret"
    assert ended[-1] == "final words"


@in_every_shape
@of_every_model
def test_the_tokens_of_a_rejected_draft_are_not_in_a_graphs_messages(build, model):
    runnable, given = build(**arguments("Incorrect", model=model))
    if given is not QUESTION:
        pytest.skip("not a graph")
    pieces = [m.text for m, _ in runnable.stream(given, stream_mode="messages")]
    assert "".join(pieces) == "final words"


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@pytest.mark.parametrize("verdict", ["Correct", "Incorrect"])
@pytest.mark.parametrize("build", SHAPES[1:], ids=lambda build: build.__name__)
def test_the_typed_messages_of_a_graph_are_the_accepted_answer_only(build, verdict):
    runnable, given = build(**arguments(verdict))
    stream = runnable.stream_events(given, version="v3")
    said = [str(message.text) for message in stream.messages]
    assert said == ["DRAFT secret" if verdict == "Correct" else "final words"]


@pytest.mark.parametrize("build", SHAPES[1:], ids=lambda build: build.__name__)
async def test_an_accepted_draft_is_one_message_of_a_graph(build):
    runnable, given = build(**arguments("Correct"))
    pieces = [m.text async for m, _ in runnable.astream(given, stream_mode="messages")]
    assert [piece for piece in pieces if piece] == ["DRAFT secret"]


async def test_an_accepted_draft_is_one_chunk_of_the_routers_own_run():
    router, given = as_model(**arguments("Correct"))
    events = await events_of(router, given)
    chunks = [
        e["data"]["chunk"].text
        for e in events
        if e["event"] == "on_chain_stream" and e["name"] == "llm_router"
    ]
    assert [chunk for chunk in chunks if chunk] == ["DRAFT secret"]
    assert said(events) == ""


@in_every_shape
async def test_the_answer_of_a_one_shot_router_comes_token_by_token(build):
    given = arguments("Correct", policy=Always("large"), verifier=None)
    events = await events_of(*build(**given))
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert [token for token in tokens if token] == ["final ", "words"]


async def test_structured_drafts_are_not_in_the_events_either():
    schema = {"title": "Town", "type": "object", "properties": {"name": {"type": "string"}}}
    router, given = as_model(**arguments("Incorrect"))
    events = await events_of(router.with_structured_output(schema), given)
    streams = [e for e in events if e["event"].endswith("_stream")]
    assert {e["name"] for e in streams if "llm_router:candidate:small" in e["tags"]} == set()


class Listener(BaseCallbackHandler):
    """A handler that shows tokens, as for a terminal or a web socket."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.ended = 0

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ended += 1


class AsyncListener(AsyncCallbackHandler):
    """The same for asynchronous calls."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)


async def test_a_handler_for_tokens_hears_the_final_answer_only():
    class Loud(Eager):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            for chunk in super()._stream(messages, stop, None, **kwargs):
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    heard, aheard = Listener(), AsyncListener()
    router, given = as_model(**arguments("Incorrect", model=Loud))
    list(router.stream(given, {"callbacks": [heard]}))
    _ = [chunk async for chunk in router.astream(given, {"callbacks": [heard, aheard]})]
    assert "DRAFT" not in "".join(heard.tokens + aheard.tokens)
    assert heard.ended == 8


async def test_a_tracer_hears_drafts_as_before():
    router, given = as_model(**arguments("Incorrect"))
    with collect_runs() as runs:
        router.invoke(given)
    (root,) = runs.traced_runs
    asked = [run for run in root.child_runs if run.run_type == "llm"]
    assert [run.outputs["generations"][0][0]["text"] for run in asked] == [
        "DRAFT secret",
        "final words",
    ]


def test_callbacks_without_handlers_stay_as_they_are():
    assert without_tokens(None) is None
    assert without_tokens([]) == []


def test_a_handler_is_made_quiet_once_and_counts_as_the_same():
    heard = Listener()
    once = without_tokens([heard])
    twice = without_tokens(once)
    assert twice == once == [heard]
    assert hash(once[0]) == hash(heard)
    assert heard in once


# Handlers are told once


class Counter(BaseCallbackHandler):
    """Remembers which runs started."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chain_start(self, *args, **kwargs):
        self.events.append("chain")

    def on_chat_model_start(self, *args, **kwargs):
        self.events.append("model")


CALLS = {
    "invoke": lambda router, config: router.invoke("x", config),
    "stream": lambda router, config: list(router.stream("x", config)),
    "batch": lambda router, config: router.batch(["x"], config),
    "generate": lambda router, config: router.generate([[HumanMessage("x")]], **config),
    "with tools": lambda router, config: router.bind_tools([]).invoke("x", config),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_handler_of_router_candidate_and_call_is_told_once(call):
    counter = Counter()
    model = CapableModel(callbacks=[counter])
    router = ChatLLMRouter(
        candidates=[Candidate("large", model)],
        policy=Always("large"),
        callbacks=[counter],
        trace_decision=False,
    )
    call(router, {"callbacks": [counter]})
    assert counter.events == ["chain", "model"]


async def test_a_handler_of_router_and_call_is_told_once_by_async_calls():
    counter = Counter()
    given = arguments("", policy=Always("large"), verifier=None, trace_decision=False)
    router = ChatLLMRouter(**given, callbacks=[counter])
    await router.ainvoke("x", {"callbacks": [counter]})
    _ = [chunk async for chunk in router.astream("x", {"callbacks": [counter]})]
    assert counter.events == ["chain", "model"] * 2


def test_a_handler_of_a_candidate_and_of_the_call_is_told_of_a_draft_once():
    heard = Listener()
    given = arguments("Incorrect")
    given["candidates"][0].model.callbacks = [heard]
    ChatLLMRouter(**given).invoke("x", {"callbacks": [heard]})
    assert heard.ended == 4
