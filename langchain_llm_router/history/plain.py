"""Situations and decisions as plain data and back, exactly: what comes back compares equal.

Whatever has its default value is left out, so that a line of the log stays short; floats survive
JSON bit for bit, because it holds their shortest exact form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from langchain_llm_router.options import NO_OPTIONS, Filter, RoutingOptions
from langchain_llm_router.types import Arm, Attempt, Decision, Situation

__all__ = [
    "as_json",
    "decision_of",
    "frame_data",
    "frames_of",
    "same",
    "situation_of",
    "step_data",
]


def as_json(value: Any) -> str:
    """One line of JSON; NumPy's numbers are written as Python's."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_number)


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions are equal to the last bit, NaN included."""
    left, right = step_data(one), step_data(other)
    return json.dumps(left, sort_keys=True, default=_number) == json.dumps(
        right, sort_keys=True, default=_number
    )


def step_data(decision: Decision) -> dict[str, Any]:
    """A decision; its id is the whole request's."""
    data = _changed(decision)
    data.pop("decision_id", None)
    if "scores" in data:
        data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data


def decision_of(data: Mapping[str, Any]) -> Decision:
    """What `step_data` was made of; keys that belong to the log are passed over."""
    known = Decision.__dataclass_fields__
    return Decision(**{name: value for name, value in data.items() if name in known})


def frame_data(situation: Situation) -> dict[str, Any]:
    """A situation less the query and what was seen: the arms, options, money, and preference."""
    frame: dict[str, Any] = {"arms": [_changed(arm) for arm in situation.arms]}
    if situation.options != NO_OPTIONS:
        options = _changed(situation.options)
        if "filters" in options:
            options["filters"] = [_all(item) for item in situation.options.filters]
        if "weights" in options:
            options["weights"] = dict(situation.options.weights)
        frame["options"] = options
    for name in ("granted_usd", "prefer"):
        value = getattr(situation, name)
        if value is not None:
            frame[name] = value
    return frame


def frames_of(
    first: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The frame that each step was taken in: its own, or else the one before it."""
    frames: list[Mapping[str, Any]] = []
    frame = first
    for step in steps:
        frame = step.get("frame", frame)
        assert frame is not None, "the first step has a frame"
        frames.append(frame)
    return frames


def situation_of(
    frame: Mapping[str, Any], query: str, attempts: Sequence[Attempt] = ()
) -> Situation:
    """What `frame_data` was made of."""
    options = dict(frame.get("options", {}))
    if options.get("candidates") is not None:
        options["candidates"] = tuple(options["candidates"])
    if "filters" in options:
        options["filters"] = tuple(Filter(**item) for item in options["filters"])
    return Situation(
        query,
        tuple(Arm(**arm) for arm in frame["arms"]),
        tuple(attempts),
        RoutingOptions(**options) if options else NO_OPTIONS,
        frame.get("granted_usd"),
        frame.get("prefer"),
    )


def _changed(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    return {
        field.name: found
        for field in fields(value)
        if (found := getattr(value, field.name)) is not None and found != _default(field)
    }


def _all(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _number(value: Any) -> Any:
    item = getattr(value, "item", None)
    if item is None:
        msg = f"{type(value).__name__} has no place in a decision log."
        raise TypeError(msg)
    return item()
