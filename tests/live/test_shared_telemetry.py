"""Live numbers that processes share through a real Redis."""

import time

import pytest

from langchain_llm_router.live import Telemetry
from langchain_llm_router.live.shared_telemetry import SharedTelemetry, connect
from tests.support.timed_calls import call, make


def test_what_other_processes_measured_counts_too():
    here, clock = make()
    there = Telemetry(clock=clock)
    for _ in range(16):
        call(here, clock, ttft=0.1)
        call(there, clock, ttft=1.0)
    here.take_in_others([there.state()])
    assert 0.2 < here.look(["a"])["a"].ttft_s < 0.5
    here.take_in_others([])
    assert here.look(["a"])["a"].ttft_s == pytest.approx(0.1, rel=0.1)


def test_a_door_that_others_found_closed_is_closed_here_until_its_time_is_up():
    here, clock = make()
    there = Telemetry(clock=clock)
    call(here, clock)
    there.began("a").failed("rate_limit", retry_after_s=5)
    here.take_in_others([there.state()])
    assert not here.look(["a"])["a"].available
    clock.wait(5.1)
    assert here.look(["a"])["a"].available


def test_workers_see_each_other_through_redis_within_an_interval(redis_server):
    first, second = Telemetry(), Telemetry()
    with (
        SharedTelemetry(first, redis_server.url, every_s=0.05),
        SharedTelemetry(second, redis_server.url, every_s=0.05),
    ):
        first.began("a").failed("rate_limit", retry_after_s=30)
        assert second.look(["a"])["a"].available
        until = time.monotonic() + 5
        while second.look(["a"])["a"].available and time.monotonic() < until:
            time.sleep(0.02)
        assert not second.look(["a"])["a"].available


def test_redis_killed_and_back_changes_nothing_but_what_others_say(redis_server):
    here, there = Telemetry(), Telemetry()
    with (
        SharedTelemetry(here, redis_server.url, every_s=30) as mine,
        SharedTelemetry(there, redis_server.url, every_s=30) as theirs,
    ):
        here.began("a").answered(5)
        assert mine.sync()
        redis_server.kill()
        assert not mine.sync()
        assert "Error" in mine.last_error
        here.began("a").answered(5)
        assert here.look(["a"])["a"].n_calls == 2
        redis_server.start()
        there.began("a").answered(5)
        assert theirs.sync()
        assert mine.sync()
        assert mine.last_error is None
        assert here.look(["a"])["a"].n_calls == 3


def test_rubbish_in_redis_is_removed_and_hides_no_other_numbers(redis_server):
    here, there = Telemetry(), Telemetry()
    with (
        SharedTelemetry(here, redis_server.url, every_s=30) as mine,
        SharedTelemetry(there, redis_server.url, every_s=30) as theirs,
    ):
        there.began("a").answered(5)
        theirs.sync()
        client = connect(redis_server.url)
        client.hset("llm_router:telemetry", "bad", "{not json")
        client.hset("llm_router:telemetry", "odd", '{"at_s": 1e12, "state": {"arms": 3}}')
        client.hset("llm_router:telemetry", "old", '{"at_s": 1, "state": {}}')
        client.hset("llm_router:telemetry", "deep", "[" * 100_000)
        assert mine.sync()
        assert here.look(["a"])["a"].n_calls == 1
        assert len(client.hgetall("llm_router:telemetry")) == 2
        client.close()
