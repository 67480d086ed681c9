"""How long a provider asks to wait: `Retry-After` in every form.

Errors are read by their attributes and words, because the providers' client libraries need not be
installed.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["wait_s"]

_MAX_CHARS = 4000
"""Number of characters of an error's message that are read."""


def wait_s(errors: Sequence[BaseException], now: float | None = None) -> float | None:
    """Return the seconds to wait that an error asks for; None if none of them does.

    Read are the headers `Retry-After` (seconds, a duration like `1m30s`, a date or Unix time),
    `retry-after-ms` and `x-ms-retry-after-ms`, the reset of a rate limit of which nothing remains,
    the attribute `retry_after`, the fields of the body that say the same, Google's `RetryInfo` and,
    at last, a message like "try again in 20s".

    Args:
        errors: A provider's error and its causes.
        now: Unix time, for dates; if None, that of the clock.
    """
    now = time.time() if now is None else now
    for link in errors:
        for value, scale in _waits(link):
            seconds = _seconds(value, scale, now)
            if seconds is not None:
                return max(0.0, seconds)
    return None


_HEADERS = (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0))
_FIELDS = (
    ("retry_after_ms", 1e-3),
    ("retryAfterMs", 1e-3),
    ("retry_after", 1.0),
    ("retryAfter", 1.0),
    ("retry_after_seconds", 1.0),
)
_RESPONSES = ("response", "raw_response", "http_response")


def _waits(error: BaseException) -> Iterator[tuple[Any, float]]:
    """Iterate over what may say how long to wait, each with its unit in seconds."""
    responses = [getattr(error, name, None) for name in _RESPONSES]
    body = getattr(error, "body", None)
    parts = [body, _get(body, "error"), getattr(error, "error", None)]
    parts += [_get(part, "metadata") for part in parts]
    for headers in (
        *(getattr(response, "headers", None) for response in responses),
        _get(_get(responses[0], "ResponseMetadata"), "HTTPHeaders"),
        getattr(error, "headers", None),
        *(_get(part, "headers") for part in parts),
    ):
        yield from _waits_of_headers(_lowered(headers))
    for name, scale in _FIELDS:
        yield getattr(error, name, None), scale
        for part in parts:
            yield _get(part, name), scale
    for value in (getattr(error, "details", None), _get(body, "details"), _get(body, "error")):
        yield _retry_delay(value), 1.0
    for pattern in _IN_WORDS:
        match = pattern.search(str(error)[:_MAX_CHARS])
        yield None if match is None else match[1], 1.0


def _waits_of_headers(lowered: Mapping[str, Any]) -> Iterator[tuple[Any, float]]:
    for name, scale in _HEADERS:
        yield lowered.get(name), scale
    for name, value in lowered.items():
        if "ratelimit" in name and "reset" in name:
            left = lowered.get(name.replace("reset", "remaining"))
            if left is not None and _text(left).strip() == "0":
                yield value, 1.0


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


def _lowered(headers: Any) -> dict[str, Any]:
    if isinstance(headers, str | bytes):
        return {}
    try:
        pairs = headers.items() if hasattr(headers, "items") else headers
        return {_text(key).lower(): value for key, value in pairs}
    except (TypeError, ValueError):
        return {}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _retry_delay(details: Any) -> Any:
    """Return the delay in Google's error details: `{"retryDelay": "37s"}` or its message class."""
    if isinstance(details, Mapping):
        found = details.get("retryDelay", details.get("retry_delay"))
        inner = details.get("details", details.get("error"))
        return _retry_delay(inner) if found is None and inner is not None else found
    if isinstance(details, list | tuple):
        return next((delay for item in details if (delay := _retry_delay(item)) is not None), None)
    delay = getattr(details, "retry_delay", None)
    return getattr(delay, "seconds", delay)


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(
    r"(\d{1,12}(?:\.\d{1,12})?)\s?"
    r"(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)(?![a-z])\s?,?",
    re.IGNORECASE,
)
_IN_WORDS = (
    re.compile(
        r"\b(?:again|retry|wait)\b[^.\n\d]{0,40}?\b(?:in|after|for)\s{1,3}"
        r"((?:\d{1,12}(?:\.\d{1,12})?\s?[a-z]{1,12}\s?){1,4})",
        re.IGNORECASE,
    ),
    re.compile(r"\bwait\s{1,3}((?:\d{1,12}(?:\.\d{1,12})?\s?[a-z]{1,12}\s?){1,4})", re.IGNORECASE),
    re.compile(r"retry[-_ ]?after[\"']?\s?[:=]\s?[\"']?(\d{1,12}(?:\.\d{1,12})?)", re.IGNORECASE),
    re.compile(r"retry_?delay\W{1,8}(?:seconds\W{1,3})?(\d{1,12}(?:\.\d{1,12})?)", re.IGNORECASE),
)


def _seconds(value: Any, scale: float, now: float) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple) and len(value) > 0:
        value = value[0]
    if value is None or isinstance(value, bool):
        return None
    text = _text(value).strip()
    head, comma, tail = text.partition(",")
    if comma and head == tail.strip():
        # Two headers of one name, as proxies join them.
        text = head
    try:
        seconds = float(text) * scale
    except ValueError:
        seconds = _duration(text)
        if math.isnan(seconds):
            seconds = _date(text) - now
    if not math.isfinite(seconds):
        return None
    # No wait is this long: it is a Unix time, in seconds or milliseconds.
    seconds = seconds / 1e3 if seconds > 1e11 else seconds
    return seconds - now if seconds > 1e9 else seconds


def _duration(text: str) -> float:
    """Return the seconds of a duration like `1m30s`; NaN if it is none."""
    # ISO 8601 has letters before them: PT1M30S.
    seconds, at = 0.0, 2 if text[:2].upper() == "PT" else 0
    started = at
    while match := _PART.match(text, at):
        unit = match[2].lower()
        is_milli = unit.startswith(("ms", "milli"))
        seconds += float(match[1]) * (1e-3 if is_milli else _UNITS[unit[0]])
        at = match.end()
    return seconds if at > started else math.nan


def _date(text: str) -> float:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text)
        except (ValueError, OverflowError, TypeError):
            continue
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return math.nan
