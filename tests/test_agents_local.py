"""An agent over routed real local models: tools bound, memory, tokens as they come.

Start the servers with `tests/local_models/serve.sh DIR`, or name others in
`LLM_ROUTER_LOCAL_SERVERS`, e.g. `qwen2.5-coder-0.5b@8102,qwen2.5-coder-1.5b@8103`.
"""

import os

import httpx
import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price, route_of
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Utility

SERVERS = os.environ.get(
    "LLM_ROUTER_LOCAL_SERVERS", "qwen2.5-coder-0.5b@8102,qwen2.5-coder-1.5b@8103"
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def today() -> str:
    """Say what day it is."""
    return "Tuesday"


@pytest.fixture
def candidates():
    found = []
    for entry in SERVERS.split(","):
        name, port = entry.split("@")
        url = f"http://127.0.0.1:{port}"
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
        except httpx.HTTPError:
            pytest.skip(f"no local model answers at {url}")
        # `ChatOpenAI` asks other servers than OpenAI's for no usage in streams unless it is told.
        model = ChatOpenAI(
            model=name,
            base_url=f"{url}/v1",
            api_key="none",
            max_tokens=16,
            temperature=0,
            stream_usage=True,
        )
        found.append(Candidate(name, model, Price(0.1, 0.1)))
    return found


@pytest.mark.local_llm
def test_an_agent_over_routed_real_models_remembers_and_streams(candidates):
    names = [candidate.name for candidate in candidates]
    known = Outcomes(["hello"], names, np.linspace(0.5, 0.9, len(names))[None])
    router = ChatLLMRouter(candidates=candidates, estimator=Constant().fit(known), policy=Utility())
    agent = create_agent(router, [add, multiply, today], checkpointer=InMemorySaver())
    cheap = {"llm_router": {"force": names[0]}, "thread_id": "t"}
    config = {"configurable": cheap}
    stream = agent.stream(
        {"messages": [("human", "Say hello in one word.")]}, config, stream_mode="messages"
    )
    said = "".join(chunk.text for chunk, _ in stream if isinstance(chunk, AIMessage))
    messages = agent.get_state(config).values["messages"]
    assert said == "".join(m.text for m in messages if isinstance(m, AIMessage)) != ""
    record = route_of(messages[-1])
    assert record["candidate"] == names[0]
    assert record["cost_usd"] > 0
    state = agent.invoke(
        {"messages": [("human", "And now goodbye.")]}, {"configurable": {"thread_id": "t"}}
    )
    assert route_of(state["messages"][-1])["candidate"] == names[-1]
    assert [m.type for m in state["messages"]].count("human") == 2
