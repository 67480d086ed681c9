"""Telemetry shared by processes through Redis; without Redis each process uses its own.

Every `every_s` seconds a background thread writes the worker's statistics into one field of a hash
and reads those of other workers. These are at most that old, a decision never waits for the
network, and a killed worker loses at most one interval.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from langchain_llm_router.live.repeated_call import RepeatedCall
from langchain_llm_router.live.telemetry import Telemetry
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.steady_clock import steady_time

__all__ = ["SharedTelemetry", "connect"]

# For connecting and for every command.
_TIMEOUT_S = 0.25


def connect(url: str) -> Any:
    """Make a Redis client with short timeouts.

    Args:
        url: URL such as `"redis://127.0.0.1:6379/0"` or `"unix:///run/redis.sock"`.

    Raises:
        MissingExtraError: If `redis` is not installed.
    """
    redis = import_extra("redis", "redis")
    return redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=None
    )


@dataclass(eq=False)
class SharedTelemetry(CheckedArguments):
    """Synchronizes a process's `Telemetry` with that of other processes.

    Args:
        telemetry: Telemetry of this process's router.
        url: URL of the Redis server.
        every_s: Seconds between two synchronizations.
        forget_s: Seconds after its last write when a worker no longer counts.
        prefix: Prefix of every key, so that several routers can share one Redis.

    Example:
        >>> telemetry = Telemetry()
        >>> with SharedTelemetry(telemetry, "redis://127.0.0.1:1") as shared:
        ...     shared.sync()  # there is no Redis
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
                f"`every_s` must be > 0 and at most `forget_s`, which must be finite, got "
                f"{self.every_s!r} and {self.forget_s!r}."
            )
            raise ValueError(msg)
        self._redis_errors: tuple[type[Exception], ...] = (
            import_extra("redis", "redis").RedisError,
            OSError,
        )
        self._client = connect(self.url)
        self._syncing = RepeatedCall(self.sync, self.every_s, "llm-router-sync")
        self.last_error: str | None = None
        """Error of the last `sync`; None if it succeeded."""

    def start(self) -> Self:
        """Start synchronizing in the background."""
        self._syncing.start()
        return self

    def close(self) -> None:
        """Stop, after a last synchronization."""
        self._syncing.stop()
        self.sync()
        self._client.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def sync(self) -> bool:
        """Write this worker's statistics and read the others'; return False without Redis."""
        key = f"{self.prefix}:telemetry"
        own = {"at_s": steady_time(), "state": self.telemetry.state()}
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(key, self.worker, json.dumps(own, allow_nan=False))
            pipe.hgetall(key)
            entries: dict[bytes, bytes] = pipe.execute()[1]
            states, stale = self._read(entries)
            if stale:
                self._client.hdel(key, *stale)
        except self._redis_errors as error:
            # The router continues with this worker's statistics; those of others age.
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        self.telemetry.take_in_others(states)
        self.last_error = None
        return True

    def _read(self, entries: dict[bytes, bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
        states, stale = [], []
        for worker, text in entries.items():
            if worker == self.worker.encode():
                continue
            try:
                entry = json.loads(text)
                fresh = abs(steady_time() - float(entry["at_s"])) <= self.forget_s
                # Entries are parsed one by one, because a broken one must not hide the others.
                Telemetry(clock=self.telemetry.clock).take_in_others([entry["state"]])
            except (KeyError, TypeError, ValueError, RecursionError):
                fresh = False
            if fresh:
                states.append(entry["state"])
            else:
                stale.append(worker)
        return states, stale
