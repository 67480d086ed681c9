"""Tools and schemas, kept as given until it is known who is asked.

Every provider converts tools and schemas its own way, so the router keeps the raw ones as bound
keywords and replays `bind_tools` / `with_structured_output` on the candidate that is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from langchain_llm_router.asking import live_model
from langchain_llm_router.types import Candidate

__all__ = ["Bindings", "bind_structured_output", "structured_output"]

_STRUCTURED = "llm_router_structured_output"

# Keywords that a provider's `bind_tools` takes, rather than the call itself.
_TOOL_KEYWORDS = ("strict", "parallel_tool_calls", "response_format", "ls_structured_output_format")


def bind_structured_output(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool, **kwargs: Any
) -> Runnable[Any, Any]:
    """The model with a schema to be replayed on the chosen candidate."""
    return model.bind(**{_STRUCTURED: (schema, {"include_raw": include_raw, **kwargs})})


def structured_output(output: Any, kwargs: Mapping[str, Any]) -> Any:
    """What the caller of `with_structured_output` gets out of a raw-and-parsed output.

    Raises:
        Exception: The parser's own error, where the caller did not ask for the raw message.
    """
    if not isinstance(output, dict) or _STRUCTURED not in kwargs:
        return output
    if kwargs[_STRUCTURED][1]["include_raw"]:
        return output
    if output.get("parsing_error") is not None:
        raise output["parsing_error"]
    return output.get("parsed")


class Bindings:
    """Builds, once per candidate and set of tools, what is really asked."""

    def __init__(self) -> None:
        # The tools or schema are kept beside the runnable, so that their id stays theirs.
        self._built: dict[tuple[Any, ...], tuple[Any, Runnable[Any, Any]]] = {}

    def apply(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        """The runnable to ask, and the keywords left for the call.

        Args:
            candidate: Who is asked.
            kwargs: Keywords of the router's call, bound tools and schema among them.
            include_raw: Ask structured output for the raw message too, whatever the caller wants.
        """
        rest = dict(kwargs)
        model = live_model(candidate)
        structured, tools = rest.pop(_STRUCTURED, None), rest.pop("tools", None)
        choice = rest.pop("tool_choice", None)
        if structured is not None:
            schema, options = structured
            options = {**options, "include_raw": include_raw or options["include_raw"]}
            key = (candidate.name, "schema", id(structured), options["include_raw"])
            return self._once(
                key, structured, lambda: model.with_structured_output(schema, **options)
            ), rest
        if tools is None:
            return model, rest
        options = {name: rest.pop(name) for name in _TOOL_KEYWORDS if name in rest}
        if choice is not None:
            options["tool_choice"] = choice
        key = (candidate.name, "tools", id(tools), repr(sorted(options.items(), key=str)))
        return self._once(key, tools, lambda: model.bind_tools(tools, **options)), rest

    def _once(self, key: tuple[Any, ...], held: Any, build: Any) -> Runnable[Any, Any]:
        if key not in self._built:
            self._built[key] = (held, build())
        return self._built[key][1]
