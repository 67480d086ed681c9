"""Live numbers shared among processes through plain Redis; without Redis each works alone.

Each worker writes its own statistics into one field of one hash and reads those of the others,
every `every_s` seconds in a background thread: the others' numbers are at most that old, a
decision never waits for the network, and a worker that is killed loses at most one interval.
"""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from langchain_llm_router.live.telemetry import Telemetry
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import import_extra

__all__ = ["SharedTelemetry", "connect"]

# For connecting and for every command.
_TIMEOUT_S = 0.25


def connect(url: str) -> Any:
    """A Redis client with short timeouts.

    Args:
        url: Such as `"redis://127.0.0.1:6379/0"` or `"unix:///run/redis.sock"`.

    Raises:
        MissingExtraError: If `redis` is not installed.
    """
    redis = import_extra("redis", "redis")
    return redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=None
    )


@dataclass(eq=False)
class SharedTelemetry(CheckedArguments):
    """Keeps a process's `Telemetry` in step with that of other processes.

    Args:
        telemetry: What the router of this process records into.
        url: Where Redis is.
        every_s: How often to write and read; the others' numbers are at most this old.
        forget_s: A worker that has not written for this long no longer counts.
        prefix: Prefix of every key, so that several routers can share one Redis.

    Example:
        >>> telemetry = Telemetry()
        >>> with SharedTelemetry(telemetry, "redis://127.0.0.1:1") as shared:
        ...     shared.sync()  # no Redis listens there
        False
    """

    telemetry: Telemetry
    url: str = field(repr=False)
    every_s: float = 1.0
    forget_s: float = 60.0
    prefix: str = "llm_router"
    worker: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        if not 0 < self.every_s <= self.forget_s < math.inf:
            msg = (
                "`every_s` and `forget_s` must be > 0 and in this order, "
                f"got {self.every_s!r} and {self.forget_s!r}."
            )
            raise ValueError(msg)
        self._redis_errors: tuple[type[Exception], ...] = (
            import_extra("redis", "redis").RedisError,
            OSError,
        )
        self._client = connect(self.url)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_error: str | None = None
        """Why the last `sync` failed; None: it did not."""

    def start(self) -> Self:
        """Start to synchronize in the background."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="llm-router-sync", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Write a last time, and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self.sync()
        self._client.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def sync(self) -> bool:
        """Write this worker's numbers and read the others'; False if Redis cannot be reached."""
        key = f"{self.prefix}:telemetry"
        own = {"at_s": time.time(), "state": self.telemetry.state()}
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(key, self.worker, json.dumps(own, allow_nan=False))
            pipe.hgetall(key)
            found: dict[bytes, bytes] = pipe.execute()[1]
            states, dead = self._read(found)
            if dead:
                self._client.hdel(key, *dead)
        except self._redis_errors as error:
            # The others' numbers age by themselves; this worker's own are enough to continue.
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        self.telemetry.take_in_others(states)
        self.last_error = None
        return True

    def _read(self, found: dict[bytes, bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
        states, dead = [], []
        for worker, text in found.items():
            if worker == self.worker.encode():
                continue
            try:
                entry = json.loads(text)
                fresh = time.time() - float(entry["at_s"]) <= self.forget_s
                # Parsed on its own first: one worker's broken entry must not hide the others.
                Telemetry(clock=self.telemetry.clock).take_in_others([entry["state"]])
            except (KeyError, TypeError, ValueError):
                fresh = False
            if fresh:
                states.append(entry["state"])
            else:
                dead.append(worker)
        return states, dead

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            self.sync()
