"""Does routing stay up? Failing servers, slow servers, killed workers, a killed Redis, fuzzing.

    python tests/benchmarks/faults.py --json            # everything, some ten minutes
    python tests/benchmarks/faults.py --json --quick    # the same on fewer requests, under a minute
    python tests/benchmarks/faults.py --json --litellm /path/to/venv/bin/python
    python tests/benchmarks/faults.py --json --only fuzz --fuzz 100000

The servers are real HTTP servers on the loopback (`fault_servers.py`) and keep their own books:
what they billed is compared with what the router says it spent. Two of three endpoints fail 30 %
of their calls: 429 with Retry-After, 500, hangs, cut connections, garbage.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("LANGSMITH_TRACING", "false")

import numpy as np  # noqa: E402
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, AIMessageChunk  # noqa: E402
from langchain_core.messages.ai import UsageMetadata  # noqa: E402
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402
from tqdm import tqdm  # noqa: E402

from langchain_llm_router import Candidate, ChatLLMRouter, Price  # noqa: E402
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets  # noqa: E402
from langchain_llm_router.budgets.ledgers import to_usd  # noqa: E402
from langchain_llm_router.budgets.shared_ledger import RedisLedger  # noqa: E402
from langchain_llm_router.chat import route_of  # noqa: E402
from langchain_llm_router.errors import LlmRouterError  # noqa: E402
from langchain_llm_router.loop import begin, build_arms, next_decision, observe  # noqa: E402
from langchain_llm_router.policies import Always, RandomMix, Utility  # noqa: E402
from langchain_llm_router.resilience import Resilience  # noqa: E402
from langchain_llm_router.resilience.live import Live  # noqa: E402
from langchain_llm_router.telemetry import Telemetry  # noqa: E402
from langchain_llm_router.telemetry.shared_state import SharedTelemetry  # noqa: E402
from langchain_llm_router.types import Attempt, Endpoint  # noqa: E402
from tests.benchmarks import fault_servers  # noqa: E402
from tests.benchmarks.fault_fuzzing import fuzz  # noqa: E402
from tests.fakes import ProviderError, ScriptedModel  # noqa: E402
from tests.redis_server import RedisServer  # noqa: E402
from tests.shared_data import shared_data  # noqa: E402

PRICE = Price(1.0, 10.0)
DEADLINE_S, TIMEOUT_S, RETRIES = 60.0, 8.0, 2
NAMES = ("a", "b", "c")


class PlainClient(BaseChatModel):
    """A chat model over one plain HTTP connection a call.

    A full client library spends some ten milliseconds of CPU on a call, so that 200 at once would
    measure nothing but the queue for the processor.
    """

    port: int
    max_tokens: int = fault_servers.OUTPUT_TOKENS

    @property
    def _llm_type(self):
        return "plain"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        body = b""
        async for part in self._parts(messages, stream=False):
            body += part
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        message = AIMessage(text, usage_metadata=used(answer["usage"]))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        async for line in self._parts(messages, stream=True):
            if not line.startswith(b"data: ") or b"[DONE]" in line:
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                last = AIMessageChunk("", usage_metadata=used(event["usage"]))
                yield ChatGenerationChunk(message=last)
            elif (delta := event["choices"][0]["delta"]).get("content"):
                yield ChatGenerationChunk(message=AIMessageChunk(delta["content"]))

    async def _parts(self, messages, *, stream):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            said = {"messages": [{"role": "user", "content": messages[-1].text}], "stream": stream}
            data = json.dumps(said).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status = int(head.split()[1])
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if status != 200:
                raise ProviderError(status, "refused", **headers)
            if "content-length" in headers:
                yield await reader.readexactly(int(headers["content-length"]))
                return
            while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
                yield (await reader.readexactly(size + 2)).strip()
        finally:
            writer.close()


def used(usage):
    return UsageMetadata(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
    )


def real_clients(servers):
    """OpenAI's client at three endpoints; its own retries are off."""
    return [
        ChatOpenAI(
            model="m", base_url=servers.url(i), api_key="sk-test", max_retries=0,
            timeout=60.0, max_tokens=fault_servers.OUTPUT_TOKENS, stream_usage=True,
        )
        for i in range(3)
    ]  # fmt: skip


def plain_clients(servers):
    return [PlainClient(port=port) for port in servers.ports]


