"""What the graph remembers between two nodes: the messages, and its request as plain data."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_llm_router.types import Attempt

__all__ = ["CascadeMessages", "CascadeState", "TraceEntry"]


class TraceEntry(TypedDict):
    """One candidate asked: what came of it as data, and the draft itself."""

    attempt: Attempt
    message: AIMessage | None


class CascadeState(TypedDict):
    """What the graph remembers; everything but `messages` is about the present turn only.

    No key has a reducer but `messages`, so that a new turn starts afresh.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the accepted answer is added at its end."""

    trace: NotRequired[list[TraceEntry]]
    """The candidates asked so far, in order."""

    steps: NotRequired[list[dict[str, Any]]]
    """The decisions so far."""

    request: NotRequired[dict[str, Any]]
    """The rest of the turn's request: its decision's id, the situations in which the steps were
    taken, the user-defined nodes that ran, the time that is left, and the format's version."""


class CascadeMessages(TypedDict):
    """What goes into the graph and comes out of it."""

    messages: Annotated[list[AnyMessage], add_messages]
