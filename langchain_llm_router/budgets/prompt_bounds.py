"""Upper bounds on the tokens of a prompt: its text by bytes, its media by kind.

A medium's length in bytes says nothing about its tokens, so each kind has its own bound: an image
the most that its provider counts for one, a PDF its pages, sound the seconds that its bytes can
hold. What no bound is known for is returned as a reason, and not as a number.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import wave
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.media import (
    MEDIUM_KEYS,
    is_plain,
    medium_kind,
    plain_content,
    source_of,
)

__all__ = ["Medium", "PromptBound", "bound_keywords", "bound_prompt", "prompt_bound"]

_LARGEST_IMAGE = 48_169
"""The most tokens that any known provider counts for one image (gpt-4o-mini, eight tiles)."""

# Part of a model's name → the most tokens of one image. The first that fits counts.
_IMAGES = (
    ("gpt-4o-mini", _LARGEST_IMAGE),
    ("gpt-5.", 24_600),
    ("nano", 3_779),
    ("o4-mini", 2_642),
    ("gpt-", 2_489),
    ("claude", 4_784),
    ("gemini", 5_160),
    ("pixtral", 4_160),
    ("mistral", 4_160),
    ("llama", 6_404),
    ("grok", 1_792),
)
_LOW_DETAIL = 2_833
"""The most tokens of an image with `detail="low"`, at any model."""

_PAGE_TEXT = 4_000
"""Tokens of the text of a densely printed page; providers may read a page as an image too."""

_TOKENS_PER_S = 32
"""Tokens of a second of sound: 32 at Google, 10 at OpenAI."""

_MP3_BYTES_PER_S = 1000
"""MP3's lowest bit rate is 8 kbit/s."""

_TOOL_PROMPT = 1000
"""Tokens of the instructions that providers add to a prompt with tools."""

_OVERHEAD = 32
"""Tokens that a message has beside its content."""

_PAYLOADS = ("base64", "data", "bytes", "file_data", "url", "image_url", "video_url", "audio_url")
_HOLDERS = (*_PAYLOADS, *MEDIUM_KEYS, "source", "file", "input_audio", "content", "text")


@dataclass(frozen=True)
class Medium:
    """One image, sound, video or file of a prompt."""

    kind: str
    """`image`, `audio`, `video` or `file`."""

    low_detail: bool = False
    tokens: int | None = None
    """Upper bound that holds for every model; None if it depends on the model or is unknown."""

    pages: int | None = None
    """Pages of a PDF; None if it is none or they could not be counted."""


