"""Classification of failures, and the rules for retries and hedging; no I/O."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_llm_router.live.measurements import FailureKind
from langchain_llm_router.live.retry_after import wait_s
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.candidates import Candidate
from langchain_llm_router.types.errors import (
    DeadlineError,
    EffortRefusedError,
    LlmRouterError,
    NoCandidateError,
)

__all__ = [
    "BulkheadFullError",
    "DeadlineError",
    "Resilience",
    "failure_kind",
    "is_callers_fault",
    "is_context_length",
    "is_hopeless",
    "is_retryable",
    "is_unreachable",
    "may_be_billed",
    "refused_effort",
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


# Codes of AWS, Google (gRPC), Anthropic and OpenAI, without case, separators and a last "exception"
# or "error", and the HTTP status that they stand for.
_CODES = {
    400: "validation invalidargument invalidrequest failedprecondition outofrange badrequest "
    "contextlengthexceeded contextoverflow exceedcontextsize",
    401: "unauthenticated authentication unrecognizedclient expiredtoken invalidsignature "
    "invalidclienttokenid invalidapikey incompletesignature nocredentials credentials",
    402: "insufficientquota billingnotactive billing insufficientcredits insufficientbalance "
    "exceededcurrentquota arrearage",
    403: "accessdenied permissiondenied permission",
    404: "resourcenotfound notfound modelnotfound",
    408: "modeltimeout requesttimeout",
    409: "aborted",
    429: "throttling throttled throttledexception toomanyrequests requestlimitexceeded slowdown "
    "provisionedthroughputexceeded servicequotaexceeded limitexceeded requestthrottled "
    "modelnotready resourceexhausted ratelimit ratelimitexceeded modelratelimit "
    "bandwidthlimitexceeded ratelimitreached limitrequests throttlingratequota engineoverloaded "
    "throttlingallocationquota servicetiercapacityexceeded",
    500: "internalserver internalfailure internal server api model modelstream dataloss modelapi",
    503: "serviceunavailable unavailable overloaded servicetemporarilyunavailable "
    "serverisoverloaded serveroverloaded",
    504: "deadlineexceeded gatewaytimeout",
}
# pydantic's `ValidationError` is about a broken reply, and not AWS's about a request.
_OTHERS_CLASSES = ("builtins", "pydantic_core._pydantic_core")
_STATUS = {code: status for status, codes in _CODES.items() for code in codes.split()}
_MAX_CHARS = 4000
"""Number of characters of an error's message that are read."""

_SEPARATORS = re.compile(r"[^a-z0-9]")
_NUMBER = re.compile(r"[45][0-9]{2}")

_TOO_LONG = (
    "context length",
    "context limit",
    "context window",
    "context size",
    "context_length",
    "maximum context",
    "prompt is too long",
    "prompt too long",
    "prompt exceeds max",
    "prompt token count",
    "prompt length",
    "prompt is longer",
    "prompts of at most",
    "input is too long",
    "input too long",
    "input length",
    "input token length",
    "input tokens exceeded",
    "input token count",
    "maximum prompt length",
    "maximum input length",
    "max input length",
    "maximum model length",
    "maximum number of tokens",
    "max tokens allowed",
    "max message tokens",
    "max_seq_len",
    "model token limit",
    "number of input tokens",
    "request body too large",
    "too many tokens",
    "too many input tokens",
    "token limit exceeded",
    "reduce the length of",
    "`inputs` must have less than",
    "`inputs` tokens + `max_new_tokens`",
    "max_model_len",
)
_TOO_LONG_CODES = frozenset(
    {
        "contextlengthexceeded",
        "contextoverflow",
        "contextwindowexceeded",
        "exceedcontextsize",
        "maxcontextlengthexceeded",
        "modelmaxprompttokensexceeded",
        "prompttoolong",
        "tokenslimitreached",
    }
)


