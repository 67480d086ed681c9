"""Checks that classify an answer without calling a model: its form, and what makes it unusable.

They are a cascade's free signals: whether a schema was parsed can be checked at no cost, so such an
answer is not sent to a verifier of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ValidationError

from langchain_llm_router.types import Attempt

__all__ = ["classify", "flaw_of", "form_of", "is_refusal"]

_REFUSED = frozenset({"refusal", "content_filter"})


def classify(
    attempt: Attempt, message: AIMessage, output: Any, tools: Sequence[Any], *, streamed: bool
) -> Attempt:
    """Return the attempt with its answer's form and flaw; a flaw counts as a failure.

    An answer that has been streamed cannot be taken back: its flaw is recorded, but the attempt
    does not fail, because no other answer can follow.
    """
    attempt = {**attempt, "form": form_of(message, output)}
    flaw = flaw_of(message, output, tools)
    if flaw is not None:
        attempt["flaw"] = flaw
        if not streamed:
            attempt["error"] = flaw
    return attempt


def form_of(message: AIMessage, output: Any) -> Literal["text", "tool_calls", "structured"]:
    """Return the form of an answer; "structured" is a dict with the raw and the parsed output."""
    if isinstance(output, dict):
        return "structured"
    if message.tool_calls or message.invalid_tool_calls:
        return "tool_calls"
    return "text"


def flaw_of(message: AIMessage, output: Any, tools: Sequence[Any] = ()) -> str | None:
    """Return what makes an answer useless: a refusal, a failed parse, an invalid tool call.

    Args:
        message: The answer.
        output: The output of the candidate's runnable: the message, or a dict with the raw and the
            parsed output.
        tools: The tools that were bound. A call of any other tool is invalid, and so is a call
            with arguments that the tool's pydantic schema refuses.

    Returns:
        The flaw, or None if the answer has none.
    """
    if is_refusal(message):
        return "refusal"
    if isinstance(output, dict):
        error = output.get("parsing_error")
        if error is not None:
            return f"failed parse: {type(error).__name__}"
        return "failed parse: nothing to parse" if output.get("parsed") is None else None
    if message.invalid_tool_calls:
        return f"invalid tool call: {message.invalid_tool_calls[0].get('name')}"
    if message.tool_calls and tools:
        return _call_flaw(message, {_tool_name(tool): tool for tool in tools})
    return None


def is_refusal(message: AIMessage) -> bool:
    """Return whether the model declined, by a `refusal` block or by its stop reason."""
    if message.additional_kwargs.get("refusal"):
        return True
    if not isinstance(message.content, str):
        for block in message.content:
            if not isinstance(block, Mapping):
                continue
            value = block.get("value")
            inner = value.get("type") if isinstance(value, Mapping) else None
            if "refusal" in (block.get("type"), inner):
                return True
    metadata = message.response_metadata
    reasons = (metadata.get("stop_reason"), metadata.get("finish_reason"))
    return any(isinstance(reason, str) and reason.lower() in _REFUSED for reason in reasons)


def _call_flaw(message: AIMessage, tools: Mapping[str | None, Any]) -> str | None:
    for call in message.tool_calls:
        # Tools that run at the provider have no name here, so any name may be valid.
        if call["name"] not in tools:
            if None in tools:
                continue
            return f"invalid tool call: there is no tool {call['name']!r}"
        schema = _pydantic_schema(tools[call["name"]])
        if schema is None:
            continue
        try:
            schema.model_validate(call["args"])
        except ValidationError as error:
            return f"invalid tool call: {call['name']}, {error.error_count()} invalid arguments"
    return None


def _tool_name(tool: Any) -> str | None:
    if isinstance(tool, Mapping):
        function = tool.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        return name or tool.get("name") or tool.get("title")
    name = getattr(tool, "name", None)
    return name if isinstance(name, str) else getattr(tool, "__name__", None)


def _pydantic_schema(tool: Any) -> type[BaseModel] | None:
    schema = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
    return schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None
