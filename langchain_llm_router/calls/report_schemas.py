"""A further field in a schema for structured output, and the output without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, is_typeddict

from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, Field, RootModel, WithJsonSchema, create_model

from langchain_llm_router.verification import Report

__all__ = ["ReportSchema", "extend_schema"]

_NAMES = ("confidence", "answer_confidence", "self_reported_confidence")

# Where providers' forms of a schema have the schema itself.
_HOLDERS = ("function", "json_schema", "toolSpec")
_PLACES = ("parameters", "input_schema", "inputSchema", "schema", "json")

# With one of them at its root, an object with one field more may be no valid one.
_CLOSED = (
    "$ref", "allOf", "anyOf", "oneOf", "not", "if", "maxProperties", "propertyNames", "const",
    "enum",
)  # fmt: skip


@dataclass(frozen=True)
class ReportSchema:
    """A schema with an added field, and the way back.

    Args:
        schema: The schema that candidates get.
        name: Name of the added field.
        restore: Returns a parsed object as the caller's schema describes it.
    """

    schema: dict[str, Any] | type
    name: str
    restore: Callable[[Any], Any]

    def split(self, output: Any) -> tuple[Any, Any]:
        """Return the field's value, and the output of structured output without it."""
        if not isinstance(output, Mapping) or "parsed" not in output:
            return None, output
        parsed, raw = output["parsed"], output.get("raw")
        value = _value_of(parsed, self.name)
        rest = {**output, "parsed": None if parsed is None else self.restore(parsed)}
        if isinstance(raw, AIMessage):
            rest["raw"] = self._without_field(raw)
        return value, rest

    def _without_field(self, message: AIMessage) -> AIMessage:
        """Return the message without the field: in its text, its blocks and its tool calls."""
        update: dict[str, Any] = {"content": self._content(message.content)}
        if message.tool_calls:
            update["tool_calls"] = [
                {**call, "args": self._dropped(call["args"])} for call in message.tool_calls
            ]
        if getattr(message, "tool_call_chunks", None):
            update["tool_call_chunks"] = [
                {**part, "args": self._text(part.get("args"))}
                for part in message.tool_call_chunks  # type: ignore[attr-defined]
            ]
        extras = dict(message.additional_kwargs)
        if isinstance(extras.get("tool_calls"), list):
            extras["tool_calls"] = [self._call(call) for call in extras["tool_calls"]]
        if isinstance(extras.get("function_call"), Mapping):
            extras["function_call"] = self._call({"function": extras["function_call"]})["function"]
        if extras.get("parsed") is not None:
            extras["parsed"] = self.restore(extras["parsed"])
        update["additional_kwargs"] = extras
        return message.model_copy(update=update)

    def _content(self, content: Any) -> Any:
        if isinstance(content, str):
            return self._text(content)
        return [self._block(block) for block in content]

    def _block(self, block: Any) -> Any:
        if isinstance(block, str):
            return self._text(block)
        changed = dict(block)
        for key in ("text", "arguments", "partial_json"):
            if isinstance(changed.get(key), str):
                changed[key] = self._text(changed[key])
        for key in ("input", "args", "parsed"):
            if isinstance(changed.get(key), Mapping):
                changed[key] = self._dropped(changed[key])
            elif isinstance(changed.get(key), str):
                changed[key] = self._text(changed[key])
        return changed

    def _call(self, call: Any) -> Any:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
            return call
        return {**call, "function": {**function, "arguments": self._text(function["arguments"])}}

    def _text(self, text: Any) -> Any:
        """Return JSON without the field; any other text as it is."""
        if not isinstance(text, str) or self.name not in text:
            return text
        begin, end = text.find("{"), text.rfind("}")
        try:
            data = json.loads(text[begin : end + 1])
        except (ValueError, RecursionError):
            return text
        if not isinstance(data, dict) or self.name not in data:
            return text
        shown = json.dumps(self._dropped(data), ensure_ascii=False)
        return text[:begin] + shown + text[end + 1 :]

    def _dropped(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in data.items() if key != self.name}