def _iter_causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, because clients wrap network errors."""
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a provider's error; None if there is none.

    An error with a code in place of a status, as AWS and Google have them, has the status that the
    code stands for.
    """
    for link in _iter_causes(error):
        words = [_STATUS.get(code) for code in _codes(link)]
        if 402 in words:
            # OpenAI reports an empty account as 429, although no retry helps.
            return 402
        numbers = [*_numbers(link), *(status for status in words if status is not None)]
        if numbers:
            said = _STATUS.get(_plain(_get(_get(getattr(link, "response", None), "Error"), "Code")))
            # AWS reports throttling as 400 and a failed model as 424.
            return said if said is not None and numbers[0] in (400, 424) else numbers[0]
    return None


def _numbers(error: BaseException) -> Iterator[int]:
    response, body = getattr(error, "response", None), getattr(error, "body", None)
    metadata = _get(response, "ResponseMetadata")
    values = [_get(metadata, "HTTPStatusCode")]
    for holder in (error, response):
        names = ("status_code", "statusCode", "http_status", "http_code", "code", "status")
        values += [getattr(holder, name, None) for name in names]
    for part in (body, _get(body, "error"), getattr(error, "error", None)):
        values += [_get(part, name) for name in ("status_code", "code", "status")]
    for value in values:
        number = int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, int) and 400 <= number < 600:
            yield int(number)


def _codes(error: BaseException) -> Iterator[str]:
    """Iterate over the codes of an error, without case, separators, "exception" and "error"."""
    body = getattr(error, "body", None)
    response = getattr(error, "response", None)
    holders = [_get(response, "Error"), body, _get(body, "error"), getattr(error, "error", None)]
    values = [
        _get(holder, name) for holder in holders for name in ("Code", "code", "type", "status")
    ]
    for name in ("code", "type", "status", "grpc_status_code"):
        value = getattr(error, name, None)
        # The code of gRPC's errors is a method.
        values.append(_call(value) if callable(value) and name == "code" else value)
    values += [k.__name__ for k in type(error).__mro__ if k.__module__ not in _OTHERS_CLASSES]
    for value in values:
        plain = _plain(getattr(value, "name", value))
        if plain:
            yield plain


def _plain(word: Any) -> str:
    """Return a code without case, separators, "exception" and "error"; "" if it is no text."""
    if not isinstance(word, str):
        return ""
    plain = _SEPARATORS.sub("", word[:100].casefold())
    return plain.removesuffix("exception").removesuffix("error")


def _call(method: Any) -> Any:
    try:
        return method()
    except Exception:  # noqa: BLE001 - the method of an unknown class; then there is no code
        return None


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


def is_context_length(error: BaseException) -> bool:
    """Return whether the prompt was longer than what the model accepts.

    The same call would fail again, and a model with a larger context window may answer.
    """
    limited = status_of(error) in (402, 403, 429)
    for link in _iter_causes(error):
        codes = set(_codes(link))
        if not codes.isdisjoint(_TOO_LONG_CODES):
            return True
        text = str(link)[:_MAX_CHARS].casefold()
        # A rate limit that is smaller than the request; other limits speak of tokens too.
        if "request too large" in text:
            return True
        if not limited and any(phrase in text for phrase in _TOO_LONG):
            return True
    return False


def retry_after_s(error: BaseException, now: float | None = None) -> float | None:
    """Return the seconds that a provider asks to wait, in whatever form; None if it does not say.

    Args:
        error: A provider's error.
        now: Unix time, for dates; if None, that of the clock.
    """
    return wait_s(_iter_causes(error), now)


# Classes are compared by name, because the providers' client libraries need not be installed.
_NOT_REACHED = (
    "ClientConnectorError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "EndpointConnectionError",
    "InvalidURL",
    "LocalProtocolError",
    "NameResolutionError",
    "NewConnectionError",
    "PoolTimeout",
    "ProxyError",
    "SSLCertVerificationError",
    "UnsupportedProtocol",
    "gaierror",
)
_BROKEN = (
    *_NOT_REACHED,
    "APIConnectionError",
    "APITimeoutError",
    "ChunkedEncodingError",
    "ClientConnectionError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "EventStreamError",
    "IncompleteRead",
    "ProtocolError",
    "ReadError",
    "ReadTimeout",
    "ReadTimeoutError",
    "RemoteProtocolError",
    "ResponseStreamingError",
    "SSEError",
    "ServerDisconnectedError",
    "Timeout",
    "WriteError",
    "WriteTimeout",
)
_TIMEOUTS = (
    "APITimeoutError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "PoolTimeout",
    "ReadTimeout",
    "ReadTimeoutError",
    "ServerTimeoutError",
    "Timeout",
    "WriteTimeout",
)


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
    if is_context_length(error):
        return False
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


