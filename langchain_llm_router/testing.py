"""Doubles for tests of code that calls a router: chat models that need no network and no money.

    small = ScriptedChatModel("Lima.", "I am not sure.", verdicts=["Correct", "Incorrect"])
    large = ScriptedChatModel("It is Quito.")

A router decides, escalates, computes costs and writes records with them as with real models; see
the test in `examples/testing.py`. `RecordedChatModel` answers by question instead of in order.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, tool_call_chunk
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, Field, PrivateAttr

from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.data.recorded_model import RecordedChatModel
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"langchain_llm_router.data.recorded_model": "RecordedChatModel"}
    )

__all__ = ["RecordedChatModel", "ScriptedCall", "ScriptedChatModel"]

_SETTINGS = ("temperature", "max_tokens", "stop", "timeout", "max_retries")

# One lock for all models, because a model with a lock of its own cannot be copied or pickled.
_LOCK = Lock()


class ScriptedCall(NamedTuple):
    """One call of a scripted model."""

    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    """The model's settings and the call's keyword arguments, including tools and
    `response_format`."""


class ScriptedChatModel(BaseChatModel):
    """A chat model that returns the given answers in order, and records every call.

    The last answer is repeated. Otherwise it behaves like a provider's model: it accepts tools and
    schemas, streams word by word, reports usage (one token per word), ends its texts at `stop` or
    after `max_tokens`, and returns `n` answers if a call asks for them.

    Args:
        script: The answers. An answer is a text; an `AIMessage`, e.g. with tool calls or its own
            usage; a mapping or pydantic object, which is written as JSON for structured output, or
            as a call of the bound tool that has the object's class name; an exception, which is
            raised; or a list of texts that ends with an exception: a stream that breaks off.
        verdicts: Separate answers for calls whose schema has a field `verdict`, as those of
            `SelfEvaluator`: "Correct" or "Incorrect" in any case, any other text (which cannot be
            parsed), or entries as in `script`. If empty, these answers come from the script too.
        model: Name of the model in answers, unless a call has a keyword argument `model`.
        temperature: Recorded in `calls`, like `timeout` and `max_retries`, and otherwise ignored.
        max_tokens: Maximum length of an answer in words, unless a call has its own.
        stop: Strings at which a text ends, unless a call has its own.
        timeout: Recorded in `calls`.
        max_retries: Recorded in `calls`.
        streaming: Whether `invoke` streams internally too.
        calls: The calls so far, oldest first.

    Raises:
        TypeError: If an argument is unknown, or an answer has another type.
        ValueError: If there is neither an answer nor a verdict.

    Example:
        >>> model = ScriptedChatModel("Lima.", TimeoutError("too slow"))
        >>> model.invoke("Capital of Peru?").content
        'Lima.'
        >>> model.calls[0].messages[0].content
        'Capital of Peru?'
    """

    script: list[Any] = Field(default_factory=list)
    verdicts: list[Any] = Field(default_factory=list)
    model: str = "scripted"
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    timeout: float | None = None
    max_retries: int | None = None
    streaming: bool = False
    calls: list[ScriptedCall] = Field(default_factory=list)
    # Shared by shallow copies, such as those that a verifier makes to set a temperature.
    _n_used: Counter[str] = PrivateAttr(default_factory=Counter)

    def __init__(self, *script: Any, **kwargs: Any) -> None:
        refuse_unknown(kwargs, type(self).model_fields, type(self).__name__)
        if script and "script" in kwargs:
            msg = "Pass the answers either as positional arguments or as `script=[...]`, not both."
            raise TypeError(msg)
        super().__init__(**{"script": list(script), **kwargs})
        for entry in (*self.script, *self.verdicts):
            _check_entry(entry)
        if not self.script and not self.verdicts:
            msg = "A ScriptedChatModel needs at least one answer or verdict, got none."
            raise ValueError(msg)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, **self._settings()}

    def get_token_ids(self, text: str) -> list[int]:
        """Return one token per word; LangChain's default would download a tokenizer."""
        return list(range(len(text.split())))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; the script determines whether they are called."""
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Parse answers, JSON or a scripted tool call, by a schema; arguments go into `calls`."""
        json_schema = convert_to_json_schema(schema)
        traced = {"kwargs": {"method": kwargs.get("method", "json_schema")}, "schema": schema}
        llm = self.bind(response_format=json_schema, ls_structured_output_format=traced, **kwargs)
        json_parser: BaseOutputParser[Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            json_parser = PydanticOutputParser(pydantic_object=schema)
        parser = RunnableLambda(_with_arguments_as_text) | json_parser
        if not include_raw:
            return llm | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=llm) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answers = self._answer(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer) for answer in answers])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        (entry,), settings = self._take(messages, stop, {**kwargs, "n": 1})
        if isinstance(entry, list):
            for text in entry[:-1]:
                yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        for chunk in _split_into_chunks(self._message(entry, messages, settings)):
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk

    def _settings(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in _SETTINGS}
        return {name: value for name, value in settings.items() if value is not None}

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> list[AIMessage]:
        """Return the next answer, or the next `n` if a call has that keyword argument."""
        entries, settings = self._take(messages, stop, kwargs)
        return [self._message(entry, messages, settings) for entry in entries]

    def _take(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the next entries, and the settings of the call."""
        settings = self._settings() | ({} if stop is None else {"stop": stop}) | kwargs
        fields = (settings.get("response_format") or {}).get("properties", ())
        judged = bool(self.verdicts) and "verdict" in fields
        name = "verdicts" if judged else "script"
        entries, n_answers = getattr(self, name), settings.get("n") or 1
        with _LOCK:
            self.calls.append(ScriptedCall(list(messages), settings))
            first = self._n_used[name]
            self._n_used[name] += n_answers
        if not entries:
            msg = (
                f"The ScriptedChatModel {self.model!r} has only `verdicts`, got a call for an "
                "answer: add answers to its script."
            )
            raise ValueError(msg)
        last = len(entries) - 1
        taken = [entries[min(first + i, last)] for i in range(n_answers)]
        return [_as_judgement(entry) for entry in taken] if judged else taken, settings

    def _message(
        self, entry: Any, messages: list[BaseMessage], settings: Mapping[str, Any]
    ) -> AIMessage:
        failure = entry[-1] if isinstance(entry, list) else entry
        if isinstance(failure, Exception):
            # Otherwise the traceback grows each time that the last entry is repeated.
            raise failure.with_traceback(None)
        if _is_failure(failure):
            raise failure
        entry = _as_tool_call(entry, settings)
        if isinstance(entry, AIMessage):
            # A copy, because LangChain sets the id of the message that is returned.
            message, reason = entry.model_copy(deep=True), "stop"
        else:
            text, reason = _truncate(_text(entry), settings)
            message = AIMessage(text)
        if message.tool_calls:
            reason = "tool_calls"
        if message.usage_metadata is None:
            written = str(message.text) + " ".join(
                f" {call['name']} {json.dumps(call['args'])}" for call in message.tool_calls
            )
            n_input = sum(self.get_num_tokens(str(m.text)) for m in messages)
            n_output = self.get_num_tokens(written)
            message.usage_metadata = UsageMetadata(
                input_tokens=n_input, output_tokens=n_output, total_tokens=n_input + n_output
            )
        message.response_metadata = {
            "model_name": settings.get("model", self.model),
            "model_provider": "scripted",
            "finish_reason": reason,
            **message.response_metadata,
        }
        return message


def _is_failure(entry: Any) -> bool:
    return isinstance(entry, Exception) or (
        isinstance(entry, type) and issubclass(entry, Exception)
    )


def _check_entry(entry: Any) -> None:
    is_answer = isinstance(entry, str | AIMessage | Mapping | BaseModel)
    wrong_message = isinstance(entry, BaseMessage) and not isinstance(entry, AIMessage)
    if (is_answer or _is_failure(entry)) and not wrong_message:
        return
    is_broken_off = isinstance(entry, list) and len(entry) > 0 and _is_failure(entry[-1])
    if is_broken_off and all(isinstance(text, str) for text in entry[:-1]):
        return
    hint = " Pass several answers as separate arguments." if isinstance(entry, list) else ""
    msg = (
        "An answer must be a text, an AIMessage, a mapping, a pydantic object, an exception or a "
        f"list of texts that ends with an exception, got {entry!r}.{hint}"
    )
    raise TypeError(msg)


def _as_judgement(entry: Any) -> Any:
    if isinstance(entry, str) and entry.strip().capitalize() in ("Correct", "Incorrect"):
        verdict = entry.strip().capitalize()
        # The judgement is for `SelfEvaluator(prompt="article")`; each schema ignores the other.
        return {
            "rationale": "It is in the script.",
            "verdict": verdict,
            "judgement": verdict == "Correct",
        }
    return entry


def _as_tool_call(entry: Any, settings: Mapping[str, Any]) -> Any:
    """Return an object as a call of the bound tool with its class's name, if there is one."""
    name = type(entry).__name__
    tools = [tool.get("function", {}).get("name") for tool in settings.get("tools") or ()]
    if not isinstance(entry, BaseModel) or isinstance(entry, AIMessage) or name not in tools:
        return entry
    call = ToolCall(name=name, args=entry.model_dump(mode="json"), id=f"call_{uuid4().hex}")
    return AIMessage("", tool_calls=[call])


def _with_arguments_as_text(message: AIMessage) -> AIMessage:
    """Return a message that calls a tool as one with the call's arguments in its text."""
    if message.tool_calls and not message.text:
        return message.model_copy(update={"content": json.dumps(message.tool_calls[0]["args"])})
    return message


def _text(entry: str | Mapping[str, Any] | BaseModel) -> str:
    if isinstance(entry, str):
        return entry
    return entry.model_dump_json() if isinstance(entry, BaseModel) else json.dumps(dict(entry))


def _truncate(text: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Cut a text at `stop` and `max_tokens`, and return it with its finish reason."""
    stop = settings.get("stop") or ()
    for end in (stop,) if isinstance(stop, str) else stop:
        text = text.split(end, maxsplit=1)[0]
    words, longest = _words(text), settings.get("max_tokens")
    if longest is None or len(words) <= longest:
        return text, "stop"
    return "".join(words[:longest]), "length"


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*|\s+", text)


def _split_into_chunks(message: AIMessage) -> Iterator[AIMessageChunk]:
    """Yield the chunks of an answer; usage and metadata are in the last."""
    content = message.content
    for piece in _words(content) if isinstance(content, str) else [[block] for block in content]:
        yield AIMessageChunk(content=piece)
    for i, call in enumerate([*message.tool_calls, *message.invalid_tool_calls]):
        args = call["args"] if isinstance(call["args"], str) else json.dumps(call["args"])
        begun = tool_call_chunk(name=call["name"], args="", id=call["id"], index=i)
        for part in (begun, tool_call_chunk(args=args, index=i)):
            yield AIMessageChunk(content="", tool_call_chunks=[part])
    yield AIMessageChunk(
        content="",
        additional_kwargs=message.additional_kwargs,
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        chunk_position="last",
    )
