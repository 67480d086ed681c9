"""The router as the model of other libraries' agents, each as a one-shot router and as a cascade.

They are installed by the extra `clients`; a library that is missing is skipped.
"""

import sys

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, convert_to_messages
from pydantic import BaseModel

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, route_of
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from tests.support.fakes import CapableModel, ScriptedModel
from tests.support.paths import ROOT

# Other libraries' own deprecations are not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")

QUESTION = {"messages": [("human", "What is 3 and 4?")]}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def pool(verdict: str = "Correct") -> list[Candidate]:
    return [
        Candidate("small", CapableModel(model="tiny-one", reply="from small", verdict=verdict)),
        Candidate("large", CapableModel(model="tiny-two", reply="from large")),
    ]


def one_shot() -> ChatLLMRouter:
    return ChatLLMRouter(candidates=pool(), policy=Always("small"))


def cascade(verdict: str = "Correct") -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=pool(verdict),
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=1),
    )


ROUTERS = {
    "one-shot": (one_shot, "small"),
    "cascade that accepts": (cascade, "small"),
    "cascade that escalates": (lambda: cascade("Incorrect"), "large"),
}
with_each_router = pytest.mark.parametrize(("build", "says"), ROUTERS.values(), ids=ROUTERS)


def check(state, says: str) -> None:
    answer = [m for m in state["messages"] if isinstance(m, AIMessage) and not m.tool_calls][-1]
    assert answer.text == f"from {says}"
    assert route_of(answer)["candidate"] == says


# LangGraph's own older agent, which needs no extra


@with_each_router
async def test_a_prebuilt_agent_with_tools_bound_already(build, says):
    from langgraph.prebuilt import create_react_agent

    router = build()
    agents = [
        create_react_agent(router.bind_tools([add]), [add]),
        create_react_agent(router, [add]),
    ]
    for agent in agents:
        check(agent.invoke(QUESTION), says)
        check(await agent.ainvoke(QUESTION), says)


def test_a_prebuilt_agent_sees_that_a_tool_is_not_bound():
    from langgraph.prebuilt import create_react_agent

    def other(a: int) -> int:
        """Do something else."""
        return a

    with pytest.raises(ValueError, match="tool"):
        create_react_agent(one_shot().bind_tools([other]), [add])


# langgraph-supervisor, langgraph-swarm, deepagents


@with_each_router
async def test_a_supervisor_and_its_workers(build, says):
    library = pytest.importorskip("langgraph_supervisor", reason="needs the extra `clients`")
    worker = create_agent(build(), [add], name="math")
    graph = library.create_supervisor([worker], model=build(), prompt="Delegate.").compile()
    state = graph.invoke(QUESTION)
    check(state, says)
    check(await graph.ainvoke(QUESTION), says)
    called = [call["name"] for m in state["messages"] for call in getattr(m, "tool_calls", [])]
    assert called[0] == "transfer_to_math"


@with_each_router
async def test_a_supervisor_whose_handoff_tools_are_bound_already(build, says):
    library = pytest.importorskip("langgraph_supervisor", reason="needs the extra `clients`")
    handoff = library.create_handoff_tool(agent_name="math")
    worker = create_agent(build(), [add], name="math")
    model = build().bind_tools([handoff])
    graph = library.create_supervisor([worker], model=model, tools=[handoff]).compile()
    check(await graph.ainvoke(QUESTION), says)


@with_each_router
async def test_a_swarm(build, says):
    library = pytest.importorskip("langgraph_swarm", reason="needs the extra `clients`")
    to_bob = library.create_handoff_tool(agent_name="bob")
    alice = create_agent(build(), [to_bob], name="alice")
    bob = create_agent(build(), [add], name="bob")
    graph = library.create_swarm([alice, bob], default_active_agent="alice").compile()
    state = graph.invoke(QUESTION)
    check(state, says)
    assert state["active_agent"] == "bob"
    check(await graph.ainvoke(QUESTION), says)


@with_each_router
async def test_a_deep_agent(build, says):
    library = pytest.importorskip("deepagents", reason="needs the extra `clients`")
    agent = library.create_deep_agent(model=build(), tools=[add], system_prompt="Be brief.")
    check(agent.invoke(QUESTION), says)
    check(await agent.ainvoke(QUESTION), says)
    pieces = [m async for m, _ in agent.astream(QUESTION, stream_mode="messages")]
    said = "".join(m.text for m in pieces if isinstance(m, AIMessage))
    assert said == f"from {says}"