def is_unreachable(error: BaseException) -> bool:
    """Return whether there was no answer: no connection, a broken one, or no time left."""
    broken = ConnectionError | TimeoutError
    return any(isinstance(e, broken) or _has_name(e, _BROKEN) for e in _iter_causes(error))


def is_hopeless(error: BaseException) -> bool:
    """Return whether all further calls would fail too, e.g. a wrong key or an unknown model."""
    return isinstance(error, EffortRefusedError) or status_of(error) in (401, 402, 403, 404)


_EFFORT_WORDS = ("reasoning_effort", "reasoning.effort", "effort", "thinking", "budget_tokens")


def refused_effort(candidate: Candidate, error: Exception) -> EffortRefusedError | None:
    """Return the error for a call that was refused for its candidate's effort; None for others."""
    if candidate.effort is None or status_of(error) not in (400, 422):
        return None
    if isinstance(error, EffortRefusedError) or is_context_length(error):
        return None
    text = str(error)[:_MAX_CHARS].casefold()
    if not any(word in text for word in _EFFORT_WORDS):
        return None
    return EffortRefusedError(candidate.name, candidate.effort, error)


def is_callers_fault(error: BaseException) -> bool:
    """Return whether the request was refused, which is no evidence against the endpoint."""
    if isinstance(error, UnicodeEncodeError):
        # Half of a surrogate pair in a text, which no client can send.
        return True
    return status_of(error) in (400, 413, 415, 422) or is_context_length(error)


# Statuses below 500 that say nothing about whether an answer was made: the time was up, or the
# caller had left.
_UNSURE = (408, 499)
_RACES = "/langchain_llm_router/live/races.py"
# Functions in which clients wait for a connection: nothing has been sent yet.
_CONNECTING = frozenset(
    {
        "_connect",
        "connect_tcp",
        "connect_unix_socket",
        "create_connection",
        "getaddrinfo",
        "open_connection",
        "start_tls",
        "wait_for_connection",
    }
)


def may_be_billed(error: BaseException) -> bool:
    """Return whether the provider may have charged for the call although it failed.

    A call that was refused (4xx) or never sent costs nothing. After a server error (5xx), a timeout
    or a cut connection an answer may have been made; so may one after a cancellation, unless the
    client was still waiting for its connection.
    """
    if isinstance(error, BulkheadFullError | DeadlineError | NoCandidateError):
        return False
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in _UNSURE
    return not any(
        isinstance(link, ConnectionRefusedError)
        or _has_name(link, _NOT_REACHED)
        or _was_connecting(link)
        for link in _iter_causes(error)
    )


def _was_connecting(error: BaseException) -> bool:
    """Whether an error was raised before its client had a connection to send the call on."""
    connecting, trace = False, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        path = code.co_filename.replace("\\", "/")
        if "/langchain_core/callbacks/" in path:
            # A callback handler of the answer, which may open a connection of its own.
            return False
        # The clients of OpenAI and Anthropic look up the platform in a thread first.
        connecting |= code.co_name in _CONNECTING or path.endswith("/_utils/_sync.py")
        if trace.tb_next is None and isinstance(error, asyncio.CancelledError):
            # Cancelled in its first line: the coroutine that makes the call had not begun.
            makes_call = "/langchain_core/language_models/" in path or path.endswith(_RACES)
            connecting |= makes_call and trace.tb_lineno == code.co_firstlineno
        trace = trace.tb_next
    return connecting
