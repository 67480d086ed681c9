"""Decisions in traces and streams: as a run of their own, and as events during the request.

If no callback handler is attached, no run and no event is made.

Token usage belongs to the candidates' runs, and LangSmith counts it only there. In its
OpenTelemetry export, however, every chain that ends in a message (`prompt | model` as well as a
router) repeats that message's `gen_ai.usage.*`: sum only over the spans whose
`langsmith.span.kind` is `llm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.callbacks.manager import AsyncCallbackManager, CallbackManager
from langchain_core.globals import get_debug
from langchain_core.runnables import RunnableConfig
from langsmith.utils import tracing_is_enabled

from langchain_llm_router.calls.langchain_internals import has_context_handlers
from langchain_llm_router.loop.record import decision_data, situation_data
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.operations import Operation

__all__ = [
    "AnnotateOperation",
    "EventOperation",
    "TraceOperation",
    "has_no_handlers",
    "is_traced",
]

_EVENT = "llm_router"


def is_traced(config: RunnableConfig) -> bool:
    """Return whether the config has any callback handler."""
    callbacks = config.get("callbacks")
    return bool(callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None))


def has_no_handlers(config: RunnableConfig) -> bool:
    """Return whether configuring callbacks would find no handler; False if that is uncertain.

    Handlers come from the config, from LangSmith's settings and contexts, from debug mode, and
    from context variables such as `get_usage_metadata_callback`'s. Checking these sources takes a
    third of the time that configuring takes.
    """
    if is_traced(config) or get_debug():
        return False
    if has_context_handlers():
        return False
    from langchain_core.tracers import context  # noqa: PLC0415 - for the first call, not the import

    return context.tracing_v2_callback_var.get() is None and not tracing_is_enabled()


@dataclass(frozen=True)
class TraceOperation(Operation):
    """The operation that traces a decision as a child run, from the situation to the choice."""

    decision: Decision
    situation: Situation
    config: RunnableConfig

    def perform(self) -> None:
        """Start and end the run."""
        manager = self.config.get("callbacks")
        assert isinstance(manager, CallbackManager)
        inputs = situation_data(self.situation)
        run = manager.on_chain_start(None, inputs, name=self._name)
        run.on_chain_end(decision_data(self.decision))

    async def aperform(self) -> None:
        """Start and end the run."""
        manager = self.config.get("callbacks")
        if not isinstance(manager, AsyncCallbackManager):
            self.perform()
            return
        inputs = situation_data(self.situation)
        run = await manager.on_chain_start(None, inputs, name=self._name)
        await run.on_chain_end(decision_data(self.decision))

    @property
    def _name(self) -> str:
        return f"decide: {self.decision.action} {self.decision.candidate}"


@dataclass(frozen=True)
class AnnotateOperation(Operation):
    """The operation that adds the outcome to the router's LangSmith run, for use in filters."""

    record: Mapping[str, Any]

    def perform(self) -> None:
        """Annotate the current run tree, if there is one."""
        from langsmith.run_helpers import get_current_run_tree  # noqa: PLC0415 - takes 0.13 s

        tree = get_current_run_tree()
        if tree is not None:
            record = self.record
            tree.add_metadata(
                {
                    "llm_router_candidate": record["candidate"],
                    "llm_router_policy": record["policy"],
                    "llm_router_decision_id": record["decision_id"],
                    "llm_router_cost_usd": record["cost_usd"],
                    "llm_router_asked": [a["candidate"] for a in record["attempts"]],
                }
            )


@dataclass(frozen=True)
class EventOperation(Operation):
    """The operation that reports a step to `astream_events` as a custom event `llm_router`."""

    event: Mapping[str, Any]
    config: RunnableConfig

    def perform(self) -> None:
        """Dispatch the event."""
        dispatch_custom_event(_EVENT, dict(self.event), config=self.config)

    async def aperform(self) -> None:
        """Dispatch the event."""
        await adispatch_custom_event(_EVENT, dict(self.event), config=self.config)
