"""What serving a router costs over serving its model bare, and how many streams it holds.

Both servers run in one process each, with the same stack, the same fake model (a first token after
50 ms, then a token each 5 ms) and the same load from another process, in turns. Of the streams that
are held at once the tokens come as often in all, however many streams there are; how late a stream
ends, by how much the event loop comes late, and the processor time of a stream are those of each
server.

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
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, StreamingResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from tqdm import tqdm

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.apps.cli.serve_command import spare_collections
from langchain_llm_router.apps.server import create_app
from langchain_llm_router.apps.server.bodies import to_json
from langchain_llm_router.apps.server.openai_format import (
    ChatRequest,
    completion,
    completion_chunks,
    last_chunks,
    new_id,
)
from langchain_llm_router.policies import Always

TTFT_S, ITL_S = 0.05, 0.005
TOKENS_PER_S = 4000
"""Of all streams that are held at once: half of what a processor can serve."""

PACE = "Seconds between two tokens: "
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
        text = messages[-1].text
        itl_s = float(text.removeprefix(PACE)) if text.startswith(PACE) else ITL_S
        loop = asyncio.get_running_loop()
        started = loop.time() + TTFT_S
        for i, word in enumerate(WORDS, 1):
            # By the clock, so that what was late is not added up.
            await asyncio.sleep(started + i * itl_s - loop.time())
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        last = AIMessageChunk(content="", usage_metadata=USAGE, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def bare_app() -> FastAPI:
    """The same stack without a router."""
    app, model = FastAPI(), SlowModel()

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> Response:
        if body.stream:
            chunks = model.astream(body.to_messages(), **body.call_kwargs())
            return StreamingResponse(events(chunks), media_type="text/event-stream")
        message = await model.ainvoke(body.to_messages(), **body.call_kwargs())
        return JSONResponse(completion(message, model="bare", record=None))

    async def events(chunks: AsyncIterator[AIMessageChunk]) -> AsyncIterator[str]:
        id, seen = new_id(), []
        async for chunk in chunks:
            for data in completion_chunks(chunk, id=id, model="bare", first=not seen):
                yield f"data: {to_json(data)}\n\n"
            seen.append(chunk)
        whole = add_ai_message_chunks(seen[0], *seen[1:])
        for data in last_chunks(id=id, model="bare", whole=whole, record=None, usage=False):
            yield f"data: {to_json(data)}\n\n"
        yield "data: [DONE]\n\n"

    return watched(app)


def routed_app() -> FastAPI:
    candidates = [Candidate(n, SlowModel(), Price(1, 2)) for n in ("small", "large")]
    return watched(create_app(ChatLLMRouter(candidates=candidates, policy=Always("small"))))


def watched(app: FastAPI) -> FastAPI:
    """Reports at `/gaps` by how many seconds its event loop was late since the last report."""
    lags: list[float] = []
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while True:
            at = time.perf_counter()
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - at - 0.005)

    @app.get("/gaps")
    async def gaps() -> JSONResponse:
        if not watching:
            watching.append(asyncio.create_task(watch()))
        seen = {"late_s": lags.copy(), "cpu_s": time.process_time()}
        lags.clear()
        return JSONResponse(seen)

    return app


def run_server(make, port: int) -> None:
    app = make()
    spare_collections()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


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


async def streams(url: str, n: int, itl_s: float) -> dict[str, float]:
    """Hold `n` streams at once, begun within a second: how many come whole, and how late.

    Args:
        url: The server.
        n: The number of streams.
        itl_s: Seconds between two tokens of one stream.
    """
    limits = httpx.Limits(max_connections=n)
    body = {"model": "router", "stream": True}
    body["messages"] = [{"role": "user", "content": f"{PACE}{itl_s}"}]
    least_s = TTFT_S + itl_s * len(WORDS)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        before = (await client.get(f"{url}/gaps")).json()

        async def one(i: int) -> tuple[bool, float, float]:
            await asyncio.sleep(i / n)
            started, first, parts = time.perf_counter(), 0.0, []
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
                async for part in answer.aiter_raw():
                    first = first or time.perf_counter() - started
                    parts.append(part)
            took_s = time.perf_counter() - started
            events = b"".join(parts).decode().split("\n\n")
            text = "".join(
                json.loads(event[6:])["choices"][0]["delta"].get("content", "")
                for event in events
                if event.startswith("data: {")
            )
            return text == "".join(WORDS) and "data: [DONE]" in events, first, took_s - least_s

        results = await asyncio.gather(*(one(i) for i in range(n)))
    # On a connection of its own: the server closes those that were idle meanwhile.
    async with httpx.AsyncClient(timeout=120) as client:
        after = (await client.get(f"{url}/gaps")).json()
    gaps = after["late_s"]
    whole, first, late = zip(*results, strict=True)
    return {
        "whole": sum(whole),
        "first_token_p95_s": float(np.percentile(first, 95)),
        "late_p50_s": float(np.percentile(late, 50)),
        "late_p99_s": float(np.percentile(late, 99)),
        "gap_p99_s": float(np.percentile(gaps, 99)),
        "gap_max_s": max(gaps),
        "cpu_per_stream_s": (after["cpu_s"] - before["cpu_s"]) / n,
    }


def held(servers: dict[str, str], n: int, rounds: int) -> dict[str, object]:
    """The same for both servers in turns: medians over rounds, and what the router adds."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for _ in tqdm(range(rounds), desc=f"{n} streams", file=sys.stderr):
        for name, url in servers.items():
            # As many tokens a second in all, however many streams they belong to.
            seen[name].append(asyncio.run(streams(url, n, n / TOKENS_PER_S)))
    added = [b["late_p99_s"] - a["late_p99_s"] for a, b in zip(*seen.values(), strict=True)]
    ratios = [b["gap_p99_s"] / a["gap_p99_s"] for a, b in zip(*seen.values(), strict=True)]
    return {
        "lost": sum(n - int(one["whole"]) for rows in seen.values() for one in rows),
        "added_at_p99_s": added,
        "gap_to_bare": ratios,
        **{
            name: {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
            for name, rows in seen.items()
        },
    }


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
    urls = {name: url for name, (_, url) in servers.items()}
    at_200, at_500 = held(urls, 200, rounds), held(urls, 500, rounds)
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
        "200_streams": at_200,
        "500_streams": at_500,
        # Of single rounds, a pause of the machine in either server's turn is most of the figure.
        "p99_added_at_most_5_ms": float(np.median(at_200["added_at_p99_s"])) <= 0.005,
        "gap_at_most_1.5_of_bare": float(np.median(at_200["gap_to_bare"])) <= 1.5,
        "none_lost": at_200["lost"] + at_500["lost"] == 0,
        **fuzzed,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
