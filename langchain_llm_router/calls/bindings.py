"""Tools and schemas, kept unconverted until a candidate is chosen.

Every provider converts tools and schemas its own way, so the router keeps the originals as bound
keyword arguments and replays `bind_tools` or `with_structured_output` on the chosen candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.nested_records import with_nested
from langchain_llm_router.calls.provider_messages import provider_of
from langchain_llm_router.calls.report_schemas import ReportSchema, extend_schema
from langchain_llm_router.calls.reports import NO_PLACE, Asking, report_in_text, with_instruction
from langchain_llm_router.calls.tools import BoundTool, choice_for_provider, tools_for_provider
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.secrets import find_secrets, redact_error
from langchain_llm_router.verification import Report

__all__ = [
    "Bindings",
    "NotedRunnable",
    "Unbindable",
    "bind_structured_output",
    "caller_output",
    "schema_method",
    "wants_schema",
]

_STRUCTURED = "llm_router_structured_output"

# Keyword arguments for a provider's `bind_tools` rather than for the call.
_TOOL_KEYWORDS = ("strict", "parallel_tool_calls", "response_format", "ls_structured_output_format")


def bind_structured_output(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool, **kwargs: Any
) -> Runnable[Any, Any]:
    """Bind a schema to the model, to be replayed on the chosen candidate."""
    return model.bind(**{_STRUCTURED: (schema, {"include_raw": include_raw, **kwargs})})


def caller_output(output: Any, record: dict[str, Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the caller's output: the message with its record, or the parsed object.

    Raises:
        Exception: The parser's error, if the caller did not ask for the raw message.
    """
    if isinstance(output, BaseMessage):
        return _with_record(output, record)
    if _STRUCTURED not in kwargs or not isinstance(output, dict) or not output.keys() >= _RAW_KEYS:
        return output
    if kwargs[_STRUCTURED][1]["include_raw"]:
        return {**output, "raw": _with_record(output["raw"], record)}
    if output.get("parsing_error") is not None:
        raise output["parsing_error"]
    return output.get("parsed")


def _with_record(message: BaseMessage, record: dict[str, Any]) -> BaseMessage:
    # A copy, because on a cache miss this object has just been stored in the candidate's cache.
    if "llm_router" in message.response_metadata:
        record = with_nested(record, message)
    metadata = {**message.response_metadata, "llm_router": record}
    return message.model_copy(update={"response_metadata": metadata})


def wants_schema(kwargs: Mapping[str, Any]) -> bool:
    """Return whether the call is bound to a schema."""
    return _STRUCTURED in kwargs


def schema_method(kwargs: Mapping[str, Any]) -> str | None:
    """Return the method for structured output; None means the provider's default."""
    method = kwargs[_STRUCTURED][1].get("method") if _STRUCTURED in kwargs else None
    return None if method is None else str(method)


_MAX_BINDINGS = 256
_RAW_KEYS = {"raw", "parsed", "parsing_error"}


