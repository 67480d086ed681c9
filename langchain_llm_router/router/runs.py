"""A chat model whose every call is a request: the LangChain side of routing.

A request is driven in LangChain's ways, `invoke`, `stream` and their async twins, as one chain run
whose children are ordinary chat-model runs. The parts are defined in `chat.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from typing import Any, Literal, cast
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import AddableDict, RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    set_config_context,
)

from langchain_llm_router.calls.langchain_internals import VERSIONS_KEY
from langchain_llm_router.calls.tracing import has_no_handlers
from langchain_llm_router.router.drivers import adrive, astream, drive, stream
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Done, Request

__all__ = ["RequestChatModel"]


class RequestChatModel(BaseChatModel):
    """Drives requests as LangChain runs; a subclass defines the parts."""

    @cached_property
    def parts(self) -> Parts:
        """The router's parts, fitted together."""
        raise NotImplementedError

    def _request(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None,
        kwargs: dict[str, Any],
        *,
        streaming: bool = False,
    ) -> Request:
        """Everything between a question and its answer, without the I/O."""
        if isinstance(input, list) and all(isinstance(given, BaseMessage) for given in input):
            messages = cast("list[BaseMessage]", input)
        else:
            messages = self._convert_input(input).to_messages()
        config = {} if config is None else config
        return Request(self.parts, messages, config, dict(kwargs), streaming=streaming)

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Route the input and return the accepted answer with its record."""
        kwargs = _with_stop(stop, kwargs)
        own = self._own(config)
        if has_no_handlers(own):
            # A run of its own would cost as much as all the routing, and no handler would see it.
            child = _childs(own, own.get("callbacks"))
            return cast("AIMessage", drive(self._request(input, child, kwargs).run()).output)
        manager = get_callback_manager_for_config(own)
        manager.add_metadata(self._versions, inherit=False)
        run = manager.on_chain_start(
            None, input, name=own.get("run_name") or self.get_name(), run_id=own.get("run_id")
        )
        try:
            child = _childs(own, run.get_child())
            with set_config_context(child) as context:
                done = context.run(lambda: drive(self._request(input, child, kwargs).run()))
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(done.output)
        return cast("AIMessage", done.output)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Route the input and return the accepted answer with its record."""
        kwargs = _with_stop(stop, kwargs)
        own = self._own(config)
        if has_no_handlers(own):
            child = _childs(own, own.get("callbacks"))
            done = await adrive(self._request(input, child, kwargs).run())
            return cast("AIMessage", done.output)
        manager = get_async_callback_manager_for_config(own)
        manager.add_metadata(self._versions, inherit=False)
        run = await manager.on_chain_start(
            None, input, name=own.get("run_name") or self.get_name(), run_id=own.get("run_id")
        )
        try:
            child = _childs(own, run.get_child())
            with set_config_context(child) as context:
                request = context.run(self._request, input, child, kwargs)
                done = await asyncio.create_task(adrive(request.run()), context=context)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(done.output)
        return cast("AIMessage", done.output)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream the accepted answer; its last chunk carries the record.

        An answer accepted without verification comes token by token, a verified draft as one chunk
        once it is accepted. Rejected drafts are never shown.
        """
        kwargs = _with_stop(stop, kwargs)

        def run(
            inputs: Iterator[LanguageModelInput],
            run_manager: CallbackManagerForChainRun,
            config: RunnableConfig,
        ) -> Iterator[Any]:
            request = self._request(next(inputs), config, kwargs, streaming=True)
            yield from _last_chunks((yield from stream(request.run())))

        for chunk in self._transform_stream_with_config(iter([input]), run, self._own(config)):
            yield cast("AIMessageChunk", chunk)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream the accepted answer; its last chunk carries the record."""
        kwargs = _with_stop(stop, kwargs)

        async def run(
            inputs: AsyncIterator[LanguageModelInput],
            run_manager: AsyncCallbackManagerForChainRun,
            config: RunnableConfig,
        ) -> AsyncIterator[Any]:
            request = self._request(await anext(inputs), config, kwargs, streaming=True)
            ended: list[Done] = []
            async for chunk in astream(request.run(), ended):
                yield chunk
            for chunk in _last_chunks(ended[0]):
                yield chunk

        async def one() -> AsyncIterator[LanguageModelInput]:
            yield input

        async for chunk in self._atransform_stream_with_config(one(), run, self._own(config)):
            yield cast("AIMessageChunk", chunk)

    def stream_events(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2", "v3"] = "v2",
        **kwargs: Any,
    ) -> Any:
        """Stream events; `v3` gives a typed `ChatModelStream` of the accepted answer."""
        if version != "v3":
            return super().stream_events(input, config, version=version, **kwargs)
        from langchain_llm_router.router.typed_streams import typed_stream  # noqa: PLC0415 - v3 is beta

        return typed_stream(self.stream(input, config, **kwargs))

    def astream_events(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2", "v3"] = "v2",
        **kwargs: Any,
    ) -> Any:
        """Stream events; `v3` awaits to a typed stream of the accepted answer."""
        if version != "v3":
            return super().astream_events(input, config, version=version, **kwargs)
        from langchain_llm_router.router.typed_streams import atyped_stream  # noqa: PLC0415 - v3 is beta

        return atyped_stream(self.astream(input, config, **kwargs))

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Route each conversation, for callers that bypass `invoke`."""
        config = _config_of(callbacks, tags, metadata, run_name)
        outputs = [
            self.invoke(given, _with_run_id(config, run_id, i), stop=stop, **kwargs)
            for i, given in enumerate(messages)
        ]
        return _result(outputs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Route each conversation at once, for callers that bypass `ainvoke`."""
        config = _config_of(callbacks, tags, metadata, run_name)
        calls = (
            self.ainvoke(given, _with_run_id(config, run_id, i), stop=stop, **kwargs)
            for i, given in enumerate(messages)
        )
        return _result(list(await asyncio.gather(*calls)))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self.invoke(messages, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    @property
    def _versions(self) -> dict[str, Any]:
        # Candidates report their own, and merging nested metadata is what costs most in a call.
        return {VERSIONS_KEY: (self.metadata or {}).get(VERSIONS_KEY, {})}

    def _own(self, config: RunnableConfig | None) -> RunnableConfig:
        """The call's config with this model's own callbacks, tags and metadata.

        Not `merge_configs`: it runs `ensure_config` on both, which pulls the context's callbacks
        in twice and loses the parent run.
        """
        own = ensure_config(config)
        if self.tags:
            own["tags"] = [*(own.get("tags") or []), *self.tags]
        metadata = self.metadata
        if metadata and (len(metadata) > 1 or VERSIONS_KEY not in metadata):
            own["metadata"] = {**metadata, **(own.get("metadata") or {})}
            own["metadata"].pop(VERSIONS_KEY, None)
        if self.callbacks:
            given = own.get("callbacks")
            ours = self.callbacks
            handlers = ours if isinstance(ours, list) else ours.handlers
            if given is None or isinstance(given, list):
                own["callbacks"] = [*(given or []), *handlers]
            else:
                manager = given.copy()
                for handler in handlers:
                    manager.add_handler(handler, inherit=True)
                own["callbacks"] = manager
        return own


def _with_stop(stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs if stop is None else {**kwargs, "stop": stop}


def _childs(config: RunnableConfig, callbacks: Callbacks) -> RunnableConfig:
    """The config for nested runs: `run_name` and `run_id` were the router's own."""
    child = {**config, "callbacks": callbacks}
    child.pop("run_name", None)
    child.pop("run_id", None)
    return cast("RunnableConfig", child)


def _last_chunks(done: Done) -> Iterator[Any]:
    """What is left to send when the request ends: the record, or the whole kept draft."""
    message = done.answer.message
    if message is not None and done.shown:
        noted: dict[str, Any] = {"id": message.id, "response_metadata": {"llm_router": done.record}}
        if isinstance(done.output, BaseMessage):
            yield AIMessageChunk(content="", **noted, chunk_position="last")
        else:
            yield AddableDict(raw=AIMessageChunk(content="", **noted))
    elif isinstance(done.output, BaseMessage):
        fields = done.output.model_dump(exclude={"type"})
        yield AIMessageChunk(**{**fields, "chunk_position": "last"})
    elif not done.shown:
        yield done.output


def _config_of(
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
) -> RunnableConfig:
    given = {"callbacks": callbacks, "tags": tags, "metadata": metadata, "run_name": run_name}
    return cast("RunnableConfig", {key: item for key, item in given.items() if item is not None})


def _with_run_id(config: RunnableConfig, run_id: UUID | None, i: int) -> RunnableConfig:
    # A run id names one run: the first conversation's.
    return {**config, "run_id": run_id} if run_id is not None and i == 0 else config


def _result(outputs: list[AIMessage]) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=output)] for output in outputs])
