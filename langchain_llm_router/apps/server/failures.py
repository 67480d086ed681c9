"""Errors in OpenAI's form: the caller's are 4xx, a candidate's are 5xx or its own 4xx."""

from __future__ import annotations

import math

from langchain_llm_router.apps.server.bodies import SafeResponse
from langchain_llm_router.apps.server.openai_format import error_body
from langchain_llm_router.live.failure_rules import (
    BulkheadFullError,
    failure_kind,
    is_unreachable,
    retry_after_s,
    status_of,
)
from langchain_llm_router.types.errors import (
    LedgerError,
    LlmRouterError,
    NoCandidateError,
    candidate_of,
)
from langchain_llm_router.types.secrets import redact

__all__ = ["describe", "failure_response", "failure_status"]


def failure_status(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and OpenAI's type of an error.

    A `ValueError` is the caller's mistake unless a candidate, the estimator or the policy raised
    it: clients also raise one for a broken reply of the provider.
    """
    own = candidate_of(error) is None
    if isinstance(error, NoCandidateError) or (own and isinstance(error, ValueError | TypeError)):
        return 400, "invalid_request_error"
    if _is_about_content(error):
        return 400, "invalid_request_error"
    if isinstance(error, LedgerError):
        return 503, "server_error"
    if isinstance(error, BulkheadFullError):
        return 503, "upstream_error"
    status = status_of(error)
    if status is None or (status == 500 and is_unreachable(error)):
        status = 504 if failure_kind(error) == "timeout" else 502
    return status, "rate_limit_error" if status == 429 else "upstream_error"


def _is_about_content(error: Exception) -> bool:
    """Whether a client refused to send the request, because of a text or a parameter in it."""
    if isinstance(error, UnicodeEncodeError):
        # Half of a surrogate pair, as from a text that was cut in the middle of an emoji.
        return True
    return isinstance(error, TypeError) and "unexpected keyword argument" in str(error)


def failure_response(error: Exception, secrets: tuple[str, ...]) -> SafeResponse:
    """Return the response for an error, without keys, and with the provider's `Retry-After`."""
    status, kind = failure_status(error)
    wait_s = retry_after_s(error) if status in (429, 503) else None
    headers = None if wait_s is None else {"retry-after": str(math.ceil(wait_s))}
    return SafeResponse(error_body(describe(error, secrets), kind), status, headers=headers)


def describe(error: Exception, secrets: tuple[str, ...]) -> str:
    """Return an error's message without keys; one that is not ours begins with its class."""
    known = candidate_of(error) is None and isinstance(error, LlmRouterError | ValueError)
    return redact(str(error) if known else f"{type(error).__name__}: {error}", secrets)
