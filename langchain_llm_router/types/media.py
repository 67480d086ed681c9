"""Images, sounds, videos and files in a message, in the spelling of every provider."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any, Literal

__all__ = [
    "MEDIUM_KEYS",
    "MediumKind",
    "is_plain",
    "medium_kind",
    "mime_of",
    "plain_content",
    "source_of",
]

MediumKind = Literal["image", "audio", "video", "file"]

_KINDS: dict[str, MediumKind] = {
    "computer_screenshot": "image",
    "image": "image",
    "image_base64": "image",
    "image_file": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "container_upload": "file",
    "document": "file",
    "document_url": "file",
    "file": "file",
    "file_url": "file",
    "input_file": "file",
    "media": "file",
    "text-plain": "file",
}
MEDIUM_KEYS: dict[str, MediumKind] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "file",
    "inline_data": "file",
    "inlineData": "file",
    "file_data": "file",
    "fileData": "file",
}
"""The keys under one of which a block without a type has its medium."""

_MIMES = ("mime_type", "mimeType", "media_type", "format")
_NAMES = ("filename", "file_name", "name", "title")
_URLS = (
    "url",
    "file_data",
    "image_url",
    "video_url",
    "audio_url",
    "document_url",
    "file_url",
    "file_uri",
    "fileUri",
)


def medium_kind(block: Mapping[str, Any]) -> MediumKind | None:
    """Return which medium a content block is; None if it is none.

    Args:
        block: A block of a message's content, in the format of any provider.
    """
    kind = _KINDS.get(str(block.get("type")))
    if kind is None and "type" not in block:
        kind = next(
            (MEDIUM_KEYS[key] for key in MEDIUM_KEYS if isinstance(block.get(key), Mapping)), None
        )
    if kind is None:
        return None
    source = source_of(block)
    # Some clients take any medium under `image_url`, and a file may be an image: its data says so.
    mime = _given_mime(source) or _mime_of_data(source) or ""
    if kind == "file" and not mime:
        mime = mime_of(source) or ""
    if mime == "application/pdf":
        return "file"
    family = mime.partition("/")[0]
    return _KINDS[family] if "/" in mime and family in ("image", "audio", "video") else kind


def source_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a block and of what is nested in it, in one mapping."""
    source = dict(block)
    for key in ("source", "file", "input_audio", "image_url", "bytes", *MEDIUM_KEYS):
        inner = source.get(key)
        if isinstance(inner, Mapping):
            del source[key]
            source |= source_of(inner)
    return source


def mime_of(source: Mapping[str, Any]) -> str | None:
    """Return the type of a medium's content, e.g. `application/pdf`; None if it does not say.

    Args:
        source: The fields of the block, from `source_of`.
    """
    mime = _given_mime(source)
    if mime:
        return mime if "/" in mime else mimetypes.guess_type(f"x.{mime}")[0] or mime
    stated = _mime_of_data(source)
    if stated:
        return stated
    urls = _urls_of(source)
    names = [source[name] for name in _NAMES if isinstance(source.get(name), str)]
    guesses = (mimetypes.guess_type(name[-300:])[0] for name in (*names, *urls))
    return next((guess for guess in guesses if guess is not None), None)


def _mime_of_data(source: Mapping[str, Any]) -> str | None:
    """Return the type that a `data:` URL states; None without one."""
    data = next((url for url in _urls_of(source) if url[:5].lower() == "data:"), None)
    return None if data is None else data[5:100].partition(",")[0].partition(";")[0].lower() or None


def _urls_of(source: Mapping[str, Any]) -> list[str]:
    return [source[name] for name in _URLS if isinstance(source.get(name), str)]


def _given_mime(source: Mapping[str, Any]) -> str:
    return str(next((source[name] for name in _MIMES if source.get(name)), "")).lower()


def is_plain(source: Mapping[str, Any]) -> bool:
    """Return whether the content of a medium is text that the block itself holds.

    Args:
        source: The fields of the block, from `source_of`.
    """
    mime = _given_mime(source)
    by_type = source.get("type") == "text" and isinstance(source.get("data"), str)
    return by_type or (isinstance(source.get("text"), str) and (not mime or mime[:5] == "text/"))


def plain_content(source: Mapping[str, Any]) -> Any:
    """Return the text of a medium whose content is text, or its blocks."""
    return source.get("content") or source.get("text") or source.get("data")