class Bindings:
    """A cache of the runnables to call, one per candidate and set of tools.

    Tools are compared by identity. An agent binds its tools again for every call, so the oldest
    entries are evicted.
    """

    def __init__(self) -> None:
        # The tools or schema are kept beside the runnable so that their `id` is not reused.
        self._built: dict[tuple[Any, ...], tuple[Any, Runnable[Any, Any]]] = {}
        self._extended: dict[tuple[Any, ...], tuple[Any, ReportSchema | str]] = {}
        self._lock = Lock()

    def __deepcopy__(self, memo: Any) -> Bindings:
        return Bindings()

    @property
    def demands_format(self) -> bool:
        """Whether answers have a format that is not in the keyword arguments."""
        return False

    def ask_report(
        self,
        report: Report,
        messages: Sequence[BaseMessage],
        candidate: Candidate,
        kwargs: Mapping[str, Any],
    ) -> tuple[Sequence[BaseMessage], Mapping[str, Any], Asking]:
        """Ask for a report beside an answer: in the prompt, or in the schema of structured output.

        Args:
            report: What is asked for.
            messages: The conversation.
            candidate: The candidate to ask.
            kwargs: Keyword arguments of the call, with those of the router and of the candidate.

        Returns:
            The conversation and the keyword arguments that ask for it, and how to read the answer.
        """
        if self.demands_format:
            why = (
                "The agent's answers have a format of their own, so no confidence was asked for: "
                "pass `response_format=ToolStrategy(...)`, beside whose call it can stand."
            )
            return messages, kwargs, Asking(None, why=why)
        if not wants_schema(kwargs):
            told, asking = report_in_text(messages, live_model(candidate), kwargs, report)
            return told, kwargs, asking
        schema, options = kwargs[_STRUCTURED]
        extended = self._extend(schema, report)
        if isinstance(extended, str):
            return messages, kwargs, Asking(None, why=extended)
        if options.get("method") == "json_mode":
            # It sends no schema: the prompt says which fields there are.
            changed = with_instruction(messages, report.field_instruction(extended.name))
            if changed is None:
                return messages, kwargs, Asking(None, why=NO_PLACE)
            messages = changed
        bound = {**kwargs, _STRUCTURED: (extended.schema, options)}
        return messages, bound, Asking(report, extended)

    def _extend(self, schema: Any, report: Report) -> ReportSchema | str:
        """Extend a schema once, because runnables are kept by the identity of their schema."""
        key = (id(schema), report)
        entry = self._extended.get(key)
        if entry is None:
            with self._lock:
                while len(self._extended) >= _MAX_BINDINGS:
                    del self._extended[next(iter(self._extended))]
                entry = (schema, extend_schema(schema, report))
                self._extended[key] = entry
        return entry[1]

    def apply(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        """Return the runnable to ask, and the keyword arguments for its call.

        A model that cannot bind the tools or the schema gives a runnable that fails when it is
        asked, so that this candidate has failed and not the request.

        Args:
            candidate: The candidate to ask.
            kwargs: Keyword arguments of the router's call, including bound tools and schema.
            include_raw: Whether structured output must include the raw message even if the caller
                does not want it.
        """
        model = live_model(candidate)
        if not kwargs:
            return model, {}
        rest = dict(kwargs)
        structured, tools = rest.pop(_STRUCTURED, None), rest.pop("tools", None)
        choice = rest.pop("tool_choice", None)
        if structured is not None:
            schema, options = structured
            options = {**options, "include_raw": include_raw or options["include_raw"]}
            key: tuple[Any, ...] = (
                candidate.name,
                "schema",
                id(schema),
                repr(sorted(options.items(), key=str)),
            )
            return self._get_or_build(
                candidate, key, schema, lambda: model.with_structured_output(schema, **options)
            ), rest
        if tools is None:
            return model, rest
        options = {name: rest.pop(name) for name in _TOOL_KEYWORDS if name in rest}
        if choice is not None:
            options["tool_choice"] = choice_for_provider(choice, provider_of(model))
        originals = [tool.original if isinstance(tool, BoundTool) else tool for tool in tools]
        ids = tuple(map(id, originals))
        key = (candidate.name, "tools", ids, repr(sorted(options.items(), key=str)))

        def bind() -> Runnable[Any, Any]:
            fitting = tools_for_provider(originals, provider_of(model))
            return model.bind_tools(fitting, **options)

        return self._get_or_build(candidate, key, originals, bind), rest

    def _get_or_build(
        self,
        candidate: Candidate,
        key: tuple[Any, ...],
        bound: Any,
        build: Callable[[], Runnable[Any, Any]],
    ) -> Runnable[Any, Any]:
        entry = self._built.get(key)
        if entry is not None:
            return entry[1]
        try:
            runnable = build()
        except Exception as error:  # noqa: BLE001 - whatever a provider's class raises
            return Unbindable(candidate, error)
        with self._lock:
            while len(self._built) >= _MAX_BINDINGS:
                del self._built[next(iter(self._built))]
            self._built[key] = (bound, runnable)
        return runnable


class NotedRunnable(Runnable[Any, Any]):
    """A runnable in place of a candidate's model, with notes of its own for the record."""

    def __init__(self) -> None:
        self.notes = Notes()


class Unbindable(NotedRunnable):
    """A runnable in place of a model that could not bind the tools or the schema.

    Args:
        candidate: The candidate.
        error: The error of its model's `bind_tools` or `with_structured_output`.
    """

    def __init__(self, candidate: Candidate, error: Exception) -> None:
        super().__init__()
        self._error = error
        redact_error(error, find_secrets(candidate.model))
        self.notes.add_refusal(candidate, error)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Raise the error."""
        raise self._error

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Raise the error."""
        raise self._error
