"""Tools and schemas through every path of the router; flaws seen without verification."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.calls.answer_checks import flaw_of, is_refusal
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix
from tests.support.fakes import CapableModel, JudgeModel, ScriptedModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Town(TypedDict):
    """A town."""

    name: str


CITY = {
    "title": "City",
    "description": "A city.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def cascade(small, large, **kwargs) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=[Candidate("small", small, Price(1, 2)), Candidate("large", large, Price(9, 9))],
        policy=kwargs.pop("policy", ConfidenceThreshold(threshold=0.6)),
        verifier=SelfEvaluator(n_samples=2),
        **kwargs,
    )


def one_shot(**kwargs) -> ChatLLMRouter:
    small, large = CapableModel(model="tiny-one", **kwargs), CapableModel(model="tiny-two")
    return ChatLLMRouter(
        candidates=[Candidate("small", small), Candidate("large", large)], policy=Always("small")
    )


@pytest.mark.parametrize("build", [one_shot, lambda: cascade(CapableModel(), CapableModel())])
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (Person, Person(name="Ann", age=7)),
        (Town, {"name": "Ann"}),
        (CITY, {"name": "Ann", "people": 7}),
    ],
    ids=["pydantic", "typed dict", "json schema"],
)
async def test_structured_output_on_every_path(build, schema, expected, include_raw):
    question = "Tell of 'Ann', 7"
    model = build().with_structured_output(schema, include_raw=include_raw)
    outputs = [model.invoke(question), await model.ainvoke(question)]
    outputs += model.batch([question])
    if not include_raw:
        outputs += [list(model.stream(question))[-1]]
        outputs += [[part async for part in model.astream(question)][-1]]
    for output in outputs:
        if include_raw:
            assert route_of(output["raw"])["candidate"] == "small"
            assert output["parsing_error"] is None
        assert (output["parsed"] if include_raw else output) == expected


@pytest.mark.parametrize("build", [one_shot, lambda: cascade(CapableModel(), CapableModel())])
def test_tools_are_bound_to_the_candidate_that_is_asked(build):
    model = build().bind_tools([add, multiply])
    (call,) = model.invoke("What is 3 and 3?").tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 3, "b": 3})
    chunks = list(model.stream("What is 3 and 3?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [c["name"] for c in whole.tool_calls] == ["add"]
    assert route_of(whole)["candidate"] == "small"


def test_tool_choice_and_parallel_calls_reach_the_candidate():
    model = one_shot(n_tool_calls=2).bind_tools([add, multiply], tool_choice="multiply")
    assert [c["name"] for c in model.invoke("3").tool_calls] == ["multiply"] * 2


def test_binding_anew_for_every_call_does_not_pile_up():
    router = one_shot()
    for _ in range(300):
        router.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}])
        router.bind_tools([add]).invoke("3")
    for i in range(300):
        function = {"name": f"f{i}", "parameters": {"type": "object", "properties": {}}}
        router.bind_tools([{"type": "function", "function": function}]).invoke("3")
    assert len(router.parts.bindings._built) <= 256


def test_a_tool_call_is_not_sent_to_a_verifier_of_text():
    small = CapableModel(verdict="Incorrect")
    record = route_of(cascade(small, CapableModel()).bind_tools([add]).invoke("3 and 3"))
    assert record["candidate"] == "small"
    assert record["attempts"][0]["form"] == "tool_calls"
    assert len(small.calls) == 1


def call_of(name: str, args: dict) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "1"}])


INVALID = [
    (call_of("divide", {}), "there is no tool 'divide'"),
    (call_of("add", {"a": "much"}), "add, 2 invalid arguments"),
    (
        AIMessage("", invalid_tool_calls=[{"name": "add", "args": "{", "id": "1", "error": "?"}]),
        "invalid tool call: add",
    ),
]


class BindableModel(ScriptedModel):
    def bind_tools(self, tools, **kwargs):
        return self.bind()


@pytest.mark.parametrize(("message", "says"), INVALID, ids=[says for _, says in INVALID])
def test_an_invalid_tool_call_escalates_for_free(message, says):
    router = cascade(BindableModel(message), CapableModel())
    answer = router.bind_tools([add]).invoke("3 and 3")
    record = route_of(answer)
    assert record["candidate"] == "large"
    assert says in record["attempts"][0]["flaw"]
    assert record["attempts"][0]["verified"] is False
    assert [step["action"] for step in record["steps"]] == ["ask", "ask", "accept"]


def test_arguments_that_fit_are_no_flaw():
    assert flaw_of(call_of("add", {"a": 1, "b": 2}), None, [add]) is None
    assert flaw_of(call_of("anything", {}), None, [{"type": "web_search"}]) is None
    assert flaw_of(call_of("Person", {"name": "Ann"}), None, [Person]) is not None


class Unparsable(ScriptedModel):
    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def parse(messages):
            raw = AIMessage("{")
            return {"raw": raw, "parsed": None, "parsing_error": ValueError("no json")}

        return RunnableLambda(parse)


def test_a_failed_parse_escalates_for_free_and_a_last_one_is_raised():
    router = cascade(Unparsable("x"), CapableModel())
    assert router.with_structured_output(Person).invoke("'Ann' 7") == Person(name="Ann", age=7)
    output = router.with_structured_output(Person, include_raw=True).invoke("'Ann' 7")
    assert route_of(output["raw"])["attempts"][0]["flaw"] == "failed parse: ValueError"
    with pytest.raises(ValueError, match="no json"):
        cascade(Unparsable("x"), Unparsable("y")).with_structured_output(Person).invoke("Ann")


REFUSALS = [
    AIMessage([{"type": "refusal", "refusal": "I can't help with that."}]),
    AIMessage([{"type": "non_standard", "value": {"type": "refusal", "refusal": "No."}}]),
    AIMessage("", additional_kwargs={"refusal": "No."}),
    AIMessage("", response_metadata={"stop_reason": "refusal"}),
    AIMessage("", response_metadata={"finish_reason": "content_filter"}),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_cascade_never_accepts_a_refusal(refusal):
    assert is_refusal(refusal)
    eager = ConfidenceThreshold(threshold=0.0)
    router = cascade(ScriptedModel(refusal), ScriptedModel("Sure."), policy=eager)
    answer = router.invoke("question?")
    assert answer.content == "Sure."
    assert route_of(answer)["attempts"][0]["flaw"] in ("refusal", "content filter")
    graph = create_cascade(router.candidates, policy=eager, verifier=router.verifier).compile()
    assert graph.invoke({"messages": [("human", "q")]})["messages"][-1].content == "Sure."


async def test_if_everybody_refuses_the_last_refusal_is_handed_on_and_said_so():
    refusal = REFUSALS[0]
    router = cascade(ScriptedModel(refusal), ScriptedModel(refusal))
    answer = await router.ainvoke("question?")
    record = route_of(answer)
    assert is_refusal(answer)
    assert "every answer is flawed" in record["reason"]
    graph = create_cascade(
        router.candidates, policy=router.policy, verifier=router.verifier
    ).compile()
    state = await graph.ainvoke({"messages": [("human", "q")]})
    assert is_refusal(state["messages"][-1])
    assert "every answer is flawed" in route_of(state["messages"][-1])["reason"]


def test_a_rejected_draft_beats_a_refusal():
    small = JudgeModel("draft", verdicts=["no"])
    assert cascade(small, ScriptedModel(REFUSALS[0])).invoke("q").content == "draft"


def loop_of(candidate: str) -> list:
    asked = call_of("add", {"a": 1, "b": 2})
    asked.response_metadata = {"llm_router": {"candidate": candidate}}
    return [HumanMessage("1 + 2?"), asked, ToolMessage("3", tool_call_id="1")]


def test_a_tool_loop_stays_with_the_candidate_that_started_it():
    router = one_shot().bind_tools([add])
    record = route_of(router.invoke(loop_of("large")))
    assert record["candidate"] == "large"
    assert "has this thread" in record["reason"]
    assert route_of(router.invoke([*loop_of("large"), HumanMessage("3?")]))["candidate"] == "small"


def test_a_cascade_escalates_from_the_candidate_that_started_the_loop():
    middle = CapableModel(model="tiny-two", verdict="Incorrect")
    candidates = [
        Candidate("small", CapableModel()),
        Candidate("middle", middle),
        Candidate("large", CapableModel(model="tiny-three")),
    ]
    policy, verifier = ConfidenceThreshold(threshold=0.6), SelfEvaluator(n_samples=2)
    router = ChatLLMRouter(candidates=candidates, policy=policy, verifier=verifier)
    record = route_of(router.bind_tools([add]).invoke(loop_of("middle")))
    assert [a["candidate"] for a in record["attempts"]] == ["middle", "large"]
    graph = create_cascade(candidates, policy=policy, verifier=verifier, tools=[add]).compile()
    answer = graph.invoke({"messages": loop_of("middle")})["messages"][-1]
    assert [a["candidate"] for a in route_of(answer)["attempts"]] == ["middle", "large"]


def test_a_failing_holder_of_a_loop_is_replaced():
    down = ScriptedModel(ConnectionError("down"))
    router = ChatLLMRouter(
        candidates=[Candidate("small", CapableModel()), Candidate("large", down)],
        policy=RandomMix({"small": 1.0}),
    )
    assert route_of(router.invoke(loop_of("large")))["candidate"] == "small"


def test_sticky_is_one_option_away():
    said = AIMessage("Hi.", response_metadata={"llm_router": {"candidate": "large"}})
    thread = [HumanMessage("Hello"), said, HumanMessage("And now?")]
    router = one_shot()
    assert route_of(router.invoke(thread))["candidate"] == "small"
    sticky = {"configurable": {"llm_router": {"sticky": True}}}
    assert route_of(router.invoke(thread, sticky))["candidate"] == "large"
    always = router.model_copy(update={"sticky": True})
    assert route_of(always.invoke(thread))["candidate"] == "large"
