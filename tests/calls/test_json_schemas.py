"""Tool calls' arguments against JSON schemas: what MCP tools and dicts declare."""

import time

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from typing_extensions import TypedDict

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, route_of
from langchain_llm_router.calls.answer_checks import flaw_of
from langchain_llm_router.calls.json_schemas import schema_errors
from langchain_llm_router.policies import ConfidenceThreshold
from tests.support.fakes import CapableModel

NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#"}, "value": {"type": "integer"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "schema", "errors"),
    [
        ({"a": 1, "b": 2}, NUMBERS, []),
        ({"a": 1.0, "b": 2}, NUMBERS, []),
        ({"a": "1"}, NUMBERS, ["$.b", "$.a"]),
        ({"a": True, "b": 2.5}, NUMBERS, ["$.a", "$.b"]),
        ([1, "x"], {"items": {"type": "integer"}}, ["$[1]"]),
        ([1, "x"], {"prefixItems": [{"type": "integer"}], "items": False}, ["$[1]"]),
        ("c", {"enum": ["a", "b"]}, ["$"]),
        (1, {"enum": [True]}, ["$"]),
        (None, {"type": ["string", "null"]}, []),
        (None, {"type": "string", "nullable": True}, []),
        (5, {"type": "number", "maximum": 4}, ["$"]),
        ("", {"type": "string", "minLength": 1}, ["$"]),
        ("x", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["$"]),
        (1, {"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["$"]),
        (1, {"allOf": [{"type": "integer"}, {"minimum": 2}]}, ["$"]),
        (1, {"not": {"type": "integer"}}, ["$"]),
        ({"left": {"left": {"value": "x"}}}, TREE, ["$.left.left.value"]),
        ({"right": 1}, TREE, ["$.right"]),
        ({"a": {"b": 1}}, {"properties": {"a": {"$ref": "#/$defs/t"}},
                           "$defs": {"t": {"required": ["c"]}}}, ["$.a.c"]),
        (float("nan"), {"type": "number"}, ["$"]),
        ("STRING", {"type": "STRING"}, []),
    ],
)  # fmt: skip
def test_what_a_schema_refuses_is_named(value, schema, errors):
    assert schema_errors(value, schema) == errors


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "unheard-of"},
        {"required": 3},
        {"properties": [1]},
        {"enum": 5},
        {"$ref": "https://elsewhere.example/schema"},
        {"$ref": "#/nowhere"},
        {"pattern": "(a+)+$"},
        {"format": "email"},
    ],
    ids=str,
)
def test_what_is_not_understood_refuses_nothing(schema):
    assert schema_errors({"a": "x"}, schema) == []


@pytest.mark.parametrize("key", ["anyOf", "allOf", "oneOf"])
def test_a_schema_that_refers_to_itself_ends_soon(key):
    started = time.process_time()
    schema_errors({"a": 1}, {key: [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]})
    assert time.process_time() - started < 5


# Tools of every kind


class Numbers(TypedDict):
    """Two numbers."""

    a: int
    b: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS = {
    "as langchain-mcp-adapters builds it": StructuredTool(
        name="add", description="Add", args_schema=NUMBERS, func=add
    ),
    "OpenAI's format": {"type": "function", "function": {"name": "add", "parameters": NUMBERS}},
    "OpenAI's Responses format": {"type": "function", "name": "add", "parameters": NUMBERS},
    "Anthropic's format": {"name": "add", "input_schema": NUMBERS},
    "Bedrock's format": {"toolSpec": {"name": "add", "inputSchema": {"json": NUMBERS}}},
    "a JSON schema": {"title": "add", **NUMBERS},
    "a function": add,
}
with_each_tool = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


@with_each_tool
def test_arguments_are_checked_whatever_the_tool_is(tool):
    def flaw(args):
        call = {"name": "add", "args": args, "id": "1", "type": "tool_call"}
        return flaw_of(AIMessage("", tool_calls=[call]), None, [tool])

    assert flaw({"a": 1, "b": 2}) is None
    assert flaw({"a": "x"}) == "invalid tool call: add, 2 invalid arguments"


@pytest.mark.parametrize("name", ["a function", "OpenAI's format", "a JSON schema"])
async def test_a_cascade_escalates_a_call_that_the_tool_would_refuse(name):
    class Wrong(CapableModel):
        def _tool_calls(self, messages, tools, choice):
            return [{"name": "add", "args": {"a": "x"}, "id": "1", "type": "tool_call"}]

    router = ChatLLMRouter(
        candidates=[Candidate("small", Wrong()), Candidate("large", CapableModel())],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=1),
    ).bind_tools([TOOLS[name]])
    for answer in (router.invoke("1 and 2"), await router.ainvoke("1 and 2")):
        record = route_of(answer)
        assert record["candidate"] == "large"
        assert record["attempts"][0]["flaw"] == "invalid tool call: add, 2 invalid arguments"


def test_a_typed_dict_is_checked_too():
    call = {"name": "Numbers", "args": {"a": "x"}, "id": "1", "type": "tool_call"}
    flaw = flaw_of(AIMessage("", tool_calls=[call]), None, [Numbers])
    assert flaw == "invalid tool call: Numbers, 2 invalid arguments"