def make_router(clients, *, cap_usd=None, telemetry=None, policy=None, spread=False):
    """One model at three endpoints; `spread`: three models, each asked a third of the time."""
    live = Live(
        telemetry=telemetry or Telemetry(),
        resilience=Resilience(timeout_s=TIMEOUT_S, retries=RETRIES, longest_wait_s=1.0),
        deadline_s=DEADLINE_S,
    )
    budgets = None
    if cap_usd is not None:
        budgets = Budgets([Budget(cap_usd)])
    if spread:
        policy = RandomMix(dict.fromkeys(NAMES, 1 / 3))
        candidates = [
            Candidate(name, client, PRICE, max_output_tokens=fault_servers.OUTPUT_TOKENS)
            for name, client in zip(NAMES, clients, strict=True)
        ]
        return ChatLLMRouter(candidates=candidates, policy=policy, live=live, budgets=budgets)
    return ChatLLMRouter(
        candidates=[
            Candidate(
                "m", price=PRICE, max_output_tokens=fault_servers.OUTPUT_TOKENS,
                endpoints=[Endpoint(n, client) for n, client in zip(NAMES, clients, strict=True)],
            )
        ],
        policy=policy or Always("m"), live=live, budgets=budgets,
    )  # fmt: skip


def quantiles(seconds):
    if len(seconds) < 2:
        return {}
    cut = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_s": cut[49], "p95_s": cut[94], "p99_s": cut[98], "max_s": max(seconds)}


async def in_parallel(n, concurrent, one, label):
    """Run `one(i)` for all i, so many at a time."""
    numbers, results = iter(range(n)), [None] * n
    with tqdm(total=n, desc=label, file=sys.stderr, mininterval=2) as bar:

        async def worker():
            for i in numbers:
                results[i] = await one(i)
                bar.update()

        await asyncio.gather(*(worker() for _ in range(concurrent)))
    return results


def books(servers):
    stats = [servers.stats(i) for i in range(3)]
    answers = {}
    for one in stats:
        for key, count in one["answers"].items():
            answers[key] = answers.get(key, 0) + count
    billed = sum(one["billed"] for one in stats)
    return stats, answers, billed


def storm(n, concurrent, *, streamed=False, cap_usd=None, spread=False):
    """30 % of the calls to two of three endpoints fail; nothing may be lost or paid for twice."""
    cap = 10 * n * fault_servers.USD_PER_ANSWER + 10 if cap_usd is None else cap_usd
    with fault_servers.Servers() as servers:
        router = make_router(plain_clients(servers), cap_usd=cap, spread=spread)

        async def ask(i):
            if not streamed:
                return await router.ainvoke(f"q{i}")
            chunks = [chunk async for chunk in router.astream(f"q{i}")]
            whole = chunks[0]
            for chunk in chunks[1:]:
                whole += chunk
            return whole

        async def one(i):
            started = time.perf_counter()
            try:
                answer = await ask(i)
            except Exception as error:  # noqa: BLE001 - counted by kind
                return {"s": time.perf_counter() - started, "error": error}
            return {
                "s": time.perf_counter() - started,
                "right": answer.text == f"the answer to q{i}",
                "record": route_of(answer),
            }

        async def run():
            # A client's first call imports and connects: not what is measured here.
            for candidate in router.candidates:
                await candidate.model.ainvoke("warm")
            for i in range(3):
                failures = fault_servers.MIXED if i < 2 else {}
                await asyncio.to_thread(servers.control, i, reset=i + 1, failures=failures)
            return await in_parallel(n, concurrent, one, "storm")

        results = asyncio.run(run())
        return judge_storm(results, servers, router, cap)


