"""Tools in the form in which they are bound, and providers' built-in tools.

Other libraries read the tools that are bound to a model, and expect the form in which they are
sent: a dict. Each provider, however, converts the original tool in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_llm_router.calls.provider_messages import foreign_cache_keys

__all__ = [
    "BoundTool",
    "bound_tools",
    "choice_for_provider",
    "foreign_tool",
    "tools_for_provider",
]


class BoundTool(dict[str, Any]):
    """A bound tool in OpenAI's format, with the original, which each candidate converts itself."""

    __slots__ = ("original",)

    def __init__(self, data: Mapping[str, Any], original: Any) -> None:
        super().__init__(data)
        self.original = original

    def __copy__(self) -> BoundTool:
        return BoundTool(self, self.original)

    def __deepcopy__(self, memo: Any) -> BoundTool:
        # The original may hold clients and locks, which cannot be copied.
        return BoundTool(self, self.original)


def bound_tools(tools: Sequence[Any]) -> tuple[Any, ...]:
    """Return tools as they are bound: dicts as they are, all others converted, with the original.

    A tool that has no form in OpenAI's format, like an object of a provider's library, stays as it
    is, for the candidates that know it.
    """
    return tuple(tool if isinstance(tool, Mapping) else _bound(tool) for tool in tools)


def _bound(tool: Any) -> Any:
    try:
        return BoundTool(convert_to_openai_tool(tool), tool)
    except Exception:  # noqa: BLE001 - each candidate may convert it in its own way, or fails then
        return tool


# The providers' built-in tools, which no other provider runs. Anthropic's types end in a date.
_ANTHROPIC_TYPE = re.compile(r"[a-z_]{1,64}_20\d{6}")
_ADOPTERS = frozenset(
    {"cerebras", "deepseek", "fireworks", "huggingface", "perplexity", "sambanova", "together"}
)
"""Families that have no names of their own, and may adopt OpenAI's, as others did."""

_HOMES: Mapping[str, frozenset[str]] = {
    "mcp_toolset": frozenset({"anthropic", "bedrock"}),
    **dict.fromkeys(
        (
            "apply_patch",
            "code_interpreter",
            "computer",
            "computer_use_preview",
            "file_search",
            "image_generation",
            "local_shell",
            "mcp",
            "shell",
            "web_search",
            "web_search_2025_08_26",
            "web_search_preview",
            "web_search_preview_2025_03_11",
        ),
        _ADOPTERS | {"openai", "xai", "mistralai", "groq"},
    ),
    **dict.fromkeys(
        ("web_search_premium", "document_library", "connector"), frozenset({"mistralai", "openai"})
    ),
    **dict.fromkeys(("x_search", "browser_search"), frozenset({"xai", "groq", "openai"})),
    **dict.fromkeys(("code_execution", "collections_search"), frozenset({"xai"})),
    **dict.fromkeys(("namespace", "tool_search"), frozenset({"openai"})),
}
_GOOGLE_KEYS = frozenset(
    {
        "code_execution",
        "computer_use",
        "enterprise_web_search",
        "file_search",
        "google_maps",
        "google_search",
        "google_search_retrieval",
        "mcp_servers",
        "retrieval",
        "url_context",
    }
)
_KNOWN = _ADOPTERS | {
    "anthropic",
    "bedrock",
    "cohere",
    "google",
    "groq",
    "mistralai",
    "ollama",
    "openai",
    "xai",
}
"""Families that run the tools that the tables give them and no others; of the rest, like gateways
to many providers, nothing is known."""


def foreign_tool(tools: Sequence[Any], provider: str | None) -> str | None:
    """Return the name of the first built-in tool that only other providers run; None without one.

    Args:
        tools: The bound tools.
        provider: A candidate's provider family; about an unknown one (None) nothing is claimed.
    """
    if provider not in _KNOWN:
        return None
    for tool in tools:
        if isinstance(tool, BoundTool) or not isinstance(tool, Mapping):
            continue
        home = _home(tool)
        if home is not None and provider not in home:
            return _label(tool)
    return None


