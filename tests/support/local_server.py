"""An OpenAI-compatible server on loopback that adds numbers: real HTTP without a model.

It answers at once as many requests as come (it batches), each after `delay_s`, counts every call,
and can be told to refuse keys, to limit rates or to fail.
"""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LocalServer:
    """Serves on 127.0.0.1 while it is entered.

    Args:
        delay_s: Seconds that each request takes, however many come at once.
        key: The only key that is let in; None: any.
        rate_limited: Every so manyth request is refused with 429; 0: none.
        dies_after: After so many requests every connection is dropped; None: never.
    """

    def __init__(
        self,
        delay_s: float = 0.0,
        key: str | None = None,
        rate_limited: int = 0,
        dies_after: int | None = None,
    ) -> None:
        self.delay_s, self.key, self.rate_limited = delay_s, key, rate_limited
        self.dies_after = dies_after
        self.calls: Counter[tuple[str, str]] = Counter()
        self.n_requests = 0
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> "LocalServer":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A body that is sent after its headers would otherwise wait 40 ms to be sent.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer._handle(self, body)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed in the middle is what this server is for."""

        self._server = Server(("127.0.0.1", 0), Handler)
        # As often as it looks, it can be shut down: by default each half second.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What `ChatOpenAI(base_url=...)` takes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            self.n_requests += 1
            turn = self.n_requests
        if self.dies_after is not None and turn > self.dies_after:
            handler.close_connection = True
            return None
        if self.key is not None and handler.headers.get("Authorization") != f"Bearer {self.key}":
            return _send(handler, 401, {"error": {"message": "Incorrect API key provided"}})
        if self.rate_limited and turn % self.rate_limited == 0:
            return _send(handler, 429, {"error": {"message": "Rate limit reached"}})
        model = body["model"]
        with self._lock:
            self.calls[model, body["messages"][-1]["content"]] += 1
            self.at_once[model] += 1
            self.most_at_once[model] = max(self.most_at_once[model], self.at_once[model])
        time.sleep(self.delay_s)
        with self._lock:
            self.at_once[model] -= 1
        text = _reply(body)
        if body.get("stream"):
            return _stream(handler, body, text)
        message = {"role": "assistant", "content": text}
        choices = [
            {"index": i, "message": message, "finish_reason": "stop"}
            for i in range(body.get("n") or 1)
        ]
        return _send(handler, 200, {**_head(body), "choices": choices, "usage": _usage(body)})


def _reply(body: dict[str, Any]) -> str:
    said = body["messages"][-1]["content"]
    if body["model"] == "prose":
        return "Well, it depends on how one looks at it."
    if "response_format" in body:
        return json.dumps({"rationale": "It adds up.", "verdict": "Correct"})
    if said.startswith("What is"):
        a = int(said.split()[2])
        # The model named weak is right about even numbers only.
        return str(2 * a + (a % 2 if body["model"] == "weak" else 0))
    return "Yes"


def _usage(body: dict[str, Any]) -> dict[str, int]:
    words = sum(len(str(message["content"]).split()) for message in body["messages"])
    return {"prompt_tokens": words, "completion_tokens": 1, "total_tokens": words + 1}


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}


def _send(handler: BaseHTTPRequestHandler, status: int, payload: dict[str, Any]) -> None:
    data = json.dumps(payload).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _stream(handler: BaseHTTPRequestHandler, body: dict[str, Any], text: str) -> None:
    head = {**_head(body), "object": "chat.completion.chunk"}
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [
        {**head, "choices": [delta]},
        {**head, "choices": [last]},
        {**head, "choices": [], "usage": _usage(body)},
    ]
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data.encode())
