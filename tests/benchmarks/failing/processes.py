"""Several processes: one purse for four of them, a worker killed -9, a Redis killed -9."""

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import time
from multiprocessing import connection
from pathlib import Path

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.budgets.ledgers import to_usd
from langchain_llm_router.budgets.redis_ledger import RedisLedger
from langchain_llm_router.live import Snapshots, Telemetry
from langchain_llm_router.live.shared_telemetry import SharedTelemetry
from langchain_llm_router.policies import Always
from langchain_llm_router.router.chat import route_of
from tests.benchmarks.failing.clients import PRICE, PlainClient, in_parallel, make_router
from tests.benchmarks.failing.servers import Servers
from tests.support.fakes import ScriptedModel
from tests.support.redis_server import RedisServer

SNAPSHOT_S = 0.2


def context():
    """Fresh processes that need not import everything once more."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__])
    return made


def paying_worker(url, cap, n, out, start, done):
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
        with done.get_lock():
            done.value += 1

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
        fresh = context()
        out, start, done = fresh.Queue(), fresh.Event(), fresh.Value("i", 0)
        args = (server.url, cap, n // 4, out, start, done)
        workers = [fresh.Process(target=paying_worker, args=args) for _ in range(4)]
        for worker in workers:
            worker.start()
        start.set()
        if kill_redis:
            while done.value < n // 4:
                time.sleep(0.01)
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
    shared = SharedTelemetry(telemetry, redis_url, every_s=SNAPSHOT_S)
    with shared, Snapshots(telemetry, snapshot, every_s=SNAPSHOT_S):

        async def serve():
            loop = asyncio.get_running_loop()

            async def one():
                while True:
                    number = await loop.run_in_executor(None, jobs.get)
                    if number is None:
                        return
                    text = (await router.ainvoke(f"q{number}")).text
                    answers.put((os.getpid(), number, text))

            await asyncio.gather(*(one() for _ in range(4)))

        asyncio.run(serve())


def killed_worker(n):
    """Four workers, one of them killed -9 in the middle, then Redis too; what is lost?"""
    fresh = context()
    with tempfile.TemporaryDirectory() as folder, Servers() as servers:
        for i in range(3):
            servers.control(i, latency_s=0.05, failures={})
        redis = RedisServer(Path(folder))
        # A queue each: who is killed while it writes would lock the others out of a common one.
        answers, own = [fresh.Queue() for _ in range(4)], [fresh.Queue() for _ in range(4)]
        paths = [Path(folder) / f"live{i}.json" for i in range(4)]
        workers = [
            fresh.Process(
                target=serving_worker,
                args=(servers.ports, redis.url, paths[i], own[i], answers[i]),
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
            readers = {queue._reader: queue for queue in answers}
            ready = connection.wait(list(readers), timeout=120)
            assert ready, "no process has answered for two minutes"
            pid, number, text = readers[ready[0]].get()
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
        "snapshot_every_s": SNAPSHOT_S,
    }
