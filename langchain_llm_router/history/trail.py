"""What one request comes to, gathered on its way, as the entry that the log will hold."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig

from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.history.plain import frame_data, step_data
from langchain_llm_router.loop import Routed
from langchain_llm_router.types import Attempt, Decision, Situation

__all__ = ["Trail", "entry_data", "recorded", "run_ids"]

End = TypeVar("End")

_FROM_RECORD = ("candidate", "propensity", "cost_usd", "budget", "shadow")


@dataclass
class Trail:
    """One request on its way."""

    decision_id: str
    query: str
    secrets: tuple[str, ...] = ()
    """Keys of the candidates, to be taken out of what is written."""

    run: Mapping[str, str] = field(default_factory=dict)
    situation: Situation | None = None
    """Before anybody was asked; None: it did not come to that."""

    steps: list[Decision] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    routed: Routed | None = None
    """How the routing ended, if it did."""

    record: Mapping[str, Any] = field(default_factory=dict)
    """As the caller gets it."""

    def saw(self, attempt: Attempt) -> None:
        """Take in what came of a step."""
        self.attempts[attempt["candidate"]] = attempt

    def entry(self, outcome: str, error: BaseException | None) -> dict[str, Any]:
        """The entry as it stands now."""
        steps, attempts = self.steps, list(self.attempts.values())
        if self.routed is not None:
            steps, attempts = list(self.routed.steps), list(self.routed.situation.attempts)
        data = [step_data(step) for step in steps]
        frame = None if self.situation is None else frame_data(self.situation)
        facts = {**self.record, "decision_id": self.decision_id, **self.run}
        return entry_data(
            self.query, frame, data, attempts, facts, outcome=outcome, error=error
        ) | {"secrets": self.secrets}


def entry_data(
    query: str,
    frame: Mapping[str, Any] | None,
    steps: Sequence[Mapping[str, Any]],
    attempts: Sequence[Attempt],
    facts: Mapping[str, Any],
    *,
    outcome: str,
    error: BaseException | None = None,
    via: str = "chat",
) -> dict[str, Any]:
    """One line of the log.

    Args:
        query: The text that the choice was made by.
        frame: The situation before the first step; None: it did not come to that.
        steps: Every decision; one with a `frame` was taken in another than the one before.
        attempts: Everything that was asked, as it stood at the end.
        facts: The decision's id, the runs' ids, and what of the record is kept.
        outcome: `answered`, `failed`, or `abandoned` by who asked.
        error: What was raised.
        via: `chat` or `graph`: which of the two ways the steps were taken.
    """
    data: dict[str, Any] = {
        "kind": "decision",
        "decision_id": facts["decision_id"],
        "at_s": time.time(),
        "outcome": outcome,
        "via": via,
        "query": query,
        "frame": frame,
        "steps": [dict(step) for step in steps],
        "attempts": [dict(attempt) for attempt in attempts],
    }
    data |= {name: facts[name] for name in ("run_id", "trace_id") if name in facts}
    data |= {name: facts[name] for name in _FROM_RECORD if facts.get(name) is not None}
    if error is not None:
        data["error"] = f"{type(error).__name__}: {error}"
    return data


def recorded(
    log: DecisionLog, trail: Trail, session: Generator[Any, Any, End]
) -> Generator[Any, Any, End]:
    """Run a session, and write one entry however it ends."""
    try:
        end = yield from session
    except GeneratorExit as closed:
        # Who runs the session closes it when an operation fails: that is what this is raised in.
        cause = closed.__context__
        failed = isinstance(cause, Exception)
        log.append(
            partial(trail.entry, "failed" if failed else "abandoned", cause if failed else None)
        )
        raise
    except BaseException as error:
        log.append(partial(trail.entry, "failed", error))
        raise
    log.append(partial(trail.entry, "answered", None))
    return end


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
