"""Real HTTP servers on the loopback that behave badly on purpose, and keep honest books.

Each port speaks enough of OpenAI's chat completions for `ChatOpenAI` and LiteLLM. `POST /control`
sets how a port behaves, `GET /stats` says whom it served. It bills as a provider does: for every
answer it generated, whether or not the caller was still there to read it.
"""

import asyncio
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
import zlib

OUTPUT_TOKENS = 20
INPUT_TOKENS = 10
USD_PER_INPUT, USD_PER_OUTPUT = 1e-6, 1e-5
USD_PER_ANSWER = INPUT_TOKENS * USD_PER_INPUT + OUTPUT_TOKENS * USD_PER_OUTPUT

# A third each of refusals, answers of no use, and answers too late.
MIXED = {"rate_limit": 0.06, "error": 0.08, "hang": 0.04, "cut": 0.06, "garbage": 0.06}


class Port:
    """One endpoint."""

    def __init__(self) -> None:
        self.latency_s, self.jitter_s = 0.02, 0.0
        self.failures: dict[str, float] = {}
        self.random = random.Random(0)
        self.answers: dict[str, int] = {}
        self.billed = 0
        self.counts: dict[str, int] = {}
        self.starts: list[float] = []

    async def serve(self, reader, writer) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self.answer(first.split()[1], body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, body: bytes, writer) -> bool:
        if path == "/control":
            given = json.loads(body)
            self.latency_s = given.get("latency_s", self.latency_s)
            self.jitter_s = given.get("jitter_s", self.jitter_s)
            self.failures = given.get("failures", self.failures)
            if given.get("reset"):
                self.answers, self.billed, self.counts, self.starts = {}, 0, {}, []
                self.random = random.Random(given["reset"])
            return await reply(writer, 200, {})
        if path == "/stats":
            return await reply(
                writer,
                200,
                {
                    "answers": self.answers,
                    "billed": self.billed,
                    "counts": self.counts,
                    "starts": self.starts,
                },
            )
        return await self.complete(json.loads(body), writer)

    async def complete(self, request: dict, writer) -> bool:
        self.starts.append(time.time())
        key = str(request["messages"][-1]["content"])
        fate = self.fate()
        self.counts[fate] = self.counts.get(fate, 0) + 1
        if fate == "rate_limit":
            return await reply(writer, 429, {"error": {"message": "slow down"}}, "retry-after: 0.2")
        if fate == "error":
            return await reply(writer, 500, {"error": {"message": "internal"}})
        self.billed += 1
        latency_s = latency_of(key, self.latency_s, self.jitter_s)
        await asyncio.sleep(30.0 if fate == "hang" else latency_s)
        if fate == "garbage":
            return await raw(writer, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<garbage>")
        if request.get("stream"):
            return await self.stream(fate, key, writer)
        if fate == "cut":
            await raw(writer, b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"id": "x", "cho')
            return False
        self.answers[key] = self.answers.get(key, 0) + 1
        return await reply(writer, 200, completion(key))

    async def stream(self, fate: str, key: str, writer) -> bool:
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        )
        await raw(writer, (head + "\r\n").encode())
        words = ["the ", "answer ", f"to {key}"]
        for i, word in enumerate(words):
            if fate == "cut" and i == 2:
                return False
            await event(writer, {"choices": [{"index": 0, "delta": {"content": word}}]})
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await event(writer, last)
        await event(writer, {"choices": [], "usage": usage()})
        await event(writer, None)
        await raw(writer, b"0\r\n\r\n")
        self.answers[key] = self.answers.get(key, 0) + 1
        return True

    def fate(self) -> str:
        draw = self.random.random()
        for name, share in self.failures.items():
            draw -= share
            if draw < 0:
                return name
        return "ok"


def latency_of(key: str, latency_s: float, jitter_s: float) -> float:
    """How long a question takes: always the same, so that a client can subtract it."""
    return latency_s + jitter_s * zlib.crc32(key.encode()) / 2**32


def usage() -> dict:
    total = INPUT_TOKENS + OUTPUT_TOKENS
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": total,
    }


def completion(key: str) -> dict:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"the answer to {key}"},
            }
        ],
        "usage": usage(),
    }


async def raw(writer, data: bytes) -> bool:
    writer.write(data)
    await writer.drain()
    return True


async def reply(writer, status: int, body: dict, header: str = "x: y") -> bool:
    text = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{header}\r\n"
        f"content-length: {len(text)}\r\n\r\n"
    )
    return await raw(writer, head.encode() + text)


async def event(writer, body: dict | None) -> None:
    if body is not None:
        body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", **body}
    line = b"data: " + (b"[DONE]" if body is None else json.dumps(body).encode()) + b"\n\n"
    await raw(writer, f"{len(line):x}\r\n".encode() + line + b"\r\n")


class Servers:
    """Several endpoints in one process of their own, which imports nothing but this file."""

    def __init__(self, n: int = 3) -> None:
        sockets = [socket.socket() for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        self.ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        self.process = subprocess.Popen([sys.executable, __file__, *map(str, self.ports)])
        until = time.monotonic() + 60
        for port in self.ports:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        self.process.kill()
                        raise
                    time.sleep(0.02)

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()

    def url(self, i: int) -> str:
        return f"http://127.0.0.1:{self.ports[i]}/v1"

    def control(self, i: int, **settings: object) -> None:
        data = json.dumps(settings).encode()
        url = f"http://127.0.0.1:{self.ports[i]}/control"
        urllib.request.urlopen(urllib.request.Request(url, data), timeout=30).read()

    def stats(self, i: int) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[i]}/stats", timeout=30) as got:
            return json.loads(got.read())


async def main(ports: list[int]) -> None:
    for port in ports:
        await asyncio.start_server(Port().serve, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
