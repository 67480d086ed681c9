"""Live statistics: what they remember, what they forget, and what they cost."""

import asyncio
import copy
import json
import math
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.live import Snapshots, Telemetry
from langchain_llm_router.live.breakers import Breaker, Breaking
from langchain_llm_router.live.decayed_statistics import (
    DecayedHistogram,
    DecayedLogMean,
    DecayedRate,
)
from langchain_llm_router.live.shared_telemetry import SharedTelemetry, connect
from langchain_llm_router.types.errors import ArtifactError
from tests.support.redis_server import RedisServer


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def call(telemetry, clock, arm="a", ttft=0.1, itl=0.01, tokens=11, streamed=True):
    live = telemetry.began(arm, streamed=streamed)
    clock.wait(ttft)
    if streamed:
        live.got_first_token()
    clock.wait(itl * (tokens - 1))
    live.answered(tokens)


def make(**kwargs):
    clock = Clock()
    return Telemetry(clock=clock, **kwargs), clock


def test_a_mean_halves_old_samples_after_its_half_life():
    mean = DecayedLogMean(half_life_s=10, idle_s=100)
    mean.add(1.0, 0.0)
    mean.add(4.0, 10.0)
    # weights ½ and 1: exp((½·ln 1 + ln 4) / 1.5) = 4^(2/3)
    assert mean.value(10.0) == pytest.approx(4 ** (2 / 3))


def test_a_mean_returns_to_its_prior_as_samples_age():
    mean = DecayedLogMean(half_life_s=10)
    for i in range(16):
        mean.add(10.0, i / 100)
    assert mean.value(0.16, prior=1.0) > 8
    assert mean.value(1000.0, prior=1.0) == pytest.approx(1.0, rel=0.01)
    assert mean.value(1000.0) == pytest.approx(10.0)
    assert DecayedLogMean().value(0.0) is None


def test_a_tenfold_slowdown_shows_after_a_few_samples_and_so_does_the_recovery():
    mean = DecayedLogMean()
    for i in range(1000):
        mean.add(0.1, i * 0.01)
    for i in range(5):
        mean.add(1.0, 10 + i)
    assert mean.value(15.0) > 0.18
    for i in range(60):
        mean.add(0.1, 15 + i * 0.01)
    assert mean.value(16.0) < 0.11


def test_rates_never_reach_zero_or_one():
    rate = DecayedRate(prior=0.01, strength=2)
    assert rate.value(0.0) == pytest.approx(0.01)
    for _ in range(1000):
        rate.add(0.0, hit=False)
    assert 0 < rate.value(0.0) < 0.001
    for _ in range(1000):
        rate.add(0.0, hit=True)
    assert 0.95 < rate.value(0.0) < 1


def test_rates_forget():
    rate = DecayedRate(half_life_s=10, prior=0.01, strength=2)
    for _ in range(8):
        rate.add(0.0, hit=True)
    # eight failures, three half-lives later: one failure on the prior's two calls
    assert rate.value(30.0) == pytest.approx((1 + 0.02) / 3)


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_right_to_one_bin(values, q):
    histogram = DecayedHistogram()
    for value in values:
        histogram.add(value, 0.0)
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.1)


def test_quantiles_forget_and_survive_rescaling():
    histogram = DecayedHistogram(half_life_s=10)
    for i in range(1000):
        histogram.add(1.0, i * 1.0)
    for i in range(10):
        histogram.add(0.01, 1100 + i / 10)
    assert histogram.quantile(0.5) == pytest.approx(0.01, rel=0.1)
    assert histogram.weight_at(1101.0) == pytest.approx(10, rel=0.1)


def test_merged_histograms_are_as_if_one_had_seen_everything():
    one, other, both = DecayedHistogram(10), DecayedHistogram(10), DecayedHistogram(10)
    rng = random.Random(1)
    for i in range(300):
        value, now = rng.lognormvariate(-2, 1), i / 10
        (one if i % 2 else other).add(value, now)
        both.add(value, now)
    one.merge(other, 30.0)
    assert one.quantile(0.9) == both.quantile(0.9)
    assert one.weight_at(30.0) == pytest.approx(both.weight_at(30.0))


def test_a_streamed_call_measures_first_token_and_gaps():
    telemetry, clock = make()
    call(telemetry, clock, ttft=0.2, itl=0.01, tokens=51)
    stats = telemetry.look(["a"])["a"]
    assert stats.ttft_s == pytest.approx(0.2)
    assert stats.itl_s == pytest.approx(0.01)
    assert stats.output_tokens == pytest.approx(51)
    assert stats.n_calls == 1
    assert 0 < stats.error_rate < 0.01


