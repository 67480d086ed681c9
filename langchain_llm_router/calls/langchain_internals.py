"""The private names of LangChain and LangGraph that the package reads, one function for each.

A private name may change in any release, so no other file reads one, and a test checks each
against the installed version. Methods that a chat model of ours inherits (`_convert_input`,
`_transform_stream_with_config`, `_add_version`) or overrides (`_identifying_params`) stay in its
class; the same test checks them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from importlib.metadata import version
from types import ModuleType
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence

__all__ = [
    "CHECKPOINTER_KEY",
    "RUNTIME_KEY",
    "VERSIONS_KEY",
    "acreate_events",
    "chat_call",
    "create_events",
    "has_checkpointer",
    "has_context_handlers",
    "identifying_params",
    "is_router",
    "langsmith_params",
    "shows_messages",
    "start_producer",
]

VERSIONS_KEY = "lc_versions"
"""Key in a chat model's metadata under which `BaseChatModel._add_version` keeps versions.

What for: the router's own runs do not merge these versions, the most expensive part of a call.
Since: langchain-core 1.5. Where it is named otherwise: the versions are merged like other metadata.
"""


RUNTIME_KEY = "__pregel_runtime"
"""Key of `config["configurable"]` with LangGraph's `Runtime` of the node; absent outside of graphs.

What for: its `stream_writer` (events of `stream_mode="custom"`) and `execution_info`. A
`ChatLLMRouter` in a node reads it as well, without importing langgraph.
Since: langgraph 0.6; `execution_info` since 1.2. Where it is missing, all is as outside of graphs:
events go to LangChain's callbacks, and a node that a retry policy runs again counts as one that
was interrupted. (A constant saves each node several calls of a function.)
"""


CHECKPOINTER_KEY = "__pregel_checkpointer"
"""Key of `config["configurable"]` with the checkpointer of the graph that runs a node.

What for: an agent that runs in a node pauses only where there is one, and what its run has cost is
read from its checkpoint. Since: langgraph 0.2. Where it is named otherwise: a pause is refused, and
what was cut off counts with the worst case of the whole run.
"""


def has_checkpointer(config: Mapping[str, Any]) -> bool:
    """Whether the graph that a node belongs to has a checkpointer, so that it can be resumed.

    What for: an interrupt without one ends the graph as if it were done, and loses the answer.
    Private: see `CHECKPOINTER_KEY`. Where it is missing: True, and LangGraph says what it says.
    """
    configurable = config.get("configurable") or {}
    return configurable.get(CHECKPOINTER_KEY, True) is not None


def shows_messages(handler: object) -> bool:
    """Whether a handler shows the messages that nodes return, for `stream_mode="messages"`.

    What for: a rejected agent's messages are not meant for the user.
    Private: `langgraph.pregel._messages`, since 0.6. Where it is named otherwise: they are shown
    with `subgraphs=True`.
    """
    return any(kind.__module__ == "langgraph.pregel._messages" for kind in type(handler).__mro__)


def has_context_handlers() -> bool:
    """Whether a context variable, like `get_usage_metadata_callback`'s, may bring a handler.

    What for: without any handler the router makes no run, which saves most of a call's time.
    Private: `langchain_core.tracers.context._configure_hooks`, since 0.1 at the latest.
    Where it is missing: True, so that callbacks are configured as usual.
    """
    from langchain_core.tracers import context  # noqa: PLC0415 - keeps the import fast

    hooks = getattr(context, "_configure_hooks", None)
    if hooks is None:
        return True
    # Not by `any`: in every call, its generator takes as long again.
    for variable, _, _, env_var in hooks:
        if variable.get() is not None or env_var is not None:
            return True
    return False


def langsmith_params(model: BaseChatModel) -> Mapping[str, Any]:
    """Provider and name of a model (`ls_provider`, `ls_model_name`), as its traces show them.

    What for: prices, and which messages a provider can read. No public name gives the provider.
    Private: `BaseChatModel._get_ls_params`, which chat models override, since 0.2 at the latest.
    Where it is missing: an `AttributeError`; no supported version lacks it.
    """
    return model._get_ls_params()


def identifying_params(model: BaseChatModel) -> Mapping[str, Any]:
    """What tells one chat model from another, for caches and traces.

    What for: a router is identified by its candidates.
    Private: `BaseChatModel._identifying_params`, which chat models override, since 0.1 at the
    latest. Where it is missing: an `AttributeError`; no supported version lacks it.
    """
    return model._identifying_params


def is_router(model: object) -> bool:
    """Whether a candidate's model is a router, from a file that cannot import its class.

    What for: a router among the candidates has a decision record, and no provider of its own.
    Private: `BaseChatModel._llm_type`, which chat models override, since 0.1 at the latest.
    Where it is missing: an `AttributeError`; no supported version lacks it.
    """
    return isinstance(model, BaseChatModel) and model._llm_type == "llm-router"


def create_events(chunks: Iterator[ChatGenerationChunk], message_id: str | None) -> Iterator[Any]:
    """The protocol events of a stream of chunks, for typed streams (`version="v3"`).

    What for: LangChain makes them for a model's own run only, and the router's is a chain run.
    Private: `langchain_core.language_models._compat_bridge.chunks_to_events`, since 1.4.

    Raises:
        NotImplementedError: Where it is missing; `version="v2"` still works.
    """
    return _compat_bridge().chunks_to_events(chunks, message_id=message_id)  # type: ignore[no-any-return]


def acreate_events(
    chunks: AsyncIterator[ChatGenerationChunk], message_id: str | None
) -> AsyncIterator[Any]:
    """The async twin of `create_events`, of `achunks_to_events`."""
    return _compat_bridge().achunks_to_events(chunks, message_id=message_id)  # type: ignore[no-any-return]


def _compat_bridge() -> ModuleType:
    try:
        from langchain_core.language_models import _compat_bridge  # noqa: PLC0415 - v3 is beta
    except ImportError as error:
        msg = (
            f"langchain-core {version('langchain-core')} makes typed streams in a way that this "
            'package does not know: ask for `version="v2"`, or install langchain-core 1.6 to 1.8.'
        )
        raise NotImplementedError(msg) from error
    return _compat_bridge


def start_producer(stream: Any, produce: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start the task that fills an `AsyncChatModelStream`, once.

    What for: LangChain gives the stream a start callback, and no public place for the task.
    Private: `AsyncChatModelStream._producer_task`, which `aclose` cancels, since 1.4.
    Where it is named otherwise: the stream works, and `aclose` does not stop the task.
    """
    if getattr(stream, "_producer_task", None) is None:
        stream._producer_task = asyncio.get_running_loop().create_task(produce())


def chat_call(runnable: Runnable[Any, Any]) -> tuple[BaseChatModel, Mapping[str, Any]] | None:
    """The chat model that a runnable calls, with its bound arguments; None if it has another form.

    What for: all replies of one request, of which the runnable returns the first.
    Private: the form of `with_structured_output(include_raw=True)`, a `RunnableParallel` with the
    key `raw` before the parser, since 0.2 at the latest, in LangChain's own class and in its
    partners'. Where it has another one, verdicts are asked for one by one.
    """
    if isinstance(runnable, RunnableSequence) and isinstance(runnable.first, RunnableParallel):
        runnable = runnable.first.steps__.get("raw", runnable)
    model = runnable.bound if isinstance(runnable, RunnableBinding) else runnable
    kwargs = runnable.kwargs if isinstance(runnable, RunnableBinding) else {}
    return (model, kwargs) if isinstance(model, BaseChatModel) else None
