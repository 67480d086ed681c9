"""The trail of a request through the graph: read off its state, as its nodes share nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.history.plain import (
    decision_of,
    frame_data,
    frames_of,
    situation_of,
    step_data,
)
from langchain_llm_router.history.trail import entry_data, run_ids
from langchain_llm_router.types import Attempt, Situation

__all__ = ["log_turn", "situations_of", "with_frame"]


def with_frame(
    step: dict[str, Any], situation: Situation, earlier: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The step with the situation it was taken in, where that is another than the step before's.

    Between two nodes hours may pass: prices, breakers, and budgets are then others.
    """
    frame = frame_data(situation)
    before = next((known["frame"] for known in reversed(earlier) if "frame" in known), None)
    return step if frame == before else {**step, "frame": frame}


def situations_of(steps: Sequence[Mapping[str, Any]], query: str) -> list[Situation]:
    """The situations that the steps were taken in, less what was seen."""
    return [situation_of(frame, query) for frame in frames_of(None, steps)]


def log_turn(
    log: DecisionLog,
    state: Mapping[str, Any],
    query: str,
    config: RunnableConfig,
    *,
    record: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
    secrets: tuple[str, ...] = (),
) -> None:
    """Write one entry for a turn that has ended.

    Args:
        log: Where.
        state: The graph's, with all of the turn's steps and attempts.
        query: The text that the choice was made by.
        config: Of the node's run.
        record: Of the accepted answer.
        error: What the turn failed with; without it and without a record, it was given up.
        secrets: Keys to be taken out.
    """
    facts = {**(record or {}), "decision_id": state.get("decision_id", ""), **run_ids(config)}
    failed = isinstance(error, Exception)
    ending = {
        "outcome": "answered" if record is not None else "failed" if failed else "abandoned",
        "error": error if failed else None,
    }
    log.append(partial(_turn, dict(state), query, facts, ending, secrets))


def _turn(
    state: Mapping[str, Any],
    query: str,
    facts: Mapping[str, Any],
    ending: Mapping[str, Any],
    secrets: tuple[str, ...],
) -> dict[str, Any]:
    attempts: list[Attempt] = [entry["attempt"] for entry in state.get("trace") or []]
    steps = []
    for step in state.get("steps") or []:
        beside = {key: step[key] for key in ("frame", "declined") if key in step}
        steps.append({**step_data(decision_of(step)), **beside})
    frame = steps[0].pop("frame", None) if steps else None
    entry = entry_data(query, frame, steps, attempts, facts, via="graph", **ending)
    return {**entry, "secrets": secrets}