def test_a_call_that_was_not_streamed_divides_its_time_as_expected():
    telemetry, clock = make()
    telemetry.expect("a", ttft_s=0.2, itl_s=0.01)
    for _ in range(40):
        call(telemetry, clock, ttft=0.4, itl=0.02, tokens=21, streamed=False)
    stats = telemetry.look(["a"])["a"]
    assert stats.ttft_s == pytest.approx(0.4, rel=0.1)
    assert stats.itl_s == pytest.approx(0.02, rel=0.1)


def test_an_arm_never_asked_looks_as_good_as_the_best_one():
    telemetry, clock = make()
    for _ in range(3):
        call(telemetry, clock, "fast", ttft=0.1)
        call(telemetry, clock, "slow", ttft=0.8)
    stats = telemetry.look(["slow", "fast", "new"])
    assert stats["new"].ttft_s == pytest.approx(stats["fast"].ttft_s)
    assert stats["new"].probe
    assert stats["new"].error_rate is None
    assert not stats["fast"].probe


def test_an_arm_left_alone_is_offered_as_a_probe_once_per_interval():
    telemetry, clock = make(probe_every_s=15)
    call(telemetry, clock)
    assert not telemetry.look(["a"])["a"].probe
    clock.wait(16)
    assert telemetry.look(["a"])["a"].probe
    telemetry.began("a")
    assert not telemetry.look(["a"])["a"].probe


def test_probes_are_a_small_share_of_the_calls():
    telemetry, clock = make(probe_every_s=15, probe_share=0.05)
    names = [f"arm{i}" for i in range(8)]
    for name in names:
        call(telemetry, clock, name)
    probes = 0
    for _ in range(1000):
        stats = telemetry.look(names)
        due = [name for name in names if stats[name].probe]
        name = due[0] if due else "arm0"
        probes += name != "arm0"
        call(telemetry, clock, name, ttft=0.5)
        clock.wait(0.5)
    assert 30 <= probes <= 55


def test_a_pleasant_surprise_asks_for_another_probe_at_once():
    telemetry, clock = make()
    for _ in range(16):
        call(telemetry, clock, ttft=1.0)
    clock.wait(16)
    call(telemetry, clock, ttft=0.1)
    assert telemetry.look(["a"])["a"].probe
    for _ in range(12):
        call(telemetry, clock, ttft=0.1)
    stats = telemetry.look(["a"])["a"]
    assert stats.ttft_s < 0.2
    assert not stats.probe


def test_calls_that_still_wait_count_before_they_answer():
    telemetry, clock = make()
    for _ in range(20):
        call(telemetry, clock, ttft=0.1)
    hanging = [telemetry.began("a", streamed=True) for _ in range(3)]
    clock.wait(1.0)
    assert telemetry.look(["a"])["a"].ttft_s == pytest.approx(1.0, rel=0.05)
    hanging[0].got_first_token()
    assert telemetry.look(["a"])["a"].ttft_s == pytest.approx(0.1, rel=0.05)


def test_one_hanging_call_alone_condemns_nobody():
    telemetry, clock = make()
    for _ in range(20):
        call(telemetry, clock)
    telemetry.began("a", streamed=True)
    clock.wait(5.0)
    assert telemetry.look(["a"])["a"].ttft_s == pytest.approx(0.1, rel=0.05)


def test_an_ending_counts_once_and_an_abandoned_call_is_no_evidence():
    telemetry, _ = make()
    live = telemetry.began("a")
    live.failed("error")
    live.answered(3)
    telemetry.began("a").abandoned()
    report = telemetry.report()["a"]
    assert report["counts"] == {"answered": 0, "error": 1, "rate_limit": 0, "timeout": 0, "cut": 0}
    assert report["in_flight"] == 0


def test_a_timeout_counts_as_at_least_as_slow():
    telemetry, clock = make()
    for _ in range(10):
        call(telemetry, clock, ttft=0.1)
    for _ in range(10):
        live = telemetry.began("a", streamed=True)
        clock.wait(5.0)
        live.failed("timeout")
    stats = telemetry.look(["a"])["a"]
    assert stats.ttft_s > 0.5
    assert stats.timeout_rate > 0.3


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


def test_a_snapshot_on_disk_is_what_was_there_and_ages_on_the_way(tmp_path):
    telemetry, clock = make()
    for _ in range(20):
        call(telemetry, clock, ttft=0.3)
    telemetry.began("b").failed("error")
    telemetry.save(tmp_path / "live.json")
    again = Telemetry(clock=clock)
    again.load(tmp_path / "live.json")
    assert again.look(["a", "b"]) == telemetry.look(["a", "b"])
    assert again.quantile_s("a", 0.95) == telemetry.quantile_s("a", 0.95)
    assert list(tmp_path.iterdir()) == [tmp_path / "live.json"]