def judge_storm(results, servers, router, cap):
    stats, answers, billed = books(servers)
    failed = [r["error"] for r in results if "error" in r]
    answered = [r for r in results if "record" in r]
    refused = [error for error in failed if isinstance(error, BudgetExceededError)]
    own = [error for error in failed if not isinstance(error, LlmRouterError)]
    budgets = router.budgets
    booked = to_usd(budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)))
    attempts = [a for r in answered for a in r["record"]["attempts"]]
    paid = [sum(a["cost_usd"] is not None for a in r["record"]["attempts"]) for r in answered]
    billed_usd = billed * fault_servers.USD_PER_ANSWER
    return {
        "requests": len(results),
        "answered": len(answered),
        "answered_rightly": sum(r["right"] for r in answered),
        "failed_with_the_candidates_own_error": len(own),
        "refused_by_the_budget": len(refused),
        "failed_otherwise": len(failed) - len(own) - len(refused),
        "lost": sum(r is None for r in results),
        "after_their_deadline": sum(r["s"] > DEADLINE_S + 1 for r in results),
        "double_billed": sum(count != 1 for count in paid),
        "answered_too_late_and_asked_again": sum(count > 1 for count in answers.values()),
        "calls": sum(sum(one["counts"].values()) for one in stats),
        "calls_that_failed": sum(
            count for one in stats for fate, count in one["counts"].items() if fate != "ok"
        ),
        "latency": quantiles([r["s"] for r in answered]),
        "cap_usd": cap,
        "answers_cost_usd": sum(r["record"]["cost_usd"] for r in answered),
        "billed_by_the_servers_usd": billed_usd,
        "booked_usd": booked,
        "booked_covers_billed": booked >= billed_usd - 1e-6,
        "within_cap": billed_usd <= cap and booked <= cap,
        "failures_in_records": sum(len(a.get("failures", ())) for a in attempts),
        "per_endpoint": [one["counts"] for one in stats],
        "errors": sorted({f"{type(error).__name__}: {error}"[:100] for error in failed})[:8],
    }


def added(n):
    """What the router itself adds to a call, beside the same client without it."""
    with fault_servers.Servers() as servers:
        for i in range(3):
            servers.control(i, latency_s=0.0, failures={})
        router = make_router(real_clients(servers), cap_usd=100.0)
        bare = real_clients(servers)[0]
        walls, cpus = [], []

        async def measure():
            for _ in range(30):
                await router.ainvoke("warm")
                await bare.ainvoke("warm")
            for i in tqdm(range(n), desc="added", file=sys.stderr, mininterval=2):
                first, at = time.perf_counter(), time.thread_time()
                await bare.ainvoke(f"q{i}")
                between, at_between = time.perf_counter(), time.thread_time()
                answer = await router.ainvoke(f"q{i}")
                last, at_last = time.perf_counter(), time.thread_time()
                inside = sum(a["latency_s"] for a in route_of(answer)["attempts"])
                walls.append(last - between - inside)
                cpus.append((at_last - at_between) - (at_between - at))
                del first

        asyncio.run(measure())
        wall, cpu = quantiles(walls), quantiles(cpus)
        return {
            "requests": n,
            "outside_the_candidates_call": wall,
            "cpu_beyond_the_bare_client": cpu,
            "p99_at_most_5_ms": wall["p99_s"] <= 0.005,
        }


def slowdown(*, probe_every_s, recover_s, concurrent=8):
    """One endpoint slows tenfold, and recovers."""
    with fault_servers.Servers() as servers:
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
            await asyncio.to_thread(servers.control, 0, latency_s=0.2)
            slow_at = time.monotonic()
            await asyncio.sleep(probe_every_s * 0.8)
            await asyncio.to_thread(servers.control, 0, latency_s=0.02)
            well_at = time.monotonic()
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


# Recorded latencies of real providers


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
    random one; whoever fails is followed by the next.
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
                candidates = [Candidate(name, of="m") for name in names]
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


# Several processes


def paying_worker(url, cap, n, out, start):
    """One process of four: an in-process model, money from the shared ledger."""
    usage = UsageMetadata(input_tokens=10, output_tokens=20, total_tokens=30)
    ledger = RedisLedger(url, escrow=0.005)
    router = ChatLLMRouter(
        candidates=[
            Candidate("m", ScriptedModel(AIMessage("x", usage_metadata=usage)), PRICE,
                      max_output_tokens=25)
        ],
        policy=Always("m"), budgets=Budgets([Budget(cap)], ledger),
    )  # fmt: skip
    counts = {"answered": 0, "refused": 0, "lost": 0, "usd": 0.0}

    async def one(_):
        try:
            answer = await router.ainvoke("q")
        except BudgetExceededError:
            counts["refused"] += 1
        except Exception:  # noqa: BLE001 - a lost answer is what is counted
            counts["lost"] += 1
        else:
            counts["answered"] += 1
            counts["usd"] += route_of(answer)["cost_usd"]

    start.wait()
    asyncio.run(in_parallel(n, 50, one, "four processes"))
    ledger.close()
    out.put(counts)


