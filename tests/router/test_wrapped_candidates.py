"""Candidates that are wrapped, and a wrapped router: they work or are refused in words."""

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import ConfigurableField

from langchain_llm_router import Candidate, ChatLLMRouter, create_cascade, route_of
from langchain_llm_router.policies import Always
from langchain_llm_router.types import Endpoint
from tests.support.fakes import CapableModel


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def router_of(candidate, **kwargs) -> ChatLLMRouter:
    if not isinstance(candidate, Candidate):
        candidate = Candidate("small", candidate)
    return ChatLLMRouter(candidates=[candidate], policy=Always("small"), **kwargs)


async def test_bound_arguments_become_parameters_of_the_candidate():
    model = CapableModel()
    router = router_of(model.bind(temperature=0.3, seed=1))
    router.invoke("x")
    await router.ainvoke("x")
    list(router.stream("x"))
    router.invoke("x", seed=2)
    assert [kwargs["temperature"] for _, kwargs in model.calls] == [0.3] * 4
    assert [kwargs["seed"] for _, kwargs in model.calls] == [1, 1, 1, 2]


def test_a_bound_model_is_named_like_the_model():
    router = ChatLLMRouter(candidates=[CapableModel().bind(seed=1)], policy=Always("tiny-one"))
    assert router.candidates[0].name == "tiny-one"


def test_the_candidates_own_parameters_come_before_bound_arguments():
    candidate = Candidate("small", CapableModel().bind(seed=1, n=1), parameters={"seed": 2})
    assert router_of(candidate).candidates[0].parameters == {"seed": 2, "n": 1}


def test_a_bound_model_works_at_an_endpoint_and_in_a_graph():
    endpoints = [Endpoint("a", CapableModel().bind(seed=1)), Endpoint("b", CapableModel())]
    router = router_of(Candidate("small", endpoints=endpoints))
    assert dict(router.candidates[0].parameters) == {"seed": 1}
    graph = create_cascade([Candidate("x", CapableModel().bind(seed=1))], policy=Always("x"))
    state = graph.compile().invoke({"messages": [("human", "x")]})
    assert route_of(state["messages"][-1])["candidate"] == "x"


def test_tools_that_are_bound_to_one_candidate_stay_bound():
    answer = router_of(CapableModel().bind_tools([add])).invoke("1 and 2")
    assert answer.tool_calls[0]["name"] == "add"


REFUSED = {
    "with_retry": (lambda m: m.with_retry(), "RunnableRetry: .*`max_retries`"),
    "with_fallbacks": (lambda m: m.with_fallbacks([m]), "each model as a candidate"),
    "configurable fields": (
        lambda m: m.configurable_fields(temperature=ConfigurableField("t")),
        "its arguments with each call",
    ),
    "configurable alternatives": (
        lambda m: m.configurable_alternatives(ConfigurableField("w"), other=m),
        "pass each as a candidate",
    ),
    "an open model": (lambda m: init_chat_model(configurable_fields="any"), "each model as a"),
    "a chain": (lambda m: m | StrOutputParser(), "the parser after it"),
    "tags": (lambda m: m.with_config(tags=["x"]), r"got \{'tags': \['x'\]\}"),
    "with_retry and bind": (lambda m: m.with_retry().bind(n=1), "RunnableRetry"),
    "listeners": (lambda m: m.with_listeners(on_end=print), "listeners of its own"),
}


@pytest.mark.parametrize(("wrap", "says"), REFUSED.values(), ids=REFUSED)
def test_other_wrapped_models_are_refused_in_words(wrap, says):
    wrapped = wrap(CapableModel())
    for candidate in (wrapped, Candidate("small", wrapped)):
        with pytest.raises(TypeError, match=says):
            ChatLLMRouter(candidates=[candidate], policy=Always("small"))


def test_a_refusal_does_not_print_the_model():
    with pytest.raises(TypeError) as caught:
        router_of(CapableModel(reply="SECRET").with_retry())
    assert "SECRET" not in str(caught.value)


# A wrapped router


async def test_a_wrapped_router_works():
    model = CapableModel()
    router = router_of(model)
    spare = CapableModel()
    for wrapped in (
        router.with_retry(),
        router.with_fallbacks([spare]),
        router.with_config(tags=["x"]),
        router.bind(temperature=0.5),
        router.bind_tools([add]).with_retry(),
        router.configurable_fields(temperature=ConfigurableField("t")),
        router.configurable_alternatives(ConfigurableField("w"), other=spare),
    ):
        for answer in (wrapped.invoke("x"), await wrapped.ainvoke("x")):
            assert route_of(answer)["candidate"] == "small"
    assert spare.calls == []


def test_a_configurable_routers_field_reaches_the_candidate():
    model = CapableModel()
    router = router_of(model).configurable_fields(temperature=ConfigurableField("t"))
    router.invoke("x", {"configurable": {"t": 0.7}})
    router.invoke("x")
    assert [kwargs.get("temperature") for _, kwargs in model.calls] == [0.7, None]


# Streaming that is disabled


@pytest.mark.parametrize("place", ["router", "candidate"])
async def test_disabled_streaming_gives_one_piece(place):
    where = {"disable_streaming": True}
    model = CapableModel(**(where if place == "candidate" else {}))
    router = router_of(model, **(where if place == "router" else {}))
    pieces = [chunk for chunk in router.stream("x") if chunk.text]
    apieces = [chunk async for chunk in router.astream("x") if chunk.text]
    events = [e async for e in router.astream_events("x", version="v2")]
    assert len(pieces) == len(apieces) == 1
    first, *rest = router.stream("x")
    for chunk in rest:
        first = first + chunk
    assert first.text == router.invoke("x").text
    assert route_of(first)["candidate"] == "small"
    assert [
        e for e in events if e["event"] == "on_chat_model_stream" and e["data"]["chunk"].text
    ] == []


def test_streaming_that_is_disabled_with_tools_only():
    router = router_of(CapableModel(), disable_streaming="tool_calling")
    assert len([c for c in router.stream("x") if c.text]) > 1
    bound = router.bind_tools([add])
    assert len([chunk for chunk in bound.stream("1 and 2") if chunk.tool_calls]) == 1


def test_streaming_that_is_disabled_later_and_again_allowed():
    router = router_of(CapableModel())
    router.disable_streaming = True
    assert len([c for c in router.stream("x") if c.text]) == 1