def test_snapshots_are_written_on_the_way_and_read_at_the_start(tmp_path):
    path = tmp_path / "live.json"
    telemetry = Telemetry()
    with Snapshots(telemetry, path, every_s=0.02):
        telemetry.began("a").answered(7)
        until = time.monotonic() + 5
        again = Telemetry()
        while time.monotonic() < until and "a" not in again.report():
            # what a process leaves that is killed at this moment
            if path.exists():
                again.load(path)
    assert again.report()["a"]["counts"]["answered"] == 1
    third = Telemetry()
    with Snapshots(third, path):
        assert third.report()["a"]["counts"]["answered"] == 1


def test_a_snapshot_that_cannot_be_read_or_written_stops_nothing(tmp_path):
    broken = tmp_path / "live.json"
    broken.write_text("{")
    with Snapshots(Telemetry(), broken) as snapshots:
        assert "not a snapshot" in snapshots.last_error
    assert snapshots.last_error is None
    (tmp_path / "file").touch()
    nowhere = Snapshots(Telemetry(), tmp_path / "file" / "live.json")
    assert not nowhere.write()
    assert "Error" in nowhere.last_error
    with pytest.raises(ValueError, match="every_s"):
        Snapshots(Telemetry(), broken, every_s=0)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema_version": 99, "arms": {}}', '{"schema_version": 1, "arms": [1]}',
     '{"schema_version": 1, "arms": {"a": {}}}', '{"schema_version": 1, "arms": {"a": 3}}'],
)  # fmt: skip
def test_a_broken_snapshot_is_refused_and_changes_nothing(tmp_path, content):
    telemetry, clock = make()
    call(telemetry, clock)
    before = telemetry.state()
    (tmp_path / "live.json").write_text(content)
    with pytest.raises(ArtifactError, match="not a snapshot"):
        telemetry.load(tmp_path / "live.json")
    with pytest.raises(ArtifactError, match="not a snapshot"):
        telemetry.load(tmp_path / "missing.json")
    assert telemetry.state() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_an_edited_snapshot_is_refused_or_harmless(data):
    telemetry, clock = make()
    call(telemetry, clock)
    telemetry.began("a").failed("error")
    state = telemetry.state()
    arm = state["arms"]["a"]
    key = data.draw(st.sampled_from(sorted(arm)))
    if isinstance(arm[key], list) and data.draw(st.booleans()):
        arm[key][data.draw(st.integers(0, 2))] = data.draw(JSON)
    elif isinstance(arm[key], dict) and data.draw(st.booleans()):
        arm[key][data.draw(st.sampled_from(sorted(arm[key])))] = data.draw(JSON)
    else:
        arm[key] = data.draw(JSON)
    fresh = Telemetry(clock=clock)
    try:
        fresh.restore(state)
    except ValueError:
        return
    stats = fresh.look(["a"])["a"]
    assert math.isfinite(stats.ttft_s)
    assert 0 <= stats.error_rate <= 1 if stats.error_rate is not None else True
    call(fresh, clock)
    fresh.report()
    json.dumps(fresh.state(), allow_nan=False)


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


def test_threads_and_tasks_lose_no_call():
    telemetry = Telemetry()

    def work():
        for _ in range(500):
            live = telemetry.began("a", streamed=True)
            live.got_first_token()
            live.answered(3)
            telemetry.look(["a", "b"])

    async def tasks():
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(2)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    report = telemetry.report()["a"]
    assert report["counts"]["answered"] == 3000
    assert report["in_flight"] == 0


def test_a_call_costs_the_same_after_many_calls():
    telemetry, clock = make()

    def cost(n):
        started = time.perf_counter()
        for _ in range(n):
            call(telemetry, clock, ttft=0.001, itl=0.0001, tokens=3)
            telemetry.look(["a", "b", "c"])
        return (time.perf_counter() - started) / n

    cost(200)
    early = min(cost(200) for _ in range(3))
    cost(3000)
    late = min(cost(200) for _ in range(3))
    assert late < 3 * early + 1e-4
    assert late < 2e-3


def test_a_copy_of_a_router_shares_its_live_numbers():
    telemetry, _ = make()
    assert copy.deepcopy(telemetry) is telemetry


@pytest.mark.parametrize(
    "build",
    [
        lambda: Telemetry(half_life_s=0),
        lambda: Telemetry(probe_every_s=-1),
        lambda: Telemetry(probe_share=2),
        lambda: Breaking(failures_in_a_row=0),
        lambda: Breaking(failure_rate=0),
        lambda: Breaking(open_s=5, longest_open_s=1),
    ],
)
def test_settings_that_make_no_sense_are_refused(build):
    with pytest.raises(ValueError, match="must"):
        build()


@pytest.fixture
def redis_server(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.kill()


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


def test_rubbish_in_redis_is_swept_away_and_hides_nobody(redis_server):
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
        assert mine.sync()
        assert here.look(["a"])["a"].n_calls == 1
        assert len(client.hgetall("llm_router:telemetry")) == 2
        client.close()
