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

__all__ = ["BoundTool", "bound_tools", "foreign_tool", "tools_for_provider"]


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
        # Several providers adopted OpenAI's names.
        frozenset({"openai", "xai", "mistralai", "groq"}),
    ),
    **dict.fromkeys(
        ("web_search_premium", "document_library", "connector"), frozenset({"mistralai", "openai"})
    ),
    **dict.fromkeys(("x_search", "browser_search"), frozenset({"xai", "groq", "openai"})),
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
        "retrieval",
        "url_context",
    }
)
_KNOWN = frozenset(
    {"openai", "anthropic", "google", "bedrock", "mistralai", "groq", "xai", "cohere", "ollama"}
)
"""Families whose built-in tools the tables above list; of others nothing is known."""


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
        return _HOMES.get(kind)
    if "systemTool" in tool or "system_tool" in tool:
        return frozenset({"bedrock"})
    keys = {_snake_case(key) for key in tool}
    return frozenset({"google"}) if keys and keys <= _GOOGLE_KEYS else None


def _label(tool: Mapping[str, Any]) -> str:
    return str(tool.get("type") or next(iter(tool)))


def _snake_case(key: Any) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in str(key))


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
