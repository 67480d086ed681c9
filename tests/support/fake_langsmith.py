"""LangSmith's ingest endpoint on loopback: takes in what the real client sends, and keeps it."""

import email.parser
import gzip
import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.loopback import Loopback


class FakeLangSmith(Loopback):
    """Runs by id, with both ways of ingestion, and feedback; use as a context manager."""

    def __init__(self, *, multipart: bool = False) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.raw: list[bytes] = []
        self.feedback: list[dict[str, Any]] = []
        self.multipart = multipart
        self.refuses = False
        super().__init__(_Handler)

    def merge(self, run: dict[str, Any]) -> None:
        known = self.runs.setdefault(run["id"], {})
        for key, value in run.items():
            if value is None:
                continue
            both = key == "extra" and isinstance(value, dict)
            known[key] = {**known.get(key, {}), **value} if both else value

    def children(self, run: dict[str, Any] | None) -> list[dict[str, Any]]:
        parent = None if run is None else run["id"]
        found = [r for r in self.runs.values() if r.get("parent_run_id") == parent]
        return sorted(found, key=lambda r: r["dotted_order"])

    def tree(self, run: dict[str, Any] | None = None, depth: int = 0) -> str:
        lines = []
        for child in self.children(run):
            lines.append(f"{'  ' * depth}[{child['run_type']}] {child['name']}")
            lines += self.tree(child, depth + 1).splitlines()
        return "\n".join(lines)

    def metadata(self, run: dict[str, Any]) -> dict[str, Any]:
        return (run.get("extra") or {}).get("metadata") or {}

    def tokens(self) -> int:
        """What LangSmith would count: the usage of every llm run."""
        usages = [self.metadata(r).get("usage_metadata") for r in self.runs.values()]
        return sum(usage["total_tokens"] for usage in usages if usage)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeLangSmith
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.fake.refuses:
            self._reply({"detail": "Invalid token"}, 401)
            return
        if "/feedback" in self.path:
            asked = parse_qs(urlsplit(self.path).query)
            found = [f for f in self.fake.feedback if f["run_id"] in asked.get("run", [])]
            self._reply([{"trace_id": f["run_id"], **f} for f in found])
            return
        self._reply(
            {
                "version": "0.10.0",
                "batch_ingest_config": {
                    "use_multipart_endpoint": self.fake.multipart,
                    "scale_up_qsize_trigger": 1000,
                    "scale_up_nthreads_limit": 16,
                    "scale_down_nempty_trigger": 4,
                    "size_limit": 100,
                    "size_limit_bytes": 20971520,
                },
            }
        )

    def do_POST(self) -> None:
        body = self._body()
        self.fake.raw.append(body)
        if self.path.endswith("/runs/batch"):
            batch = json.loads(body)
            for run in batch.get("post", []) + batch.get("patch", []):
                self.fake.merge(run)
        elif self.path.endswith("/feedback"):
            self.fake.feedback.append(json.loads(body))
        elif self.path.endswith("/runs/multipart"):
            self._multipart(body)
        elif self.path.rstrip("/").endswith("/runs"):
            self.fake.merge(json.loads(body))
        self._reply({}, 202)

    do_PATCH = do_POST

    def _multipart(self, body: bytes) -> None:
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        for part in email.parser.BytesParser().parsebytes(head + body).get_payload():
            name = str(part.get_param("name", header="content-disposition"))
            kind, run_id, *field = name.split(".")
            value = json.loads(part.get_payload(decode=True))
            if kind == "feedback":
                self.fake.feedback.append(value)
            if kind in ("post", "patch"):
                run = {field[0]: value} if field else value
                self.fake.merge({**run, "id": run_id})

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding")
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding == "zstd":
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
        return body

    def _reply(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
