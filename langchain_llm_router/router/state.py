"""The state of the cascade's graph: the messages, and the turn's request as plain data."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_llm_router.router.nodes import merge_entries
from langchain_llm_router.types import Attempt

__all__ = ["CascadeMessages", "CascadeState", "DraftEntry", "TraceEntry"]


class TraceEntry(TypedDict):
    """An attempt of the turn, and its answer."""

    n: NotRequired[int]
    """Its place in the turn, from 0; see `merge_entries`."""

    attempt: Attempt
    message: AIMessage | None
    run: NotRequired[dict[str, Any]]
    """Of an agent's run: its final `state`, and what `prepare` returned as `prepared`."""


class DraftEntry(TraceEntry):
    """An attempt that is not yet among those of the turn, and its answer."""

    decision_id: str
    """The id of the turn's decision; the draft of another turn does not count."""


class CascadeState(TypedDict):
    """The state of the cascade's graph; everything but `messages` is about the current turn only.

    A new turn overwrites everything but `messages`. A node returns only the entries of `trace` and
    `steps` that it has added or changed.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the accepted answer is appended."""

    trace: NotRequired[Annotated[list[TraceEntry], merge_entries]]
    """The attempts so far, in order."""

    steps: NotRequired[Annotated[list[dict[str, Any]], merge_entries]]
    """The decisions so far."""

    decision_id: NotRequired[str]
    """The id of the turn's decision, empty before the first step."""

    draft: NotRequired[DraftEntry]
    """The answer of a candidate that was asked at the same time as another one, as long as it is
    not among the attempts, see `create_cascade(parallel=2)`."""

    request: NotRequired[dict[str, Any]]
    """The rest of the turn's request: the situations in which the steps were
    taken, the user-defined nodes that ran, the remaining time, and the version of the format."""


class CascadeMessages(TypedDict):
    """The input and the output of the graph."""

    messages: Annotated[list[AnyMessage], add_messages]
