"""What the router itself adds to a call: alone, and with 200 conversations under way at once."""

import asyncio
import gc
import time
from itertools import repeat

from pydantic import Field
from tqdm import tqdm

from langchain_llm_router.apps.cli.serve_command import spare_collections
from langchain_llm_router.router.chat import route_of
from tests.benchmarks.failing.clients import (
    PlainClient,
    in_parallel,
    make_router,
    quantiles,
    real_clients,
)
from tests.benchmarks.failing.servers import Servers, latency_of

MOST_S = 0.005


def added(n):
    """What the router adds to one call after another, beside the same client without it."""
    with Servers() as servers:
        for i in range(3):
            servers.control(i, latency_s=0.0, failures={})
        router = make_router(real_clients(servers), cap_usd=100.0)
        bare = real_clients(servers)[0]
        walls, cpus = [], []

        async def measure():
            for _ in range(30):
                await router.ainvoke("warm")
                await bare.ainvoke("warm")
            for i in tqdm(range(n), desc="added", mininterval=2):
                at = time.thread_time()
                await bare.ainvoke(f"q{i}")
                between, at_between = time.perf_counter(), time.thread_time()
                answer = await router.ainvoke(f"q{i}")
                last, at_last = time.perf_counter(), time.thread_time()
                inside = sum(a["latency_s"] for a in route_of(answer)["attempts"])
                walls.append(last - between - inside)
                cpus.append((at_last - at_between) - (at_between - at))

        asyncio.run(measure())
    wall = quantiles(walls)
    return {
        "requests": n,
        "outside_the_candidates_call": wall,
        "cpu_beyond_the_bare_client": quantiles(cpus),
        "p99_at_most_5_ms": wall["p99_s"] <= MOST_S,
    }


class WatchedClient(PlainClient):
    """Notes how long each question took it."""

    inside_s: dict[str, float] = Field(default_factory=dict)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        started = time.perf_counter()
        answer = await super()._agenerate(messages, stop, run_manager, **kwargs)
        key = messages[-1].text
        self.inside_s[key] = self.inside_s.get(key, 0.0) + time.perf_counter() - started
        return answer


def added_at_once(n, concurrent, *, latency_s=1.0, jitter_s=1.0, streamed=False):
    """The same with many requests under way, which also wait for each other's processor time.

    The servers take `latency_s` and up to `jitter_s` more, known for every question: what a
    request takes beyond that is the network, the client, and the router if there is one.
    """
    rows = {}
    with Servers() as servers:
        for i in range(3):
            servers.control(i, latency_s=latency_s, jitter_s=jitter_s, failures={})
        watched = [WatchedClient(port=port) for port in servers.ports]
        router = make_router(watched, cap_usd=1000.0, timeout_s=30.0)
        for name, model in (("bare", watched[0]), ("routed", router)):
            rows[name] = asyncio.run(
                _timed(model, watched, n, concurrent, latency_s, jitter_s, streamed=streamed)
            )
    bare, routed = rows["bare"], rows["routed"]
    beyond = routed["beyond_the_server"]["p99_s"] - bare["beyond_the_server"]["p99_s"]
    return {
        "requests": n,
        "concurrent": concurrent,
        "server_latency_s": [latency_s, latency_s + jitter_s],
        "bare_client": bare,
        "routed": routed,
        "added_at_p99_s": beyond,
        "lag_to_bare": routed["event_loop_lag"]["p99_s"] / bare["event_loop_lag"]["p99_s"],
        "p99_at_most_5_ms": beyond <= MOST_S,
    }


async def _timed(model, watched, n, concurrent, latency_s, jitter_s, *, streamed):
    async def ask(question):
        if not streamed:
            await model.ainvoke(question)
            return
        async for _ in model.astream(question):
            pass

    await asyncio.gather(*(ask(f"warm{i}") for i in range(10)))
    for client in watched:
        client.inside_s.clear()
    outside, beyond = [None] * n, [None] * n
    lags, starts = [], iter(range(concurrent))

    async def one(i):
        # Spread over the first seconds, or all of them would go on in step for ever.
        if (first := next(starts, None)) is not None:
            await asyncio.sleep(first / concurrent * (latency_s + jitter_s))
        started = time.perf_counter()
        await ask(f"q{i}")
        took = time.perf_counter() - started
        outside[i] = took - sum(client.inside_s.get(f"q{i}", 0.0) for client in watched)
        beyond[i] = took - latency_of(f"q{i}", latency_s, jitter_s)

    async def watch():
        for _ in repeat(None):
            at = time.perf_counter()
            await asyncio.sleep(0.01)
            lags.append(time.perf_counter() - at - 0.01)

    spare_collections()  # as `llm-router serve` does
    pauses_s = _pauses()
    watching = asyncio.create_task(watch())
    cpu = time.thread_time()
    await in_parallel(n, concurrent, one, "added at once")
    cpu = time.thread_time() - cpu
    watching.cancel()
    gc.callbacks.pop()
    return {
        **({} if streamed else {"outside_the_client": quantiles(outside)}),
        "beyond_the_server": quantiles(beyond),
        "event_loop_lag": quantiles(lags),
        "longest_garbage_collection_s": max(pauses_s, default=0.0),
        "cpu_per_request_s": cpu / n,
    }


def _pauses():
    """A list that the durations of garbage collections are added to from now on."""
    pauses_s, began = [], [0.0]

    def note(phase, info):
        if phase == "start":
            began[0] = time.perf_counter()
        else:
            pauses_s.append(time.perf_counter() - began[0])

    gc.callbacks.append(note)
    return pauses_s
