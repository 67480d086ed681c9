"""What serving a router costs over serving its model bare, and how many streams it holds.

Both servers run in one process each, with the same stack, the same fake model (a first token after
50 ms, then a token each 5 ms) and the same load from another process, in turns.

Where schemathesis is installed (best apart, as its dependencies are picky, and named in
LLM_ROUTER_SCHEMATHESIS) it fuzzes the router's server as well.

Usage: python tests/benchmarks/server.py [--quick] [--json]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from tqdm import tqdm

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.apps.server import create_app
from langchain_llm_router.apps.server.openai_format import ChatRequest, completion
from langchain_llm_router.policies import Always

TTFT_S, ITL_S = 0.05, 0.005
WORDS = [f"word{i} " for i in range(20)]
USAGE = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}


class SlowModel(BaseChatModel):
    """Takes as long as a quick provider."""

    @property
    def _llm_type(self) -> str:
        return "slow"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(TTFT_S + ITL_S * len(WORDS))
        message = AIMessage("".join(WORDS), usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self, messages, stop=None, run_manager=None, **kwargs
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(TTFT_S)
        for word in WORDS:
            await asyncio.sleep(ITL_S)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        last = AIMessageChunk(content="", usage_metadata=USAGE, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def bare_app() -> FastAPI:
    """The same stack without a router."""
    app, model = FastAPI(), SlowModel()

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> JSONResponse:
        message = await model.ainvoke(body.to_messages(), **body.call_kwargs())
        return JSONResponse(completion(message, model="bare", record=None))

    return app


def routed_app() -> FastAPI:
    candidates = [Candidate(n, SlowModel(), Price(1, 2)) for n in ("small", "large")]
    return create_app(ChatLLMRouter(candidates=candidates, policy=Always("small")))


def run_server(make, port: int) -> None:
    uvicorn.run(make(), host="127.0.0.1", port=port, log_level="error")


def start(make) -> tuple[multiprocessing.Process, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(make, port), daemon=True
    )
    process.start()
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{url}/health")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process, url
    raise TimeoutError(url)


BODY = {"model": "router", "messages": [{"role": "user", "content": "hello?"}]}


async def throughput(url: str, n: int, at_once: int) -> float:
    """Answers per second, `at_once` in flight."""
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        gate = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with gate:
                answer = await client.post(f"{url}/v1/chat/completions", json=BODY)
                answer.raise_for_status()

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(n)))
        return n / (time.perf_counter() - started)


async def streams(url: str, n: int) -> tuple[int, float]:
    """How many of `n` streams held at once came whole, and the p95 time to the first token."""
    limits = httpx.Limits(max_connections=n)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:

        async def one() -> tuple[bool, float]:
            started, first, lines = time.perf_counter(), 0.0, []
            body = {**BODY, "stream": True}
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    first = first or time.perf_counter() - started
                    lines.append(line)
            text = "".join(
                json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                for line in lines
                if line.startswith("data: {")
            )
            return text == "".join(WORDS) and "data: [DONE]" in lines, first

        results = await asyncio.gather(*(one() for _ in range(n)))
    return sum(ok for ok, _ in results), float(np.percentile([first for _, first in results], 95))


def fuzz(url: str, n: int) -> dict[str, int | None]:
    """How many requests schemathesis made up, and how many operations it made fail with a 5xx."""
    program = os.environ.get("LLM_ROUTER_SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        return {"fuzzed_requests": None, "fuzzed_server_errors": None}
    done = subprocess.run(
        [program, "run", f"{url}/openapi.json", "--checks", "not_a_server_error",
         "--max-examples", str(n), "--seed", "1", "--no-color"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    generated = re.search(r"(\d+) generated", done.stdout)
    if generated is None:
        raise RuntimeError(done.stdout + done.stderr)
    errors = re.search(r"Server error: (\d+)", done.stdout)
    failed = int(errors.group(1)) if errors else int(done.returncode != 0)
    return {"fuzzed_requests": int(generated.group(1)), "fuzzed_server_errors": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds, n, at_once = (2, 200, 8) if options.quick else (5, 600, 8)
    servers = {"bare": start(bare_app), "router": start(routed_app)}
    rates: dict[str, list[float]] = {"bare": [], "router": []}
    for url in (url for _, url in servers.values()):
        asyncio.run(throughput(url, 50, at_once))  # warm-up
    for _ in tqdm(range(rounds), desc="rounds", file=sys.stderr):
        for name, (_, url) in servers.items():
            rates[name].append(asyncio.run(throughput(url, n, at_once)))
    whole, first = asyncio.run(streams(servers["router"][1], 200))
    fuzzed = fuzz(servers["router"][1], 10 if options.quick else 300)
    for process, _ in servers.values():
        process.terminate()
    ratios = np.array(rates["router"]) / np.array(rates["bare"])
    figures = {
        "at_once": at_once,
        "bare_per_s": float(np.median(rates["bare"])),
        "router_per_s": float(np.median(rates["router"])),
        "router_to_bare": float(np.median(ratios)),
        "router_to_bare_range": [float(ratios.min()), float(ratios.max())],
        "streams_held": 200,
        "streams_whole": whole,
        "stream_first_token_p95_s": first,
        **fuzzed,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
