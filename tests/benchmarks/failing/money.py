"""What a provider billed, what the ledger booked and the limit, fault by fault.

Every row asks through all ways of asking until its calls are up or the limit is reached. A row
holds if booked >= billed <= limit; where every answer says what it used, booked is billed exactly.
"""

import asyncio
import base64
import ctypes
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets, Ledger
from langchain_llm_router.budgets.ledgers import to_usd
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.benchmarks.failing.billing_server import PRICES, BillingServer

LIMIT_USD, MAX_TOKENS, CALLS = 0.05, 100, 24
IMAGE = "data:image/png;base64," + base64.b64encode(random.Random(0).randbytes(2_000_000)).decode()
HEDGED = Resilience(first_token_timeout_s=0.25, timeout_s=0.6, retries=1, hedge_after=0.5)
# Eight fast answers, after which a slow one is hedged.
SLOW_LATER = (0.0,) * 16 + (0.15, 0.4, 0.8) * 100


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    server: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    image: str | None = None
    drive: str = "ask"
    rules: Resilience | None = None
    limit_usd: float = LIMIT_USD
    exact: bool = False
    """Whether every call tells what it used, or cost nothing."""

    only_live: bool = False


FAULTS = [
    Fault("none", {"longest": False}, exact=True),
    Fault("the longest answers", exact=True),
    Fault("clients that retry, and cut connections", {"ends": ("cut", "cut", "ok")}),
    Fault("clients that retry, and 503", {"ends": ("503", "503", "503", "ok")}),
    Fault("refused: 429, 401, 400", {"ends": ("429", "401", "400", "ok")}, exact=True),
    Fault("5xx that was billed", {"ends": ("504", "500", "ok")}),
    Fault("half an answer", {"ends": ("half", "ok")}),
    Fault("garbage", {"ends": ("garbage", "ok")}),
    Fault("no choices", {"ends": ("no choices", "ok")}),
    Fault("filtered", {"ends": ("filtered", "ok")}),
    Fault(
        "image by URL",
        {"image_tokens": 25_501},
        image="https://example.org/a.png",
        limit_usd=1.5,
        exact=True,
    ),
    Fault("image of 2 MB", {"image_tokens": 1_105}, image=IMAGE, limit_usd=1.5, exact=True),
    Fault("usage in every chunk", {"usage": "repeated"}, exact=True),
    Fault("a usage of zero", {"usage": "zero"}),
    Fault("no usage", {"usage": "none"}),
    Fault("no usage in streams", client={"stream_usage": False}),
    Fault("a length that the candidate alone has", client={"max_tokens": None}, exact=True),
    Fault("several answers", client={"n": 3}, exact=True),
    Fault("cancelled before sending", drive="cancel_early"),
    Fault("cancelled after sending", {"delay_s": (0.15,)}, drive="cancel_sent"),
    Fault("a stream cancelled within", {"pause_s": 0.02}, drive="cancel_stream"),
    Fault("a stream that its reader leaves", {"pause_s": 0.005}, drive="leave"),
    Fault("a thread interrupted", {"delay_s": (0.1,)}, drive="interrupt"),
    Fault("a thread whose caller is cancelled", {"delay_s": (0.1,)}, drive="cancel_thread"),
    Fault("timeouts", {"delay_s": (0.0, 0.4)}, rules=Resilience(timeout_s=0.2), only_live=True),
    Fault(
        "first-token timeouts, hedged", {"delay_s": SLOW_LATER}, rules=HEDGED, only_live=True,
        limit_usd=0.3,
    ),
    Fault("many at once", {"ends": ("ok", "504", "cut"), "delay_s": (0.02,)}, drive="at_once"),
    Fault("a raised limit", drive="raise_limit", exact=True),
    Fault("a lowered limit", drive="lower_limit", exact=True),
    Fault("a graph", {"ends": ("ok", "504", "half")}, drive="graph"),
]  # fmt: skip


def made_pool(url: str, **client: Any) -> list[Candidate]:
    """Two candidates and a judge, with the clients that a user makes: they retry on their own."""
    return [
        Candidate(
            name,
            ChatOpenAI(
                model=name, base_url=url, api_key="none",
                **{"max_tokens": MAX_TOKENS, "stream_usage": True, **client},
            ),
            Price(*price),
            max_output_tokens=MAX_TOKENS,
        )
        for name, price in PRICES.items()
    ]  # fmt: skip


