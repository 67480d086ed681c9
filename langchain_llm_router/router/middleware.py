"""Routing inside `create_agent`: each model call of the agent's loop is a request of its own.

The chosen candidate's model is put into the agent's `ModelRequest`, so that other middleware, such
as prompt caching, gets the model that answers. Needs the extra `agents`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    set_config_context,
)
from langgraph.config import get_config

from langchain_llm_router.calls.bindings import Bindings, NotedRunnable
from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.provider_messages import provider_of, settings_for_provider
from langchain_llm_router.calls.tools import choice_for_provider, tools_for_provider
from langchain_llm_router.calls.tracing import NOSTREAM, TokenWatch, is_traced
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.router.chat import ChatLLMRouter
from langchain_llm_router.router.drivers import adrive, drive
from langchain_llm_router.router.endings import Done
from langchain_llm_router.router.fields import RouterFields
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import BudgetExceededError, LedgerError, import_extra
from langchain_llm_router.types.options import RoutingOptions

import_extra("langchain.agents", "agents")
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse  # noqa: E402
from langchain.agents.structured_output import ToolStrategy  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LLMRouterMiddleware"]

_MAX_STEPS = 1024
"""Number of the agents' steps that are remembered, at least as many as run at one time."""

_Options = RoutingOptions | Mapping[str, Any] | str | None


