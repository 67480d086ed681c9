"""Log lines as JSON that keeps numbers exactly, and the comparison of decisions."""

from __future__ import annotations

import json
import marshal
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from langchain_llm_router.loop.loop import step_data
from langchain_llm_router.types import Decision

__all__ = ["expand_frames", "is_identical", "to_json_line"]


def to_json_line(value: Any) -> str:
    """Write a value as one line of JSON; NumPy numbers become Python numbers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_number)


def is_identical(a: Decision, b: Decision) -> bool:
    """Return whether two decisions are equal to the last bit; NaN equals NaN."""
    left, right = _in_bytes(a), _in_bytes(b)
    if left is not None and left == right:
        return True
    # Values of other types may be written the same.
    one, other = step_data(a), step_data(b)
    return json.dumps(one, sort_keys=True, default=_number) == json.dumps(
        other, sort_keys=True, default=_number
    )


_values = attrgetter(*(one.name for one in fields(Decision) if one.name != "decision_id"))


def _in_bytes(decision: Decision) -> bytes | None:
    """Return bytes that are equal only if the values are, with their types; None if there are none.

    They are made in a tenth of the time of JSON.
    """
    try:
        # Later versions of the format depend on which objects are shared.
        return marshal.dumps(_values(decision), 2)
    except ValueError:
        return None


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
