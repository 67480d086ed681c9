"""Tools that run at the provider: web search, file search, code execution, MCP servers.

Each use may have a fee beside the tokens, and feeds the model text of unknown length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["FREE_KINDS", "KINDS", "count_uses", "hosted_kinds", "most_uses"]

FREE_KINDS = frozenset({"mcp", "tool_search", "web_fetch"})
"""Kinds for whose uses providers charge nothing but the tokens."""

# A part of a tool's type or key → its kind. The first that fits counts.
_KINDS = (
    ("web_search", "web_search"),
    ("google_search", "web_search"),
    ("enterprise_web", "web_search"),
    ("search_parameters", "web_search"),
    ("nova_grounding", "web_search"),
    ("web_fetch", "web_fetch"),
    ("url_context", "web_fetch"),
    ("x_search", "x_search"),
    ("file_search", "file_search"),
    ("retrieval", "file_search"),
    ("collections_search", "file_search"),
    ("code_interpreter", "code_execution"),
    ("code_execution", "code_execution"),
    ("codeexecution", "code_execution"),
    ("image_generation", "image_generation"),
    ("tool_search", "tool_search"),
    ("mcp", "mcp"),
)
KINDS = frozenset(kind for _, kind in _KINDS)
"""Kinds that are known here; others have the name that their provider gives them."""

# Types of tools that the application runs; `object` and `array` are those of JSON schemas.
_LOCAL = ("function", "custom", "object", "array", "bash", "text_editor", "computer", "memory",
          "local_shell", "apply_patch", "shell")  # fmt: skip
_LOCAL_KEYS = {"name", "title", "function", "input_schema", "toolSpec", "cachePoint",
               "function_declarations", "functionDeclarations", "description"}  # fmt: skip
# Keywords of a call that switch a hosted tool on.
_KEYWORDS = ("web_search_options", "search_parameters", "mcp_servers", "plugins")
_LIMITS = ("max_uses", "max_num_uses")


def hosted_kinds(kwargs: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of the hosted tools that a call's keywords switch on.

    A kind that is not known here is returned by the name that the provider gives it.
    """
    kinds = {kind for tool in _tools(kwargs) if (kind := _kind_of_tool(tool)) is not None}
    kinds |= {_kind_of_name(name) for name in _KEYWORDS if kwargs.get(name) is not None}
    return frozenset(kinds)


def most_uses(kwargs: Mapping[str, Any]) -> int | None:
    """Return how often a call's hosted tools may be used in all; None if there is no limit."""
    if isinstance(kwargs.get("max_tool_calls"), int):
        return int(kwargs["max_tool_calls"])
    uses = 0
    for tool in _tools(kwargs):
        if _kind_of_tool(tool) is None:
            continue
        limit = next((tool[name] for name in _LIMITS if isinstance(tool.get(name), int)), None)
        if limit is None:
            return None
        uses += limit
    return None if any(kwargs.get(name) is not None for name in _KEYWORDS) else uses


def count_uses(message: Any) -> dict[str, int]:
    """Return how often each kind of hosted tool was used for an answer, as far as it says."""
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
    extras: Mapping[str, Any] = getattr(message, "additional_kwargs", None) or {}
    counts: dict[str, int] = {}
    content = getattr(message, "content", "")
    blocks = [*(content if isinstance(content, list) else ()), *(extras.get("tool_outputs") or ())]
    cites = extras.get("annotations") or ()
    for block in blocks:
        if isinstance(block, Mapping):
            cites = [*cites, *(block.get("annotations") or ())]
            name = _name_of_use(block)
            if name is not None:
                counts[name] = counts.get(name, 0) + 1
    reported = (metadata.get("usage") or {}).get("server_tool_use") or {}
    for name, n in reported.items():
        if isinstance(n, int) and n > 0:
            kind = _kind_of_name(str(name))
            counts[kind] = max(counts.get(kind, 0), n)
    grounding = metadata.get("grounding_metadata") or extras.get("grounding_metadata")
    if grounding:
        queries = grounding.get("web_search_queries") or ()
        counts["web_search"] = max(counts.get("web_search", 0), len(queries), 1)
    if "web_search" not in counts and any(_is_web_citation(cite) for cite in cites):
        counts["web_search"] = 1
    return counts


def _tools(kwargs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for tool in kwargs.get("tools") or ():
        if isinstance(tool, Mapping):
            yield tool


def _kind_of_tool(tool: Mapping[str, Any]) -> str | None:
    """The kind of a hosted tool; None for one that the application runs."""
    if "systemTool" in tool:
        return _kind_of_name(str((tool["systemTool"] or {}).get("name")))
    given = tool.get("type")
    if isinstance(given, str):
        return None if given.startswith(_LOCAL) else _kind_of_name(given)
    if _LOCAL_KEYS & tool.keys() or len(tool) == 0:
        return None
    return _kind_of_name(str(next(iter(tool))))


def _kind_of_name(name: str) -> str:
    lowered = name.lower()
    compact = lowered.replace("googlesearch", "google_search").replace("urlcontext", "url_context")
    return next((kind for part, kind in _KINDS if part in compact), lowered)


def _name_of_use(block: Mapping[str, Any]) -> str | None:
    kind = str(block.get("type"))
    if kind in ("server_tool_use", "server_tool_call"):
        return _kind_of_name(str(block.get("name")))
    if kind in ("mcp_tool_use", "mcp_call"):
        return "mcp"
    local = ("function_call", "custom_tool_call", "computer_call", "tool_call", "shell_call")
    if kind.endswith("_call") and kind not in local and not kind.startswith(_LOCAL):
        return _kind_of_name(kind.removesuffix("_call"))
    return None


def _is_web_citation(cite: Any) -> bool:
    return (
        isinstance(cite, Mapping)
        and cite.get("type") in ("url_citation", "citation")
        and bool(cite.get("url") or (cite.get("url_citation") or {}))
    )
