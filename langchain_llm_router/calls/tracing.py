"""Decisions in traces and streams: as a run of their own, and as events during the request.

A trace reads as a sentence: `llm_router`, `decide: ask small`, `small`, `self_evaluate ×8 → 0.875`,
`decide: accept small (P 0.970 > 0.790)`. In a graph the runs of the nodes carry these names.

If no callback handler is attached, no run and no event is made.

Token usage belongs to the candidates' runs, and LangSmith counts it only there. In its
OpenTelemetry export, however, every chain that ends in a message (`prompt | model` as well as a
router) repeats that message's `gen_ai.usage.*`: sum only over the spans whose
`langsmith.span.kind` is `llm`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    BaseCallbackManager,
    Callbacks,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.callbacks.manager import AsyncCallbackManager, CallbackManager
from langchain_core.globals import get_debug
from langchain_core.runnables import RunnableConfig
from langsmith.utils import tracing_is_enabled

from langchain_llm_router.calls.langchain_internals import has_context_handlers, shows_messages
from langchain_llm_router.calls.trace_runs import decision_name, mark_run
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.loop.record import decision_data, situation_data
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.answers import has_output
from langchain_llm_router.types.operations import Operation

__all__ = [
    "NOSTREAM",
    "RUN_NAME",
    "AnnotateOperation",
    "EventOperation",
    "TokenWatch",
    "TraceOperation",
    "candidate_config",
    "gated_config",
    "has_no_handlers",
    "is_traced",
    "quiet_config",
    "watch_tokens",
    "without_tokens",
]

RUN_NAME = "llm_router"
"""Name of the run of a request in traces, unless the router or the call has a name."""

_EVENT = "llm_router"


def candidate_config(
    config: RunnableConfig, candidate: str, decision_id: str, *, quiet: bool
) -> RunnableConfig:
    """Return the config of a candidate's run: tagged, and hidden from streams if `quiet`."""
    callbacks = config.get("callbacks")
    tags = [*(config.get("tags") or []), f"llm_router:candidate:{candidate}"]
    if quiet:
        tags.append(NOSTREAM)
        callbacks = without_tokens(callbacks) if is_traced(config) else callbacks
    metadata = {**(config.get("metadata") or {}), "llm_router_candidate": candidate}
    metadata["llm_router_decision_id"] = decision_id
    # Not `merge_configs`: inside a run it adds the context's callbacks a second time.
    return {**config, "callbacks": callbacks, "tags": tags, "metadata": metadata}


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


NOSTREAM = "nostream"
"""`langgraph.constants.TAG_NOSTREAM`: keeps a call out of `stream_mode="messages"`."""


_TOKEN_EVENTS = frozenset({"on_llm_new_token", "on_stream_event"})
_NODE_EVENTS = frozenset({"on_chain_start", "on_chain_end", "on_chain_error"})
_TAPS = frozenset({"tap_output_aiter", "tap_output_iter"})
"""By these methods LangChain knows the handlers for which it streams, as `astream_events` does."""


def without_tokens(callbacks: Callbacks) -> Callbacks:
    """Return callbacks that hear when a model starts and ends, but none of its tokens.

    For drafts and judges, whose tokens are not meant for the user; tracers still hear them.
    """
    return _with_handlers(callbacks, _Quiet)


def _with_handlers(callbacks: Callbacks, wrap: Callable[[Any], Any]) -> Callbacks:
    """Return callbacks in which each handler that hears tokens is wrapped."""

    def wrapped(handlers: list[Any]) -> list[Any]:
        return [wrap(handler) if _hears_tokens(handler) else handler for handler in handlers]

    if callbacks is None:
        return None
    if isinstance(callbacks, list):
        return wrapped(callbacks)
    changed = callbacks.copy()
    changed.handlers = wrapped(callbacks.handlers)
    changed.inheritable_handlers = wrapped(callbacks.inheritable_handlers)
    return changed


def watch_tokens(config: RunnableConfig, notes: Notes) -> RunnableConfig:
    """Return a config whose run notes that a handler has shown part of the answer to the user.

    LangGraph's `stream_mode="messages"` and `astream_events` show the tokens of a call that is
    invoked. What they have shown cannot be taken back.
    """
    callbacks = config.get("callbacks")
    handlers: Any = getattr(callbacks, "handlers", callbacks)
    if callbacks is None or not any(map(_hears_tokens, handlers)):
        return config
    notes.is_heard = True
    watch = TokenWatch(notes)
    if isinstance(callbacks, list):
        return {**config, "callbacks": [*callbacks, watch]}
    watched = callbacks.copy()
    watched.add_handler(watch)
    return {**config, "callbacks": watched}


class TokenWatch(BaseCallbackHandler):
    """Notes that a token with output has come, where a handler shows tokens."""

    run_inline = True

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        """Note a token with output."""
        message = getattr(chunk, "message", None)
        if not self._notes.is_heard:
            return
        if token if message is None else has_output(message):
            self._notes.tokens_shown = True


def quiet_config(config: RunnableConfig) -> RunnableConfig:
    """Return the config for a run whose tokens are not meant for the user."""
    tags = [*(config.get("tags") or []), NOSTREAM]
    return {**config, "tags": tags, "callbacks": without_tokens(config.get("callbacks"))}


def gated_config(
    config: RunnableConfig, may_show: Callable[[], bool], goes_on: Callable[[], bool]
) -> RunnableConfig:
    """Return the config for a call that may be hedged or given up.

    LangChain streams whole answers too if a handler hears tokens, and a thread goes on after its
    time is up.

    Args:
        config: The config.
        may_show: Whether its handlers may hear a token now.
        goes_on: Whether its caller still waits for it; if not, those handlers do not hear its end,
            with which LangGraph's would show the whole answer.
    """

    def gated(handler: Any) -> Any:
        return (_GatedTap if _is_tap(handler) else _Gated)(handler, may_show, goes_on)

    return {**config, "callbacks": _with_handlers(config.get("callbacks"), gated)}


