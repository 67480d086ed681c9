"""LangChain's typed streams (`stream_events(version="v3")`) out of a stream of chunks.

LangChain builds these for a model's own run. The router's run is a chain run around other models'
runs, so it turns its chunks into the same protocol events here, within that run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_llm_router.calls.langchain_internals import (
    acreate_events,
    create_events,
    start_producer,
)

__all__ = ["atyped_stream", "typed_stream"]


def typed_stream(chunks: Iterator[AIMessageChunk]) -> ChatModelStream:
    """Return a typed stream that pulls a chunk whenever its reader needs one."""
    stream = ChatModelStream()
    generations = (ChatGenerationChunk(message=chunk) for chunk in chunks)
    events = create_events(generations, stream.message_id)

    def pull() -> bool:
        try:
            stream.dispatch(next(events))
        except StopIteration:
            if not stream.done:
                stream.fail(ValueError("The router's stream ended without an answer."))
            return False
        except BaseException as error:  # noqa: BLE001 - the reader of the stream gets it
            stream.fail(error)
            return False
        return True

    stream.bind_pump(pull)
    return stream


async def atyped_stream(chunks: AsyncIterator[AIMessageChunk]) -> AsyncChatModelStream:
    """Return a typed stream that is filled by a task, which starts with the first read."""
    stream = AsyncChatModelStream()

    async def generations() -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in chunks:
            yield ChatGenerationChunk(message=chunk)

    async def produce() -> None:
        try:
            async for event in acreate_events(generations(), stream.message_id):
                stream.dispatch(event)
            if not stream.done:
                stream.fail(ValueError("The router's stream ended without an answer."))
        except asyncio.CancelledError as error:
            stream.fail(error)
            raise
        except BaseException as error:  # noqa: BLE001 - the reader of the stream gets it
            stream.fail(error)

    async def start() -> None:
        start_producer(stream, produce)

    stream.set_start(start)
    return stream
