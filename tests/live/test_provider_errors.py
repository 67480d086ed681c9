"""What a provider's error means: its status, when to retry, whether the prompt was too long."""

import time
from email.message import Message
from email.utils import formatdate
from enum import Enum

import pytest

from langchain_llm_router.collect.retries import retry_attempts
from langchain_llm_router.live.failure_rules import (
    failure_kind,
    is_callers_fault,
    is_context_length,
    is_hopeless,
    is_retryable,
    may_be_billed,
    retry_after_s,
    status_of,
)


class ClientError(Exception):
    """Like botocore's: its response is a dict."""

    def __init__(self, code, status=None, headers=None, message="no"):
        super().__init__(f"An error occurred ({code}) when calling Converse: {message}")
        self.response = {"Error": {"Code": code, "Message": message}}
        if status is not None:
            self.response["ResponseMetadata"] = {
                "HTTPStatusCode": status,
                "HTTPHeaders": headers or {},
            }


class Grpc(Enum):
    RESOURCE_EXHAUSTED = 8
    UNAVAILABLE = 14


class RpcError(Exception):
    """Like gRPC's: its code is a method."""

    def __init__(self, code):
        super().__init__(code.name)
        self.code = lambda: code


class HttpError(Exception):
    """Like OpenAI's and Anthropic's."""

    def __init__(self, status=None, headers=None, message="no", body=None):
        super().__init__(message)
        self.status_code, self.body = status, body
        self.response = type("Response", (), {"headers": headers or {}, "status_code": status})()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClientError("ThrottlingException", 429), 429),
        (ClientError("ThrottlingException"), 429),
        (ClientError("throttlingException", 200), 429),
        (ClientError("TooManyRequestsException"), 429),
        (ClientError("ServiceQuotaExceededException"), 429),
        (ClientError("ModelNotReadyException"), 429),
        (ClientError("ServiceUnavailableException"), 503),
        (ClientError("InternalServerException"), 500),
        (ClientError("ModelStreamErrorException"), 500),
        (ClientError("ModelTimeoutException"), 408),
        (ClientError("ValidationException"), 400),
        (ClientError("AccessDeniedException"), 403),
        (ClientError("ExpiredTokenException"), 401),
        (RpcError(Grpc.RESOURCE_EXHAUSTED), 429),
        (RpcError(Grpc.UNAVAILABLE), 503),
        (type("ResourceExhausted", (Exception,), {})("quota"), 429),
        (type("ServiceUnavailable", (Exception,), {"code": 503})(), 503),
        (HttpError(None, body={"type": "error", "error": {"type": "overloaded_error"}}), 503),
        (HttpError(429, body={"code": "insufficient_quota"}), 402),
        (HttpError(418), 418),
        (PermissionError(13, "a local file"), None),
        (ValueError("a bug"), None),
        (ClientError("ThrottlingException", 400), 429),
        (ClientError("ServiceQuotaExceededException", 400), 429),
        (ClientError("ModelErrorException", 424), 500),
        (ClientError("ModelStreamErrorException", 424), 500),
        (ClientError("ValidationException", 400), 400),
        (HttpError(None, body={"message": "Provider returned error", "code": 429}), 429),
        (HttpError(None, body={"error": {"code": 502}}), 502),
        (HttpError(None, body={"error": {"code": "503"}}), 503),
        (HttpError("429"), 429),
        (HttpError(None, body={"error": {"type": "engine_overloaded_error"}}), 429),
        (HttpError(None, body={"code": "service_tier_capacity_exceeded"}), 429),
        (HttpError(None, body={"code": "Throttling.RateQuota"}), 429),
        (HttpError(429, body={"error": {"type": "exceeded_current_quota_error"}}), 402),
        (HttpError(None, body={"error": {"code": "server_is_overloaded"}}), 503),
        (HttpError(None, body={"code": "3505"}), None),
    ],
)
def test_an_error_has_the_status_that_its_code_stands_for(error, status):
    assert status_of(error) == status


def test_a_throttled_call_is_retried_counts_as_rate_limit_and_costs_nothing():
    error = RuntimeError("wrapped by a client")
    error.__cause__ = ClientError("ThrottlingException")
    assert is_retryable(error)
    assert failure_kind(error) == "rate_limit"
    assert not is_callers_fault(error)
    assert not is_hopeless(error)
    assert not may_be_billed(error)


def test_an_empty_account_is_hopeless_although_it_comes_as_a_rate_limit():
    error = HttpError(429, body={"code": "insufficient_quota"})
    assert is_hopeless(error)
    assert not is_retryable(error)


