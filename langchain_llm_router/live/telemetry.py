"""Telemetry: the duration and end of every call, as live statistics of the arms.

    call = telemetry.began("gpt-4o@azure", streamed=True)
    call.got_first_token()
    call.answered(output_tokens=180)          # or call.failed("timeout"), or call.abandoned()
    telemetry.look(["gpt-4o@azure", ...])     # the statistics, as plain numbers

Recording takes O(1) under a short lock and performs no I/O, so that it works in async code and in
threads. Policies stay pure, because they only get the numbers.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_llm_router.live.breakers import Breaking
from langchain_llm_router.live.measurements import ArmMeasurements, ArmStats, FailureKind
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.types.steady_clock import steady_time

__all__ = ["ArmStats", "FailureKind", "LiveCall", "Telemetry"]

_SCHEMA_VERSION = 1
_COLD_TTFT_S, _COLD_ITL_S = 0.5, 0.02
_MAX_PROBE_CREDIT = 2.0
_REPORTED = ("ttft_s", "itl_s", "tokens_per_s")
# An arm takes about 10 kB.
_MAX_SNAPSHOT_BYTES = 50_000_000


class LiveCall:
    """A running call; the first reported end counts, further ones are ignored."""

    __slots__ = ("_first_s", "_key", "_measured", "_open", "_started_s", "_telemetry")

    def __init__(
        self, telemetry: Telemetry, measured: ArmMeasurements, key: int, started_s: float
    ) -> None:
        self._telemetry, self._measured, self._key = telemetry, measured, key
        self._started_s, self._open = started_s, True
        self._first_s: float | None = None

    def got_first_token(self) -> None:
        """Record that the first token arrived."""
        with self._telemetry.lock:
            if self._open and self._first_s is None:
                self._first_s = max(0.0, self._telemetry.clock() - self._started_s)
                self._measured.pending.pop(self._key, None)

    def answered(self, output_tokens: int | None = None) -> None:
        """Record a complete answer, with its length in tokens if the provider reports it."""
        with self._telemetry.lock:
            if self._end():
                now = self._telemetry.clock()
                whole_s = max(now - self._started_s, 1e-6)
                self._measured.answered(self._first_s, whole_s, output_tokens, now)

    def failed(self, kind: FailureKind, retry_after_s: float | None = None) -> None:
        """Record a failure; the breaker stays open for the seconds of a `Retry-After`."""
        with self._telemetry.lock:
            if self._end():
                now = self._telemetry.clock()
                self._measured.failed(kind, retry_after_s, now - self._started_s, now)

    def abandoned(self) -> None:
        """Record that the caller abandoned it, e.g. because a hedged call was faster."""
        with self._telemetry.lock:
            if self._end():
                self._measured.breaker.abandoned()

    def _end(self) -> bool:
        was_open, self._open = self._open, False
        self._measured.pending.pop(self._key, None)
        return was_open


@dataclass(eq=False)
class Telemetry(CheckedArguments):
    """Live statistics of every arm of one process.

    A call that is not streamed has only a total time, which is split into the time to first token
    and the rest in the proportion expected so far. Running calls count too: when the third oldest
    takes longer than expected, the arm is at least that slow, so that an endpoint that hangs is
    avoided before its first answer arrives.

    Args:
        half_life_s: Time in seconds after which a duration counts half (twice as long for
            failures, ten times for quantiles, which need more samples).
        probe_every_s: Seconds without a call after which an arm is due for a probe.
        probe_share: Maximum share of calls that are such probes; first calls and probes of
            half-open breakers do not count.
        breaking: Rules for when circuit breakers open.
        clock: Returns the Unix time in seconds, because processes share it; by default one that
            does not jump with the wall clock.
    """

    half_life_s: float = 30.0
    probe_every_s: float = 15.0
    probe_share: float = 0.05
    breaking: Breaking = field(default_factory=Breaking)
    clock: Callable[[], float] = steady_time

    def __post_init__(self) -> None:
        check_range(self, "half_life_s", "probe_every_s", above=True)
        check_range(self, "probe_share", high=1)
        self.lock = threading.Lock()
        self._probe_credit = _MAX_PROBE_CREDIT
        self._keys = itertools.count()
        self._arms: dict[str, ArmMeasurements] = {}
        self._others: dict[str, ArmMeasurements] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Telemetry:
        # A copy of a router calls the same endpoints.
        return self

    def expect(self, arm: str, *, ttft_s: float | None = None, itl_s: float | None = None) -> None:
        """Set the latencies to assume for an arm until it has been measured."""
        with self.lock:
            measured = self._measured(arm)
            measured.prior_ttft_s, measured.prior_itl_s = ttft_s, itl_s

    def began(self, arm: str, *, streamed: bool = False) -> LiveCall:
        """Record that a call to an arm starts now."""
        with self.lock:
            now, key, measured = self.clock(), next(self._keys), self._measured(arm)
            if any(measured.counts.values()) and measured.is_due(now, self._others.get(arm)):
                self._probe_credit = max(0.0, self._probe_credit - 1)
            self._probe_credit = min(self._probe_credit + self.probe_share, _MAX_PROBE_CREDIT)
            measured.began(key, now, streamed=streamed)
        return LiveCall(self, measured, key, now)

    def look(self, arms: Iterable[str]) -> dict[str, ArmStats]:
        """Return the current statistics of the arms."""
        with self.lock:
            now = self.clock()
            may_probe = self._probe_credit >= 1
            measured = {
                name: self._measured(name).stats(now, self._others.get(name), may_probe=may_probe)
                for name in arms
            }
        # Arms without calls are assumed to be as fast as the fastest, so that they are tried.
        ttft = min(
            (s.ttft_s for s in measured.values() if s.ttft_s is not None), default=_COLD_TTFT_S
        )
        itl = min((s.itl_s for s in measured.values() if s.itl_s is not None), default=_COLD_ITL_S)
        return {
            name: stats
            if stats.ttft_s is not None and stats.itl_s is not None
            else replace(
                stats,
                ttft_s=ttft if stats.ttft_s is None else stats.ttft_s,
                itl_s=itl if stats.itl_s is None else stats.itl_s,
            )
            for name, stats in measured.items()
        }

    def quantile_s(
        self, arm: str, q: float, *, first_token: bool = False, least_calls: float = 8.0
    ) -> float | None:
        """Return a quantile of the time to an answer or its first token; None if calls are few."""
        with self.lock:
            if arm not in self._arms:
                return None
            histogram = self._arms[arm].first if first_token else self._arms[arm].whole
            if histogram.weight_at(self.clock()) < least_calls:
                return None
            return histogram.quantile(q)

    def report(self) -> dict[str, dict[str, Any]]:
        """Return all statistics of every arm, with quantiles and counts, e.g. for dashboards."""
        with self.lock:
            now, table = self.clock(), {}
            for name, arm in self._arms.items():
                stats = arm.stats(now, self._others.get(name))
                row: dict[str, Any] = {
                    key: getattr(stats, key)
                    for key in (*_REPORTED, "error_rate", "timeout_rate", "breaker")
                }
                for label, histogram in (("ttft", arm.first), ("latency", arm.whole)):
                    row[f"{label}_p50_s"] = histogram.quantile(0.5)
                    row[f"{label}_p95_s"] = histogram.quantile(0.95)
                row["in_flight"], row["counts"] = len(arm.pending), dict(arm.counts)
                began = arm.last_began_s
                row["asked_s_ago"] = None if began is None else now - began
                table[name] = row
        return table

    # Saving and sharing

    def state(self) -> dict[str, Any]:
        """Return the statistics of this process, as plain data."""
        with self.lock:
            arms = {name: measured.state() for name, measured in self._arms.items()}
        return {"schema_version": _SCHEMA_VERSION, "arms": arms}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned, aged by the time since.

        Raises:
            ValueError: If the data is not what `state` returns; then nothing is changed.
        """
        arms = self._parse(state)
        with self.lock:
            for name, measured in arms.items():
                old = self._arms.get(name)
                if old is not None:
                    measured.prior_ttft_s = old.prior_ttft_s
                    measured.prior_itl_s = old.prior_itl_s
                self._arms[name] = measured

    def take_in_others(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Set the measurements of other processes, replacing earlier ones.

        Raises:
            ValueError: If one of them is not what `state` returns; then nothing is changed.
        """
        merged: dict[str, ArmMeasurements] = {}
        now = self.clock()
        for state in states:
            for name, measured in self._parse(state).items():
                if name in merged:
                    merged[name].merge(measured, now)
                else:
                    merged[name] = measured
        with self.lock:
            self._others = merged

    def save(self, path: str | Path) -> Path:
        """Write a snapshot atomically, so that readers get the old or the new file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_text(json.dumps(self.state(), allow_nan=False), encoding="utf-8")
        temporary.replace(path)
        return path

    def load(self, path: str | Path) -> None:
        """Load a snapshot that `save` wrote.

        Raises:
            ArtifactError: If the file is not a snapshot.
        """
        try:
            self.restore(json.loads(_read_snapshot(Path(path))))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            msg = f"{str(path)!r} is not a snapshot of telemetry: {error}."
            raise ArtifactError(msg) from error

    def _measured(self, arm: str) -> ArmMeasurements:
        if arm not in self._arms:
            self._arms[arm] = ArmMeasurements(self.breaking, self.half_life_s, self.probe_every_s)
        return self._arms[arm]

    def _parse(self, state: Mapping[str, Any]) -> dict[str, ArmMeasurements]:
        now, arms = self.clock(), {}
        try:
            if state["schema_version"] != _SCHEMA_VERSION:
                msg = f"schema version {state['schema_version']!r}, expected {_SCHEMA_VERSION}"
                raise ValueError(msg)
            for name, plain in state["arms"].items():
                measured = ArmMeasurements(self.breaking, self.half_life_s, self.probe_every_s)
                measured.restore(plain, now)
                arms[str(name)] = measured
        except (AttributeError, KeyError, TypeError, OverflowError) as error:
            msg = f"not what `Telemetry.state` returns: {type(error).__name__} {error}"
            raise ValueError(msg) from error
        return arms


def _read_snapshot(path: Path) -> str:
    """Return a file's text; one that is no ordinary file, e.g. a pipe, could be read for ever.

    Raises:
        ValueError: If it is no ordinary file, is too large, or is not UTF-8.
    """
    if not path.is_file():
        msg = "it is not an ordinary file"
        raise ValueError(msg)
    with path.open("rb") as file:
        content = file.read(_MAX_SNAPSHOT_BYTES + 1)
    if len(content) > _MAX_SNAPSHOT_BYTES:
        msg = f"it is larger than {_MAX_SNAPSHOT_BYTES} bytes"
        raise ValueError(msg)
    return content.decode("utf-8")
