"""Build the log entry of one request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_llm_router.loop.loop import frame_data, step_data
from langchain_llm_router.types import Attempt, Decision, Situation

__all__ = ["entry_data", "run_ids"]

_FACTS = ("run_id", "trace_id", "candidate", "propensity", "cost_usd", "budget", "shadow")


def entry_data(  # noqa: PLR0913 - everything that a line holds
    query: str,
    frames: Sequence[tuple[int, Situation]],
    steps: Sequence[Decision],
    attempts: Sequence[Attempt],
    facts: Mapping[str, Any],
    *,
    outcome: str,
    error: BaseException | None = None,
    secrets: tuple[str, ...] = (),
    declined: bool = False,
) -> dict[str, Any]:
    """One line of the log.

    Args:
        query: The text that the decision was based on.
        frames: The situations, each with the number of steps before it; none if the request did
            not come to a decision.
        steps: Every decision.
        attempts: Every attempt, as it stood at the end.
        facts: The decision's id, the runs' ids, and the parts of the record that are kept.
        outcome: `answered`, `failed`, or `abandoned` by the caller.
        error: What was raised.
        secrets: Keys to redact in what is written.
        declined: Whether a person declined the last step.
    """
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


def run_ids(config: RunnableConfig) -> dict[str, str]:
    """The ids of the run and its trace, by which LangSmith's feedback finds the decision."""
    manager = config.get("callbacks")
    run_id = getattr(manager, "parent_run_id", None)
    if run_id is None:
        return {}
    found = {"run_id": str(run_id)}
    for handler in getattr(manager, "handlers", ()):
        order = getattr(handler, "order_map", None)
        if order and run_id in order:
            found["trace_id"] = str(order[run_id][0])
    return found
