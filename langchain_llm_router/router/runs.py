"""The base class of `ChatLLMRouter`, which drives requests as LangChain runs.

`invoke`, `stream` and their async counterparts make one chain run per request, whose children are
ordinary chat-model runs. The parts are defined in `chat.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
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
from langchain_llm_router.calls.nested_records import as_chunk, with_nested
from langchain_llm_router.calls.tracing import RUN_NAME, has_no_handlers
from langchain_llm_router.router.drivers import adrive, astream, drive, stream
from langchain_llm_router.router.endings import Done
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request

__all__ = ["RequestChatModel"]


class RequestChatModel(BaseChatModel):
    """A chat model that drives each call as a request; a subclass defines the parts."""

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
        """Make the request of a call."""
        if isinstance(input, list) and all(isinstance(item, BaseMessage) for item in input):
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
        merged = self._merge_config(config)
        if has_no_handlers(merged):
            # A run would take as much time as all the routing, and no handler would receive it.
            child = _request_config(merged, merged.get("callbacks"))
            return cast("AIMessage", drive(self._request(input, child, kwargs).run()).output)
        manager = get_callback_manager_for_config(merged)
        manager.add_metadata(self._versions, inherit=False)
        run = manager.on_chain_start(
            None, input, name=merged.get("run_name") or self.get_name(), run_id=merged.get("run_id")
        )
        try:
            child = _request_config(merged, run.get_child())
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
        merged = self._merge_config(config)
        if has_no_handlers(merged):
            child = _request_config(merged, merged.get("callbacks"))
            done = await adrive(self._request(input, child, kwargs).run())
            return cast("AIMessage", done.output)
        manager = get_async_callback_manager_for_config(merged)
        manager.add_metadata(self._versions, inherit=False)
        run = await manager.on_chain_start(
            None, input, name=merged.get("run_name") or self.get_name(), run_id=merged.get("run_id")
        )
        try:
            child = _request_config(merged, run.get_child())
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
        """Stream the accepted answer; its last chunk has the decision record.

        An answer accepted without verification arrives token by token, a verified draft as one
        chunk once it is accepted. Rejected drafts are never shown.
        """
        kwargs, merged = _with_stop(stop, kwargs), self._merge_config(config)
        if has_no_handlers(merged):
            yield from self._chunks(input, _request_config(merged, merged.get("callbacks")), kwargs)
            return

        def run(
            inputs: Iterator[LanguageModelInput],
            run_manager: CallbackManagerForChainRun,
            config: RunnableConfig,
        ) -> Iterator[Any]:
            yield from self._chunks(next(inputs), config, kwargs)

        traced: Iterator[Any] = self._transform_stream_with_config(iter([input]), run, merged)
        yield from traced

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream the accepted answer; its last chunk has the decision record."""
        kwargs, merged = _with_stop(stop, kwargs), self._merge_config(config)

        async def run(
            inputs: AsyncIterator[LanguageModelInput],
            run_manager: AsyncCallbackManagerForChainRun,
            config: RunnableConfig,
        ) -> AsyncIterator[Any]:
            async with aclosing(self._achunks(await anext(inputs), config, kwargs)) as chunks:
                async for chunk in chunks:
                    yield chunk

        async def inputs() -> AsyncIterator[LanguageModelInput]:
            yield input

        if has_no_handlers(merged):
            # A run would make a task for every chunk, which then waits for all other tasks.
            child = _request_config(merged, merged.get("callbacks"))
            streamed: Any = self._achunks(input, child, kwargs)
        else:
            streamed = self._atransform_stream_with_config(inputs(), run, merged)
        async with aclosing(streamed) as chunks:
            async for chunk in chunks:
                yield chunk

    def _chunks(
        self, input: LanguageModelInput, config: RunnableConfig, kwargs: dict[str, Any]
    ) -> Iterator[Any]:
        request = self._request(input, config, kwargs, streaming=True)
        yield from _last_chunks((yield from stream(request.run())))

    async def _achunks(
        self, input: LanguageModelInput, config: RunnableConfig, kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any]:
        request = self._request(input, config, kwargs, streaming=True)
        ended: list[Done] = []
        # Closed at once where the reader is cancelled: it settles what was spent.
        async with aclosing(astream(request.run(), ended)) as chunks:
            async for chunk in chunks:
                yield chunk
        for chunk in _last_chunks(ended[0]):
            yield chunk

    def stream_events(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2", "v3"] = "v2",
        **kwargs: Any,
    ) -> Any:
        """Stream events; `v3` returns a typed `ChatModelStream` of the accepted answer."""
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
        """Stream events; with `v3`, awaiting the result gives a typed stream of the answer."""
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
        """Route each conversation, for code that calls `generate` instead of `invoke`."""
        config = _config_of(callbacks, tags, metadata, run_name)
        outputs = [
            self.invoke(conversation, _with_run_id(config, run_id, i), stop=stop, **kwargs)
            for i, conversation in enumerate(messages)
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
        """Route all conversations concurrently, for code that calls `agenerate`."""
        config = _config_of(callbacks, tags, metadata, run_name)
        calls = (
            self.ainvoke(conversation, _with_run_id(config, run_id, i), stop=stop, **kwargs)
            for i, conversation in enumerate(messages)
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

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of its runs: its own, or `llm_router`."""
        return super().get_name(suffix, name=name or self.name or RUN_NAME)

    @property
    def _versions(self) -> dict[str, Any]:
        # Only the router's versions: candidates report theirs, and merging nested metadata is slow.
        return {VERSIONS_KEY: (self.metadata or {}).get(VERSIONS_KEY, {})}

    def _merge_config(self, config: RunnableConfig | None) -> RunnableConfig:
        """Merge this model's callbacks, tags and metadata into the call's config.

        Not by `merge_configs`, which runs `ensure_config` on both: that adds the context's
        callbacks twice and loses the parent run.
        """
        merged = ensure_config(config)
        if self.tags:
            merged["tags"] = [*(merged.get("tags") or []), *self.tags]
        metadata = self.metadata
        if metadata and (len(metadata) > 1 or VERSIONS_KEY not in metadata):
            merged["metadata"] = {**metadata, **(merged.get("metadata") or {})}
            merged["metadata"].pop(VERSIONS_KEY, None)
        if self.callbacks:
            callbacks = merged.get("callbacks")
            added = self.callbacks
            handlers = added if isinstance(added, list) else added.handlers
            if callbacks is None or isinstance(callbacks, list):
                attached = list(callbacks or [])
                merged["callbacks"] = [*attached, *(h for h in handlers if h not in attached)]
            else:
                manager = callbacks.copy()
                for handler in handlers:
                    manager.add_handler(handler, inherit=True)
                merged["callbacks"] = manager
        return merged


def _with_stop(stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs if stop is None else {**kwargs, "stop": stop}


def _request_config(config: RunnableConfig, callbacks: Callbacks) -> RunnableConfig:
    """Return the config for nested runs; `run_name` and `run_id` belong to the router's run."""
    child = {**config, "callbacks": callbacks}
    child.pop("run_name", None)
    child.pop("run_id", None)
    return cast("RunnableConfig", child)


def _last_chunks(done: Done) -> Iterator[Any]:
    """Yield what remains to be sent at the end: the record, or the accepted draft with it."""
    message = done.answer.message
    if message is not None and done.shown:
        fields: dict[str, Any] = {
            "id": message.id,
            "response_metadata": {"llm_router": with_nested(done.record, message)},
        }
        if isinstance(done.output, BaseMessage):
            yield AIMessageChunk(content="", **fields, chunk_position="last")
        else:
            yield AddableDict(raw=AIMessageChunk(content="", **fields))
    elif isinstance(done.output, AIMessage):
        yield as_chunk(done.output, chunk_position="last")
    elif isinstance(done.output, dict) and isinstance(done.output.get("raw"), AIMessage):
        yield AddableDict({**done.output, "raw": as_chunk(done.output["raw"])})
    elif not done.shown:
        yield done.output


def _config_of(
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
) -> RunnableConfig:
    fields = {"callbacks": callbacks, "tags": tags, "metadata": metadata, "run_name": run_name}
    return cast("RunnableConfig", {key: item for key, item in fields.items() if item is not None})


def _with_run_id(config: RunnableConfig, run_id: UUID | None, i: int) -> RunnableConfig:
    # A run id can be used only once: for the first conversation.
    return {**config, "run_id": run_id} if run_id is not None and i == 0 else config


def _result(outputs: list[AIMessage]) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=output)] for output in outputs])
