"""Log lines as JSON that keeps numbers exactly, and the comparison of decisions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from types import NoneType
from typing import Any

from langchain_llm_router.loop.loop import step_data
from langchain_llm_router.types import Decision

__all__ = ["expand_frames", "is_identical", "to_json_line"]


def to_json_line(value: Any) -> str:
    """Write a value as one line of JSON; NumPy numbers become Python numbers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_number)


def is_identical(a: Decision, b: Decision) -> bool:
    """Return whether two decisions are equal to the last bit; NaN equals NaN."""
    if all(map(_is_same, _values(a), _values(b))):
        return True
    # Values of other types may be written the same.
    left, right = step_data(a), step_data(b)
    return json.dumps(left, sort_keys=True, default=_number) == json.dumps(
        right, sort_keys=True, default=_number
    )


_values = attrgetter(*(one.name for one in fields(Decision) if one.name != "decision_id"))


def _is_same(a: Any, b: Any) -> bool:
    """Return True if two values are written the same; False means that they may be or not."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is float:
        # Zero has a sign, which `==` does not see.
        return bool(a == b) and (a != 0 or math.copysign(1, a) == math.copysign(1, b))
    if kind is dict:
        return len(a) == len(b) and all(k in b and _is_same(v, b[k]) for k, v in a.items())
    return kind in _EXACT and bool(a == b)


_EXACT = (str, bool, int, NoneType)


def expand_frames(
    first: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the frame of each step: its own, or else that of the previous step."""
    frames: list[Mapping[str, Any]] = []
    frame = first
    for step in steps:
        frame = step.get("frame", frame)
        assert frame is not None, "the first step has a frame"
        frames.append(frame)
    return frames


def _number(value: Any) -> Any:
    item = getattr(value, "item", None)
    if item is None:
        msg = f"A value of type {type(value).__name__} cannot be written to a decision log."
        raise TypeError(msg)
    return item()
