"""Routing inside `create_agent`: each model call of the agent's loop is a request of its own.

The chosen candidate's model is put into the agent's `ModelRequest`, so that other middleware, such
as prompt caching, gets the model that answers. Needs the extra `agents`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_config

from langchain_llm_router.calls.bindings import Bindings
from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.tracing import NOSTREAM
from langchain_llm_router.router.chat import ChatLLMRouter
from langchain_llm_router.router.drivers import adrive, drive
from langchain_llm_router.router.parts import Parts, RouterFields
from langchain_llm_router.router.request import Done, Request
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.options import RoutingOptions

import_extra("langchain.agents", "agents")
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse  # noqa: E402

__all__ = ["LLMRouterMiddleware"]

Options = RoutingOptions | Mapping[str, Any] | str | None


class LLMRouterMiddleware(CheckedArguments, AgentMiddleware[Any, Any, Any]):
    """Agent middleware that chooses a candidate for every model call.

    Inside a tool loop the candidate that started it continues. With a cascade, text answers are
    verified and may be escalated; tool calls are checked against the schemas of the tools.

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
        options: Callable[[ModelRequest[Any]], Options] | None = None,
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

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Route one model call."""
        call = _ModelCall(request, handler=handler)
        return call.response(drive(self._request(call).run()))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Route one model call."""
        call = _ModelCall(request, ahandler=handler)
        return call.response(await adrive(self._request(call).run()))

    def _request(self, call: _ModelCall) -> Request:
        request, config = call.request, get_config()
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


class _AgentBindings(Bindings):
    """Bindings that let the agent call the model, to which it binds tools and schema itself."""

    def __init__(self, call: _ModelCall) -> None:
        super().__init__()
        self._call = call

    def apply(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        rest = {name: value for name, value in kwargs.items() if name != "tools"}
        return _Candidate(self._call, candidate), rest


class _ModelCall:
    """One model call of the agent, and its responses so far."""

    def __init__(
        self,
        request: ModelRequest[Any],
        *,
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]] | None = None,
        ahandler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]] | None = None,
    ) -> None:
        self.request, self.handler, self.ahandler = request, handler, ahandler
        self._responses: dict[int, ModelResponse[Any]] = {}

    def store(self, response: ModelResponse[Any]) -> AIMessage:
        """Store the response, and return its answer."""
        message = response.result[0]
        assert isinstance(message, AIMessage)
        self._responses[id(message)] = response
        return message

    def response(self, done: Done) -> ModelResponse[Any]:
        """Return the accepted response, with the record on its message."""
        response = self._responses[id(done.answer.message)]
        return replace(response, result=[done.output, *response.result[1:]])


class _Candidate(Runnable[Any, AIMessage]):
    """A runnable in place of a candidate's model; the agent's call has a run of its own."""

    def __init__(self, call: _ModelCall, candidate: Candidate) -> None:
        self._call, self._candidate = call, candidate

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        assert self._call.handler is not None
        return self._call.store(self._call.handler(self._request(input, config, kwargs)))

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        assert self._call.ahandler is not None
        return self._call.store(await self._call.ahandler(self._request(input, config, kwargs)))

    def _request(
        self,
        messages: Sequence[BaseMessage],
        config: RunnableConfig | None,
        kwargs: Mapping[str, Any],
    ) -> ModelRequest[Any]:
        request = self._call.request
        system = request.system_message
        if system is not None and isinstance(messages[0], SystemMessage):
            system, messages = messages[0], messages[1:]
        return request.override(
            model=_with_tags(live_model(self._candidate), config or {}),
            messages=list(messages),  # type: ignore[arg-type]
            system_message=system,
            model_settings={**request.model_settings, **kwargs},
        )


def _with_tags(model: BaseChatModel, config: RunnableConfig) -> BaseChatModel:
    """Copy a model with the router's tags and metadata, since the handler takes no config."""
    metadata = config.get("metadata") or {}
    added = {key: value for key, value in metadata.items() if key.startswith("llm_router_")}
    tags = [tag for tag in config.get("tags") or [] if tag.startswith(("llm_router:", NOSTREAM))]
    update: dict[str, Any] = {
        "tags": [*(model.tags or []), *tags],
        "metadata": {**(model.metadata or {}), **added},
    }
    if NOSTREAM in tags:
        # The agent's handlers stay attached, so the tokens of a draft must not arise.
        update["disable_streaming"] = True
    return model.model_copy(update=update)
