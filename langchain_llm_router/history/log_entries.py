"""The log entry of one request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_llm_router.loop.loop import Loop, frame_data, step_data

__all__ = ["build_entry", "find_run_ids"]

_FACTS = (
    "run_id",
    "trace_id",
    "candidate",
    "propensity",
    "cost_usd",
    "budget",
    "shadow",
    "unsure",
    "sensitive",
)


def build_entry(
    query: str,
    loop: Loop | None,
    facts: Mapping[str, Any],
    *,
    outcome: str,
    error: BaseException | None = None,
    secrets: tuple[str, ...] = (),
    declined: bool = False,
) -> dict[str, Any]:
    """Build one line of the log.

    Args:
        query: The text that the decision was based on.
        loop: The decisions and attempts; None if the request did not reach a decision.
        facts: The decision id, the ids of the run and its trace, and the decision record.
        outcome: `answered` (also if it abstained, as the last step says), `failed`, or
            `abandoned` by the caller.
        error: The exception that ended the request, if there was one.
        secrets: API keys to redact in the line.
        declined: Whether a person declined the last step.
    """
    frames, steps = ([], []) if loop is None else (loop.frames, loop.steps)
    attempts = () if loop is None else loop.situation.attempts
    written = [step_data(step) for step in steps]
    for at, situation in frames[1:]:
        if at < len(written):
            written[at]["frame"] = frame_data(situation)
    if declined:
        written[-1]["declined"] = True
    data: dict[str, Any] = {
        "kind": "decision",
        "decision_id": facts["decision_id"],
        "at_s": time.time(),
        "outcome": outcome,
        "query": query,
        "frame": frame_data(frames[0][1]) if frames else None,
        "steps": written,
        "attempts": [dict(attempt) for attempt in attempts],
        "secrets": secrets,
    }
    data |= {name: facts[name] for name in _FACTS if facts.get(name) is not None}
    if error is not None:
        data["error"] = f"{type(error).__name__}: {error}"
    return data


def find_run_ids(config: RunnableConfig) -> dict[str, str]:
    """Find the ids of the run and its trace, which LangSmith's feedback refers to."""
    manager = config.get("callbacks")
    run_id = getattr(manager, "parent_run_id", None)
    if run_id is None:
        return {}
    ids = {"run_id": str(run_id)}
    for handler in getattr(manager, "handlers", ()):
        order = getattr(handler, "order_map", None)
        if order and run_id in order:
            ids["trace_id"] = str(order[run_id][0])
    return ids
