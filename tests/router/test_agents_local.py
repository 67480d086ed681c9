"""An agent over routed real local models: tools called, memory on disk, tokens as they come.

Which servers, says `tests/support/local_models/servers.py`.
"""

import numpy as np
import pytest
from langchain_core.messages import AIMessage, ToolMessage

from langchain_llm_router import ChatLLMRouter, Outcomes, route_of
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Utility
from tests.support.fenced_calls import read_call
from tests.support.local_models.servers import served


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
# Without it the model calls the same tool again and again.
ADVICE = "Once you have a tool's result, answer the question with it in one short sentence."


@pytest.fixture
def candidates():
    from tests.support.fenced_tools import FencedToolsModel

    return served(FencedToolsModel, max_tokens=48, temperature=0)


def test_a_fenced_call_is_read_and_other_text_is_not():
    call = read_call('```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```\n\nDone.')
    assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2})
    assert read_call('{"name": "today"}')["args"] == {}
    assert read_call('{"answer": 42}') is None
    assert read_call("It is 42.") is None
    assert read_call("```json\n{broken\n```") is None


@pytest.mark.local_llm
def test_an_agent_over_routed_real_models_calls_tools_remembers_and_streams(candidates, tmp_path):
    from langchain.agents import create_agent
    from langgraph.checkpoint.sqlite import SqliteSaver

    names = [candidate.name for candidate in candidates]
    known = Outcomes(["hello"], names, np.linspace(0.5, 0.9, len(names))[None])
    router = ChatLLMRouter(candidates=candidates, estimator=Constant().fit(known), policy=Utility())
    thread = {"configurable": {"thread_id": "t"}, "recursion_limit": 12}
    with SqliteSaver.from_conn_string(str(tmp_path / "memory.db")) as memory:
        agent = create_agent(router, TOOLS, system_prompt=ADVICE, checkpointer=memory)
        question = {"messages": [("human", "Use the multiply tool to compute 17 * 23.")]}
        stream = agent.stream(question, thread, stream_mode="messages")
        said = "".join(chunk.text for chunk, _ in stream if isinstance(chunk, AIMessage))
        messages = agent.get_state(thread).values["messages"]
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    results = [m for m in messages if isinstance(m, ToolMessage)]
    assert calls[0]["name"] == "multiply"
    assert sorted(calls[0]["args"].values()) == [17, 23]
    assert (results[0].name, results[0].content) == ("multiply", "391")
    # Each token once, and the whole tool loop stays with whom it began.
    answers = [m for m in messages if isinstance(m, AIMessage)]
    assert said == "".join(str(m.text) for m in answers) != ""
    assert {route_of(m)["candidate"] for m in answers} == {names[-1]}
    assert all(route_of(m)["cost_usd"] > 0 for m in answers)
    with SqliteSaver.from_conn_string(str(tmp_path / "memory.db")) as memory:
        agent = create_agent(router, TOOLS, system_prompt=ADVICE, checkpointer=memory)
        forced = {**thread["configurable"], "llm_router": {"force": names[0]}}
        goodbye = {"messages": [("human", "Now say goodbye in one word, without a tool.")]}
        state = agent.invoke(goodbye, {**thread, "configurable": forced})
    assert route_of(state["messages"][-1])["candidate"] == names[0]
    assert [m.type for m in state["messages"]].count("human") == 2


@pytest.mark.local_llm
def test_a_model_of_this_size_mostly_calls_the_right_tool(candidates):
    strong = candidates[-1]
    router = ChatLLMRouter(
        candidates=[strong],
        policy=Utility(),
        estimator=Constant().fit(Outcomes(["hello"], [strong.name], [[0.9]])),
    ).bind_tools(TOOLS)
    right = 0
    for i in range(6):
        a, b = 13 + 7 * i, 5 + 3 * i
        name, args = [("add", {"a": a, "b": b}), ("multiply", {"a": a, "b": b}), ("today", {})][
            i % 3
        ]
        words = {"add": f"compute {a} + {b}", "multiply": f"compute {a} * {b}"}
        answer = router.invoke(f"Use the {name} tool to {words.get(name, 'say what day it is')}.")
        right += [(c["name"], c["args"]) for c in answer.tool_calls] == [(name, args)]
    assert right >= 4, f"{right} of 6"
