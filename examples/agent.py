"""An agent whose every model call is routed, with tools, memory and streaming.

Offline a scripted model plays both candidates. With your own keys, change the line marked below.
"""

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.policies import Always
from langchain_llm_router.router.middleware import LLMRouterMiddleware


class Scripted(GenericFakeChatModel):
    """Says its lines in order, whatever it is asked and whichever tools it is given."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """Take any tools."""
        return self


def scripted(answer: str) -> Scripted:
    call = {"name": "weather", "args": {"city": "Lima"}, "id": "call_1"}
    return Scripted(messages=iter([AIMessage("", tool_calls=[call]), AIMessage(answer)]))


# With real keys: small, large = "openai:gpt-4o-mini", "openai:gpt-4o"
small, large = scripted("It is 18 degrees in Lima."), scripted("Lima: 18 degrees, cloudy.")


def weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"18 degrees and cloudy in {city}"


def main() -> None:
    router = ChatLLMRouter(
        candidates=[Candidate("small", small), Candidate("large", large)], policy=Always("small")
    )
    question = {"messages": [("human", "What is the weather in Lima?")]}

    # The router as the agent's model; a tool loop stays with the candidate that started it.
    agent = create_agent(router, [weather], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for message in agent.invoke(question, config)["messages"]:
        record = route_of(message)
        who = f"  <- {record['candidate']}" if record else ""
        print(f"{message.type:6s} {message.text or message.tool_calls}{who}")

    # Or as middleware: options may depend on the agent's state.
    middleware = LLMRouterMiddleware(router, options=lambda request: {"force": "large"})
    agent = create_agent(router, [weather], middleware=[middleware])
    last = agent.invoke(question)["messages"][-1]
    print(f"with the middleware: {last.text}  <- {route_of(last)['candidate']}")


if __name__ == "__main__":
    main()
