"""How often `collect` retries and how long it waits; `live.failure_rules` says on which errors."""

from __future__ import annotations

import tenacity

from langchain_llm_router.live.failure_rules import is_retryable, retry_after_s

__all__ = ["retrying"]

_LONGEST_WAIT_S = 60.0


class _Wait(tenacity.wait.wait_base):
    """As long as the server's `Retry-After` says, else exponentially longer with jitter."""

    def __init__(self, first_s: float) -> None:
        self._backoff = tenacity.wait_random_exponential(multiplier=first_s, max=_LONGEST_WAIT_S)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        asked_s = None if error is None else retry_after_s(error)
        return self._backoff(retry_state) if asked_s is None else min(asked_s, _LONGEST_WAIT_S)


def retrying(attempts: int, first_wait_s: float) -> tenacity.AsyncRetrying:
    """Attempts at a call, with waits in between, while its failures are retryable."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_retryable),
        wait=_Wait(first_wait_s),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )
