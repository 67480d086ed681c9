"""Several processes with one limit: a Redis killed -9, a worker killed -9, a fork."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets, RedisLedger
from langchain_llm_router.budgets.ledgers import Ledger, to_usd
from tests.benchmarks.failing.billing_server import BillingServer, wait_until
from tests.benchmarks.failing.money import judged_row, made_pool, parts
from tests.benchmarks.failing.processes import context
from tests.support.redis_server import RedisServer

LIMITS_USD, CALLS = {False: 0.02, True: 0.2}, 150
"""Limits of one-shot routers and of cascades, which reserve more."""

QUESTION = [HumanMessage("What is it, in a few words?")]


def made_router(url: str, ledger: Ledger | None, *, cascade: bool) -> ChatLLMRouter:
    """A router whose money is in a ledger; None: in this process."""
    budgets = Budgets([Budget(LIMITS_USD[cascade])])
    if ledger is not None:
        budgets = Budgets(budgets.budgets, ledger)
    return ChatLLMRouter(**parts(made_pool(url), cascade=cascade, live=None), budgets=budgets)


def asking_worker(url: str, redis_url: str, fields: dict[str, Any], cascade: bool, n: int) -> None:
    """Ask as often as is granted; while the ledger cannot tell, wait."""
    ledger = RedisLedger(redis_url, **fields)
    router = made_router(url, ledger, cascade=cascade)
    for i in range(n):
        try:
            router.invoke(QUESTION) if i % 2 else asyncio.run(router.ainvoke(QUESTION))
        except BudgetExceededError:
            time.sleep(0.02)
        except Exception:  # noqa: BLE001 - Redis is down: nothing is asked
            time.sleep(0.02)
    ledger.close(timeout_s=5)


def redis_row(
    name: str, *, append: bool, cascade: bool = False, escrow: float = 0.02, down_s: float = 0.5,
    **fields: Any,
) -> dict[str, Any]:  # fmt: skip
    """Workers that ask while Redis is killed and comes back."""
    fields = {"escrow": escrow, "retry_s": 0.05, **fields}
    with BillingServer(("ok", "ok", "504")) as server, tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder), append=append)
        fresh = context()
        args = (server.url, redis.url, fields, cascade, CALLS)
        workers = [fresh.Process(target=asking_worker, args=args) for _ in range(3)]
        for worker in workers:
            worker.start()
        for calls in (8, 20):
            # A Redis that forgets is killed while others know what it has forgotten.
            wait_until(lambda calls=calls: _is_time(server, calls, workers), 20)
            if all(worker.is_alive() for worker in workers):
                redis.kill()
                time.sleep(down_s)
                redis.start()
        for worker in workers:
            worker.join(120)
        made = judged_row(name, server, booked_usd(redis.url), LIMITS_USD[cascade], exact=False)
        redis.kill()
    return made


def _is_time(server: BillingServer, calls: int, workers: list[Any]) -> bool:
    return server.calls >= calls or not all(worker.is_alive() for worker in workers)


def booked_usd(redis_url: str) -> float:
    """What is settled or reserved in Redis."""
    ledger = RedisLedger(redis_url, escrow=0.0)
    try:
        return to_usd(sum(ledger.read_nano(Budget(1.0).account({}, 0.0))))
    finally:
        ledger.close(timeout_s=1)


def killed_worker_row(name: str, *, cascade: bool = False) -> dict[str, Any]:
    """Workers killed -9 while the provider works on their calls; another spends what is left."""
    fields = {"escrow": 0.0, "lease_s": 1.0, "unsettled": "charge"}
    with BillingServer() as server, tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        fresh = context()
        for i in range(2):
            worker = fresh.Process(
                target=asking_worker, args=(server.url, redis.url, fields, cascade, 1000)
            )
            worker.start()
            wait_until(lambda i=i: server.calls >= 5 * (i + 1), 20)
            os.kill(worker.pid or 0, signal.SIGKILL)
            worker.join()
        time.sleep(1.5)
        last = fresh.Process(
            target=asking_worker, args=(server.url, redis.url, fields, cascade, CALLS)
        )
        last.start()
        last.join(120)
        made = judged_row(name, server, booked_usd(redis.url), LIMITS_USD[cascade], exact=False)
        redis.kill()
    return made


def forking_worker(url: str, redis_url: str | None, cascade: bool, out: Any) -> None:
    """Ask, fork twice, and ask in all three processes."""
    ledger = None if redis_url is None else RedisLedger(redis_url, escrow=0.05)
    router = made_router(url, ledger, cascade=cascade)

    def ask(n: int) -> None:
        for _ in range(n):
            with contextlib.suppress(Exception):
                router.invoke(QUESTION)

    ask(3)
    children = []
    for _ in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            ask(CALLS)
            if isinstance(ledger, RedisLedger):
                ledger.close(timeout_s=5)
            os._exit(0)
    ask(CALLS)
    for child in children:
        os.waitpid(child, 0)
    account = router.budgets.budgets[0].account({}, 0.0)
    out.put(to_usd(router.budgets.ledger.used_nano(account)))
    if ledger is not None:
        ledger.close(timeout_s=5)


def fork_row(name: str, *, shared: bool, cascade: bool = False) -> dict[str, Any]:
    """A process that is forked with its router."""
    with BillingServer() as server, tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder)) if shared else None
        fresh = context()
        out = fresh.Queue()
        args = (server.url, redis.url if redis else None, cascade, out)
        worker = fresh.Process(target=forking_worker, args=args)
        worker.start()
        booked = out.get(timeout=120)
        worker.join(30)
        if redis is not None:
            booked = booked_usd(redis.url)
        made = judged_row(name, server, booked, LIMITS_USD[cascade], exact=not shared)
        if redis is not None:
            redis.kill()
    return made


def rows() -> list[dict[str, Any]]:
    """All rows that need several processes."""
    return [
        redis_row("Redis killed", append=True),
        redis_row("Redis killed, cascade", append=True, cascade=True),
        redis_row("Redis killed, all from the escrow", append=True, escrow=0.3, down_s=2.0),
        redis_row("Redis killed, no persistence", append=False),
        redis_row("Redis killed, no persistence, cascade", append=False, cascade=True),
        redis_row("no persistence, but required", append=False, persistence="require"),
        killed_worker_row("workers killed"),
        killed_worker_row("workers killed, cascade", cascade=True),
        fork_row("a fork", shared=False),
        fork_row("a fork, Redis", shared=True),
        fork_row("a fork, Redis, cascade", shared=True, cascade=True),
    ]
