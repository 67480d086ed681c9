"""What a candidate's failure means, and what is tried before it counts: rules, without I/O."""

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
    """When a candidate has as many calls under way as allowed, and none ends in time."""


@dataclass(frozen=True, slots=True)
class Resilience(CheckedArguments):
    """Timeouts, retries, hedging and concurrency limit of one candidate.

    Args:
        timeout_s: Longest time for one call; None: its client's own timeout.
        first_token_timeout_s: Longest wait for the first token of a streamed call.
        retries: How often the same candidate is asked again before its failure counts; only
            failures that may pass (429, 5xx, timeouts, broken connections).
        backoff_s: Pause before the first retry, doubled for each further one, with jitter; a
            `Retry-After` is waited for exactly.
        longest_wait_s: A longer `Retry-After` is not waited for: the failure counts at once.
        hedge_after: A quantile of its own times, e.g. 0.95: with no answer by then a second call
            is made and the first answer wins. Both may be billed. None: never.
        max_concurrent: Most calls under way at once (bulkhead); None: any number.
        queue_s: Longest wait for a place.

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
            msg = f"`hedge_after` is a quantile in (0, 1) or None, got {self.hedge_after!r}."
            raise ValueError(msg)
        if self.max_concurrent is not None and self.max_concurrent < 1:
            msg = f"`max_concurrent` must be >= 1 or None, got {self.max_concurrent!r}."
            raise ValueError(msg)

    def pause_s(self, error: Exception, n_failed: int) -> float | None:
        """How long to wait before asking again; None: do not.

        Args:
            error: Why the last call failed.
            n_failed: How many calls have failed by now, this one included.
        """
        if n_failed > self.retries or not is_retryable(error):
            return None
        asked = retry_after_s(error)
        if asked is not None:
            return asked if asked <= self.longest_wait_s else None
        # Jitter keeps callers that failed together from coming back together.
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
        return float(min(self.backoff_s * 2.0 ** (n_failed - 1), self.longest_wait_s) * jitter)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind a provider's error, if there is one."""
    for link in _causes(error):
        for holder in (link, getattr(link, "response", None)):
            for name in ("status_code", "http_status", "code"):
                status = getattr(holder, name, None)
                if isinstance(status, int) and 100 <= status < 600:
                    return status
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: clients wrap the network's own errors."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def retry_after_s(error: BaseException, now: float | None = None) -> float | None:
    """How long the provider asks to be left alone, from its `Retry-After` header.

    Args:
        error: A provider's error with a `response` that has `headers`.
        now: Unix time, for the header's date form; None: the clock's.
    """
    found = (getattr(getattr(link, "response", None), "headers", None) for link in _causes(error))
    headers = next((one for one in found if isinstance(one, Mapping)), None)
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
            seconds = _until(str(text), time.time() if now is None else now)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return math.nan


# Names, because the providers' client libraries need not be installed to be recognized.
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


def _named(error: BaseException, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def failure_kind(error: BaseException, *, started: bool = False) -> FailureKind:
    """How telemetry counts a failure.

    Args:
        error: What was raised.
        started: Whether a part of the answer had already arrived.
    """
    if started:
        return "cut"
    if isinstance(error, TimeoutError) or _named(error, _TIMEOUTS) or status_of(error) == 408:
        return "timeout"
    return "rate_limit" if status_of(error) == 429 else "error"


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    status = status_of(error)
    if status is not None:
        return status in (408, 409, 425, 429) or status >= 500
    return any(map(_is_broken, _causes(error)))


def _is_broken(error: BaseException) -> bool:
    declared = getattr(error, "is_retryable", None)
    if isinstance(declared, bool):
        return declared
    broken = ConnectionError | TimeoutError | EOFError
    return isinstance(error, broken) or _named(error, _BROKEN)


def is_hopeless(error: BaseException) -> bool:
    """Whether every further call would fail the same way: a wrong key, an unknown model."""
    return status_of(error) in (401, 402, 403, 404)


def is_callers_fault(error: BaseException) -> bool:
    """Whether the request itself was refused: no evidence against the endpoint."""
    return status_of(error) in (400, 413, 415, 422)


def may_be_billed(error: BaseException) -> bool:
    """Whether the provider may have answered, and charged, although the caller saw an error."""
    if status_of(error) is not None or isinstance(error, BulkheadFullError | DeadlineError):
        return False
    return not any(
        isinstance(link, ConnectionRefusedError) or _named(link, _NOT_REACHED)
        for link in _causes(error)
    )