def parts(pool: list[Candidate], *, cascade: bool, live: Live | None) -> dict[str, Any]:
    """The arguments of a router."""
    fields: dict[str, Any] = {"candidates": pool[:2], "policy": Always("small"), "live": live}
    if cascade:
        fields["policy"] = ConfidenceThreshold(threshold=0.9)
        fields["verifier"] = SelfEvaluator(n_samples=2, judge=pool[2])
    return fields


def row(fault: Fault, *, cascade: bool, live: bool, n: int = CALLS) -> dict[str, Any]:
    """Drive one fault, and compare the books."""
    rules = fault.rules or Resilience(retries=1, backoff_s=0.001, longest_wait_s=0.01)
    with BillingServer(**fault.server) as server:
        fields = parts(
            made_pool(server.url, **fault.client),
            cascade=cascade,
            live=Live(resilience=rules) if live else None,
        )
        asking = _Asking(fault, server, fields, n)
        asyncio.run(getattr(asking, fault.drive)())
        server.wait_until_idle()
        counts = asking.counts
    return judged_row(
        fault.name + (", cascade" if cascade else "") + (", live" if live else ""),
        server,
        booked_usd(asking.budgets),
        asking.limit_usd,
        exact=fault.exact,
        **counts,
    )


def judged_row(
    name: str, server: BillingServer, booked: float, limit: float, *, exact: bool, **counts: int
) -> dict[str, Any]:
    """One row of the table. A nano-dollar of tolerance, because ledgers round amounts."""
    billed = server.billed_usd
    covered = booked >= billed - 1e-9
    return {
        "fault": name,
        "billed_usd": billed,
        "booked_usd": round(booked, 9),
        "limit_usd": round(limit, 9),
        "calls": server.calls,
        **counts,
        "holds": covered and billed <= limit + 1e-9 and (not exact or booked <= billed + 1e-7),
    }


def booked_usd(budgets: Budgets) -> float:
    account = budgets.budgets[0].account({}, budgets.clock())
    return to_usd(budgets.ledger.used_nano(account))


