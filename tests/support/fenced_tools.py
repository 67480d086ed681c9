"""Tool calls of small models that put them into a code fence, where no server looks for them.

Qwen2.5-Coder 1.5B decides well which tool to call with what, but writes the call as a JSON block
whatever its chat template asks for (llama.cpp's `tool_choice="required"` does not hold it either).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCall, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

_FENCED = re.compile(r"\s*(?:```(?:json)?\s*)?(\{.*?\})\s*(?:```.*)?", re.DOTALL)


def read_call(text: str) -> ToolCall | None:
    """The tool call that a text is, fenced or bare; None if it is something else."""
    found = _FENCED.fullmatch(text)
    try:
        call = json.loads(found[1]) if found else None
    except json.JSONDecodeError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    return tool_call(name=call["name"], args=call.get("arguments") or {}, id="call-" + call["name"])


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
