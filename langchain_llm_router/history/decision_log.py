"""An append-only file of decisions, one JSON line each, that never makes an answer wait.

Lines are written by a thread that lives as long as there is something to write; the process waits
for it before it exits. One line is one append under a lock, so threads, event loops and processes
may share a file. A line cut off by a crash is ended by the next append and skipped by the reader.
"""

from __future__ import annotations

import logging
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

from langchain_llm_router.history.log_lines import as_json
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.secrets import redact_data

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["DecisionLog", "Texts"]

Texts = Literal["full", "hash", "none"]
Line = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

_logger = logging.getLogger(__name__)

_LINGERS_S = 0.05
_MOST_AT_ONCE = 256
_MADE_OF_TEXT = ("error", "flaw", "verification_errors", "failures", "reason", "comment")


class DecisionLog(CheckedArguments):
    """Where a router's decisions, and the feedback on its answers, are kept.

    A slow or failing disk never affects an answer: if a write fails, the lines are held back and
    retried with the next one, an error is logged once per outage, `failure` and `n_waiting` show
    it, and `flush` raises it. Beyond `most_waiting` the oldest are dropped (`n_lost`).

    Args:
        path: A JSONL file; it is created, readable by its owner only, with the first line.
        texts: `"full"` keeps each query (keys in it are redacted); `"hash"` a hash by which equal
            queries can be recognized; `"none"` not even that. Without texts no reason or error
            text is kept either, and policies and estimators that read the query cannot be
            replayed.
        hash_key: Makes the hashes useless without it (short texts can be guessed).
        sync: Wait for the disk itself (fsync) after each batch of lines.
        most_waiting: The most lines that are held back.

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
            msg = f"`most_waiting` must be >= 1, got {most_waiting!r}."
            raise ValueError(msg)
        self.path, self.texts, self.sync = Path(path), texts, sync
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
        """Lines that are not in the file yet."""
        return len(self._waiting)

    def append(self, line: Line) -> None:
        """Queue a line; returns at once and never raises because of the disk.

        Args:
            line: JSON-ready data, or a function that returns it, called by the writing thread.
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
    ) -> None:
        """Note how good the answer to a request was.

        Args:
            decision_id: As in `response_metadata["llm_router"]["decision_id"]`.
            score: In [0, 1].
            key: Who or what judged.
            comment: Free text; kept only with full texts.
            id: A later score under the same id replaces an earlier one; None: the key.

        Raises:
            ValueError: If the id is empty or the score is not in [0, 1].
        """
        if not decision_id:
            msg = "`decision_id` is empty: take it from the answer's record."
            raise ValueError(msg)
        if not 0 <= score <= 1:
            msg = f"`score` must be in [0, 1], got {score!r}."
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
        self.append(line)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until everything so far is in the file.

        Raises:
            OSError: If it could not be written.
            TimeoutError: If it takes longer than `timeout_s`.
        """
        written = Event()
        with self._changes:
            self._flushing.append(written)
            self._wake()
        if not written.wait(timeout_s):
            msg = f"{self.n_waiting} lines for {str(self.path)!r} still wait after {timeout_s} s."
            raise TimeoutError(msg)
        if self.failure is not None:
            raise self.failure

    def touch(self) -> None:
        """Create the file if it does not exist.

        Raises:
            OSError: If it cannot be written.
        """
        self._append(b"")

    # The writing thread

    def _reset(self) -> None:
        self._changes = Condition()
        self._waiting: deque[Line] = deque()
        self._flushing: list[Event] = []
        self._thread: Thread | None = None

    def _wake(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._changes.notify()
            return
        # Not a daemon: before it exits, the process waits for what is still to be written.
        self._thread = Thread(target=self._write_all, name="llm-router-decision-log", daemon=False)
        try:
            self._thread.start()
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads.
            self._thread = None
            self._write(*self._taken())

    def _taken(self) -> tuple[list[Line], list[Event]]:
        n = min(len(self._waiting), _MOST_AT_ONCE)
        lines = [self._waiting.popleft() for _ in range(n)]
        flushing: list[Event] = []
        if len(self._waiting) == 0:
            flushing, self._flushing = self._flushing, []
        return lines, flushing

    def _write_all(self) -> None:
        while True:
            with self._changes:
                if not self._waiting and not self._flushing:
                    self._changes.wait(_LINGERS_S)
                if not self._waiting and not self._flushing:
                    self._thread = None
                    return
                lines, flushing = self._taken()
            if not self._write(lines, flushing):
                with self._changes:
                    # The next line retries it.
                    for event in self._flushing:
                        event.set()
                    self._flushing = []
                    self._thread = None
                return

    def _write(self, lines: list[Line], flushing: list[Event]) -> bool:
        made = [text for text in map(self._made, lines) if text is not None]
        try:
            if made:
                self._append(b"".join(made))
        except OSError as error:
            if self.failure is None:
                _logger.error("%d decisions wait: %s", len(made), error)
            self.failure = error
            with self._changes:
                room = self._most_waiting - len(self._waiting)
                kept = made[-room:] if room > 0 else []
                self.n_lost += len(made) - len(kept)
                self._waiting.extendleft(_Made(text) for text in reversed(kept))
        else:
            self.failure = None
        for event in flushing:
            event.set()
        return self.failure is None

    def _made(self, line: Line) -> bytes | None:
        if isinstance(line, _Made):
            return line.text
        try:
            data = line() if callable(line) else line
            return self._as_text(data).encode("utf-8", "surrogatepass") + b"\n"
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            self.n_lost += 1
            _logger.error("A decision cannot be written: %s", type(error).__name__)
            return None

    def _as_text(self, line: Mapping[str, Any]) -> str:
        data: dict[str, Any] = {**line}
        query, secrets = data.get("query"), data.pop("secrets", ())
        if query is not None and self.texts != "none":
            digest = blake2b(query.encode("utf-8", "surrogatepass"), key=self._hash_key)
            data["query_hash"] = digest.hexdigest()[:32]
        if self.texts != "full":
            data = _without_texts({**data, "query": None, "texts": self.texts})
        data = redact_data(data, secrets)
        if query is not None and self.texts == "full" and data["query"] != query:
            data["query_redacted"] = True
        return as_json(data)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        file = os.open(self.path, flags, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            size = os.lseek(file, 0, os.SEEK_END)
            if size > 0 and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n":
                # A crash cut off the last line: it must not corrupt the next one.
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


class _Made(dict[str, Any]):
    """A line that is already serialized, and waits for the disk."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


def _reset(log: DecisionLog | None) -> None:
    # The child of a fork has no writing thread, and the parent writes its own waiting lines.
    if log is not None:
        log._reset()


def _without_texts(value: Any) -> Any:
    """The data without texts that may quote a query or an answer; errors keep their class only."""
    if isinstance(value, list):
        return [_without_texts(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _class_only(item) if key in _MADE_OF_TEXT else _without_texts(item)
        for key, item in value.items()
    }


def _class_only(value: Any) -> Any:
    if isinstance(value, str):
        return value.partition(":")[0] if ":" in value else "omitted"
    if isinstance(value, list):
        return [_class_only(item) for item in value]
    return _without_texts(value)
