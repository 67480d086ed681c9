"""Endpoints that change: one that slows down, and eight real ones as they were recorded."""

import asyncio
import time
from dataclasses import replace

import numpy as np

from langchain_llm_router import Candidate
from langchain_llm_router.live import Telemetry
from langchain_llm_router.loop.arms import begin, build_arms
from langchain_llm_router.loop.loop import next_decision, observe
from langchain_llm_router.policies import Utility
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Attempt
from tests.benchmarks.failing.clients import make_router, plain_clients
from tests.benchmarks.failing.servers import Servers
from tests.support.shared_data import shared_data


def slowdown(*, probe_every_s, recover_s, concurrent=8):
    """One endpoint slows tenfold, and recovers."""
    with Servers() as servers:
        for i, latency in enumerate((0.02, 0.06, 0.07)):
            servers.control(i, latency_s=latency, failures={}, reset=1)
        telemetry = Telemetry(probe_every_s=probe_every_s)
        clients = plain_clients(servers)
        router = make_router(clients, telemetry=telemetry, policy=Utility(quality=0.0, ttft=1.0))
        went = []

        async def run():
            stop = asyncio.Event()
            # A client's first call imports and connects: not what is measured here.
            for candidate in router.candidates:
                await candidate.model.ainvoke("warm")

            async def worker():
                while not stop.is_set():
                    at = time.monotonic()
                    record = route_of(await router.ainvoke("q"))
                    went.append((at, record["candidate"]))

            workers = [asyncio.create_task(worker()) for _ in range(concurrent)]
            until = time.monotonic() + 2 * probe_every_s
            while time.monotonic() < until:
                await asyncio.sleep(0.5)
                recent = [name for at, name in went if at > time.monotonic() - 1.0]
                if len(recent) >= 5 and recent.count("m@a") / len(recent) > 0.8:
                    break
            await asyncio.sleep(2.0)
            # From before the change: what is asked while it is being made counts against us.
            slow_at = time.monotonic()
            await asyncio.to_thread(servers.control, 0, latency_s=0.2)
            await asyncio.sleep(probe_every_s * 0.8)
            well_at = time.monotonic()
            await asyncio.to_thread(servers.control, 0, latency_s=0.02)
            until = well_at + recover_s
            while time.monotonic() < until:
                await asyncio.sleep(0.25)
                recent = [name for at, name in went if at > time.monotonic() - 1.0]
                if len(recent) >= 5 and recent.count("m@a") / len(recent) > 0.8:
                    break
            back_s = time.monotonic() - well_at
            stop.set()
            await asyncio.gather(*workers)
            return slow_at, well_at, back_s

        slow_at, well_at, back_s = asyncio.run(run())
        before = [name for at, name in went if slow_at - 2.0 <= at < slow_at]
        during = sorted((at, name) for at, name in went if slow_at <= at < well_at)
        lasted = next(
            (i for i in range(len(during)) if all(n != "m@a" for _, n in during[i : i + 10])),
            len(during),
        )
        to_slow = sum(name == "m@a" for _, name in during[:lasted])
        return {
            "share_before": before.count("m@a") / max(len(before), 1),
            "requests_until_it_is_left": to_slow,
            "left_within_20_requests": to_slow <= 20,
            "share_while_slow": sum(n == "m@a" for _, n in during) / max(len(during), 1),
            "returned_after_s": back_s,
            "returned_within_60_s": back_s <= min(60.0, recover_s - 0.5),
            "probe_every_s": probe_every_s,
        }


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now


def recorded_endpoints(n, seeds=10):
    """Llama-2-70b at eight providers, as measured in 2023: who would have been asked?

    Every call takes what a random recorded one of that provider took, failures included. Compared
    are the time until the answer is whole, of live routing, of each provider alone, and of a
    random one; one that fails is followed by the next.
    """
    import pandas as pd

    rows = pd.read_parquet(shared_data("endpoint_metrics/llmperf_requests.parquet"))
    rows = rows[rows.model == "llama-2-70b-chat"]
    pools = {name: part.to_dict("records") for name, part in rows.groupby("provider")}
    names = sorted(pools)

    def simulate(choose, seed):
        rng = np.random.default_rng(seed)
        telemetry = Telemetry(clock=Clock())
        waits, lost = [], 0
        for _ in range(n):
            waited, seen = 0.0, None
            for _ in names:
                live = telemetry.look(names)
                candidates = [Candidate(name, endpoint_of="m") for name in names]
                arms = build_arms(candidates, [1.0] * len(names), "q", live=live)
                seen = begin("q", arms) if seen is None else replace(seen, arms=arms)
                name = choose(seen, rng)
                call = pools[name][int(rng.integers(len(pools[name])))]
                under_way = telemetry.began(name, streamed=True)
                failed = bool(pd.notna(call["error_code"]))
                took = 0.5 if failed else call["end_to_end_latency_s"]
                if failed:
                    telemetry.clock.now += took
                    kind = "rate_limit" if float(call["error_code"]) == 429 else "error"
                    under_way.failed(kind)
                else:
                    telemetry.clock.now += call["ttft_s"]
                    under_way.got_first_token()
                    telemetry.clock.now += took - call["ttft_s"]
                    under_way.answered(int(call["output_tokens"]))
                waited += took
                error = "failed" if failed else None
                seen = observe(seen, Attempt(candidate=name, error=error, cost_usd=0.0))
                if not failed:
                    break
            else:
                lost += 1
            waits.append(waited)
            telemetry.clock.now += 0.2
        return float(np.mean(waits)), lost

    # A whole answer of 150 tokens: its first token, and 149 gaps.
    policy = Utility(ttft=1.0, itl=149.0, errors=5.0)

    def live_choice(seen, rng):
        return next_decision(policy, seen).candidate

    def fixed(first):
        def choose(seen, rng):
            left = [arm.candidate for arm in seen.open_arms]
            return first if first in left else left[int(rng.integers(len(left)))]

        return choose

    def random_choice(seen, rng):
        left = [arm.candidate for arm in seen.open_arms]
        return left[int(rng.integers(len(left)))]

    def table(choose):
        runs = [simulate(choose, seed) for seed in range(seeds)]
        means = [mean for mean, _ in runs]
        return {
            "mean_s": float(np.mean(means)),
            "sd_over_seeds_s": float(np.std(means)),
            "lost": sum(lost for _, lost in runs),
        }

    alone = {name: table(fixed(name))["mean_s"] for name in names}
    ours = table(live_choice)
    best = min(alone, key=alone.get)
    return {
        "requests": n * seeds,
        "live": ours,
        "random": table(random_choice),
        "best_provider_in_hindsight": best,
        "best_provider_mean_s": alone[best],
        "live_over_best": ours["mean_s"] / alone[best],
        "each_alone_mean_s": alone,
    }
