"""A provider on the loopback that bills by rules of its own, however a call ends and is reported.

It speaks OpenAI's chat completions over real HTTP. A call is billed when it arrives, unless it is
refused, as a provider bills what it has begun to generate.
"""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from itertools import cycle
from typing import Any

from tests.support.loopback import Loopback

# USD per million tokens of prompts and answers, by model.
PRICES = {"small": (1, 2), "large": (10, 20), "judge": (1, 4)}
UNBILLED = ("400", "401", "429")
N_ANSWERED = 12
"""Tokens of an answer where the provider does not use all that it may."""


class BillingServer(Loopback):
    """Keeps the books of one provider.

    Args:
        ends: How the calls end, in turn: `ok`, a status, `<status> billed`, `cut` (no answer),
            `half` (cut within the answer), `garbage`, `no choices`, `filtered`.
        usage: What is reported: `once`, `repeated` in every chunk, `zero`, `none`.
        longest: Whether every answer is as long as it may be.
        image_tokens: Tokens of an image.
        delay_s: Seconds before the answer, in turn.
        pause_s: Seconds between two chunks.
    """

    def __init__(
        self,
        ends: tuple[str, ...] = ("ok",),
        *,
        usage: str = "once",
        longest: bool = True,
        image_tokens: int = 0,
        delay_s: tuple[float, ...] = (0.0,),
        pause_s: float = 0.0,
    ) -> None:
        self.usage, self.longest, self.image_tokens = usage, longest, image_tokens
        self.pause_s = pause_s
        self.nano, self.calls, self.running, self.connections = 0, 0, 0, 0
        self._ends, self._delays = cycle(ends), cycle(delay_s)
        self._verdicts = cycle(["Correct", "Incorrect", "Incorrect"])
        self._lock = threading.Lock()
        super().__init__(_Handler)
        self._server.daemon_threads = True
        self.url += "/v1"

    @property
    def billed_usd(self) -> float:
        return self.nano / 1e9

    def begin(self, body: dict[str, Any]) -> tuple[str, float, dict[str, int], str]:
        """Bill a call; return how it ends, its delay, its usage and its text."""
        with self._lock:
            self.calls += 1
            self.running += 1
            end, delay = next(self._ends), next(self._delays)
            text = "w " * N_ANSWERED
            if body.get("response_format"):
                text = json.dumps({"rationale": "so", "verdict": next(self._verdicts)})
            limit = body.get("max_completion_tokens") or body.get("max_tokens") or 100_000
            n_out = limit if self.longest else min(limit, N_ANSWERED)
            n_out *= body.get("n") or 1
            n_in = self._count(body)
            if end not in UNBILLED:
                per_in, per_out = PRICES[body["model"]]
                self.nano += 1000 * (per_in * n_in + per_out * n_out)
        usage = {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out}
        if self.usage == "zero":
            usage = dict.fromkeys(usage, 0)
        return end, delay, usage, text

    def finish(self) -> None:
        with self._lock:
            self.running -= 1

    def wait_until_called(self, calls: int, timeout_s: float = 5.0) -> bool:
        """Wait for a number of calls; return whether they came."""
        return wait_until(lambda: self.calls >= calls, timeout_s)

    def wait_until_idle(self, timeout_s: float = 20.0) -> bool:
        return wait_until(lambda: self.running == 0, timeout_s)

    def _count(self, body: dict[str, Any]) -> int:
        """Tokens of the prompt: one for each byte of text, as many as there can be."""
        n = len(json.dumps(body.get("tools") or ""))
        for message in body["messages"]:
            blocks = message.get("content") or ""
            for block in [blocks] if isinstance(blocks, str) else blocks:
                if isinstance(block, str):
                    n += len(block.encode())
                elif block["type"] == "text":
                    n += len(block["text"].encode())
                else:
                    n += self.image_tokens
        return n


def wait_until(is_so: Any, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


class _Handler(BaseHTTPRequestHandler):
    fake: BillingServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def setup(self) -> None:
        self.fake.connections += 1
        super().setup()

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if len(data) < int(self.headers["Content-Length"]):
            return  # The caller left before it had sent its request.
        body = json.loads(data)
        end, delay, usage, text = self.fake.begin(body)
        self.close_connection = True
        try:
            time.sleep(delay)
            self._answer(body, end, usage, text)
        except OSError:
            pass  # The caller has gone.
        finally:
            self.fake.finish()

    def _answer(self, body: dict[str, Any], end: str, usage: dict[str, int], text: str) -> None:
        base = {"id": "chatcmpl-1", "created": 0, "model": body["model"]}
        if end[0].isdigit():
            error = {"message": end, "type": "error", "code": None}
            self._send(json.dumps({"error": error}).encode(), int(end[:3]))
        elif end == "cut":
            self._cut()
        elif end == "garbage":
            self._send(b'{"id": "x", "choices": [{"mess')
        elif body.get("stream"):
            self._stream(body, end, usage, text)
        else:
            reason = "content_filter" if end == "filtered" else "stop"
            content = "" if end == "filtered" else text
            message = {"role": "assistant", "content": content}
            choices = [
                {"index": i, "finish_reason": reason, "message": message}
                for i in range(0 if end == "no choices" else body.get("n") or 1)
            ]
            whole = {**base, "object": "chat.completion", "choices": choices}
            if self.fake.usage != "none":
                whole["usage"] = usage
            data = json.dumps(whole).encode()
            self._send(data, cut=len(data) // 2 if end == "half" else None)

    def _stream(self, body: dict[str, Any], end: str, usage: dict[str, int], text: str) -> None:
        base = {"id": "chatcmpl-1", "created": 0, "model": body["model"]}
        base["object"] = "chat.completion.chunk"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        words = [] if end in ("no choices", "filtered") else text.split()
        reason = "content_filter" if end == "filtered" else "stop"
        deltas = [{"role": "assistant", "content": ""}, *({"content": w + " "} for w in words), {}]
        for i, delta in enumerate(deltas if end != "no choices" else []):
            finish = reason if i == len(deltas) - 1 else None
            event = {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            if self.fake.usage == "repeated":
                n_out = usage["completion_tokens"] * i // (len(deltas) - 1)
                total = usage["prompt_tokens"] + n_out
                event["usage"] = {**usage, "completion_tokens": n_out, "total_tokens": total}
            self._event(event)
            if end == "half" and i == len(deltas) // 2:
                self._cut()
                return
            time.sleep(self.fake.pause_s)
        wanted = (body.get("stream_options") or {}).get("include_usage", False)
        if wanted and self.fake.usage != "none":
            self._event({**base, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _send(self, data: bytes, status: int = 200, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        if cut is not None:
            self._cut()

    def _cut(self) -> None:
        """End the connection with a reset."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
