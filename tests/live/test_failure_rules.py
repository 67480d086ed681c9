"""What a failure means, and the rules that follow from it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from langchain_llm_router.live import (
    BulkheadFullError,
    Resilience,
    failure_kind,
    is_callers_fault,
    is_retryable,
    may_be_billed,
    retry_after_s,
    status_of,
)
from langchain_llm_router.live.live import Live
from tests.support.asking import ask, router
from tests.support.fakes import ProviderError, TimedModel


def test_rules_may_differ_per_candidate_and_strangers_are_refused():
    slow = TimedModel("late but fine", delays=[0.2])
    patient = {"first": Resilience(timeout_s=5)}
    content, _ = ask(router(slow, timeout_s=0.05, per_candidate=patient), "invoke")
    assert content == "late but fine"
    with pytest.raises(ValueError, match=r"Unknown candidates \['third'\]"):
        router(slow, per_candidate={"third": Resilience()})


@pytest.mark.parametrize(
    ("error", "kind", "retry", "billed", "status"),
    [
        (ProviderError(429), "rate_limit", True, False, 429),
        (ProviderError(503), "error", True, True, 503),
        (ProviderError(401), "error", False, False, 401),
        (ProviderError(408), "timeout", True, True, 408),
        (TimeoutError(), "timeout", True, True, None),
        (httpx.ReadTimeout("x"), "timeout", True, True, None),
        (httpx.ConnectError("x"), "error", True, False, None),
        (ConnectionRefusedError("x"), "error", True, False, None),
        (ConnectionResetError("x"), "error", True, True, None),
        (httpx.RemoteProtocolError("x"), "error", True, True, None),
        (ValueError("garbage"), "error", False, True, None),
        (BulkheadFullError("x"), "error", False, False, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_a_failure_means(error, kind, retry, billed, status):
    assert failure_kind(error) == kind
    assert failure_kind(error, started=True) == "cut"
    assert is_retryable(error) is retry
    assert may_be_billed(error) is billed
    assert status_of(error) == status


def test_a_refused_request_is_the_callers_fault():
    assert is_callers_fault(ProviderError(400))
    assert not is_callers_fault(ProviderError(500))


def test_a_connection_never_made_was_not_billed_however_deep_it_is_wrapped():
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = httpx.ConnectError("refused")
    assert not may_be_billed(wrapped)


def test_retry_after_comes_in_seconds_milliseconds_and_dates():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after_s(ProviderError(429, Retry_After="7")) == 7.0
    assert retry_after_s(ProviderError(429, retry_after_ms="250", retry_after="1")) == 0.25
    assert retry_after_s(ProviderError(429, retry_after=later), now.timestamp()) == 90.0
    assert retry_after_s(ProviderError(429, retry_after="-3")) == 0.0
    for nonsense in ("soon", "nan", "inf", ""):
        assert retry_after_s(ProviderError(429, retry_after=nonsense)) is None
    assert retry_after_s(ProviderError(429)) is None
    assert retry_after_s(ValueError()) is None
    response = httpx.Response(429, headers={"Retry-After": "3"})
    error = httpx.HTTPStatusError("x", request=httpx.Request("GET", "http://x"), response=response)
    assert retry_after_s(error) == 3.0


@pytest.mark.parametrize(
    "kwargs",
    [{"timeout_s": 0}, {"first_token_timeout_s": -1}, {"retries": -1}, {"hedge_after": 1.0},
     {"max_concurrent": 0}, {"queue_s": float("inf")}],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Resilience(**kwargs)


def test_a_deadline_must_be_positive():
    with pytest.raises(ValueError, match="deadline_s"):
        Live(deadline_s=0)
