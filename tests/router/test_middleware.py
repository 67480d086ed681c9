"""The router in agents: as the model itself, and as middleware around each model call."""

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from tests.support.fakes import CapableModel, ScriptedModel


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def today() -> str:
    """Say what day it is."""
    return "Tuesday"


TOOLS = [add, multiply, today]
QUESTION = {"messages": [("human", "What is 3 and 4?")]}


class Sum(BaseModel):
    """A sum."""

    total: int


def one_shot(**kwargs) -> ChatLLMRouter:
    return ChatLLMRouter(candidates=pool(), policy=Always("small"), **kwargs)


def cascade(verdict: str, **kwargs) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=pool(verdict=verdict),
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=2),
        **kwargs,
    )


def pool(**kwargs) -> list[Candidate]:
    return [
        Candidate("small", CapableModel(model="tiny-one", **kwargs), Price(1, 2)),
        Candidate("large", CapableModel(model="tiny-two"), Price(10, 20)),
    ]


def as_model(router: ChatLLMRouter, **kwargs):
    return create_agent(router, TOOLS, **kwargs)


def as_middleware(router: ChatLLMRouter, **kwargs):
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    return create_agent(never, TOOLS, middleware=[LLMRouterMiddleware(router)], **kwargs)


SHAPES = {"as the model": as_model, "as middleware": as_middleware}
shapes = pytest.mark.parametrize("build", SHAPES.values(), ids=SHAPES.keys())


@shapes
async def test_an_agent_calls_tools_and_answers(build):
    agent = build(one_shot())
    for state in (agent.invoke(QUESTION), await agent.ainvoke(QUESTION)):
        _, asked, tool, answer = state["messages"]
        assert asked.tool_calls[0]["args"] == {"a": 3, "b": 3}
        assert tool.content == "6"
        assert answer.content == "Hello there, this is tiny-one speaking."
        assert route_of(asked)["candidate"] == route_of(answer)["candidate"] == "small"


@shapes
def test_an_agent_remembers_its_thread_and_streams_its_answer_once(build):
    agent = build(one_shot(), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    chunks = [c for c, _ in agent.stream(QUESTION, config, stream_mode="messages")]
    said = "".join(c.text for c in chunks if isinstance(c, AIMessage))
    assert said == "Hello there, this is tiny-one speaking."
    agent.invoke({"messages": [("human", "And 5 and 6?")]}, config)
    assert len(agent.get_state(config).values["messages"]) == 8


@shapes
@pytest.mark.parametrize(("verdict", "who"), [("Correct", "small"), ("Incorrect", "large")])
async def test_a_cascade_in_an_agent_judges_words_and_not_tool_calls(build, verdict, who):
    agent = build(cascade(verdict))
    for state in (agent.invoke(QUESTION), await agent.ainvoke(QUESTION)):
        _, asked, _, answer = state["messages"]
        assert route_of(asked)["candidate"] == "small"
        assert route_of(answer)["candidate"] == who
    shown = [c for c, _ in agent.stream(QUESTION, stream_mode="messages")]
    said = "".join(c.text for c in shown if isinstance(c, AIMessage))
    assert said == answer.text


@pytest.mark.parametrize("make", [one_shot, lambda: cascade("Incorrect")])
def test_an_agents_structured_answer_survives_routing(make):
    question = {"messages": [("human", "7")]}
    agent = create_agent(make(), [], response_format=ToolStrategy(Sum))
    assert agent.invoke(question)["structured_response"] == Sum(total=7)
    middleware = [LLMRouterMiddleware(make())]
    never = ScriptedModel("unused")
    agent = create_agent(never, [], response_format=ToolStrategy(Sum), middleware=middleware)
    assert agent.invoke(question)["structured_response"] == Sum(total=7)


def tool_loop():
    call = {"name": "add", "args": {"a": 3, "b": 4}, "id": "1"}
    record = {"llm_router": {"candidate": "large"}}
    return [
        AIMessage("", tool_calls=[call], response_metadata=record),
        ToolMessage("7", tool_call_id="1"),
    ]


@shapes
def test_a_tool_loop_stays_with_the_candidate_that_started_it(build):
    state = build(one_shot()).invoke({"messages": [HumanMessage("3 + 4?"), *tool_loop()]})
    assert route_of(state["messages"][-1])["candidate"] == "large"


@shapes
def test_options_reach_the_router_through_the_config(build):
    config = {"configurable": {"llm_router": {"force": "large"}}}
    state = build(one_shot()).invoke(QUESTION, config)
    assert {route_of(m)["candidate"] for m in state["messages"] if route_of(m)} == {"large"}


def test_the_middlewares_options_may_look_at_the_agents_state():
    def options(request):
        return {"force": "large"} if len(request.state["messages"]) > 1 else None

    middleware = LLMRouterMiddleware(one_shot(), options=options)
    agent = create_agent(ScriptedModel("unused"), TOOLS, middleware=[middleware])
    state = agent.invoke(QUESTION)
    answers = [m for m in state["messages"] if isinstance(m, AIMessage)]
    assert [route_of(m)["candidate"] for m in answers] == ["small", "large"]


def test_the_middleware_can_be_sticky():
    said = AIMessage("Hi.", response_metadata={"llm_router": {"candidate": "large"}})
    thread = {"messages": [HumanMessage("Hello"), said, HumanMessage("And?")]}
    middleware = LLMRouterMiddleware(one_shot(), sticky=True)
    state = create_agent(ScriptedModel("unused"), [], middleware=[middleware]).invoke(thread)
    assert route_of(state["messages"][-1])["candidate"] == "large"


async def test_a_failing_candidate_is_replaced_within_the_call():
    class Down(CapableModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            raise ConnectionError("down")

    candidates = [Candidate("down", Down()), Candidate("large", CapableModel(model="tiny-two"))]
    router = ChatLLMRouter(candidates=candidates, policy=RandomMix({"down": 1.0}))
    agent = as_middleware(router)
    for state in (agent.invoke(QUESTION), await agent.ainvoke(QUESTION)):
        record = route_of(state["messages"][-1])
        assert record["candidate"] == "large"


def test_the_systems_prompt_reaches_the_candidate():
    model = CapableModel()
    router = ChatLLMRouter(candidates=[Candidate("a", model)], policy=Always("a"))
    as_middleware(router, system_prompt="Be brief.").invoke(QUESTION)
    assert [m.type for m in model.calls[0][0]] == ["system", "human"]


def test_middleware_wants_a_router():
    with pytest.raises(TypeError, match="must be a ChatLLMRouter"):
        LLMRouterMiddleware(CapableModel())
