"""Conversion between OpenAI's wire format and LangChain's messages, without I/O."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    RemoveMessage,
    convert_to_messages,
)
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    WithJsonSchema,
    model_validator,
)

from langchain_llm_router.types.answers import finish_reason, is_unfinished, refusal_text
from langchain_llm_router.types.usage import usage_of

__all__ = [
    "ChatRequest",
    "completion",
    "completion_chunks",
    "error_body",
    "last_chunks",
    "new_id",
]


# The documented schema. LangChain converts the messages and accepts more than this.
_TEXT = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
    ]
}
_MESSAGE = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": _TEXT},
            "required": ["role", "content"],
        },
        {
            "type": "object",
            "properties": {
                "role": {"const": "tool"},
                "content": {"type": "string"},
                "tool_call_id": {"type": "string"},
            },
            "required": ["role", "content", "tool_call_id"],
        },
    ]
}
_TOOL = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
                "description": {"type": "string"},
                "parameters": {"type": "object", "properties": {"type": {"const": "object"}}},
            },
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}


def _check_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Refuse a function that no provider accepts; other types of tools are not checked."""
    function = tool.get("function")
    if tool.get("type") != "function":
        return tool
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        msg = f"a tool of type 'function' needs a `function` with a `name`, got {function!r}"
        raise ValueError(msg)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        msg = f"`parameters` of {function['name']!r} must be a JSON schema, got {parameters!r}"
        raise ValueError(msg)
    return tool


_Message = Annotated[dict[str, Any], WithJsonSchema(_MESSAGE)]
_Tool = Annotated[dict[str, Any], AfterValidator(_check_tool), WithJsonSchema(_TOOL)]


# Parameters that are passed on to the candidates as they are.
_PASSED_ON = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "store",
    "user",
    "prompt_cache_key",
    "safety_identifier",
)


# Checking more would take time in which nothing else is served; providers allow fewer.
_LONGEST = {
    "messages": 10_000,
    "tools": 1_000,
    "stop": 100,
    "logit_bias": 300_000,
    "metadata": 1_000,
}


# Chunks are never padded here, so `include_obfuscation` changes nothing.
_STREAM_KEYS = {"include_usage", "include_obfuscation"}


