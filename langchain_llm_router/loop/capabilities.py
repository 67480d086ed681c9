"""Capabilities that a request needs, compared with the profiles of models.

`model.profile` lists what a model supports; what it does not list is assumed to be supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.media import (
    is_plain,
    medium_kind,
    mime_of,
    plain_content,
    source_of,
)
from langchain_llm_router.types.tokens import estimate_tokens

__all__ = ["Needs", "fit_window", "needs_of", "shortfall"]

_TOKENS_PER_MEDIUM = 256
"""Low estimate of the tokens of an image or a page, enough to detect gross excess."""

# Medium → the flag of a model's profile.
_FLAGS = {"image": "image_inputs", "audio": "audio_inputs", "video": "video_inputs"}


@dataclass(frozen=True, slots=True)
class Needs:
    """Capabilities that a request needs."""

    tools: bool = False
    structured: bool = False
    method: str | None = None
    """Method of structured output; None if the caller names none."""

    media: frozenset[str] = frozenset()
    """Flags of a profile that must hold, e.g. `image_inputs`."""

    input_tokens: float = 0
    """Estimated length of the conversation."""


def needs_of(
    messages: Sequence[BaseMessage],
    *,
    tools: bool = False,
    structured: bool = False,
    method: str | None = None,
) -> Needs:
    """Return what a conversation and its bound tools or schema need."""
    media: set[str] = set()
    tokens = 0.0
    for message in messages:
        content = message.content
        tokens += estimate_tokens(content) if isinstance(content, str) else _add(content, media)
        for call in getattr(message, "tool_calls", ()):
            tokens += estimate_tokens(str(call["args"]))
    return Needs(tools, structured, method, frozenset(media), tokens)


def _add(content: Any, media: set[str]) -> float:
    """Return the estimated tokens of a content, and add the flags of its media."""
    if isinstance(content, str):
        return estimate_tokens(content)
    if not isinstance(content, Mapping):
        return sum(_add(block, media) for block in content or ())
    kind = medium_kind(content)
    if kind is None:
        # What a tool answered may be nested, in Bedrock's form one level more.
        inner = content.get("content") or content.get("toolResult")
        nested = _add(inner, media) if isinstance(inner, str | list | dict) else 0.0
        return nested + estimate_tokens(str(content.get("text") or ""))
    source = source_of(content)
    if kind == "file" and is_plain(source):
        return _add(plain_content(source), media)
    if kind != "file":
        media.add(_FLAGS[kind])
    elif mime_of(source) in (None, "application/pdf"):
        media.add("pdf_inputs")
    return _TOKENS_PER_MEDIUM + estimate_tokens(str(content.get("text") or ""))


def shortfall(profile: Mapping[str, Any] | None, needs: Needs) -> str | None:
    """Return why a model with this profile cannot serve; None if nothing rules it out."""
    if not profile:
        return None
    if needs.tools and profile.get("tool_calling") is False:
        return "it cannot call tools"
    if needs.structured:
        native = profile.get("structured_output")
        by_tools = profile.get("tool_calling") if needs.method != "json_schema" else False
        if native is False and by_tools is False:
            return "it has no structured output"
    for flag in sorted(needs.media):
        if profile.get(flag) is False:
            return f"it takes no {flag.removesuffix('_inputs')} input"
    limit = profile.get("max_input_tokens")
    if limit is not None and needs.input_tokens > limit:
        return f"about {needs.input_tokens:.0f} input tokens are more than its {limit}"
    return None


def fit_window(situation: Situation) -> tuple[Situation, Arm | None]:
    """Return what may follow after a candidate found the prompt too long.

    Returns:
        The situation in which arms whose context window is known to be no larger count as failed,
        and the open arm with the largest known window; None if no known window is larger.
    """
    tried = [a["candidate"] for a in situation.attempts if a.get("too_long", False)]
    sizes = [arm.max_input_tokens for arm in situation.arms if arm.candidate in tried]
    too_small = max((size for size in sizes if size is not None), default=0)
    windows = [(arm, arm.max_input_tokens or 0) for arm in situation.open_arms]
    small = tuple(
        Attempt(candidate=arm.candidate, error=f"its context window of {size} is no larger")
        for arm, size in windows
        if 0 < size <= too_small
    )
    known = [(arm, size) for arm, size in windows if size > too_small and arm.available]
    widest = max(known, key=lambda pair: pair[1])[0] if known else None
    return replace(situation, attempts=(*small, *situation.attempts)), widest