class LLMRouterMiddleware(CheckedArguments, AgentMiddleware[Any, Any, Any]):
    """Agent middleware that chooses a candidate for every model call.

    Inside a tool loop the candidate that started it continues. With a cascade, text answers are
    verified and may be escalated; tool calls are checked against the schemas of the tools.

    Other middleware may stand on either side. If one outside, like `ModelFallbackMiddleware`, puts
    another model in after the router has failed, that model is asked itself, outside of the
    router's budgets; where a budget refused the request, or the request is `sensitive`, the router
    is asked again instead. What middleware inside does with a sensitive request is its own. If one
    inside gets the answer from another model than the chosen candidate, the record names that model
    in `answered_by`; if it makes a message out of an error, the candidate has failed.

    Args:
        router: The router whose candidates, policy, estimator and verifier are used.
        options: A function that returns the routing options of one call, given its `ModelRequest`.
            It is not called if `config["configurable"]["llm_router"]` is set.
        sticky: Whether to stay with the candidate that gave the thread's last answer, as in
            `ChatLLMRouter`; if None, the router's setting is used.

    Example:
        `create_agent(model, tools, middleware=[LLMRouterMiddleware(router)])`
    """

    def __init__(
        self,
        router: ChatLLMRouter,
        *,
        options: Callable[[ModelRequest[Any]], _Options] | None = None,
        sticky: bool | Literal["escalate"] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(router, ChatLLMRouter):
            msg = f"`router` must be a ChatLLMRouter, got {router!r}."
            raise TypeError(msg)
        fields = router.parts.fields
        if sticky is not None:
            fields = RouterFields.model_validate({**vars(fields), "sticky": sticky})
        self._parts = Parts(fields)
        self._options = options
        self._routed = _RoutedSteps()

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Route one model call."""
        if self._routed.is_replaced(request):
            return handler(request)
        call = _ModelCall(request, self._parts, handler=handler)
        routed = self._request(call)
        with self._routed.step(request, routed):
            return call.response(drive(routed.run()))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Route one model call."""
        if self._routed.is_replaced(request):
            return await handler(request)
        call = _ModelCall(request, self._parts, ahandler=handler)
        routed = self._request(call)
        with self._routed.step(request, routed):
            return call.response(await adrive(routed.run()))

    def _request(self, call: _ModelCall) -> Request:
        request, config = call.request, call.config()
        configurable = dict(config.get("configurable") or {})
        if self._options is not None and configurable.get("llm_router") is None:
            configurable["llm_router"] = RoutingOptions.parse(self._options(request))
            config = {**config, "configurable": configurable}
        tools: list[Any] = list(request.tools)
        if request.response_format is not None:
            # Its schema becomes a tool whose name is not known yet.
            tools.append({})
        system = [] if request.system_message is None else [request.system_message]
        kwargs: dict[str, Any] = {"tools": tuple(tools)} if tools else {}
        parts = self._parts.with_bindings(_AgentBindings(call))
        return Request(parts, [*system, *request.messages], config, kwargs)


class _RoutedSteps:
    """The agent's last steps that were routed, each with the model that the request had then."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, int], BaseChatModel] = {}
        self._lock = Lock()

    def is_replaced(self, request: ModelRequest[Any]) -> bool:
        """Return whether middleware outside replaced the model after its step was routed."""
        step = _step_of(request)
        earlier = self._models.get(step) if step[0] else None
        return earlier is not None and earlier is not request.model

    @contextmanager
    def step(self, request: ModelRequest[Any], routed: Request) -> Iterator[None]:
        """Remember a step once it is routed, unless that would evade a budget or `sensitive`."""
        try:
            yield
        except (BudgetExceededError, LedgerError):
            raise
        except Exception:
            self._add(request, routed)
            raise
        self._add(request, routed)

    def _add(self, request: ModelRequest[Any], routed: Request) -> None:
        if routed.parts.confinement is not None and routed.sensitive is not None:
            return
        with self._lock:
            while len(self._models) >= _MAX_STEPS:
                del self._models[next(iter(self._models))]
            self._models[_step_of(request)] = request.model


def _step_of(request: ModelRequest[Any]) -> tuple[str, int]:
    # Not by a context variable: LangChain may call each middleware in a context of its own.
    info = request.runtime.execution_info
    return ("", 0) if info is None else (info.task_id, info.node_attempt)


class _AgentBindings(Bindings):
    """Bindings that let the agent call the model, to which it binds tools and schema itself."""

    def __init__(self, call: _ModelCall) -> None:
        super().__init__()
        self._call = call

    @property
    def demands_format(self) -> bool:
        wanted = self._call.request.response_format
        # Of a tool strategy the answer is a tool call, beside which a text may stand.
        return wanted is not None and not isinstance(wanted, ToolStrategy)

    def apply(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        rest = {name: value for name, value in kwargs.items() if name != "tools"}
        return _HandlerRunnable(self._call, candidate), rest


class _ModelCall:
    """One model call of the agent, and its responses so far."""

    def __init__(
        self,
        request: ModelRequest[Any],
        parts: Parts,
        *,
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]] | None = None,
        ahandler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]] | None = None,
    ) -> None:
        self.request, self.handler, self.ahandler = request, handler, ahandler
        self._parts = parts
        self._responses: dict[int, ModelResponse[Any]] = {}

    def config(self) -> RunnableConfig:
        """Return the config for runs inside of the middleware's own run, if it has one."""
        config = get_config()
        if not is_traced(config):
            return config
        if self.ahandler is None:
            return {**config, "callbacks": get_callback_manager_for_config(config)}
        return {**config, "callbacks": get_async_callback_manager_for_config(config)}

    def store(self, response: ModelResponse[Any]) -> AIMessage:
        """Store the response, and return its answer."""
        message = response.result[0]
        assert isinstance(message, AIMessage)
        self._responses[id(message)] = response
        return message

    def response(self, done: Done) -> ModelResponse[Any]:
        """Return the accepted response, with the record on its message."""
        response = self._responses.get(id(done.answer.given))
        if response is None:
            # The router itself answers: no answer is good enough.
            return ModelResponse(result=[done.output])
        return replace(response, result=[done.output, *response.result[1:]])

    def author(self, message: AIMessage) -> Candidate:
        """Return the candidate that a message names as its model, or an unknown one."""
        name = str(message.response_metadata.get("model_name") or "another model")
        try:
            return self._parts.by_name[self._parts.resolve_name(name)]
        except (ValueError, KeyError):
            return Candidate(name)


class _Listener(TokenWatch):
    """A handler that records whether the chosen candidate answered, or how it failed."""

    ignore_chain = ignore_retriever = ignore_agent = ignore_retry = ignore_custom_event = True

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self.answered = False
        self.error: BaseException | None = None

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.answered = True

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.error = error


class _HandlerRunnable(NotedRunnable):
    """A runnable that has the agent's handler call a candidate's model, in a run of its own."""

    def __init__(self, call: _ModelCall, candidate: Candidate) -> None:
        super().__init__()
        self._call, self._candidate = call, candidate

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        assert self._call.handler is not None
        listener = _Listener(self.notes)
        request = self._request(input, config, kwargs, listener)
        with set_config_context(_own_config(config)) as context:
            response = context.run(self._call.handler, request)
        return self._read(response, listener)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        assert self._call.ahandler is not None
        listener = _Listener(self.notes)
        request, ahandler = self._request(input, config, kwargs, listener), self._call.ahandler

        async def ask() -> ModelResponse[Any]:
            return await ahandler(request)

        with set_config_context(_own_config(config)) as context:
            response = await asyncio.create_task(ask(), context=context)
        return self._read(response, listener)

    def _read(self, response: ModelResponse[Any], listener: _Listener) -> AIMessage:
        """Return the answer; middleware inside may have replaced the model or hidden its error."""
        message = self._call.store(response)
        if not listener.answered:
            # Only a model's answer has an id at this point.
            if message.id is not None:
                self.notes.answered_by = self._call.author(message)
            elif listener.error is not None:
                raise listener.error
        return message

    def _request(
        self,
        messages: Sequence[BaseMessage],
        config: RunnableConfig | None,
        kwargs: Mapping[str, Any],
        listener: _Listener,
    ) -> ModelRequest[Any]:
        request, model = self._call.request, live_model(self._candidate)
        system, provider = request.system_message, provider_of(model)
        if system is not None and isinstance(messages[0], SystemMessage):
            system, messages = messages[0], messages[1:]
        settings = settings_for_provider(
            {**request.model_settings, **kwargs},
            provider,
            rejected_settings(model, self._candidate),
        )
        return request.override(
            model=_with_tags(model, config or {}, listener, self._candidate.name),
            messages=list(messages),  # type: ignore[arg-type]
            system_message=system,
            tools=list(tools_for_provider(request.tools, provider)),
            tool_choice=choice_for_provider(request.tool_choice, provider),
            model_settings=settings,
        )


def _own_config(config: RunnableConfig | None) -> RunnableConfig:
    """Return the agent's config with a call's callbacks, which may receive fewer tokens."""
    own = get_config()
    return own if config is None else {**own, "callbacks": config.get("callbacks")}


def _with_tags(
    model: BaseChatModel, config: RunnableConfig, listener: _Listener, name: str
) -> BaseChatModel:
    """Copy a model with the router's tags and metadata, since the handler takes no config."""
    metadata = config.get("metadata") or {}
    added = {key: value for key, value in metadata.items() if key.startswith("llm_router_")}
    tags = [tag for tag in config.get("tags") or [] if tag.startswith(("llm_router:", NOSTREAM))]
    own = model.callbacks
    if isinstance(own, BaseCallbackManager):
        own = own.copy()
        own.add_handler(listener)
    else:
        own = [*(own or []), listener]
    update: dict[str, Any] = {
        "name": name,
        "tags": [*(model.tags or []), *tags],
        "metadata": {**(model.metadata or {}), **added},
        "callbacks": own,
    }
    if NOSTREAM in tags:
        # The agent's handlers stay attached, so the tokens of a draft must not arise.
        update["disable_streaming"] = True
    return model.model_copy(update=update)
