"""Errors in OpenAI's form: the caller's are 4xx, a candidate's are 5xx or its own 4xx."""

from __future__ import annotations

import math

from fastapi.responses import JSONResponse

from langchain_llm_router.apps.server.openai_format import error_body
from langchain_llm_router.live.failure_rules import BulkheadFullError, retry_after_s, status_of
from langchain_llm_router.types.errors import LlmRouterError, NoCandidateError, candidate_of
from langchain_llm_router.types.secrets import redact

__all__ = ["describe", "failure_response", "failure_status"]


def failure_status(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and OpenAI's type of an error.

    A `ValueError` is the caller's mistake unless a candidate raised it: clients also raise one for
    a broken reply of the provider.
    """
    own = candidate_of(error) is None
    if isinstance(error, NoCandidateError) or (own and isinstance(error, ValueError | TypeError)):
        return 400, "invalid_request_error"
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        # The client of the candidate does not know a parameter that was passed on.
        return 400, "invalid_request_error"
    status = status_of(error)
    if status is not None and 400 <= status < 600:
        return status, "rate_limit_error" if status == 429 else "upstream_error"
    if isinstance(error, BulkheadFullError):
        return 503, "upstream_error"
    return 504 if isinstance(error, TimeoutError) else 502, "upstream_error"


def failure_response(error: Exception, secrets: tuple[str, ...]) -> JSONResponse:
    """Return the response for an error, without keys, and with the provider's `Retry-After`."""
    status, kind = failure_status(error)
    wait_s = retry_after_s(error) if status in (429, 503) else None
    headers = None if wait_s is None else {"retry-after": str(math.ceil(wait_s))}
    return JSONResponse(error_body(describe(error, secrets), kind), status, headers=headers)


def describe(error: Exception, secrets: tuple[str, ...]) -> str:
    """Return an error's message without keys; one that is not ours begins with its class."""
    known = candidate_of(error) is None and isinstance(error, LlmRouterError | ValueError)
    return redact(str(error) if known else f"{type(error).__name__}: {error}", secrets)
