"""An append-only file of decisions, one JSON line each, that no answer has to wait for.

Lines are written by a thread that ends when there is nothing left to write; the process waits for
it before it exits. Each append is made under a lock, so threads, event loops and processes may
share a file. A line cut off by a crash is ended by the next append and skipped by the reader.
"""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Literal

from langchain_llm_router.history.log_lines import to_json_line
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.files import refuse_compressed
from langchain_llm_router.types.secrets import redact_data

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["DecisionLog", "Texts"]

Texts = Literal["full", "hash", "none"]
_Line = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

_logger = logging.getLogger(__name__)

_IDLE_S = 0.05
_MAX_BATCH_LINES = 256
_TEXT_FIELDS = ("error", "flaw", "verification_errors", "failures", "reason", "detail", "comment")
_FREE_TEXTS = ("rationales", "check_outputs")
"""Fields of texts that may quote an answer from their first word on."""


class DecisionLog(CheckedArguments):
    """A log of a router's decisions and of the feedback on its answers.

    A slow or failing disk never affects an answer. If a write fails, the lines are kept and written
    with the next one, an error is logged once per outage, `failure` and `n_waiting` show it, and
    `flush` raises it. If more than `most_waiting` lines wait, the oldest are dropped (`n_lost`).

    Args:
        path: Path of a JSONL file, which must not be compressed. It is created with the first line,
            readable by its owner only.
        texts: What is kept of each query: `"full"` keeps its text, with keys redacted; `"hash"` a
            hash by which equal queries can be recognized; `"none"` nothing. Without full texts, no
            text of a reason, a rationale or an error is kept either, and policies and estimators
            that read the query cannot be replayed.
        hash_key: Secret key of the hashes; without one, short texts can be guessed.
        sync: Whether to wait for the disk itself (fsync) after each batch of lines.
        most_waiting: Maximum number of lines that wait to be written.

    Example:
        >>> log = DecisionLog("decisions.jsonl", texts="hash")
        >>> log
        DecisionLog('decisions.jsonl', texts='hash')
    """

    def __init__(
        self,
        path: str | Path,
        *,
        texts: Texts = "full",
        hash_key: bytes = b"",
        sync: bool = False,
        most_waiting: int = 10_000,
    ) -> None:
        if most_waiting < 1:
            msg = f"`most_waiting` must be at least 1, got {most_waiting!r}."
            raise ValueError(msg)
        self.path, self.texts, self.sync = Path(path), texts, sync
        refuse_compressed(self.path)
        self.n_lost = 0
        self.failure: OSError | None = None
        self._hash_key, self._most_waiting = hash_key, most_waiting
        self._reset()
        if hasattr(os, "register_at_fork"):
            ref = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _reset(ref()))

    def __repr__(self) -> str:
        return f"DecisionLog({str(self.path)!r}, texts={self.texts!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> DecisionLog:
        # A copied router writes to the same file.
        return self

    @property
    def n_waiting(self) -> int:
        """Number of lines that are not in the file yet."""
        return len(self._waiting)

    def append(self, line: _Line) -> None:
        """Queue a line; returns at once and never raises because of the disk.

        Args:
            line: Data that can be written as JSON, or a function that returns it and is called in
                the writing thread.
        """
        with self._changes:
            self._waiting.append(line)
            while len(self._waiting) > self._most_waiting:
                self._waiting.popleft()
                self.n_lost += 1
            self._wake()

    def feedback(
        self,
        decision_id: str,
        score: float,
        *,
        key: str = "user",
        comment: str | None = None,
        id: str | None = None,
        candidate: str | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Log a score for the answer to a request.

        Args:
            decision_id: The request's `response_metadata["llm_router"]["decision_id"]`.
            score: Quality of the answer, in [0, 1].
            key: Name of the source of the score.
            comment: Free text; kept only with full texts.
            id: Id of the score: a later score with the same id replaces an earlier one. If None,
                the key is the id.
            candidate: The candidate whose answer to the request was scored; if None, the answer
                that was returned. A verdict compares both on the same requests.
            cost_usd: What the candidate's answer cost, if it was asked for only to be scored.

        Raises:
            ValueError: If the decision id is empty, the score is not in [0, 1], or the cost is not
                a number >= 0.
        """
        if not decision_id:
            msg = (
                f"`decision_id` must not be empty, got {decision_id!r}: take it from the answer's "
                "decision record."
            )
            raise ValueError(msg)
        if not 0 <= score <= 1:
            msg = f"`score` must be in [0, 1], got {score!r}."
            raise ValueError(msg)
        if cost_usd is not None and not 0 <= cost_usd < math.inf:
            msg = f"`cost_usd` must be a number >= 0 or None, got {cost_usd!r}."
            raise ValueError(msg)
        line: dict[str, Any] = {
            "kind": "feedback",
            "decision_id": str(decision_id),
            "score": float(score),
            "key": key,
            "at_s": time.time(),
        }
        if comment is not None:
            line["comment"] = comment
        if id is not None:
            line["id"] = id
        if candidate is not None:
            line["candidate"] = candidate
        if cost_usd is not None:
            line["cost_usd"] = float(cost_usd)
        self.append(line)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all lines so far are in the file.

        Args:
            timeout_s: Maximum time to wait, in seconds.

        Raises:
            OSError: If the lines could not be written.
            TimeoutError: If writing takes longer than `timeout_s`.
        """
        written = Event()
        with self._changes:
            self._flushing.append(written)
            self._wake()
        if not written.wait(timeout_s):
            msg = (
                f"{self.n_waiting} lines for {str(self.path)!r} were not written within "
                f"`timeout_s` = {timeout_s} s: the disk may be slow or failing."
            )
            raise TimeoutError(msg)
        if self.failure is not None:
            raise self.failure

    def touch(self) -> None:
        """Create the file if it does not exist.

        Raises:
            OSError: If the file cannot be created or written.
        """
        self._append(b"")

    # The writing thread

    def _reset(self) -> None:
        self._changes = Condition()
        self._waiting: deque[_Line] = deque()
        self._flushing: list[Event] = []
        self._thread: Thread | None = None

    def _wake(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._changes.notify()
            return
        # Not a daemon thread, so that the process waits for the remaining lines before it exits.
        self._thread = Thread(target=self._write_all, name="llm-router-decision-log", daemon=False)
        try:
            self._thread.start()
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads.
            self._thread = None
            self._write(*self._take_batch())

    def _take_batch(self) -> tuple[list[_Line], list[Event]]:
        n = min(len(self._waiting), _MAX_BATCH_LINES)
        lines = [self._waiting.popleft() for _ in range(n)]
        flushing: list[Event] = []
        if len(self._waiting) == 0:
            flushing, self._flushing = self._flushing, []
        return lines, flushing

    def _write_all(self) -> None:
        while True:
            with self._changes:
                if not self._waiting and not self._flushing:
                    self._changes.wait(_IDLE_S)
                if not self._waiting and not self._flushing:
                    self._thread = None
                    return
                lines, flushing = self._take_batch()
            if not self._write(lines, flushing):
                with self._changes:
                    # These lines are retried with the next one.
                    for event in self._flushing:
                        event.set()
                    self._flushing = []
                    self._thread = None
                return

    def _write(self, lines: list[_Line], flushing: list[Event]) -> bool:
        texts = [text for text in map(self._serialize, lines) if text is not None]
        try:
            if texts:
                self._append(b"".join(texts))
        except OSError as error:
            if self.failure is None:
                _logger.error("%d lines wait to be written: %s", len(texts), error)
            self.failure = error
            with self._changes:
                room = self._most_waiting - len(self._waiting)
                kept = texts[-room:] if room > 0 else []
                self.n_lost += len(texts) - len(kept)
                self._waiting.extendleft(_SerializedLine(text) for text in reversed(kept))
        else:
            self.failure = None
        for event in flushing:
            event.set()
        return self.failure is None

    def _serialize(self, line: _Line) -> bytes | None:
        if isinstance(line, _SerializedLine):
            return line.text
        try:
            data = line() if callable(line) else line
            # Half a character, which UTF-8 does not have, becomes its escape in JSON: `\\ud800`.
            return self._as_text(data).encode("utf-8", "backslashreplace") + b"\n"
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            self.n_lost += 1
            _logger.error("A line cannot be written as JSON: %s", type(error).__name__)
            return None

    def _as_text(self, line: Mapping[str, Any]) -> str:
        data: dict[str, Any] = {**line}
        query, secrets = data.get("query"), data.pop("secrets", ())
        if query is not None and self.texts != "none":
            digest = blake2b(query.encode("utf-8", "surrogatepass"), key=self._hash_key)
            data["query_hash"] = digest.hexdigest()[:32]
        if self.texts != "full":
            data = _strip_texts({**data, "query": None, "texts": self.texts})
        data = redact_data(data, secrets)
        if query is not None and self.texts == "full" and data["query"] != query:
            data["query_redacted"] = True
        return to_json_line(data)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        file = os.open(self.path, flags, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            size = os.lseek(file, 0, os.SEEK_END)
            if size > 0 and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n":
                # A crash cut off the last line: end it, so that it does not corrupt the next one.
                data = b"\n" + data
            try:
                while data:
                    data = data[os.write(file, data) :]
                if self.sync:
                    os.fsync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, size)
                raise
        finally:
            os.close(file)


class _SerializedLine(dict[str, Any]):
    """A serialized line whose write has failed and is to be retried."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


def _reset(log: DecisionLog | None) -> None:
    # The child of a fork has no writing thread, and the parent writes the waiting lines.
    if log is not None:
        log._reset()


def _strip_texts(value: Any) -> Any:
    """Remove texts that may quote a query or an answer; of an error, only its class is kept."""
    if isinstance(value, list):
        return [_strip_texts(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _keep_class_only(item) if key in _TEXT_FIELDS else _strip_texts(item)
        for key, item in value.items()
        if key not in _FREE_TEXTS
    }


def _keep_class_only(value: Any) -> Any:
    if isinstance(value, str):
        return value.partition(":")[0] if ":" in value else "omitted"
    if isinstance(value, list):
        return [_keep_class_only(item) for item in value]
    return _strip_texts(value)
