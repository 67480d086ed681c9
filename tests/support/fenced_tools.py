"""A real model whose fenced tool calls (`fenced_calls.py`) are read."""

import json
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCall, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

from tests.support.fenced_calls import read_call


class FencedToolsModel(ChatOpenAI):
    """`ChatOpenAI` that reads such calls; other answers stream on as they come."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages, *args, **kwargs)
        message = result.generations[0].message
        call = read_call(str(message.text)) if kwargs.get("tools") else None
        if call is not None:
            message.content, message.tool_calls = "", [call]
        return result

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        held: list[ChatGenerationChunk] = []
        said, open_ = "", not kwargs.get("tools")
        for chunk in super()._stream(*args, **kwargs):
            said += str(chunk.message.text)
            held.append(chunk)
            open_ = open_ or (said.strip() != "" and said.lstrip()[0] not in "`{")
            if open_:
                yield from held
                held = []
        call = read_call(said)
        if held and call is not None:
            for chunk in held:
                chunk.message.content = ""
            yield ChatGenerationChunk(message=_chunk(call))
        yield from held


def _chunk(call: ToolCall) -> AIMessageChunk:
    chunk = tool_call_chunk(
        name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=0
    )
    return AIMessageChunk(content="", tool_call_chunks=[chunk])
