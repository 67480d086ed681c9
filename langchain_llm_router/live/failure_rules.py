"""Classification of failures, and the rules for retries and hedging; no I/O."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from langchain_llm_router.live.measurements import FailureKind
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import DeadlineError, LlmRouterError

__all__ = [
    "BulkheadFullError",
    "DeadlineError",
    "Resilience",
    "failure_kind",
    "is_callers_fault",
    "is_hopeless",
    "is_retryable",
    "may_be_billed",
    "retry_after_s",
    "status_of",
]


class BulkheadFullError(LlmRouterError):
    """Raised when a candidate has as many calls running as allowed, and none ends in time."""


@dataclass(frozen=True, slots=True)
class Resilience(CheckedArguments):
    """Timeouts, retries, hedging and concurrency limit of one candidate.

    Args:
        timeout_s: Maximum time in seconds for one call; if None, the client's own timeout.
        first_token_timeout_s: Maximum time in seconds to the first token of a streamed call.
        retries: Number of retries after transient failures (429, 5xx, timeouts, broken
            connections).
        backoff_s: Pause in seconds before the first retry, doubled for each further one, with
            jitter; a `Retry-After` replaces it.
        longest_wait_s: Maximum pause in seconds; after a longer `Retry-After` there is no retry.
        hedge_after: Quantile of the candidate's own times, e.g. 0.95, after which a second call is
            made and the first answer wins; both may be billed. None means no second call.
        max_concurrent: Maximum number of concurrent calls (bulkhead); None means no limit.
        queue_s: Maximum time in seconds to wait for a place.

    References:
        Dean & Barroso, 2013, The tail at scale, CACM 56(2) (hedged requests after the 95th
        percentile). Nygard, 2007, Release It! (circuit breaker, bulkhead).
    """

    timeout_s: float | None = None
    first_token_timeout_s: float | None = None
    retries: int = 0
    backoff_s: float = 0.25
    longest_wait_s: float = 5.0
    hedge_after: float | None = None
    max_concurrent: int | None = None
    queue_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("timeout_s", "first_token_timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                msg = f"`{name}` must be > 0 and finite, or None, got {value!r}."
                raise ValueError(msg)
        for name in ("retries", "backoff_s", "longest_wait_s", "queue_s"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"`{name}` must be >= 0 and finite, got {getattr(self, name)!r}."
                raise ValueError(msg)
        if self.hedge_after is not None and not 0 < self.hedge_after < 1:
            msg = f"`hedge_after` must be a quantile in (0, 1) or None, got {self.hedge_after!r}."
            raise ValueError(msg)
        if self.max_concurrent is not None and self.max_concurrent < 1:
            msg = f"`max_concurrent` must be >= 1 or None, got {self.max_concurrent!r}."
            raise ValueError(msg)

    def pause_s(self, error: Exception, n_failed: int) -> float | None:
        """Return the pause in seconds before the next retry; None if there is none.

        Args:
            error: The error of the last call.
            n_failed: Number of failed calls so far, this one included.
        """
        if n_failed > self.retries or not is_retryable(error):
            return None
        required = retry_after_s(error)
        if required is not None:
            return required if required <= self.longest_wait_s else None
        # Without jitter callers that failed together would retry together.
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
        return float(min(self.backoff_s * 2.0 ** (n_failed - 1), self.longest_wait_s) * jitter)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a provider's error; None if there is none."""
    for link in _iter_causes(error):
        for holder in (link, getattr(link, "response", None)):
            for name in ("status_code", "http_status", "code"):
                status = getattr(holder, name, None)
                if isinstance(status, int) and 100 <= status < 600:
                    return status
    return None


def _iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and its causes, because clients wrap network errors."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def retry_after_s(error: BaseException, now: float | None = None) -> float | None:
    """Return the seconds of a provider's `Retry-After` header; None if there is none.

    Args:
        error: A provider's error with a `response` that has `headers`.
        now: Unix time, for headers with a date; if None, that of the clock.
    """
    candidates = (
        getattr(getattr(link, "response", None), "headers", None) for link in _iter_causes(error)
    )
    headers = next((one for one in candidates if isinstance(one, Mapping)), None)
    if headers is None:
        return None
    lowered: dict[str, Any] = {str(key).lower(): value for key, value in headers.items()}
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = lowered.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            seconds = _seconds_until(str(text), time.time() if now is None else now)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _seconds_until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return math.nan


# Classes are compared by name, because the providers' client libraries need not be installed.
_NOT_REACHED = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")
_BROKEN = (
    *_NOT_REACHED,
    "APIConnectionError",
    "APITimeoutError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "WriteError",
    "WriteTimeout",
)
_TIMEOUTS = ("APITimeoutError", "ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout")


def _has_name(error: BaseException, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def failure_kind(error: BaseException, *, started: bool = False) -> FailureKind:
    """Return the kind of a failure for telemetry.

    Args:
        error: The error that was raised.
        started: Whether a part of the answer had already arrived.
    """
    if started:
        return "cut"
    if isinstance(error, TimeoutError) or _has_name(error, _TIMEOUTS) or status_of(error) == 408:
        return "timeout"
    return "rate_limit" if status_of(error) == 429 else "error"


def is_retryable(error: BaseException) -> bool:
    """Return whether the same call may succeed a moment later."""
    status = status_of(error)
    if status is not None:
        return status in (408, 409, 425, 429) or status >= 500
    return any(map(_is_transient, _iter_causes(error)))


def _is_transient(error: BaseException) -> bool:
    declared = getattr(error, "is_retryable", None)
    if isinstance(declared, bool):
        return declared
    broken = ConnectionError | TimeoutError | EOFError
    return isinstance(error, broken) or _has_name(error, _BROKEN)


def is_hopeless(error: BaseException) -> bool:
    """Return whether all further calls would fail too, e.g. a wrong key or an unknown model."""
    return status_of(error) in (401, 402, 403, 404)


def is_callers_fault(error: BaseException) -> bool:
    """Return whether the request was refused, which is no evidence against the endpoint."""
    return status_of(error) in (400, 413, 415, 422)


def may_be_billed(error: BaseException) -> bool:
    """Return whether the provider may have charged for the call although it failed."""
    if status_of(error) is not None or isinstance(error, BulkheadFullError | DeadlineError):
        return False
    return not any(
        isinstance(link, ConnectionRefusedError) or _has_name(link, _NOT_REACHED)
        for link in _iter_causes(error)
    )