NOW = 1_800_000_000.0
FORM = Message()
FORM["Retry-After"] = "20"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (HttpError(429, {"Retry-After": "20"}), 20),
        (HttpError(429, {"retry-after": "1.5"}), 1.5),
        (HttpError(429, {"retry-after": 7}), 7),
        (HttpError(429, {b"Retry-After": b"20"}), 20),
        (HttpError(429, [("Retry-After", "20")]), 20),
        (HttpError(429, {"retry-after-ms": "250"}), 0.25),
        (HttpError(429, {"x-ms-retry-after-ms": "250"}), 0.25),
        (HttpError(429, {"Retry-After": "20s"}), 20),
        (HttpError(429, {"Retry-After": "1m30s"}), 90),
        (HttpError(429, {"Retry-After": "500ms"}), 0.5),
        (HttpError(429, {"Retry-After": formatdate(NOW + 30, usegmt=True)}), 30),
        (HttpError(429, {"Retry-After": "2027-01-15T08:00:30Z"}), 30),
        (HttpError(429, {"Retry-After": str(int(NOW + 30))}), 30),
        (HttpError(429, {"Retry-After": formatdate(NOW - 30, usegmt=True)}), 0),
        (HttpError(429, {"Retry-After": "-5"}), 0),
        (HttpError(429, {"Retry-After": "soon"}), None),
        (HttpError(429, {"Retry-After": "nan"}), None),
        (ClientError("ThrottlingException", 429, {"retry-after": "3"}), 3),
        (HttpError(429, message="Rate limit reached. Please try again in 1.2s."), 1.2),
        (HttpError(429, message="Please try again in 6m0s. Visit us."), 360),
        (HttpError(429, message="Please retry after 30 seconds."), 30),
        (HttpError(429, message="Quota exceeded. Please retry in 37.9s."), 37.9),
        (HttpError(429, message="... {'@type': 'RetryInfo', 'retryDelay': '37s'}"), 37),
        (HttpError(429, message="retry_delay {\n  seconds: 37\n}"), 37),
        (HttpError(429, body={"error": {"details": [{}, {"retryDelay": "37s"}]}}), 37),
        (HttpError(429, FORM), 20),
        (HttpError(429, {"Retry-After": "20, 20"}), 20),
        (HttpError(429, {"Retry-After": ["20"]}), 20),
        (HttpError(429, {"Retry-After": "PT1M30S"}), 90),
        (HttpError(429, {"Retry-After": "PT"}), None),
        (HttpError(429, {"Retry-After": str(int(NOW + 30) * 1000)}), 30),
        (
            HttpError(429, {"x-ratelimit-reset-tokens": "2s", "x-ratelimit-remaining-tokens": "0"}),
            2,
        ),
        (
            HttpError(429, {"x-ratelimit-reset-tokens": "2s", "x-ratelimit-remaining-tokens": "9"}),
            None,
        ),
        (
            HttpError(
                429, {"X-RateLimit-Reset": str(int(NOW + 30) * 1000), "X-RateLimit-Remaining": "0"}
            ),
            30,
        ),
        (
            HttpError(
                429,
                {
                    "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
                    "anthropic-ratelimit-requests-remaining": "0",
                },
            ),
            30,
        ),
        (HttpError(429, body={"error": {"retry_after": 5}}), 5),
        (HttpError(429, body={"error": {"metadata": {"headers": {"Retry-After": "9"}}}}), 9),
        (HttpError(429, body={"retry_after_ms": 500}), 0.5),
        (HttpError(429, message="Please wait 20 seconds before the next request."), 20),
        (HttpError(429, message='{"error": "slow down", "retry_after": 6.5}'), 6.5),
        (HttpError(429, message="Retry-After: 20"), 20),
        (HttpError(429), None),
        (ValueError("I waited for 5 minutes in the rain"), None),
    ],
)
def test_a_provider_says_in_every_form_how_long_to_wait(error, seconds):
    found = retry_after_s(error, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease "
        "input length, maximum context limit",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input is too long for requested model.",
        "too many tokens: size limit exceeded by 20 tokens",
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        "the request exceeds the available context size",
        "Requested tokens (5000) exceed context window of 2048",
        "Please reduce the length of the messages or completion.",
        "`inputs` tokens + `max_new_tokens` must be <= 4096",
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "Range of input length should be [1, 30720]",
        "Your request exceeded model token limit: 8192",
        "Prompt exceeds max length",
        "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model",
        "prompt token count of 90000 exceeds the limit of 64000",
        "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        "Prompt length 5000 is greater than max_seq_len",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 500, None])
def test_a_prompt_that_is_too_long_is_not_retried_and_is_the_callers_fault(message, status):
    error = HttpError(status, message=message)
    assert is_context_length(error)
    assert not is_retryable(error)
    assert is_callers_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        ClientError("ThrottlingException", 429, message="Too many tokens, please wait."),
        HttpError(429, message="Rate limit reached: too many tokens per min"),
        HttpError(400, message="max_tokens is too large: 5000"),
        HttpError(403, message="Token limit exceeded: your plan has 1000 a day"),
        HttpError(400, message="Invalid 'user': string too long, at most 64 characters"),
        TimeoutError("late"),
    ],
)
def test_other_errors_are_not_taken_for_a_prompt_that_is_too_long(error):
    assert not is_context_length(error)


@pytest.mark.parametrize(
    "code", ["context_length_exceeded", "prompt_too_long", "model_max_prompt_tokens_exceeded"]
)
def test_a_code_says_too_that_a_prompt_is_too_long(code):
    assert is_context_length(HttpError(400, body={"error": {"code": code}}))


def test_a_broken_stream_may_be_tried_again():
    for name in ("ServerDisconnectedError", "EventStreamError", "ClientOSError", "SSEError"):
        assert is_retryable(type(name, (Exception,), {})("closed"))


@pytest.mark.parametrize(
    "part", ["wait 1 s ", "retry_after:", "again in 1", "retry ", "1s ", "context ", "retry_delay "]
)
def test_a_long_message_is_read_in_linear_time(part):
    started = time.process_time()
    error = HttpError(429, message=part * 40_000)
    retry_after_s(error)
    is_context_length(error)
    assert time.process_time() - started < 1


async def test_collect_retries_by_the_same_rules():
    calls = []

    async def collect():
        async for attempt in retry_attempts(3, 0.001):
            with attempt:
                calls.append(1)
                raise ClientError("ThrottlingException")

    with pytest.raises(ClientError):
        await collect()
    assert len(calls) == 3
