"""A router among the candidates of another: records, costs, chunks, turns."""

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from pydantic import BaseModel

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.calls.nested_records import inner_cost_usd, passed_on
from langchain_llm_router.calls.provider_messages import provider_of
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.support.fakes import CapableModel


class Sum(BaseModel):
    """A sum."""

    total: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def one_shot(inner=None) -> ChatLLMRouter:
    pool = [
        Candidate("small", inner or CapableModel(model="tiny-one"), None if inner else Price(1, 2)),
        Candidate("large", CapableModel(model="tiny-two"), Price(10, 20)),
    ]
    return ChatLLMRouter(candidates=pool, policy=Always("small"))


def cascade(inner=None, verdict: str = "Correct") -> ChatLLMRouter:
    model = inner or CapableModel(model="tiny-one", verdict=verdict)
    return ChatLLMRouter(
        candidates=[
            Candidate("small", model, None if inner else Price(1, 2)),
            Candidate("large", CapableModel(model="tiny-two"), Price(10, 20)),
        ],
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=1),
    )


NESTS = {
    "one-shot in one-shot": lambda: one_shot(one_shot()),
    "cascade in one-shot": lambda: one_shot(cascade()),
    "escalating cascade in one-shot": lambda: one_shot(cascade(verdict="Incorrect")),
    "one-shot in cascade": lambda: cascade(one_shot()),
    "three deep": lambda: one_shot(one_shot(one_shot())),
}
in_every_nest = pytest.mark.parametrize("build", NESTS.values(), ids=NESTS)


def check(message: AIMessage) -> None:
    record = route_of(message)
    inner = record["nested"]
    assert isinstance(record["decision_id"], str)
    assert len(record["decision_id"]) == len(inner["decision_id"]) == 32
    assert record["decision_id"] != inner["decision_id"]
    assert record["candidate"] == "small"
    assert record["attempts"][0]["cost_usd"] == pytest.approx(inner["cost_usd"])


@in_every_nest
async def test_each_router_adds_its_record_to_the_answer(build):
    router = build()
    for answer in (router.invoke("Who are you?"), await router.ainvoke("Who are you?")):
        check(answer)


@in_every_nest
async def test_each_router_adds_its_record_to_the_stream(build):
    router = build()
    chunks = list(router.stream("Who are you?"))
    achunks = [chunk async for chunk in router.astream("Who are you?")]
    for parts in (chunks, achunks):
        whole = parts[0]
        for part in parts[1:]:
            whole += part
        check(whole)
        assert whole.text == router.invoke("Who are you?").text
        assert [part.chunk_position for part in parts].count("last") == 1


@in_every_nest
async def test_tools_and_schemas_pass_through_both_routers(build):
    router = build()
    bound = router.bind_tools([add])
    answers = [bound.invoke("3 and 4"), await bound.ainvoke("3 and 4"), sum_of(bound.stream("3"))]
    for answer in answers:
        assert answer.tool_calls[0]["name"] == "add"
        assert "nested" in route_of(answer)
    assert router.with_structured_output(Sum).invoke("7") == Sum(total=7)
    assert list(router.with_structured_output(Sum).stream("7"))[-1] == Sum(total=7)
    raw = router.with_structured_output(Sum, include_raw=True)
    assert "nested" in route_of(raw.invoke("7")["raw"])
    assert "nested" in route_of(sum_of(raw.stream("7"))["raw"])


def sum_of(chunks):
    first, *rest = chunks
    for chunk in rest:
        first = first + chunk
    return first


def test_a_typed_stream_of_nested_routers_has_the_whole_answer():
    stream = one_shot(one_shot()).stream_events("Who are you?", version="v3")
    assert str(stream.text) == "Hello there, this is tiny-one speaking."


async def test_a_nested_router_in_a_graph_and_in_an_agents_turns():
    graph = create_cascade(
        [Candidate("small", one_shot()), Candidate("large", CapableModel())], policy=Always("small")
    ).compile()
    state = await graph.ainvoke({"messages": [("human", "Who are you?")]})
    check(state["messages"][-1])


def test_the_inner_router_gets_its_own_record_back_in_the_next_turn():
    inner = ChatLLMRouter(
        candidates=[Candidate("a", CapableModel()), Candidate("b", CapableModel(model="tiny-b"))],
        policy=Always("b"),
        sticky=True,
    )
    outer = one_shot(inner)
    answer = outer.invoke([HumanMessage("Who are you?")])
    inner.policy = Always("a")
    again = outer.invoke([HumanMessage("Who are you?"), answer, HumanMessage("And now?")])
    assert route_of(again)["nested"]["candidate"] == "b"
    assert route_of(answer)["nested"]["candidate"] == "b", "the conversation itself is not changed"


def test_the_price_of_a_nested_router_comes_before_its_record():
    pool = [Candidate("small", one_shot(), Price(1e6, 1e6)), Candidate("large", CapableModel())]
    router = ChatLLMRouter(candidates=pool, policy=Always("small"))
    assert route_of(router.invoke("x"))["cost_usd"] > 1


@pytest.mark.parametrize(
    "cost", [None, -1.0, float("nan"), float("inf"), "free", True and [1]], ids=str
)
def test_a_cost_that_is_none_stays_unknown(cost):
    message = AIMessage("x", response_metadata={"llm_router": {"cost_usd": cost}})
    assert inner_cost_usd(message) is None


def test_a_record_that_is_no_record_is_ignored():
    assert inner_cost_usd(AIMessage("x")) is None
    assert inner_cost_usd(AIMessage("x", response_metadata={"llm_router": "forged"})) is None


def test_a_chunk_without_a_record_stays_the_same_object():
    chunk = AIMessageChunk("x", response_metadata={"model_name": "m"})
    assert passed_on(chunk) is chunk


def test_a_router_has_no_provider_of_its_own():
    assert provider_of(one_shot()) is None