def four_processes(n, *, kill_redis=False):
    """Four processes with one purse, which is too small for all of them."""
    usd = PRICE.estimate_usd(input_tokens=10, output_tokens=20)
    cap = 0.6 * n * usd
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        context = multiprocessing.get_context("spawn")
        out, start = context.Queue(), context.Event()
        args = (server.url, cap, n // 4, out, start)
        workers = [context.Process(target=paying_worker, args=args) for _ in range(4)]
        for worker in workers:
            worker.start()
        start.set()
        if kill_redis:
            time.sleep(4.0)
            server.kill()
            time.sleep(1.5)
            server.start()
        counts = [out.get(timeout=900) for _ in workers]
        for worker in workers:
            worker.join(30)
        ledger = RedisLedger(server.url)
        settled, reserved = ledger.read_nano(Budget(cap).account({}, 0.0))
        ledger.close()
        server.kill()
    total = sum(c["usd"] for c in counts)
    return {
        "requests": n,
        "cap_usd": cap,
        "spent_usd": total,
        "share_of_the_cap_used": total / cap,
        "never_overspent": total <= cap + 1e-9,
        "booked_usd": to_usd(settled),
        "still_reserved_usd": to_usd(reserved),
        "answered": sum(c["answered"] for c in counts),
        "refused": sum(c["refused"] for c in counts),
        "lost": sum(c["lost"] for c in counts),
    }


def serving_worker(ports, redis_url, snapshot, jobs, answers):
    """A worker that answers what it is given, and shares its live numbers."""
    telemetry = Telemetry()
    router = make_router([PlainClient(port=port) for port in ports], telemetry=telemetry)
    with SharedTelemetry(telemetry, redis_url, every_s=0.5):

        async def serve():
            loop = asyncio.get_running_loop()

            async def one():
                while True:
                    number = await loop.run_in_executor(None, jobs.get)
                    if number is None:
                        return
                    text = (await router.ainvoke(f"q{number}")).text
                    answers.put((os.getpid(), number, text))

            async def snapshots():
                while True:
                    await asyncio.sleep(0.5)
                    telemetry.save(snapshot)

            saving = asyncio.create_task(snapshots())
            await asyncio.gather(*(one() for _ in range(4)))
            saving.cancel()
            telemetry.save(snapshot)

        asyncio.run(serve())


def killed_worker(n):
    """Four workers, one of them killed -9 in the middle, then Redis too; what is lost?"""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, fault_servers.Servers() as servers:
        for i in range(3):
            servers.control(i, latency_s=0.05, failures={})
        redis = RedisServer(Path(folder))
        answers, own = context.Queue(), [context.Queue() for _ in range(4)]
        paths = [Path(folder) / f"live{i}.json" for i in range(4)]
        workers = [
            context.Process(
                target=serving_worker, args=(servers.ports, redis.url, paths[i], own[i], answers)
            )
            for i in range(4)
        ]
        for worker in workers:
            worker.start()
        given = {number: number % 4 for number in range(n)}
        for number, i in given.items():
            own[i].put(number)
        got, per_pid, killed_at = {}, {}, None
        while len(got) < n:
            pid, number, text = answers.get(timeout=120)
            got[number] = text
            per_pid[pid] = per_pid.get(pid, 0) + 1
            if killed_at is None and len(got) >= n // 3 and paths[0].exists():
                killed_at = len(got)
                os.kill(workers[0].pid, signal.SIGKILL)
                workers[0].join()
                redis.kill()
                # What the dead one had not answered goes to the others, as any queue does.
                for missing in [m for m, i in given.items() if i == 0 and m not in got]:
                    own[1 + missing % 3].put(missing)
        for queue in own[1:]:
            for _ in range(4):
                queue.put(None)
        for worker in workers[1:]:
            worker.join(30)
        saved = json.loads(paths[0].read_text())
        counts = [arm["counts"]["answered"] for arm in saved["arms"].values()]
        done = per_pid.get(workers[0].pid, 0)
        again = Telemetry()
        again.load(paths[0])
    return {
        "requests": n,
        "answered": len(got),
        "answered_rightly": sum(text == f"the answer to q{i}" for i, text in got.items()),
        "killed_after": killed_at,
        "calls_of_the_killed_worker": done,
        "calls_in_its_snapshot": sum(counts),
        "snapshot_every_s": 0.5,
    }


# Beside LiteLLM


LITELLM = """
import asyncio, json, sys, time, logging
logging.disable(logging.CRITICAL)
from litellm import Router
urls, n, concurrent, timeout, retries, deadline = json.loads(sys.argv[1])
router = Router(
    model_list=[
        {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": url,
         "api_key": "sk-test", "timeout": timeout, "max_retries": 0, "max_tokens": 20}}
        for url in urls],
    num_retries=retries, routing_strategy="latency-based-routing", timeout=timeout,
)
async def main():
    numbers, rows = iter(range(n)), []
    async def worker():
        for i in numbers:
            started = time.perf_counter()
            try:
                answer = await asyncio.wait_for(router.acompletion(
                    model="m", messages=[{"role": "user", "content": f"q{i}"}]), deadline)
                ok, error = answer.choices[0].message.content == f"the answer to q{i}", None
            except Exception as raised:
                ok, error = False, type(raised).__name__
            rows.append((time.perf_counter() - started, ok, error))
    await asyncio.gather(*(worker() for _ in range(concurrent)))
    print(json.dumps(rows))
asyncio.run(main())
"""


async def ask_ours(router, i):
    started, kind = time.perf_counter(), None
    try:
        right = (await router.ainvoke(f"q{i}")).text == f"the answer to q{i}"
    except Exception as error:  # noqa: BLE001 - counted by kind
        right, kind = False, type(error).__name__
    return time.perf_counter() - started, right, kind


def ask_litellm(python, servers, n, concurrent):
    urls = [servers.url(i) for i in range(3)]
    given = json.dumps([urls, n, concurrent, TIMEOUT_S, RETRIES, DEADLINE_S])
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [python, "-c", LITELLM, given]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def beside_litellm(python, n, concurrent):
    """The same faulty servers, the same timeout and number of retries, one after the other."""
    table = {}
    with fault_servers.Servers() as servers:
        for name in ("ours", "litellm"):
            for i in range(3):
                servers.control(i, reset=i + 1, failures=fault_servers.MIXED if i < 2 else {})
            if name == "ours":
                router = make_router(real_clients(servers))
                asking = in_parallel(n, concurrent, lambda i, r=router: ask_ours(r, i), "ours")
                rows = asyncio.run(asking)
            else:
                rows = ask_litellm(python, servers, n, concurrent)
            stats, _, billed = books(servers)
            kinds = [kind for _, _, kind in rows if kind]
            table[name] = {
                "requests": len(rows),
                "success_share": sum(bool(ok) for _, ok, _ in rows) / len(rows),
                "latency": quantiles([s for s, _, _ in rows]),
                "billed_usd": billed * fault_servers.USD_PER_ANSWER,
                "calls_per_endpoint": [sum(one["counts"].values()) for one in stats],
                "errors": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            }
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    table["litellm"]["version"] = done.stdout.strip()
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quick", action="store_true", help="fewer requests, under a minute")
    parser.add_argument("--fuzz", type=int, help="number of fuzzing cases")
    parser.add_argument("--litellm", help="Python of a virtual environment that has litellm")
    parser.add_argument("--only", help="comma-separated parts")
    args = parser.parse_args()
    quick = args.quick
    n, concurrent = (200, 40) if quick else (10_000, 200)
    redis = shutil.which("redis-server") is not None
    parts = {
        "storm": lambda: storm(n, concurrent),
        "storm_spread": lambda: storm(n, concurrent, spread=True),
        "storm_streamed": lambda: storm(n // 5, concurrent, streamed=True),
        "storm_with_too_little_money": lambda: storm(
            n // 2, concurrent // 5, cap_usd=n // 4 * fault_servers.USD_PER_ANSWER
        ),
        "added": lambda: added(60 if quick else 2000),
        "slowdown": lambda: slowdown(
            probe_every_s=3.0 if quick else 15.0, recover_s=12.0 if quick else 60.0
        ),
        "recorded_endpoints": lambda: recorded_endpoints(
            100 if quick else 1000, 3 if quick else 10
        ),
        "fuzz": lambda: fuzz(args.fuzz or (240 if quick else 10_000)),
    }
    if redis:
        parts["four_processes"] = lambda: four_processes(400 if quick else 10_000)
        parts["killed_worker"] = lambda: killed_worker(80 if quick else 2000)
        if not quick:
            parts["redis_killed"] = lambda: four_processes(10_000, kill_redis=True)
    if args.litellm:
        parts["beside_litellm"] = lambda: beside_litellm(args.litellm, n // 10, concurrent // 5)
    chosen = args.only.split(",") if args.only else list(parts)
    result = {"quick": quick, "redis": redis, "cpus": os.cpu_count()}
    for name in chosen:
        started = time.perf_counter()
        result[name] = parts[name]()
        result[name]["took_s"] = round(time.perf_counter() - started, 1)
        print(f"{name}: {json.dumps(result[name])}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
