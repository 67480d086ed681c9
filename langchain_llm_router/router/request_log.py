"""A request's line in the decision log, and the notice of one that was not answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.history.log_entries import build_entry, find_run_ids
from langchain_llm_router.loop.conversation import routing_text
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.types import Attempt

__all__ = ["WATCH_KEY", "Logged", "Watch", "append_entry"]

WATCH_KEY = "llm_router_watch"
"""Key of the `Watch` in `config["configurable"]`."""


@dataclass(frozen=True)
class Watch:
    """A function that is called for each request that ends without an answer, and so no record."""

    router: object
    """The router's fields: a router among its candidates has the same config, and others."""

    saw: Callable[[Sequence[Attempt]], None]


class Logged(Protocol):
    """What a line holds of a request beside its decisions."""

    parts: Parts
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    decision_id: str
    sensitive: str | None
    declined: bool


def append_entry(
    request: Logged,
    loop: Loop | None,
    outcome: str,
    record: Mapping[str, Any] | None,
    error: BaseException | None,
) -> None:
    """Append a request to its router's log, and tell the watch of one that was not answered.

    The line is built later, of a loop that is over.

    Args:
        request: The request.
        loop: Its decisions; None if it did not reach one.
        outcome: See `build_entry`.
        record: The decision record; None if there is none.
        error: The exception that ended it, if one did.
    """
    parts = request.parts
    if outcome != "answered" and loop is not None:
        watch = (request.config.get("configurable") or {}).get(WATCH_KEY)
        if watch is not None and watch.router is parts.fields:
            watch.saw(loop.situation.attempts)
    if parts.fields.log is None:
        return
    facts = {**(record or {}), "decision_id": request.decision_id, **find_run_ids(request.config)}
    if loop is None:
        query = routing_text(request.messages, parts.fields.turns)
        facts["sensitive"] = None if parts.confinement is None else request.sensitive
    else:
        query, facts["sensitive"] = loop.situation.query, loop.situation.sensitive
    entry = partial(
        build_entry,
        query,
        loop,
        facts,
        outcome=outcome,
        error=error,
        secrets=parts.secrets,
        declined=request.declined,
    )
    parts.fields.log.append(entry)
