"""The retries of `collect` and their waits; `live.failure_rules` defines the retryable errors."""

from __future__ import annotations

import tenacity

from langchain_llm_router.live.failure_rules import is_retryable, retry_after_s
from langchain_llm_router.types import Attempt
from langchain_llm_router.types.answers import flaw_kind
from langchain_llm_router.types.errors import LlmRouterError

__all__ = ["HalfAnswerError", "check_whole", "is_worth_another_attempt", "retry_attempts"]

_MAX_WAIT_S = 60.0


class HalfAnswerError(LlmRouterError):
    """Raised when a provider failed within its answer, or its stream ended early."""

    is_retryable = True


def check_whole(answered: Attempt, *, last: bool) -> None:
    """Refuse half an answer, which would be graded as the candidate's whole one.

    Args:
        answered: The attempt of the answer.
        last: Whether no other call may follow. Then a missing finish reason is only a flaw,
            because some servers never send one.

    Raises:
        HalfAnswerError: If it is half an answer.
    """
    flaw = answered.get("flaw") or ""
    kind = flaw_kind(flaw)
    if kind == "provider_error" or (kind == "no_finish_reason" and not last):
        msg = f"{answered['candidate']!r} gave half an answer: {flaw}."
        raise HalfAnswerError(msg)


class _BackoffWait(tenacity.wait.wait_base):
    """The wait of a server's `Retry-After`, or else an exponential backoff with jitter."""

    def __init__(self, first_s: float) -> None:
        self._backoff = tenacity.wait_random_exponential(multiplier=first_s, max=_MAX_WAIT_S)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        if error is not None and _is_of_a_closed_loop(error):
            return 0.0
        wait_s = None if error is None else retry_after_s(error)
        return self._backoff(retry_state) if wait_s is None else min(wait_s, _MAX_WAIT_S)


def is_worth_another_attempt(error: BaseException) -> bool:
    """Return whether a failure is retryable, or that of a connection of a closed event loop.

    `acollect` runs in the caller's loop, and clients share connections between loops.
    """
    return is_retryable(error) or _is_of_a_closed_loop(error)


def _is_of_a_closed_loop(error: BaseException) -> bool:
    return "Event loop is closed" in (str(error), str(error.__cause__))


def retry_attempts(attempts: int, first_wait_s: float) -> tenacity.AsyncRetrying:
    """Iterate over the attempts at a call, waiting in between, while failures are retryable."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_worth_another_attempt),
        wait=_BackoffWait(first_wait_s),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )
