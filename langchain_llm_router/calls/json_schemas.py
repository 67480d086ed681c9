"""A check of tool calls' arguments against a JSON schema, as MCP tools and dicts have.

The keywords that models get wrong are checked: types, required and further properties, enums,
lengths and ranges, and combinations of schemas. Others, like `format`, and `pattern`, whose regular
expressions may take for ever, are not, so a value that passes may still be refused by the tool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["schema_errors"]

_MAX_DEPTH, _MAX_STEPS = 32, 20_000
"""Limits from which nothing is checked any more, because schemas may refer to themselves."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}

_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", lambda value, bound: value >= bound),
    "maximum": ("number", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("number", lambda value, bound: value > bound),
    "exclusiveMaximum": ("number", lambda value, bound: value < bound),
    "minLength": ("string", lambda value, bound: len(value) >= bound),
    "maxLength": ("string", lambda value, bound: len(value) <= bound),
    "minItems": ("array", lambda value, bound: len(value) >= bound),
    "maxItems": ("array", lambda value, bound: len(value) <= bound),
    "minProperties": ("object", lambda value, bound: len(value) >= bound),
    "maxProperties": ("object", lambda value, bound: len(value) <= bound),
}


def schema_errors(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Return the places of a value that its JSON schema refuses, such as `$.items[0]`.

    A schema that is no JSON schema refuses nothing.
    """
    try:
        return list(_Check(schema).errors(value, schema, "$", 0))
    except (TypeError, AttributeError, ValueError):
        return []  # a keyword with a value of the wrong type, for which the tool is to blame


class _Check:
    """The check of one value against one schema, which may refer to its own parts."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root, self._n_steps = root, 0

    def errors(self, value: Any, schema: Any, place: str, depth: int) -> Iterator[str]:
        """Yield the places that are refused."""
        self._n_steps += 1
        if schema is False:
            yield place
        known = isinstance(schema, Mapping)
        if not known or depth > _MAX_DEPTH or self._n_steps > _MAX_STEPS:
            return
        if "$ref" in schema:
            yield from self.errors(value, self._resolve(schema["$ref"]), place, depth + 1)
        if not _fits(value, schema) or not self._combines(value, schema, place, depth):
            yield place
            return
        if isinstance(value, Mapping):
            yield from self._property_errors(value, schema, place, depth)
        elif isinstance(value, list | tuple):
            yield from self._item_errors(value, schema, place, depth)

    def _resolve(self, reference: Any) -> Any:
        """Return the part of the schema that a reference names; an unknown one accepts all."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        part: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            part = part.get(key) if isinstance(part, Mapping) else None
        return True if part is None else part

    def _accepts(self, value: Any, schema: Any, place: str, depth: int) -> bool:
        return next(self.errors(value, schema, place, depth + 1), None) is None

    def _combines(self, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> bool:
        def n_accepted(key: str) -> int:
            return sum(self._accepts(value, part, place, depth) for part in schema[key])

        return (
            ("allOf" not in schema or n_accepted("allOf") == len(schema["allOf"]))
            and ("anyOf" not in schema or n_accepted("anyOf") > 0)
            and ("oneOf" not in schema or n_accepted("oneOf") == 1)
            and ("not" not in schema or not self._accepts(value, schema["not"], place, depth))
        )

    def _property_errors(
        self, value: Mapping[str, Any], schema: Mapping[str, Any], place: str, depth: int
    ) -> Iterator[str]:
        properties = schema.get("properties") or {}
        yield from (f"{place}.{name}" for name in schema.get("required") or () if name not in value)
        # With patterns, it is uncertain which properties are further ones.
        further = True if "patternProperties" in schema else schema.get("additionalProperties")
        for name, item in value.items():
            part = properties.get(name, further)
            yield from self.errors(item, part, f"{place}.{name}", depth + 1)

    def _item_errors(
        self, value: list[Any] | tuple[Any, ...], schema: Mapping[str, Any], place: str, depth: int
    ) -> Iterator[str]:
        first, rest = schema.get("prefixItems") or [], schema.get("items")
        if isinstance(rest, list):  # the older form of `prefixItems`
            first, rest = rest, schema.get("additionalItems")
        for i, item in enumerate(value):
            part = first[i] if i < len(first) else rest
            yield from self.errors(item, part, f"{place}[{i}]", depth + 1)


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value has the schema's type, is one of its constants and within bounds."""
    kinds = schema.get("type")
    if kinds is not None:
        names = [kinds] if isinstance(kinds, str) else kinds
        checks = [_TYPES.get(str(kind).lower()) for kind in names]
        nullable = value is None and schema.get("nullable") is True
        if not nullable and not any(check is None or check(value) for check in checks):
            return False
    if "const" in schema and not _is_same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_is_same(value, other) for other in schema["enum"]):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return all(
        within(value, schema[key])
        for key, (kind, within) in _BOUNDS.items()
        if _is_number(schema.get(key)) and _TYPES[kind](value)
    )


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two JSON values are the same; in JSON, 1 is not true."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