class ChatRequest(BaseModel):
    """A chat completion request; a parameter that is not known here is refused, not ignored."""

    model: str = Field(min_length=1, max_length=2_000, examples=["router", "router@c:40"])
    messages: list[_Message] = Field(
        min_length=1, examples=[[{"role": "user", "content": "What is 2 + 2?"}]]
    )
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    seed: int | None = None
    n: Literal[1] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_and_long(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.model_fields
        unknown = next((k for k, v in data.items() if k not in known and v is not None), None)
        if unknown is not None:
            msg = f"Unknown parameter {unknown[:100]!r}: remove it; known are {sorted(known)}."
            raise ValueError(msg)
        for name, longest in _LONGEST.items():
            value = data.get(name)
            if isinstance(value, list | dict) and len(value) > longest:
                msg = f"`{name}` has {len(value)} items: send at most {longest}."
                raise ValueError(msg)
        return data

    @model_validator(mode="after")
    def _refuse_what_would_be_dropped(self) -> Self:
        if self.stream_options and (not self.stream or self.stream_options.keys() - _STREAM_KEYS):
            msg = (
                f"`stream_options` needs `stream`, and may have {sorted(_STREAM_KEYS)}; got "
                f"{sorted(self.stream_options)[:10]} with `stream` {self.stream}."
            )
            raise ValueError(msg)
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            msg = "`max_tokens` and `max_completion_tokens` differ: send one of them."
            raise ValueError(msg)
        if self.tool_kwargs() and not self.tools:
            msg = f"{sorted(self.tool_kwargs())} need `tools`: send tools, or remove them."
            raise ValueError(msg)
        return self

    def to_messages(self) -> list[BaseMessage]:
        """Return the conversation, without what only a router or a provider may say of a message.

        A decision record or a usage in a body was written by the caller, and would move prices.

        Raises:
            ValueError: If a message cannot be converted.
        """
        try:
            messages = [
                _as_said(one) for one in convert_to_messages([*map(_refused, self.messages)])
            ]
        except (NotImplementedError, TypeError, KeyError, AttributeError) as error:
            msg = f"`messages` must be OpenAI chat messages: {error}."
            raise ValueError(msg) from error
        if any(isinstance(message, RemoveMessage) for message in messages):
            msg = "`messages` must be OpenAI chat messages: the role 'remove' is none of theirs."
            raise ValueError(msg)
        return messages

    def call_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of the router's call."""
        fields = {name: getattr(self, name) for name in _PASSED_ON}
        fields["max_tokens"] = (
            self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        )
        kwargs: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
        if self.stop is not None:
            kwargs["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        return kwargs

    def tool_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of `bind_tools`."""
        fields = {"tool_choice": self.tool_choice, "parallel_tool_calls": self.parallel_tool_calls}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def wants_usage(self) -> bool:
        """Whether the last chunk of a stream must include the usage."""
        return bool((self.stream_options or {}).get("include_usage"))


def new_id() -> str:
    """Return a completion id in OpenAI's form."""
    return f"chatcmpl-{uuid4().hex}"


def completion(
    message: AIMessage, *, model: str, record: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Convert an answer; the decision record is the additional field `llm_router`."""
    body: dict[str, Any] = {
        "id": new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": str(message.text) or None,
                    "refusal": refusal_text(message) or None,
                    **_tool_call_field(message),
                },
                "finish_reason": _finish_reason(message),
                "logprobs": message.response_metadata.get("logprobs"),
            }
        ],
        "usage": _usage(message),
    }
    if record is not None:
        body["llm_router"] = dict(record)
    return body


def completion_chunks(
    chunk: AIMessageChunk, *, id: str, model: str, first: bool
) -> Iterator[dict[str, Any]]:
    """Convert one chunk of an answer; a chunk without content gives nothing."""
    delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
    if chunk.text:
        delta["content"] = str(chunk.text)
    if refusal := refusal_text(chunk):
        delta["refusal"] = refusal
    calls = [
        {
            "index": call.get("index") or 0,
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("args") or ""},
        }
        for call in chunk.tool_call_chunks
    ]
    if calls:
        delta["tool_calls"] = [_drop_none(call) for call in calls]
    if delta:
        logprobs = chunk.response_metadata.get("logprobs")
        yield _chunk(id, model, [_choice(delta, None, logprobs)])


def last_chunks(
    *, id: str, model: str, whole: AIMessage, record: Mapping[str, Any] | None, usage: bool
) -> Iterator[dict[str, Any]]:
    """Yield the end of a stream: finish reason, decision record, and usage if requested."""
    end = _chunk(id, model, [_choice({}, _finish_reason(whole))])
    if record is not None:
        end["llm_router"] = dict(record)
    yield end
    if usage:
        yield {**_chunk(id, model, []), "usage": _usage(whole)}


def error_body(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _chunk(id: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
    }


def _choice(
    delta: dict[str, Any], finish_reason: str | None, logprobs: Any = None
) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}


def _drop_none(call: dict[str, Any]) -> dict[str, Any]:
    """Remove None: later pieces of a call have no id and no name, which OpenAI leaves out."""
    function = {key: value for key, value in call["function"].items() if value is not None}
    return {k: v for k, v in {**call, "function": function}.items() if v is not None}


def _refused(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message that declined with the words as its content, which all providers take."""
    if message.get("content") or not isinstance(message.get("refusal"), str):
        return message
    return {**message, "content": message["refusal"]}


def _as_said(message: BaseMessage) -> BaseMessage:
    """Return a message with what its author said, and nothing that was recorded about it."""
    update: dict[str, Any] = {"response_metadata": {}}
    if isinstance(message, AIMessage):
        update["usage_metadata"] = None
    return message.model_copy(update=update)


def _tool_call_field(message: AIMessage) -> dict[str, Any]:
    """Return the calls; those with arguments that are not JSON go on as the model wrote them."""
    calls = [(call, _json(call["args"])) for call in message.tool_calls]
    calls += [(call, call["args"] or "") for call in message.invalid_tool_calls]  # type: ignore[misc]
    if not calls:
        return {}
    return {
        "tool_calls": [
            {
                "id": call["id"] or f"call_{uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": call["name"] or "", "arguments": arguments},
            }
            for call, arguments in calls
        ]
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _finish_reason(message: AIMessage) -> str:
    """Return OpenAI's word for why an answer ended, from any provider's."""
    reason = finish_reason(message)
    if reason in ("stop", None) and (message.tool_calls or message.invalid_tool_calls):
        return "tool_calls"
    if reason is None:
        return "length" if is_unfinished(message) else "stop"
    # OpenAI has no words for these: a model that declines is filtered, an error cuts off.
    return {"refusal": "content_filter", "error": "length"}.get(reason, reason)


def _usage(message: AIMessage) -> dict[str, Any] | None:
    used = usage_of(message)
    if used is None:
        return None
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": used.cache_read_tokens,
            **_audio(used.input_audio_tokens),
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            **_audio(used.output_audio_tokens),
        },
    }


def _audio(n_tokens: int) -> dict[str, int]:
    return {"audio_tokens": n_tokens} if n_tokens > 0 else {}
