"""Live numbers of endpoints: what calls teach, and what is expected of the next one."""

import asyncio
import copy
import threading
import time

import pytest

from langchain_llm_router.live import ArmStats, Telemetry
from langchain_llm_router.live.breakers import Breaking
from tests.support.timed_calls import call, make


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


def test_one_hanging_call_alone_does_not_change_the_expected_latency():
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
        started = time.process_time()
        for _ in range(n):
            call(telemetry, clock, ttft=0.001, itl=0.0001, tokens=3)
            telemetry.look(["a", "b", "c"])
        return (time.process_time() - started) / n

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


def test_throughput_is_measured_beside_the_latencies():
    telemetry, clock = make()
    assert telemetry.look(["a"])["a"].tokens_per_s is None
    for _ in range(10):
        call(telemetry, clock, ttft=0.5, itl=0.01, tokens=51)
    # 51 tokens in one second, half of which is the wait for the first.
    assert telemetry.look(["a"])["a"].tokens_per_s == pytest.approx(51, rel=0.01)
    assert telemetry.report()["a"]["tokens_per_s"] == pytest.approx(51, rel=0.01)
    assert ArmStats(ttft_s=0.0, itl_s=0.0, output_tokens=1).tokens_per_s is None
