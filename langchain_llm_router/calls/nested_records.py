"""Decision records of a router that is a candidate of another router.

The outer router's record has the inner one's under `nested`. On the way back, in the next turn, the
inner router gets its own record again, so that it knows which of its candidates has answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import AddableDict

__all__ = ["as_chunk", "inner_cost_usd", "inner_messages", "passed_on", "with_nested"]

_KEY, _NESTED = "llm_router", "nested"


def with_nested(record: Mapping[str, Any], message: BaseMessage) -> dict[str, Any]:
    """Return a router's record with that of the router which gave it the message, if one did."""
    inner = message.response_metadata.get(_KEY)
    return dict(record) if inner is None else {**record, _NESTED: inner}


def as_chunk(message: AIMessage, **fields: Any) -> AIMessageChunk:
    """Return a whole message as a chunk, to which others can be added."""
    return AIMessageChunk(**{**message.model_dump(exclude={"type"}), **fields})


def passed_on(chunk: Any) -> Any:
    """Return a chunk of a candidate's stream as the router passes it on.

    The record of an inner router is left out, because it cannot be added to the outer one's; a
    whole message, as a model gives that does not stream, becomes a chunk. If nothing has to be
    changed, the same object is returned.
    """
    if isinstance(chunk, AIMessage):
        if not isinstance(chunk, AIMessageChunk):
            chunk = as_chunk(chunk)
        if _KEY not in chunk.response_metadata:
            return chunk
        rest = {key: value for key, value in chunk.response_metadata.items() if key != _KEY}
        return chunk.model_copy(update={"response_metadata": rest})
    if isinstance(chunk, AddableDict) and isinstance(chunk.get("raw"), AIMessageChunk):
        return AddableDict({**chunk, "raw": passed_on(chunk["raw"])})
    return chunk


def inner_cost_usd(message: AIMessage) -> float | None:
    """Return what the inner router says that its answer cost; None if it is unknown."""
    inner = message.response_metadata.get(_KEY)
    cost = inner.get("cost_usd") if isinstance(inner, Mapping) else None
    if not isinstance(cost, int | float) or not math.isfinite(cost) or cost < 0:
        return None
    return float(cost)


def inner_messages(messages: Sequence[BaseMessage], name: str) -> Sequence[BaseMessage]:
    """Return the conversation with the inner router's own records on the answers that it gave.

    Args:
        messages: The conversation, with the records of the outer router.
        name: The inner router's name among the outer router's candidates.
    """
    return [_unwrap(message, name) for message in messages]


def _unwrap(message: BaseMessage, name: str) -> BaseMessage:
    record = message.response_metadata.get(_KEY) if isinstance(message, AIMessage) else None
    if not isinstance(record, Mapping) or record.get("candidate") != name:
        return message
    metadata = {key: value for key, value in message.response_metadata.items() if key != _KEY}
    if _NESTED in record:
        metadata[_KEY] = record[_NESTED]
    return message.model_copy(update={"response_metadata": metadata})
