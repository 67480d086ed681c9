"""Log lines as text: JSON that keeps numbers exactly, and equality to the last bit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_llm_router.loop.loop import step_data
from langchain_llm_router.types import Decision

__all__ = ["as_json", "frames_of", "same"]


def as_json(value: Any) -> str:
    """One line of JSON; NumPy numbers are written as Python numbers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_number)


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions are equal to the last bit, NaN included."""
    left, right = step_data(one), step_data(other)
    return json.dumps(left, sort_keys=True, default=_number) == json.dumps(
        right, sort_keys=True, default=_number
    )


def frames_of(
    first: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The frame that each step was taken in: its own, or else the previous step's."""
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
        msg = f"{type(value).__name__} cannot be written to a decision log."
        raise TypeError(msg)
    return item()
