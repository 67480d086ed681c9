"""Removes keys from everything that is recorded, traced or raised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

__all__ = ["redact_error", "redacted", "redacted_data", "secrets_of"]

_HIDDEN = "[redacted]"
_SHORTEST = 6
_DEPTH = 3

# What keys of well-known providers look like, for keys that come from elsewhere than the model.
_PATTERNS = re.compile(
    r"""
    \b(?:sk|pk|rk|gsk|xai|hf|csk|pplx|tvly|lsv2|fw|r8|nvapi|ghp|gho|glpat)[-_][A-Za-z0-9_\-]{12,}
    | \bAIza[A-Za-z0-9_\-]{20,}
    | \bA(?:KIA|SIA)[A-Z0-9]{16}
    | \beyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]+
    | (?<=[Bb]earer\s)[A-Za-z0-9._~+/\-]{8,}=*
    | (?<=[Bb]asic\s)[A-Za-z0-9+/]{12,}=*
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)
    | (?:(?<=[?&]key=)|(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=apikey=))[^&\s"']{6,}
    """,
    re.VERBOSE,
)


def secrets_of(model: object) -> tuple[str, ...]:
    """Every secret that a chat model holds: its `SecretStr`s, and the values in its headers."""
    found = {text for text in _secrets(model, _DEPTH) if len(text) >= _SHORTEST}
    return tuple(sorted(found, key=len, reverse=True))


def _secrets(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
        return
    inner: Iterable[tuple[str, object]] = ()
    if isinstance(value, BaseModel):
        inner = ((name, getattr(value, name, None)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        inner = ((str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        inner = (("", item) for item in value)
    for name, item in inner if depth > 0 else ():
        if "header" in name and isinstance(item, Mapping):
            yield from _header_secrets(item)
        else:
            yield from _secrets(item, depth - 1)


def _header_secrets(headers: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in headers.items():
        if re.search(r"auth|key|token|secret|cookie", str(name), re.IGNORECASE):
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            yield text
            yield text.rpartition(" ")[2]


def redacted(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without the secrets, and without anything that looks like a key."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return _PATTERNS.sub(_HIDDEN, text)


def redact_error(error: BaseException, secrets: tuple[str, ...] = ()) -> None:
    """Take keys out of an error's texts, in place: it is still the provider's own error."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        seen.args = tuple(redacted_data(item, secrets) for item in seen.args)
        for name in ("message", "body"):
            value = getattr(seen, name, None)
            if value is not None and (clean := redacted_data(value, secrets)) != value:
                setattr(seen, name, clean)
        seen = seen.__cause__ or seen.__context__


def redacted_data(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The same for every text in plain data."""
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, dict):
        return {key: redacted_data(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted_data(item, secrets) for item in value]
    return value