@dataclass(frozen=True)
class PromptBound:
    """The parts of a prompt that have bounds of their own."""

    text_tokens: int
    media: tuple[Medium, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of media in it."""
        return frozenset(medium.kind for medium in self.media)

    def tokens(self, candidate: Candidate | None = None) -> int | str:
        """Return an upper bound on the tokens for a candidate, or why there is none.

        Args:
            candidate: The candidate to be asked; None for any model.
        """
        limit = None if candidate is None else candidate.max_input_tokens
        total = self.text_tokens
        for medium in self.media:
            tokens = _medium_tokens(medium, candidate)
            if tokens is None and limit is None:
                return (
                    f"the prompt has a medium of kind {medium.kind!r} whose tokens are not known "
                    "before the call: give the candidate `max_input_tokens`, or "
                    f"`media_tokens={{{medium.kind!r}: ...}}`, the most that one has"
                )
            total += tokens or 0
            if tokens is None:
                assert limit is not None
                return limit
        return total if limit is None else min(total, limit)


def prompt_bound(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> int:
    """Return an upper bound on a prompt's tokens; with any tokenizer a token has a byte or more.

    Raises:
        ValueError: If it has a medium whose tokens no bound is known for.
    """
    tokens = bound_prompt(messages, kwargs).tokens()
    if isinstance(tokens, str):
        msg = f"No bound is known: {tokens}."
        raise ValueError(msg)
    return tokens


def bound_prompt(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> PromptBound:
    """Return the bounds of a conversation and of the tools and schema in a call's keywords."""
    text, media = 0, []
    for message in messages:
        extras = getattr(message, "additional_kwargs", None) or {}
        # A spoken answer comes back as sound, by its id.
        media += [Medium("audio")] if extras.get("audio") else []
        calls = getattr(message, "tool_calls", None)
        text += _OVERHEAD + _length(str(calls or "")) + _length(str(extras or ""))
        for found in _walk(message.content, blocks=True):
            if isinstance(found, Medium):
                media.append(found)
            else:
                text += found
    return PromptBound(text + bound_keywords(kwargs), tuple(media))


def bound_keywords(kwargs: Mapping[str, Any]) -> int:
    """Return an upper bound on the tokens that tools and schemas in a call's keywords add."""
    sizes = [_keyword_length(value) for name, value in kwargs.items() if name != "stop"]
    tools = _TOOL_PROMPT if any(name in kwargs for name in ("tools", "functions")) else 0
    return 2 * sum(sizes) + tools


def _keyword_length(value: Any) -> int:
    """The bytes of a keyword as a provider gets it: of a tool or a class, its schema."""
    if isinstance(value, list | tuple):
        return sum(_keyword_length(item) + 2 for item in value)
    if isinstance(value, Mapping):
        return sum(_length(str(name)) + _keyword_length(item) + 6 for name, item in value.items())
    if isinstance(value, BaseTool | type) or callable(value):
        try:
            return _length(json.dumps(convert_to_openai_tool(value), default=str))
        except (TypeError, ValueError):
            return _length(repr(value))
    return _length(repr(value))


def _medium_tokens(medium: Medium, candidate: Candidate | None) -> int | None:
    """The most tokens of a medium; None if no bound is known."""
    given = None if candidate is None else candidate.media_tokens.get(medium.kind)
    if given is not None:
        return given
    if medium.kind == "image":
        image = _image_tokens(candidate)
        return min(image, _LOW_DETAIL) if medium.low_detail else image
    if medium.pages is not None:
        return medium.pages * (_PAGE_TEXT + _image_tokens(candidate))
    return medium.tokens


def _image_tokens(candidate: Candidate | None) -> int:
    model = None if candidate is None else candidate.model
    names = [getattr(model, name, None) for name in ("model_name", "model", "model_id")]
    name = next((name for name in names if isinstance(name, str)), "").lower()
    return next((tokens for part, tokens in _IMAGES if part in name), _LARGEST_IMAGE)


def _walk(value: Any, *, blocks: bool = False) -> Iterator[int | Medium]:
    """The media in a content, and the bytes of everything else.

    Args:
        value: A content, or a part of one.
        blocks: Whether it is made of blocks; in arguments and JSON a `file` is only a word.
    """
    if isinstance(value, Mapping):
        medium = _medium_of(value) if blocks else None
        if medium is not None:
            # A title, a context or a caption is text.
            rest = {k: v for k, v in value.items() if k not in _HOLDERS and isinstance(v, str)}
            yield _length(str(rest))
            yield from (medium,) if isinstance(medium, Medium) else medium
            return
        for key, item in value.items():
            yield _length(str(key)) + 8
            yield from _walk(item, blocks=blocks and key in ("content", "output"))
    elif isinstance(value, list | tuple):
        for item in value:
            yield 4
            yield from _walk(item, blocks=blocks)
    elif value is not None:
        yield _length(str(value))


def _medium_of(block: Mapping[str, Any]) -> Medium | tuple[int | Medium, ...] | None:
    """The medium of a block; what it holds, where that is text; None if it is no medium."""
    kind = medium_kind(block)
    if kind is None:
        return None
    source = source_of(block)
    if source.get("type") == "content" or (kind == "file" and is_plain(source)):
        return tuple(_walk(plain_content(source), blocks=True))
    if kind == "image":
        details = (source.get("detail"), source.get("media_resolution"))
        return Medium("image", low_detail="low" in details)
    return _measure(kind, _bytes_of(source))


def _measure(kind: str, payload: bytes | None) -> Medium | tuple[int, ...]:
    if payload is None or kind == "video":
        return Medium(kind)
    if kind == "audio":
        return Medium("audio", tokens=_sound_tokens(payload))
    if _is_text(payload):
        return (len(payload),)
    return Medium("file", pages=_count_pages(payload))


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return b"%PDF-" not in payload[:1024]


def _bytes_of(source: Mapping[str, Any]) -> bytes | None:
    """What a block holds itself; None for what is somewhere else: a URL, an id, a bucket."""
    for name in _PAYLOADS:
        value = source.get(name)
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            continue
        head, comma, tail = value.partition(",")
        if head.startswith("data:") and comma:
            value = tail
        elif "url" in name:
            continue
        try:
            return base64.b64decode(value, validate=False)
        except (binascii.Error, ValueError):
            continue
    return None


def _sound_tokens(payload: bytes) -> int | None:
    """The most tokens of a WAV or MP3 sound; other formats may hold any number of seconds."""
    if payload[:4] == b"RIFF":
        try:
            with wave.open(BytesIO(payload)) as sound:
                frames: int = max(sound.getnframes(), len(payload) // max(1, sound.getsampwidth()))
                rate: int = sound.getframerate()
                return _TOKENS_PER_S * (frames // max(1, rate) + 1)
        except (wave.Error, EOFError):
            return None
    if payload[:3] == b"ID3" or (payload[:1] == b"\xff" and payload[1:2] >= b"\xe0"):
        return _TOKENS_PER_S * (len(payload) // _MP3_BYTES_PER_S + 1)
    return None


_MOST_UNPACKED = 8_000_000


def _count_pages(payload: bytes) -> int | None:
    """The pages of a PDF; None if it is none, or hides them."""
    if b"%PDF-" not in payload[:1024]:
        return None
    texts, left = [payload], _MOST_UNPACKED
    for start in re.finditer(rb"/ObjStm[^>]{0,400}>>\s{0,4}stream\r?\n", payload):
        try:
            text = zlib.decompressobj().decompress(payload[start.end() :], left)
        except zlib.error:
            continue
        texts.append(text)
        left -= len(text)
        if left <= 0:
            return None
    pages = sum(len(re.findall(rb"/Type\s{0,4}/Page\b", text)) for text in texts)
    counts = [int(n) for text in texts for n in re.findall(rb"/Count\s{0,4}(\d{1,7})", text)]
    return max(pages, *counts, 0) or None


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