def extend_schema(schema: Any, report: Report) -> ReportSchema | str:
    """Return a schema with a field for the report, or why it cannot have one.

    Args:
        schema: A pydantic class, a `TypedDict` or a JSON schema, as for `with_structured_output`.
        report: What the field is for.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _extend_class(schema, report)
    if is_typeddict(schema):
        schema = convert_to_json_schema(schema)
    if isinstance(schema, Mapping):
        return _extend_json(schema, report)
    return f"No field for a confidence can be added to a schema of the kind {type(schema)!r}."


def _extend_class(schema: type[BaseModel], report: Report) -> ReportSchema | str:
    if issubclass(schema, RootModel):
        return f"{schema.__name__} has no fields: no field for a confidence can be added."
    taken = {field.alias for field in schema.model_fields.values()}
    name = next(
        (name for name in _NAMES if name not in taken and not hasattr(schema, name)
         and name not in schema.model_fields), None,
    )  # fmt: skip
    if name is None:
        return f"{schema.__name__} has fields of its own with all the names {list(_NAMES)}."
    # Any value: one that does not fit is a missing confidence, and no failed parse.
    kind = Annotated[Any, WithJsonSchema(dict(report.field))]

    class _Required:
        """Asks for the field, which a model may leave out."""

        @classmethod
        def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
            shown = super().__get_pydantic_json_schema__(core_schema, handler)  # type: ignore[misc]
            own = handler.resolve_ref_schema(shown)
            if name in own.get("properties", {}):
                own["required"] = [*own.get("required", []), name]
                own["properties"][name].pop("default", None)
            return shown

    try:
        extended = create_model(
            schema.__name__,
            __base__=(_Required, schema),
            __doc__=schema.__doc__,
            __module__=schema.__module__,
            **{name: (kind, Field(default=None))},  # type: ignore[call-overload]
        )
    except Exception as error:  # noqa: BLE001 - whatever the hooks of a user's class raise
        return f"{schema.__name__} cannot be extended by a field for a confidence: {error}."

    def restore(parsed: Any) -> Any:
        if not isinstance(parsed, extended):
            return parsed
        # Not validated again: a validator may change what it has already changed.
        plain = parsed.model_copy()
        object.__setattr__(plain, "__class__", schema)
        plain.__dict__.pop(name, None)
        plain.__pydantic_fields_set__.discard(name)
        return plain

    return ReportSchema(extended, name, restore)


def _extend_json(schema: Mapping[str, Any], report: Report) -> ReportSchema | str:
    path: list[str] = []
    node: Any = schema
    for keys in (_HOLDERS, _PLACES, _PLACES):
        if not isinstance(node.get("properties"), Mapping):
            key = next((key for key in keys if isinstance(node.get(key), Mapping)), None)
            if key is not None:
                path.append(key)
                node = node[key]
    properties, closed = node.get("properties"), [key for key in _CLOSED if key in node]
    if not isinstance(properties, Mapping) or node.get("type", "object") != "object" or closed:
        why = f"it has {closed[0]!r}" if closed else "it is no object with properties"
        return f"No field for a confidence can be added to the JSON schema: {why}."
    name = next((name for name in _NAMES if name not in properties), None)
    if name is None:
        return f"The JSON schema has properties of its own with all the names {list(_NAMES)}."
    extended: Any = {
        **node,
        "properties": {**properties, name: dict(report.field)},
        "required": [*node.get("required", []), name],
    }
    for depth in range(len(path) - 1, -1, -1):
        outer: Any = schema
        for key in path[:depth]:
            outer = outer[key]
        extended = {**outer, path[depth]: extended}

    def restore(parsed: Any) -> Any:
        if not isinstance(parsed, Mapping):
            return parsed
        return {key: value for key, value in parsed.items() if key != name}

    return ReportSchema(extended, name, restore)


def _value_of(parsed: Any, name: str) -> Any:
    return parsed.get(name) if isinstance(parsed, Mapping) else getattr(parsed, name, None)
