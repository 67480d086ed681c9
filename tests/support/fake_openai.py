"""OpenAI's chat completions on loopback: real HTTP and the real client, made-up answers."""

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import Loopback


class FakeOpenAI(Loopback):
    """Answers every chat in words, or in JSON that fits the schema it is given.

    Args:
        answer: The answer, with the model's name in place of `{model}`.
        hidden: Hidden reasoning tokens by `reasoning_effort`; if given, other efforts are refused,
            and so is a temperature, as OpenAI's reasoning models do.
    """

    def __init__(
        self,
        answer: str = "I am {model}.",
        hidden: dict[str | None, int] | None = None,
        *,
        several: bool | None = True,
        delay_s: float = 0.0,
    ) -> None:
        self.answer, self.hidden = answer, hidden
        self.several, self.delay_s = several, delay_s
        self.requests: list[dict[str, Any]] = []
        self.usages: list[dict[str, Any]] = []
        super().__init__(_Handler)
        self.url += "/v1"

    def reply(self, body: dict[str, Any]) -> str | None:
        """The text of a choice; None for a choice that is left out."""
        form = body.get("response_format") or {}
        if form.get("type") != "json_schema":
            return self.answer.format(model=body["model"])
        fields = form["json_schema"]["schema"]["properties"]
        return json.dumps({name: _value(schema) for name, schema in fields.items()})

    def message(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        return {"role": "assistant", "content": text}

    def finish_reason(self, text: str) -> str:
        return "stop"


def _value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"boolean": True, "number": 0.5, "integer": 1}.get(schema.get("type", ""), "so")


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOpenAI
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.fake.requests.append(body)
        hidden = self.fake.hidden
        effort = body.get("reasoning_effort")
        for name in ("temperature", "reasoning_effort"):
            if hidden is not None and name in body and body[name] not in hidden:
                message = f"Unsupported value: {name!r} does not support {body[name]!r}."
                error = {"message": message, "param": name, "code": "unsupported_value"}
                self._send({"error": error}, 400)
                return
        n = body.get("n", 1)
        if n > 1 and self.fake.several is None:
            self._send({"error": {"message": "Only one completion choice is allowed."}}, 400)
            return
        time.sleep(self.fake.delay_s)
        replies = [self.fake.reply(body) for _ in range(n if self.fake.several else 1)]
        texts = [text for text in replies if text is not None]
        spent = sum(len(str(m.get("content") or "").split()) for m in body["messages"])
        thought = 0 if hidden is None else hidden[effort]
        given = sum(len(text.split()) + thought for text in texts)
        usage: dict[str, Any] = {
            "prompt_tokens": spent,
            "completion_tokens": given,
            "total_tokens": spent + given,
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
        self.fake.usages.append(usage)
        base = {"id": "chatcmpl-1", "created": 0, "model": body["model"]}
        if body.get("stream"):
            self._stream(base, texts[0], usage)
            return
        choices = [
            {
                "index": i,
                "finish_reason": self.fake.finish_reason(text),
                "message": self.fake.message(body, text),
            }
            for i, text in enumerate(texts)
        ]
        self._send({**base, "object": "chat.completion", "usage": usage, "choices": choices})

    def _stream(self, base: dict[str, Any], text: str, usage: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        base = {**base, "object": "chat.completion.chunk"}
        parts = [{"role": "assistant", "content": word + " "} for word in text.split()]
        for delta, finish in [*((part, None) for part in parts), ({}, "stop")]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            self._event({**base, "choices": [choice]})
        self._event({**base, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())

    def _send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
