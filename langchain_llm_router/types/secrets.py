"""Redaction of API keys in everything that is recorded, traced or raised."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, SecretStr

__all__ = ["describe_error", "find_secrets", "redact", "redact_data", "redact_error"]

_MASK = "[redacted]"
_MIN_LENGTH = 6
_MAX_DEPTH = 3
_MIN_VARIABLE_LENGTH = 12
_KEY_VARIABLES = ("API_KEY", "API_TOKEN", "SECRET_ACCESS_KEY")
_CLIENTS = ("client", "async_client", "root_client", "root_async_client")
_USER_OF_URL = re.compile(r"(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]*+://([^/\s?#]+)@", re.IGNORECASE)

# Key formats of well-known providers, for keys that are not found on the model itself.
_PATTERNS = re.compile(
    r"""
    \b(?:sk|pk|rk|gsk|xai|hf|csk|pplx|tvly|lsv2|fw|r8|nvapi|ghp|gho|glpat)[-_][A-Za-z0-9_\-]{12,}
    | \bAIza[A-Za-z0-9_\-]{20,}
    | \bA(?:KIA|SIA)[A-Z0-9]{16}
    | (?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]+
    | (?<=[Bb]earer\s)[A-Za-z0-9._~+/\-]{8,}=*
    | (?<=[Bb]asic\s)[A-Za-z0-9+/]{12,}=*
    | (?<=://)[^/\s?\#]+(?=@)
    | (?:(?<=[?&]key=)|(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=apikey=))[^&\s"']{6,}
    """,
    re.VERBOSE,
)


def find_secrets(model: object) -> tuple[str, ...]:
    """Return a chat model's secrets, longest first.

    They are its `SecretStr`s, keys in its headers, keys that its client got from a function,
    passwords in its URLs, and the keys in this process's environment, which clients fall back on.
    """
    found = {text for text in _walk(model, _MAX_DEPTH) if len(text) >= _MIN_LENGTH}
    found |= {
        value
        for name, value in os.environ.items()
        if name.upper().endswith(_KEY_VARIABLES) and len(value) >= _MIN_VARIABLE_LENGTH
    }
    return tuple(sorted(found, key=len, reverse=True))


def describe_error(error: BaseException, model: object) -> str:
    """Return an error's type and message without the keys of the model that raised it."""
    return redact(f"{type(error).__name__}: {error}", find_secrets(model))


def _walk(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
        return
    if isinstance(value, str):
        yield from _url_secrets(value)
        return
    inner: Iterable[tuple[str, object]] = ()
    if isinstance(value, BaseModel):
        yield from _client_secrets(value)
        inner = ((name, getattr(value, name, None)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        inner = ((str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        inner = (("", item) for item in value)
    for name, item in inner if depth > 0 else ():
        if "header" in name and isinstance(item, Mapping):
            yield from _header_secrets(item)
        else:
            yield from _walk(item, depth - 1)


def _url_secrets(text: str) -> Iterator[str]:
    """Yield the user and password of a URL, which a server may repeat without the URL."""
    match = _USER_OF_URL.match(text)
    if match is not None:
        user, _, password = match[1].rpartition(":")
        yield match[1]
        for part in (password, user):
            yield part
            yield unquote(part)


def _client_secrets(model: BaseModel) -> Iterator[str]:
    """Yield keys that a model's client got from a function, which no field of the model holds."""
    for name in _CLIENTS:
        client = getattr(model, name, None)
        # Some models have a resource of the client there.
        for holder in (client, getattr(client, "_client", None)):
            key = getattr(holder, "api_key", None)
            if isinstance(key, str):
                yield key


def _header_secrets(headers: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in headers.items():
        if re.search(r"auth|key|token|secret|cookie", str(name), re.IGNORECASE):
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            yield text
            yield text.rpartition(" ")[2]


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Replace the secrets in a text, and everything that looks like a key."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return _PATTERNS.sub(_MASK, text)


def redact_error(error: BaseException, secrets: tuple[str, ...] = ()) -> None:
    """Redact the messages of an error and its causes in place, as callers catch its class."""
    current: BaseException | None = error
    for _ in range(8):
        if current is None:
            return
        current.args = tuple(redact_data(item, secrets) for item in current.args)
        for name in ("message", "body"):
            value = getattr(current, name, None)
            if value is not None and (clean := redact_data(value, secrets)) != value:
                setattr(current, name, clean)
        current = current.__cause__ or current.__context__


def redact_data(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """Return plain data in which every text is redacted."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {key: redact_data(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_data(item, secrets) for item in value]
    return value
