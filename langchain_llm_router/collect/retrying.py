"""Which failures of a model's endpoint pass by themselves, and how long to wait for that."""

from __future__ import annotations

from collections.abc import Iterator

import tenacity

from langchain_llm_router.resilience.rules import is_retryable

__all__ = ["is_hopeless", "is_transient", "retrying"]

_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_HOPELESS_STATUS = frozenset({401, 402, 403, 404})
_LONGEST_WAIT_S = 60.0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: providers wrap the network's own errors."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _status(error: BaseException) -> int | None:
    for link in _chain(error):
        for holder in (link, getattr(link, "response", None)):
            status = getattr(holder, "status_code", None)
            if isinstance(status, int):
                return status
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed later: rate limits, overload, lost connections."""
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    return any(is_retryable(link) for link in _chain(error))


def is_hopeless(error: BaseException) -> bool:
    """Whether every further call would fail the same way: a wrong key, a model unknown."""
    return _status(error) in _HOPELESS_STATUS


class _Wait(tenacity.wait.wait_base):
    """As long as the server's `Retry-After` says, else exponentially longer with jitter."""

    def __init__(self, first_s: float) -> None:
        self._backoff = tenacity.wait_random_exponential(multiplier=first_s, max=_LONGEST_WAIT_S)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        headers = getattr(getattr(error, "response", None), "headers", None)
        asked = None if headers is None else headers.get("retry-after")
        if asked is not None and str(asked).replace(".", "", 1).isdigit():
            return min(float(asked), _LONGEST_WAIT_S)
        return self._backoff(retry_state)


def retrying(attempts: int, first_wait_s: float) -> tenacity.AsyncRetrying:
    """Attempts at a call, with waits in between, for as long as its failures are transient."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=_Wait(first_wait_s),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )
