"""Doubles for tests of code that calls a router: models that behave, without a network or a bill.

    small = ScriptedChatModel("Lima.", "I am not sure.", verdicts=["Correct", "Incorrect"])
    large = ScriptedChatModel("It is Quito.")

A router of them decides, escalates, counts money and writes records as it does with real models;
`examples/testing.py` has a whole test. `RecordedChatModel` answers by question instead of in order.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
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

# One for all, since a model that holds a lock can be neither copied nor pickled.
_TURN = Lock()


class ScriptedCall(NamedTuple):
    """What a scripted model was asked once."""

    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    """The model's own settings and the call's keywords, tools and `response_format` included."""


class ScriptedChatModel(BaseChatModel):
    """Gives its answers in order, the last one again and again, and remembers every call.

    Apart from that it behaves as a provider's model does: it can be given tools and asked for
    structured output, streams word by word, reports usage (a word is a token), ends its texts at
    `stop` or after `max_tokens`, and gives `n` answers where a call asks for so many.

    Args:
        script: What it answers: a text; an `AIMessage`, e.g. with tool calls or a usage of its
            own; a mapping or pydantic object, which is written as JSON for structured output; or
            an exception, which is raised.
        verdicts: What it answers, apart from its script, where a judgement with a field `verdict`
            is asked for, as `SelfEvaluator` does: "Correct" or "Incorrect"; any other text cannot
            be read; other entries as in `script`. Empty: judgements too come from the script.
        model: Its name in answers; a call's keyword `model` comes first.
        temperature: Remembered in `calls`, as are `timeout` and `max_retries`.
        max_tokens: The longest answer in words, unless a call says otherwise.
        stop: Where its texts end, unless a call says otherwise.
        streaming: Stream, also where the whole answer is asked for.
        calls: What it was asked so far, the oldest first.

    Raises:
        TypeError: If it is given an argument that it does not have, or an answer of another kind.
        ValueError: If there is nothing to say.

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
    _given: Counter[str] = PrivateAttr(default_factory=Counter)

    def __init__(self, *script: Any, **kwargs: Any) -> None:
        refuse_unknown(kwargs, type(self).model_fields, type(self).__name__)
        if script and "script" in kwargs:
            msg = "Give the answers one after another or as `script=[...]`, not both."
            raise TypeError(msg)
        super().__init__(**{"script": list(script), **kwargs})
        for entry in (*self.script, *self.verdicts):
            _check_entry(entry)
        if not self.script and not self.verdicts:
            msg = "A ScriptedChatModel needs at least one answer, or one of `verdicts`."
            raise ValueError(msg)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, **self._settings()}

    def get_token_ids(self, text: str) -> list[int]:
        """One token per word; LangChain's own way would fetch a tokenizer from the network."""
        return list(range(len(text.split())))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer it tools; whether it calls them is in the script."""
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Read its answers as JSON that fits a schema; keywords such as `method` are remembered."""
        asked = convert_to_json_schema(schema)
        traced = {"kwargs": {"method": kwargs.get("method", "json_schema")}, "schema": schema}
        llm = self.bind(response_format=asked, ls_structured_output_format=traced, **kwargs)
        parser: BaseOutputParser[Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
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
        for chunk in _pieces(self._answer(messages, stop, kwargs)[0]):
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
        given = {name: getattr(self, name) for name in _SETTINGS}
        return {name: value for name, value in given.items() if value is not None}

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> list[AIMessage]:
        """The next answer, or as many as the keyword `n` says."""
        said = self._settings() | ({} if stop is None else {"stop": stop}) | kwargs
        fields = (said.get("response_format") or {}).get("properties", ())
        judged = bool(self.verdicts) and "verdict" in fields
        name = "verdicts" if judged else "script"
        entries, n_answers = getattr(self, name), said.get("n") or 1
        with _TURN:
            self.calls.append(ScriptedCall(list(messages), said))
            first = self._given[name]
            self._given[name] += n_answers
        if not entries:
            msg = f"{self.model} was asked for an answer and has only verdicts."
            raise ValueError(msg)
        last = len(entries) - 1
        taken = [entries[min(first + i, last)] for i in range(n_answers)]
        return [
            self._message(_judgement(entry) if judged else entry, messages, said) for entry in taken
        ]

    def _message(
        self, entry: Any, messages: list[BaseMessage], said: Mapping[str, Any]
    ) -> AIMessage:
        if _is_failure(entry):
            raise entry
        if isinstance(entry, AIMessage):
            # LangChain writes an id into what it is given.
            message, reason = entry.model_copy(deep=True), "stop"
        else:
            text, reason = _ended(_text(entry), said)
            message = AIMessage(text)
        if message.tool_calls:
            reason = "tool_calls"
        if message.usage_metadata is None:
            written = str(message.text) + " ".join(
                f" {call['name']} {json.dumps(call['args'])}" for call in message.tool_calls
            )
            spent = sum(self.get_num_tokens(str(one.text)) for one in messages)
            wrote = self.get_num_tokens(written)
            message.usage_metadata = UsageMetadata(
                input_tokens=spent, output_tokens=wrote, total_tokens=spent + wrote
            )
        message.response_metadata = {
            "model_name": said.get("model", self.model),
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
    msg = (
        "An answer must be a text, an AIMessage, a mapping, a pydantic object or an exception, "
        f"got {entry!r}."
    )
    raise TypeError(msg)


def _judgement(entry: Any) -> Any:
    if entry in ("Correct", "Incorrect"):
        return {"rationale": "It is in the script.", "verdict": entry}
    return entry


def _text(entry: str | Mapping[str, Any] | BaseModel) -> str:
    if isinstance(entry, str):
        return entry
    return entry.model_dump_json() if isinstance(entry, BaseModel) else json.dumps(dict(entry))


def _ended(text: str, said: Mapping[str, Any]) -> tuple[str, str]:
    """The text as far as the call lets it go, and why it ended."""
    stop = said.get("stop") or ()
    for end in (stop,) if isinstance(stop, str) else stop:
        text = text.split(end, maxsplit=1)[0]
    words, longest = _words(text), said.get("max_tokens")
    if longest is None or len(words) <= longest:
        return text, "stop"
    return "".join(words[:longest]), "length"


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*|\s+", text)


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """The chunks of an answer; what is known only at its end comes with the last."""
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