def _is_tap(handler: Any) -> bool:
    return all(hasattr(handler, name) for name in _TAPS)


def _hears_tokens(handler: Any) -> bool:
    if isinstance(handler, (_Quiet, TokenWatch)):
        return isinstance(handler, _Gated)
    told = getattr(type(handler), "on_llm_new_token", None)
    if told in (BaseCallbackHandler.on_llm_new_token, AsyncCallbackHandler.on_llm_new_token):
        return _is_tap(handler)
    from langchain_core.tracers.base import BaseTracer  # noqa: PLC0415 - only with handlers

    return not isinstance(handler, BaseTracer) or _is_tap(handler)


class _Quiet:
    """A handler that hears all but tokens, and for which LangChain does not stream."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        if name in _TAPS:
            raise AttributeError(name)
        value = getattr(self._handler, name)
        if name in _TOKEN_EVENTS or (name in _NODE_EVENTS and shows_messages(self._handler)):
            return _ignored(value)
        return value

    def __eq__(self, other: object) -> bool:
        # LangChain compares handlers, so that each is told once.
        return other is self._handler or (
            isinstance(other, _Quiet) and other._handler == self._handler
        )

    def __hash__(self) -> int:
        return hash(self._handler)


class _Gated(_Quiet):
    """A handler that hears tokens, and the end, only while a function of its own returns True."""

    def __init__(
        self, handler: Any, may_show: Callable[[], bool], goes_on: Callable[[], bool]
    ) -> None:
        super().__init__(handler)
        self._may_show, self._goes_on = may_show, goes_on

    def __getattr__(self, name: str) -> Any:
        # LangChain asks for a method right before it calls it.
        value = getattr(self._handler, name)
        if name in _TOKEN_EVENTS:
            return value if self._may_show() else _ignored(value)
        return _ignored(value) if name == "on_llm_end" and not self._goes_on() else value


class _GatedTap(_Gated):
    """The same for a handler for which LangChain streams, by which it is known."""

    def tap_output_aiter(self, *args: Any) -> Any:
        return self._handler.tap_output_aiter(*args)

    def tap_output_iter(self, *args: Any) -> Any:
        return self._handler.tap_output_iter(*args)


def _ignored(method: Any) -> Any:
    return _ignore_async if inspect.iscoroutinefunction(method) else _ignore


def _ignore(*args: Any, **kwargs: Any) -> None:
    return None


async def _ignore_async(*args: Any, **kwargs: Any) -> None:
    return None


@dataclass(frozen=True)
class TraceOperation(Operation):
    """The operation that traces a decision as a child run, from the situation to the choice."""

    decision: Decision
    situation: Situation
    config: RunnableConfig
    decision_id: str
    in_node: bool = False
    """Whether the run of a graph's node is that of the decision."""

    unseen: bool = False
    """Whether the answer was accepted as the last word, so that nothing was decided."""

    def perform(self) -> None:
        """Start and end the run, or name that of the node."""
        if self.in_node:
            mark_run(self.config, self._name)
        if not self._has_own_run:
            return
        manager = self._manager()
        assert isinstance(manager, CallbackManager)
        run = manager.on_chain_start(None, situation_data(self.situation), name=self._name)
        run.on_chain_end(decision_data(self.decision))

    async def aperform(self) -> None:
        """Start and end the run, or name that of the node."""
        if self.in_node:
            mark_run(self.config, self._name)
        if not self._has_own_run:
            return
        manager = self._manager()
        if not isinstance(manager, AsyncCallbackManager):
            self.perform()
            return
        inputs = situation_data(self.situation)
        run = await manager.on_chain_start(None, inputs, name=self._name)
        await run.on_chain_end(decision_data(self.decision))

    @property
    def _has_own_run(self) -> bool:
        """Whether a run is made: not if nothing was decided, or another one shows the decision."""
        # Nothing was weighed: that the answer is verified, its verification shows.
        weighed = self.decision.action != "verify" or len(self.decision.scores) > 0
        return weighed and not self.in_node and not self.unseen

    def _manager(self) -> BaseCallbackManager:
        manager = self.config.get("callbacks")
        assert isinstance(manager, BaseCallbackManager)
        own = manager.copy()
        own.add_metadata({"llm_router_decision_id": self.decision_id}, inherit=False)
        return own

    @property
    def _name(self) -> str:
        step = self.decision
        return decision_name(replace(step, confidence=None) if self.unseen else step)


@dataclass(frozen=True)
class AnnotateOperation(Operation):
    """The operation that adds the outcome to the router's run in traces, for use in filters."""

    record: Mapping[str, Any]
    config: RunnableConfig
    in_node: bool = False
    """Whether the request runs in the nodes of a graph, whose run is then the router's."""

    def perform(self) -> None:
        """Annotate the run, or else the current run tree, if there is one."""
        from langsmith.run_helpers import get_current_run_tree  # noqa: PLC0415 - takes 0.13 s

        record = self.record
        outcome = {
            "llm_router_candidate": record["candidate"],
            "llm_router_policy": record["policy"],
            "llm_router_reason": record["reason"],
            "llm_router_confidence": record["confidence"],
            "llm_router_decision_id": record["decision_id"],
            "llm_router_cost_usd": record["cost_usd"],
            "llm_router_asked": [a["candidate"] for a in record["attempts"]],
        }
        if mark_run(self.config, metadata=outcome, parent=self.in_node):
            return
        tree = get_current_run_tree()
        if tree is not None:
            tree.add_metadata(outcome)


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
