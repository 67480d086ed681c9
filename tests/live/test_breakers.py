"""Breakers: when an endpoint is left alone, and when it is tried again."""

from langchain_llm_router.live.breakers import Breaker, Breaking
from tests.support.timed_calls import make


def test_a_breaker_opens_probes_and_closes():
    telemetry, clock = make(breaking=Breaking(failures_in_a_row=3, open_s=5))
    for _ in range(3):
        telemetry.began("a").failed("error")
    assert telemetry.look(["a"])["a"].breaker == "open"
    assert not telemetry.look(["a"])["a"].available
    clock.wait(5.1)
    half = telemetry.look(["a"])["a"]
    assert (half.breaker, half.available, half.probe) == ("half_open", True, True)
    probe = telemetry.began("a")
    assert not telemetry.look(["a"])["a"].available
    probe.failed("error")
    clock.wait(9.9)
    assert telemetry.look(["a"])["a"].breaker == "open"
    clock.wait(0.2)
    telemetry.began("a").answered(5)
    assert telemetry.look(["a"])["a"].breaker == "closed"


def test_a_provider_that_asks_to_be_left_alone_is():
    telemetry, clock = make()
    late = telemetry.began("a")
    telemetry.began("a").failed("rate_limit", retry_after_s=7)
    late.answered(5)
    clock.wait(6.9)
    assert not telemetry.look(["a"])["a"].available
    clock.wait(0.2)
    assert telemetry.look(["a"])["a"].available


def test_a_huge_retry_after_does_not_close_the_door_for_ever():
    telemetry, clock = make(breaking=Breaking(longest_open_s=60))
    telemetry.began("a").failed("rate_limit", retry_after_s=1e9)
    clock.wait(61)
    assert telemetry.look(["a"])["a"].available


def test_a_high_failure_rate_opens_a_breaker_without_a_row():
    telemetry, _ = make(breaking=Breaking(failures_in_a_row=100, failure_rate=0.5, least_calls=10))
    for i in range(30):
        live = telemetry.began("a")
        live.failed("error") if i % 3 else live.answered(1)
    assert telemetry.look(["a"])["a"].breaker == "open"


def test_a_probe_that_never_reports_frees_the_door_in_the_end():
    breaker = Breaker(Breaking(failures_in_a_row=1, open_s=1, longest_open_s=10))
    breaker.failed(0.0, 1.0, 1.0, None)
    breaker.began(2.0)
    assert not breaker.admits(5.0)
    assert breaker.admits(12.1)
