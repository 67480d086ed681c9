"""What the graph remembers between two nodes, and what it tells on its way."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.config import get_stream_writer
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_llm_router.types import Attempt, Decision

__all__ = ["CascadeMessages", "CascadeState", "TraceEntry", "as_data", "held", "tell"]


class TraceEntry(TypedDict):
    """One candidate asked: what came of it as data, and the draft itself."""

    attempt: Attempt
    message: AIMessage | None


class CascadeState(TypedDict):
    """What the graph remembers; everything but `messages` is about the present turn only."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the accepted answer is added at its end."""

    quality: NotRequired[list[float] | None]
    """Predicted quality per candidate."""

    trace: NotRequired[list[TraceEntry]]
    """Who was asked so far; without a reducer, so that a new turn starts afresh."""

    steps: NotRequired[list[dict[str, Any]]]
    """The decisions so far, as plain data."""

    decision_id: NotRequired[str]


class CascadeMessages(TypedDict):
    """What goes into the graph and comes out of it."""

    messages: Annotated[list[AnyMessage], add_messages]


def tell(event: dict[str, Any], state: CascadeState) -> None:
    """Write an event for whoever streams with `stream_mode="custom"`."""
    get_stream_writer()({**event, "decision_id": state.get("decision_id", "")})


def held(state: CascadeState) -> list[Attempt]:
    """The attempts of this turn whose answer is there to be kept, in the order they came."""
    return [entry["attempt"] for entry in state.get("trace", []) if entry["message"] is not None]


def as_data(decision: Decision) -> dict[str, Any]:
    """A decision as every checkpointer can keep it."""
    data = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data
