"""Clocks that jump: breakers, probes and statistics recover within their own times."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.live.breakers import Breaker, Breaking
from langchain_llm_router.live.shared_telemetry import SharedTelemetry
from langchain_llm_router.live.telemetry import Telemetry
from langchain_llm_router.types.steady_clock import SteadyClock

DAY = 86_400.0
jumps = st.floats(-400 * DAY, 400 * DAY)


@given(jumps, st.sampled_from(["open", "probing"]))
def test_a_breaker_is_shut_for_minutes_and_not_for_days_whatever_the_clock_does(jump, before):
    rules, now = Breaking(failures_in_a_row=1), 1e9
    breaker = Breaker(rules)
    breaker.failed(now, 1.0, 1.0, None)
    if before == "probing":
        now += rules.longest_open_s
        assert breaker.admits(now)
        breaker.began(now)
    now += jump
    breaker.admits(now)
    assert breaker.admits(now + 2 * rules.longest_open_s + 1)
    breaker.failed(now, 1.0, 1.0, 3 * DAY)
    assert breaker.open_until_s <= now + rules.longest_open_s


@given(jumps)
def test_an_arm_is_probed_again_soon_after_the_clock_was_set(jump):
    now = [1e9]
    telemetry = Telemetry(clock=lambda: now[0])
    telemetry.began("a").answered(10)
    now[0] += jump
    telemetry.look(["a"])
    now[0] += 2 * telemetry.probe_every_s + 1
    assert telemetry.look(["a"])["a"].probe


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_failures_are_forgotten_in_time_after_the_clock_was_set(jump):
    now = [1e9]
    telemetry = Telemetry(clock=lambda: now[0])
    for _ in range(30):
        now[0] += 1
        telemetry.began("a").failed("error")
    assert telemetry.look(["a"])["a"].error_rate > 0.9
    now[0] += jump
    for _ in range(5):
        now[0] += 120
        call = telemetry.began("a", streamed=True)
        now[0] += 0.5
        call.got_first_token()
        call.answered(10)
    stats = telemetry.look(["a"])["a"]
    assert stats.error_rate < 0.3
    assert stats.breaker == "closed"
    assert stats.ttft_s == pytest.approx(0.5, rel=0.3)


@given(jumps)
def test_a_step_of_the_wall_clock_during_a_call_is_no_latency(jump):
    wall, steady = [1e9], [0.0]
    telemetry = Telemetry(clock=SteadyClock(lambda: wall[0], lambda: steady[0]))
    call = telemetry.began("a", streamed=True)
    wall[0] += jump
    for clock in (wall, steady):
        clock[0] += 0.5
    call.got_first_token()
    for clock in (wall, steady):
        clock[0] += 1.0
    call.answered(11)
    stats = telemetry.look(["a"])["a"]
    assert stats.ttft_s == pytest.approx(0.5, abs=1.01)
    assert telemetry.report()["a"]["latency_p95_s"] < 3


def test_the_default_clock_of_telemetry_does_not_jump(monkeypatch):
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    telemetry = Telemetry()
    before = telemetry.clock()
    offset[0] = -DAY
    assert telemetry.clock() - before == pytest.approx(0.0, abs=5.0)


@pytest.mark.parametrize(
    ("age_s", "fresh"), [(5.0, True), (-5.0, True), (DAY, False), (-DAY, False)]
)
def test_statistics_from_another_day_do_not_count(age_s, fresh):
    shared = SharedTelemetry(Telemetry(), "redis://127.0.0.1:1")
    entry = {"at_s": time.time() - age_s, "state": Telemetry().state()}
    states, stale = shared._read({b"other": json.dumps(entry).encode()})
    assert (len(states), stale) == ((1, []) if fresh else (0, [b"other"]))