class _Asking:
    """The requests of one row."""

    def __init__(
        self, fault: Fault, server: BillingServer, fields: dict[str, Any], n: int,
        ledger: Ledger | None = None,
    ) -> None:  # fmt: skip
        self.server, self.fields, self.n = server, fields, n
        # A cascade reserves more: drafts, verdicts and the answer of the large model.
        self.limit_usd = fault.limit_usd * (3.0 if "verifier" in fields else 1)
        self.counts = {"requests": 0, "answered": 0, "refused": 0, "failed": 0}
        self._ledger = {} if ledger is None else {"ledger": ledger}
        self._set_limit(self.limit_usd)
        blocks: list[Any] = [{"type": "text", "text": "What is it, in a few words?"}]
        if fault.image is not None:
            blocks.append({"type": "image_url", "image_url": {"url": fault.image}})
        self.messages = [HumanMessage(blocks)]

    def _set_limit(self, limit_usd: float) -> None:
        self.budgets = Budgets([Budget(limit_usd)], **self._ledger)
        self._ledger = {"ledger": self.budgets.ledger}
        self.router = ChatLLMRouter(**self.fields, budgets=self.budgets)

    def _count(self, error: BaseException | None) -> None:
        self.counts["requests"] += 1
        kind = "failed"
        if error is None:
            kind = "answered"
        elif isinstance(error, BudgetExceededError):
            kind = "refused"
        self.counts[kind] += 1

    async def _end(self, task: Any) -> None:
        try:
            await task
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - counted by kind
            self._count(error)
        else:
            self._count(None)

    # Ways of asking.

    async def _invoke(self) -> None:
        self.router.invoke(self.messages)

    async def _stream(self) -> None:
        for _ in self.router.stream(self.messages):
            pass

    async def _ainvoke(self) -> None:
        await self.router.ainvoke(self.messages)

    async def _astream(self) -> None:
        async for _ in self.router.astream(self.messages):
            pass

    def _ways(self) -> list[Callable[[], Any]]:
        return [self._invoke, self._astream, self._ainvoke, self._stream]

    # What is driven.

    async def ask(self) -> None:
        for _, way in zip(range(self.n), cycle(self._ways()), strict=False):
            await self._end(way())

    async def graph(self) -> None:
        compiled = create_cascade(**self.fields, budgets=self.budgets).compile()

        async def invoke() -> None:
            compiled.invoke({"messages": self.messages})

        async def ainvoke() -> None:
            await compiled.ainvoke({"messages": self.messages})

        for _, way in zip(range(self.n), cycle([invoke, ainvoke]), strict=False):
            await self._end(way())

    async def at_once(self) -> None:
        tasks = [self._ainvoke() if i % 2 else self._astream() for i in range(self.n)]
        threads = [asyncio.to_thread(self.router.invoke, self.messages) for _ in range(self.n)]
        await asyncio.gather(*map(self._end, [*tasks, *threads]))

    async def cancel_early(self) -> None:
        for i in range(self.n):
            task = asyncio.create_task(self._ainvoke() if i % 2 else self._astream())
            for _ in range(i):
                await asyncio.sleep(0)
            task.cancel()
            await self._end(task)
            await asyncio.sleep(0.01)
            if self.server.connections == 0 and booked_usd(self.budgets) > 0:
                msg = f"a call that was not sent was booked: cancelled after {i} turns of the loop"
                raise AssertionError(msg)

    async def cancel_sent(self) -> None:
        for i in range(self.n):
            task = asyncio.create_task(self._ainvoke() if i % 2 else self._astream())
            await self._called(1 + i % 3 if "verifier" in self.fields else 1)
            task.cancel()
            await self._end(task)

    async def cancel_stream(self) -> None:
        for i in range(self.n):
            task = asyncio.create_task(self._astream())
            await self._called(1)
            await asyncio.sleep(0.02 * (i % 8))
            task.cancel()
            await self._end(task)

    async def _called(self, more: int) -> None:
        calls, until = self.server.calls + more, time.monotonic() + 0.4
        while self.server.calls < calls and time.monotonic() < until:
            await asyncio.sleep(0.002)

    async def leave(self) -> None:
        async def aleave() -> None:
            async for _ in self.router.astream(self.messages):
                break

        async def leave() -> None:
            for _ in self.router.stream(self.messages):
                break

        async def close() -> None:
            stream = self.router.stream(self.messages)
            next(stream)
            stream.close()

        for _, way in zip(range(self.n), cycle([aleave, leave, close]), strict=False):
            await self._end(way())

    async def interrupt(self) -> None:
        """A thread in which an exception arrives that no code expects, as by Ctrl-C."""
        for i in range(self.n):
            way = self.router.invoke if i % 2 else lambda m: list(self.router.stream(m))
            ended: list[BaseException | None] = []
            thread = threading.Thread(target=_run, args=(way, self.messages, ended))
            thread.start()
            await self._called(1)
            _interrupt(thread)
            while thread.is_alive():
                await asyncio.sleep(0.002)
            self._count(ended[0] if ended else KeyboardInterrupt())

    async def cancel_thread(self) -> None:
        """A thread goes on although who waits for it is cancelled."""
        for _ in range(self.n):
            task = asyncio.create_task(asyncio.to_thread(self.router.invoke, self.messages))
            await self._called(1)
            task.cancel()
            await self._end(task)
        # The threads end, and with them the requests.
        await asyncio.get_running_loop().shutdown_default_executor()

    async def raise_limit(self) -> None:
        for limit in (self.limit_usd / 4, self.limit_usd / 2, self.limit_usd):
            self._set_limit(limit)
            await self.ask()

    async def lower_limit(self) -> None:
        self.n //= 4
        await self.ask()
        self._set_limit(self.limit_usd / 5)
        before = self.server.billed_usd
        await self.ask()
        if before > self.limit_usd / 5 and self.server.billed_usd > before:
            msg = "more was billed although a lowered limit was exceeded"
            raise AssertionError(msg)


def _run(way: Callable[[Any], Any], messages: Any, ended: list[BaseException | None]) -> None:
    try:
        way(messages)
    except BaseException as error:  # noqa: BLE001 - an interrupt is what is tried
        ended.append(error)
    else:
        ended.append(None)


def _interrupt(thread: threading.Thread) -> None:
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(KeyboardInterrupt))


def rows(*, quick: bool = False) -> list[dict[str, Any]]:
    """All rows that need one process; the quick ones are few requests, half of them live."""
    return [
        row(fault, cascade=cascade, live=live, n=4 if quick else CALLS)
        for fault in FAULTS
        for cascade in (False, True)
        for live in ((True,) if fault.only_live else (False, True))
        if not quick or cascade == live
    ]
