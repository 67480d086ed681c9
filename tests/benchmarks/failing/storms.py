"""Thousands of requests while 30 % of the calls to two of three endpoints fail."""

import asyncio
import time

from langchain_llm_router.budgets import BudgetExceededError
from langchain_llm_router.budgets.ledgers import to_usd
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types.errors import LlmRouterError
from tests.benchmarks.failing.clients import (
    DEADLINE_S,
    TIMEOUT_S,
    in_parallel,
    make_router,
    plain_clients,
    quantiles,
)
from tests.benchmarks.failing.servers import MIXED, USD_PER_ANSWER, Servers


def books(servers):
    stats = [servers.stats(i) for i in range(3)]
    answers = {}
    for one in stats:
        for key, count in one["answers"].items():
            answers[key] = answers.get(key, 0) + count
    billed = sum(one["billed"] for one in stats)
    return stats, answers, billed


def storm(n, concurrent, *, streamed=False, cap_usd=None, spread=False, timeout_s=TIMEOUT_S):
    """30 % of the calls to two of three endpoints fail; nothing may be lost or paid for twice."""
    cap = 10 * n * USD_PER_ANSWER + 10 if cap_usd is None else cap_usd
    with Servers() as servers:
        router = make_router(
            plain_clients(servers), cap_usd=cap, spread=spread, timeout_s=timeout_s
        )

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
                failures = MIXED if i < 2 else {}
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
    billed_usd = billed * USD_PER_ANSWER
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
