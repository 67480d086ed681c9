"""The same failing servers behind this router and behind LiteLLM's."""

import asyncio
import json
import os
import subprocess
import time

import pytest

from tests.benchmarks.failing.clients import (
    DEADLINE_S,
    RETRIES,
    TIMEOUT_S,
    in_parallel,
    make_router,
    quantiles,
    real_clients,
)
from tests.benchmarks.failing.servers import MIXED, USD_PER_ANSWER, Servers
from tests.benchmarks.failing.storms import books

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


def ask_litellm(python, servers, n, concurrent, timeout_s):
    urls = [servers.url(i) for i in range(3)]
    given = json.dumps([urls, n, concurrent, timeout_s, RETRIES, DEADLINE_S])
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [python, "-c", LITELLM, given]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def beside_litellm(python, n, concurrent, *, timeout_s=TIMEOUT_S):
    """The same failing servers, the same timeout and number of retries, one after the other."""
    if python is None:
        pytest.skip("no `--litellm`: the Python of a virtual environment that has litellm")
    table = {}
    with Servers() as servers:
        for name in ("ours", "litellm"):
            for i in range(3):
                servers.control(i, reset=i + 1, failures=MIXED if i < 2 else {})
            if name == "ours":
                router = make_router(real_clients(servers), timeout_s=timeout_s)
                asking = in_parallel(n, concurrent, lambda i, r=router: ask_ours(r, i), "ours")
                rows = asyncio.run(asking)
            else:
                rows = ask_litellm(python, servers, n, concurrent, timeout_s)
            stats, _, billed = books(servers)
            kinds = [kind for _, _, kind in rows if kind]
            table[name] = {
                "requests": len(rows),
                "success_share": sum(bool(ok) for _, ok, _ in rows) / len(rows),
                "latency": quantiles([s for s, _, _ in rows]),
                "billed_usd": billed * USD_PER_ANSWER,
                "calls_per_endpoint": [sum(one["counts"].values()) for one in stats],
                "errors": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            }
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    table["litellm"]["version"] = done.stdout.strip()
    return table