def _home(tool: Mapping[str, Any]) -> frozenset[str] | None:
    kind = tool.get("type")
    if isinstance(kind, str):
        if _ANTHROPIC_TYPE.fullmatch(kind):
            return frozenset({"anthropic", "bedrock"})
        if kind == "custom" and "input_schema" not in tool:
            return frozenset({"openai"})  # a tool with a free text; Anthropic's have a schema
        family, colon, _ = kind.partition(":")
        return frozenset({family}) if colon else _HOMES.get(kind)
    if "systemTool" in tool or "system_tool" in tool:
        return frozenset({"bedrock"})
    keys = {_snake_case(key) for key in tool}
    is_google = keys & _GOOGLE_KEYS and keys <= _GOOGLE_KEYS | {"function_declarations"}
    return frozenset({"google"}) if is_google else None


def _label(tool: Mapping[str, Any]) -> str:
    return str(tool.get("type") or next(iter(tool)))


def _snake_case(key: Any) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in str(key))


_OWN_WORDS = frozenset({"anthropic", "bedrock", "google"})
"""Families that have their own words for the choice of a tool; others have OpenAI's."""


def choice_for_provider(choice: Any, provider: str | None) -> Any:
    """Return a choice of tools in words that a provider's `bind_tools` takes.

    Args:
        choice: The caller's `tool_choice`, in the form of any provider.
        provider: A candidate's provider family; for an unknown one, the choice stays as it is.
    """
    if provider not in _KNOWN:
        return choice
    own = provider if provider in _OWN_WORDS else "openai"
    home, word = _read_choice(choice)
    if home == own or word is None:
        return choice
    if word == "none" and own == "anthropic":
        return {"type": "none"}  # LangChain takes the word for a tool's name there
    # LangChain's word for "some tool" is `any`, which each of its classes translates.
    return "any" if word == "required" and own != "openai" else word


def _read_choice(choice: Any) -> tuple[str | None, str | None]:
    """Return whose form a choice has, and its word or the tool's name; None if it is unknown."""
    if isinstance(choice, Mapping):
        return _read_choice_dict(choice)
    return None, "any" if choice is True else choice if isinstance(choice, str) else None


def _read_choice_dict(choice: Mapping[str, Any]) -> tuple[str | None, str | None]:
    kind, function = choice.get("type"), choice.get("function")
    key = next(iter(choice), None)
    if kind == "function":
        if isinstance(function, Mapping):
            return "openai", function.get("name")
        return None, choice.get("name")  # the form of OpenAI's responses, not of its chats
    if kind in ("tool", "any", "auto", "none"):
        return "anthropic", choice.get("name") or kind
    if key == "function_calling_config":
        names = list(choice[key].get("allowed_function_names") or ())
        return "google", names[0] if len(names) == 1 else str(choice[key].get("mode")).lower()
    if key in ("tool", "any", "auto"):
        return "bedrock", (choice[key] or {}).get("name") or key
    return None, None


def tools_for_provider(tools: Sequence[Any], provider: str | None) -> Sequence[Any]:
    """Return tools without the cache settings that a provider would reject.

    If nothing has to be removed, the same object is returned.
    """
    keys = foreign_cache_keys(provider)
    if not keys or not any(_cached_by(tool, keys) for tool in tools):
        return tools
    kept = [_without(tool, keys) if _cached_by(tool, keys) else tool for tool in tools]
    # A cache marker among the tools has no other key.
    return [tool for tool in kept if tool != {}]


def _settings(tool: Any) -> Mapping[str, Any]:
    """Return where a tool keeps its cache settings."""
    if isinstance(tool, BoundTool):
        tool = tool.original
    if isinstance(tool, BaseTool):
        return tool.extras or {}
    return tool if isinstance(tool, Mapping) else {}


def _cached_by(tool: Any, keys: Sequence[str]) -> bool:
    return any(key in _settings(tool) for key in keys)


def _without(tool: Any, keys: Sequence[str]) -> Any:
    rest = {key: value for key, value in _settings(tool).items() if key not in keys}
    if isinstance(tool, BoundTool):
        return BoundTool(tool, tool.original.model_copy(update={"extras": rest or None}))
    if isinstance(tool, BaseTool):
        return tool.model_copy(update={"extras": rest or None})
    return rest
