"""Redaction of API keys in everything that is recorded, traced or raised."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

__all__ = ["describe_error", "find_secrets", "redact", "redact_data", "redact_error"]

_MASK = "[redacted]"
_MIN_LENGTH = 6
_MAX_DEPTH = 3
_MAX_ERRORS = 32
_MIN_VARIABLE_LENGTH = 12
_KEY_VARIABLE = re.compile(
    r"(?:API_?KEYS?|_KEY|TOKEN|SECRET|SECRET_ACCESS_KEY|PASSWORD|BEARER_TOKEN_BEDROCK)$"
)
# Names of fields and of parameters of URLs that hold a secret; `max_tokens` is none.
_SECRET_NAME = re.compile(
    r"""
    ^authorization$ | api_?key$ | (?:access|secret|private|subscription|account)_?key$ | ^key$
    | secret$ | passw(?:or)?d$ | cookie$ | (?:^|_)(?:token|jwt|signature|sig)$
    """,
    re.VERBOSE,
)
_CLIENTS = ("client", "async_client", "root_client", "root_async_client")
_USER_OF_URL = re.compile(r"(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]*+://([^/\s?#]+)@", re.IGNORECASE)

# Key formats of well-known providers, for keys that are not found on the model itself.
_PATTERNS = re.compile(
    r"""
    \b(?:sk|pk|rk|gsk|xai|hf|csk|pplx|tvly|lsv2|fw|r8|nvapi|ghp|gho|ghs|github_pat|glpat|tgp_v1
       |xox[abp])[-_][A-Za-z0-9_\-]{12,}
    | \bya29\.[A-Za-z0-9_\-]{20,}
    | \bABSK[A-Za-z0-9+/]{40,}
    | \bAIza[A-Za-z0-9_\-]{20,}
    | \bA(?:KIA|SIA)[A-Z0-9]{16}
    | (?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]+
    | (?<=[Bb]earer\s)[A-Za-z0-9._~+/\-]{8,}=*
    | (?<=[Bb]asic\s)[A-Za-z0-9+/]{12,}=*
    | (?<=://)[^/\s?\#]+(?=@)
    | (?:(?<=[?&]key=)|(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=apikey=)|(?<=subscription-key=)
        |(?<=[?&]sig=)|(?<=signature=)|(?<=secret_access_key=)|(?<=password=)
        |(?<=api_key":\s")|(?<=api-key:\s)|(?<=api_key='))[^&\s"']{6,}
    """,
    re.VERBOSE,
)


def find_secrets(model: object) -> tuple[str, ...]:
    """Return a chat model's secrets, longest first.

    They are its `SecretStr`s, texts under names such as `api_key` and `token`, keys in its headers
    and those of its HTTP clients, keys that its client got from a function, passwords and keys in
    its URLs, and the keys in this process's environment, which clients fall back on.
    """
    found = {text for text in _walk(model, _MAX_DEPTH) if len(text) >= _MIN_LENGTH}
    found |= {
        value
        for name, value in os.environ.items()
        if _KEY_VARIABLE.search(name.upper())
        for value in value.split(",")
        if len(value) >= _MIN_VARIABLE_LENGTH
    }
    return tuple(sorted({form for text in found for form in _forms(text)}, key=len, reverse=True))


def _forms(text: str) -> tuple[str, ...]:
    """Return a secret as it is, and as it looks in JSON, in a URL and in base64."""
    encoded = text.encode(errors="replace")
    in_json = json.dumps(text)[1:-1]
    return text, in_json, quote(text, safe=""), b64encode(encoded).decode().rstrip("=")


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
        elif isinstance(item, str) and _is_secret_name(name):
            yield item
        elif "http" in name and "client" in name:
            yield from _http_secrets(item)
        else:
            yield from _walk(item, depth - 1)


def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name.lower().replace("-", "_")) is not None


def _http_secrets(client: object) -> Iterator[str]:
    """Yield the secrets of an HTTP client that a model was given: its headers, and its user."""
    headers = getattr(client, "headers", None)
    if isinstance(headers, Mapping):
        yield from _header_secrets(headers)
    auth = getattr(client, "auth", None)
    if type(auth).__name__ == "BasicAuth":
        yield from _sent_secrets(auth)


def _sent_secrets(auth: Any) -> Iterator[str]:
    """Yield name and password of httpx's `BasicAuth`, as they are sent and as they were given."""
    import httpx  # noqa: PLC0415 - slow to load

    if isinstance(auth, httpx.BasicAuth):
        request = next(auth.auth_flow(httpx.Request("GET", "http://localhost")))
        encoded = request.headers["Authorization"].rpartition(" ")[2]
        yield encoded
        yield from _basic_secrets(encoded)


def _basic_secrets(encoded: str) -> Iterator[str]:
    try:
        yield b64decode(encoded).decode().partition(":")[2]
    except ValueError:
        return


def _url_secrets(text: str) -> Iterator[str]:
    """Yield the user and password of a URL, which a server may repeat without the URL."""
    match = _USER_OF_URL.match(text)
    if "://" in text[:20] and "?" in text:
        for name, value in parse_qsl(urlsplit(text).query):
            if _is_secret_name(name):
                yield value
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
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        named = re.search(r"auth|key|token|secret|cookie", str(name), re.IGNORECASE)
        if named or text[:7].lower() == "bearer ":
            yield text
            yield text.rpartition(" ")[2]


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Replace the secrets in a text, and everything that looks like a key."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return _PATTERNS.sub(_MASK, text)


def redact_error(error: BaseException, secrets: tuple[str, ...] = ()) -> None:
    """Redact the messages of an error and its causes in place, as callers catch its class."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_ERRORS:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.args = redact_data(current.args, secrets)
        # Of their own making: `message`, `body`, `detail`, notes, ...
        for name, value in list(vars(current).items()):
            if (clean := redact_data(value, secrets)) != value:
                setattr(current, name, clean)
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def redact_data(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """Return plain data in which every text is redacted."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, bytes):
        return redact(value.decode("latin-1"), secrets).encode("latin-1")
    if isinstance(value, dict):
        return {redact_data(k, secrets): redact_data(item, secrets) for k, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(redact_data(item, secrets) for item in value)
    return value