@with_each_router
async def test_a_deep_agent_whose_calls_are_routed_by_middleware(build, says):
    library = pytest.importorskip("deepagents", reason="needs the extra `clients`")
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    middleware = [LLMRouterMiddleware(build())]
    agent = library.create_deep_agent(model=never, tools=[add], middleware=middleware)
    check(await agent.ainvoke(QUESTION), says)


# trustcall, langmem


@with_each_router
async def test_an_extractor(build, says):
    library = pytest.importorskip("trustcall", reason="needs the extra `clients`")
    extractor = library.create_extractor(build(), tools=[Person], tool_choice="Person")
    expected = [Person(name="Ann", age=7)]
    assert extractor.invoke("'Ann' is 7")["responses"] == expected
    assert (await extractor.ainvoke("'Ann' is 7"))["responses"] == expected


@with_each_router
async def test_a_memory_manager(build, says):
    library = pytest.importorskip("langmem", reason="needs the extra `clients`")
    manager = library.create_memory_manager(build(), schemas=[Person])
    found = await manager.ainvoke({"messages": [{"role": "user", "content": "'Ann' is 7"}]})
    assert [type(memory.content) for memory in found] == [Person]


@with_each_router
def test_a_running_summary(build, says):
    pytest.importorskip("langmem", reason="needs the extra `clients`")
    from langmem.short_term import summarize_messages

    turns = [("human", "x " * 50), ("ai", "y " * 50)] * 4 + [("human", "And now?")]
    messages = convert_to_messages(turns)
    for i, message in enumerate(messages):
        message.id = str(i)
    result = summarize_messages(
        messages,
        running_summary=None,
        model=build().bind(max_tokens=64),
        max_tokens=128,
        max_summary_tokens=64,
        token_counter=len,
        max_tokens_before_summary=4,
    )
    assert result.running_summary.summary == f"from {says}"


# MCP

MCP_SERVER = {
    "numbers": {
        "command": sys.executable,
        "args": ["-m", "tests.support.mcp_server"],
        "cwd": str(ROOT),
        "transport": "stdio",
    }
}


@with_each_router
async def test_tools_of_an_mcp_server_over_stdio(build, says):
    pytest.importorskip("mcp", reason="needs the extra `clients`")
    library = pytest.importorskip(
        "langchain_mcp_adapters.client", reason="needs the extra `clients`"
    )
    client = library.MultiServerMCPClient(MCP_SERVER)
    tools = await client.get_tools()
    state = await create_agent(build(), tools).ainvoke(QUESTION)
    check(state, says)
    asked, answered = state["messages"][1:3]
    assert asked.tool_calls[0]["args"] == {"a": 3, "b": 3}
    assert "6" in str(answered.content)


async def test_a_draft_with_arguments_that_an_mcp_tool_refuses_escalates():
    pytest.importorskip("mcp", reason="needs the extra `clients`")
    library = pytest.importorskip(
        "langchain_mcp_adapters.client", reason="needs the extra `clients`"
    )

    class Wrong(CapableModel):
        def _tool_calls(self, messages, tools, choice):
            if not tools:
                return []
            return [{"name": "add", "args": {"a": "x"}, "id": "1", "type": "tool_call"}]

    tools = await library.MultiServerMCPClient(MCP_SERVER).get_tools()
    router = ChatLLMRouter(
        candidates=[Candidate("small", Wrong()), Candidate("large", CapableModel())],
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=1),
    )
    answer = await router.bind_tools(tools).ainvoke("What is 3 and 4?")
    record = route_of(answer)
    assert record["candidate"] == "large"
    assert record["attempts"][0]["flaw"].startswith("invalid tool call: add")


# Anthropic's prompt caching


def test_anthropics_prompt_caching_outside_the_routers_middleware():
    library = pytest.importorskip("langchain_anthropic", reason="needs the extra `clients`")
    from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware

    own = library.ChatAnthropic(
        model="claude-sonnet-4-5", api_key="x", base_url="http://127.0.0.1:9", max_retries=0
    )
    model = CapableModel(provider="openai", reply="from small")
    pool = [Candidate("small", model), Candidate("large", CapableModel())]
    router = ChatLLMRouter(candidates=pool, policy=Always("small"))
    agent = create_agent(
        own,
        [add],
        system_prompt="Be brief.",
        middleware=[AnthropicPromptCachingMiddleware(), LLMRouterMiddleware(router)],
    )
    check(agent.invoke(QUESTION), "small")
    messages, kwargs = model.calls[0]
    assert "cache_control" not in kwargs
    assert "cache_control" not in str(messages[0].content)
