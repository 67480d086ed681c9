"""How long a provider asks to wait: `Retry-After` in every form.

Errors are read by their attributes and words, because the providers' client libraries need not be
installed.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["wait_s"]

_MAX_CHARS = 4000
"""Number of characters of an error's message that are read."""


def wait_s(errors: Sequence[BaseException], now: float | None = None) -> float | None:
    """Return the seconds to wait that an error asks for; None if none of them does.

    Read are the headers `Retry-After` (seconds, a duration like `1m30s`, a date or Unix time),
    `retry-after-ms` and `x-ms-retry-after-ms`, the attribute `retry_after`, Google's `RetryInfo`
    and, at last, a message like "try again in 20s".

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


def _waits(error: BaseException) -> Iterator[tuple[Any, float]]:
    """Iterate over what may say how long to wait, each with its unit in seconds."""
    response = getattr(error, "response", None)
    for headers in (
        getattr(response, "headers", None),
        _get(_get(response, "ResponseMetadata"), "HTTPHeaders"),
        getattr(error, "headers", None),
    ):
        lowered = _lowered(headers)
        for name, scale in (
            ("retry-after-ms", 1e-3),
            ("x-ms-retry-after-ms", 1e-3),
            ("retry-after", 1.0),
        ):
            yield lowered.get(name), scale
    yield getattr(error, "retry_after", None), 1.0
    body = getattr(error, "body", None)
    yield _get(body, "retry_after"), 1.0
    details = [getattr(error, "details", None), _get(body, "details"), _get(body, "error")]
    for value in details:
        yield _retry_delay(value), 1.0
    for pattern in _IN_WORDS:
        match = pattern.search(str(error)[:_MAX_CHARS])
        yield None if match is None else match[1], 1.0


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


def _lowered(headers: Any) -> dict[str, Any]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if not isinstance(headers, Mapping | Sequence) or isinstance(headers, str | bytes):
        return {}
    try:
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
    re.compile(r"retry_?delay\W{1,8}(?:seconds\W{1,3})?(\d{1,12}(?:\.\d{1,12})?)", re.IGNORECASE),
)


def _seconds(value: Any, scale: float, now: float) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    text = _text(value).strip()
    try:
        seconds = float(text) * scale
    except ValueError:
        seconds = _duration(text)
        if math.isnan(seconds):
            seconds = _date(text) - now
    if not math.isfinite(seconds):
        return None
    # No wait is this long: it is a Unix time.
    return seconds - now if seconds > 1e9 else seconds


def _duration(text: str) -> float:
    """Return the seconds of a duration like `1m30s`; NaN if it is none."""
    seconds, at = 0.0, 0
    while match := _PART.match(text, at):
        unit = match[2].lower()
        is_milli = unit.startswith(("ms", "milli"))
        seconds += float(match[1]) * (1e-3 if is_milli else _UNITS[unit[0]])
        at = match.end()
    return seconds if at > 0 else math.nan


def _date(text: str) -> float:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text)
        except (ValueError, OverflowError, TypeError):
            continue
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return math.nan
