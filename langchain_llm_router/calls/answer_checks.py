"""Checks that classify an answer without calling a model: its form, and what makes it unusable.

They are a cascade's free signals: whether a schema was parsed can be checked at no cost, so such an
answer is not sent to a verifier of text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ValidationError

from langchain_llm_router.calls.ask import Answer
from langchain_llm_router.calls.json_schemas import schema_errors
from langchain_llm_router.calls.tools import BoundTool, bound_tools
from langchain_llm_router.types import Attempt
from langchain_llm_router.types.answers import (
    FlawKind,
    answer_flaw,
    finish_reason,
    flaw_kind,
    refusal_text,
)

__all__ = ["FATAL_FLAWS", "classify", "flaw_of", "form_of", "is_refusal"]

FATAL_FLAWS: frozenset[FlawKind] = frozenset(get_args(FlawKind)) - {"cut_off"}
"""The flaws that count as failures where answers are verified. A cut-off answer is for the verifier
to judge: where the caller limits the length, every candidate's answer is cut off."""


def classify(
    answer: Answer,
    tools: Sequence[Any],
    *,
    streamed: bool,
    fatal: Collection[FlawKind],
    compares: bool,
) -> Attempt:
    """Return the attempt with its answer's form and flaw; a fatal flaw counts as a failure.

    An answer that has been streamed cannot be taken back: its flaw is recorded, but the attempt
    does not fail, because no other answer can follow.

    Args:
        answer: The answer, with an attempt that has the flaw of its message.
        tools: The tools that were bound.
        streamed: Whether part of the answer has been passed on.
        fatal: The kinds of flaws that count as failures.
        compares: Whether answers are compared, objects of one schema among them.
    """
    message, output = answer.message, answer.output
    assert message is not None, "only a message has a form"
    form = form_of(message, output)
    attempt: Attempt = {**answer.attempt, "form": form}
    flaw = _form_flaw(attempt.get("flaw"), message, output, tools)
    if flaw is not None:
        attempt["flaw"] = flaw
        if flaw_kind(flaw) in fatal and not streamed:
            attempt["error"] = flaw
    if compares and form == "structured" and attempt.get("error") is None:
        attempt["comparable"] = True
    return attempt


def form_of(message: AIMessage, output: Any) -> Literal["text", "tool_calls", "structured"]:
    """Return the form of an answer; "structured" is a dict with the raw and the parsed output."""
    if isinstance(output, dict):
        return "structured"
    if message.tool_calls or message.invalid_tool_calls:
        return "tool_calls"
    return "text"


def flaw_of(message: AIMessage, output: Any, tools: Sequence[Any] = ()) -> str | None:
    """Return what makes an answer useless or only half of one, also as parsed output or tool call.

    Args:
        message: The answer.
        output: The output of the candidate's runnable: the message, or a dict with the raw and the
            parsed output.
        tools: The tools that were bound. A call of any other tool is invalid, and so is a call
            with arguments that the tool's schema refuses, a pydantic class or a JSON schema.

    Returns:
        The flaw, or None if the answer has none.
    """
    return _form_flaw(answer_flaw(message), message, output, tools)


def _form_flaw(
    flaw: str | None, message: AIMessage, output: Any, tools: Sequence[Any]
) -> str | None:
    """Return the flaw of the message, or else that of its parsed output or its tool calls."""
    if flaw is not None and flaw_kind(flaw) in FATAL_FLAWS:
        return flaw
    if isinstance(output, dict):
        error = output.get("parsing_error")
        if error is not None:
            return f"failed parse: {type(error).__name__}"
        return "failed parse: nothing to parse" if output.get("parsed") is None else flaw
    if message.invalid_tool_calls:
        return f"invalid tool call: {message.invalid_tool_calls[0].get('name')}"
    if message.tool_calls and tools:
        return _call_flaw(message, {_tool_name(tool): tool for tool in tools}) or flaw
    return flaw


def is_refusal(message: AIMessage) -> bool:
    """Return whether the model declined, or a filter did, by a block or by the finish reason."""
    declined = finish_reason(message) in ("refusal", "content_filter")
    return declined or refusal_text(message) is not None


def _call_flaw(message: AIMessage, tools: Mapping[str | None, Any]) -> str | None:
    for call in message.tool_calls:
        # Tools that run at the provider have no name here, so any name may be valid.
        if call["name"] not in tools:
            if None in tools:
                continue
            return f"invalid tool call: there is no tool {call['name']!r}"
        n_errors = _count_argument_errors(call["args"], tools[call["name"]])
        if n_errors > 0:
            return f"invalid tool call: {call['name']}, {n_errors} invalid arguments"
    return None


def _tool_name(tool: Any) -> str | None:
    if isinstance(tool, Mapping):
        declared = tool.get("function") or tool.get("toolSpec")
        name = declared.get("name") if isinstance(declared, Mapping) else None
        return name or tool.get("name") or tool.get("title")
    name = getattr(tool, "name", None)
    return name if isinstance(name, str) else getattr(tool, "__name__", None)


def _count_argument_errors(args: Mapping[str, Any], tool: Any) -> int:
    """Return how many arguments the tool's own schema refuses, a pydantic class or JSON schema."""
    original = tool.original if isinstance(tool, BoundTool) else tool
    schema = original.tool_call_schema if isinstance(original, BaseTool) else original
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        try:
            schema.model_validate(args)
        except ValidationError as error:
            return error.error_count()
        return 0
    declared = schema if isinstance(original, BaseTool) else _parameters(tool)
    return len(schema_errors(args, declared)) if isinstance(declared, Mapping) else 0


def _parameters(tool: Any) -> Any:
    """Return the JSON schema of a tool's arguments in a provider's format; None if it has none."""
    if not isinstance(tool, Mapping):
        return _parameters(bound_tools([tool])[0]) if callable(tool) else None
    function, spec = tool.get("function"), tool.get("toolSpec")
    if isinstance(function, Mapping):
        return function.get("parameters")
    if isinstance(spec, Mapping):
        return (spec.get("inputSchema") or {}).get("json")
    for key in ("input_schema", "parameters"):
        if key in tool:
            return tool[key]
    return tool if "properties" in tool else None
