"""Tool calls of small models that put them into a code fence, where no server looks for them.

Qwen2.5-Coder 1.5B decides well which tool to call with what, but writes the call as a JSON block
whatever its chat template asks for (llama.cpp's `tool_choice="required"` does not hold it either).
"""

import json
import re

from langchain_core.messages.tool import ToolCall, tool_call

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
