"""How long every real call took and how it ended: live numbers for the arms.

    call = telemetry.began("gpt-4o@azure", streamed=True)
    call.got_first_token()
    call.answered(output_tokens=180)          # or call.failed("timeout"), or call.abandoned()
    telemetry.look(["gpt-4o@azure", ...])     # what the policy sees: plain numbers

Recording is O(1) under one short lock and performs no I/O, so it works in async code and in
threads. A policy is given the numbers and stays pure.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_llm_router.live.breakers import Breaking
from langchain_llm_router.live.measurements import ArmStats, FailureKind, Measured
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["ArmStats", "FailureKind", "LiveCall", "Telemetry"]

_SCHEMA_VERSION = 1
_COLD_TTFT_S, _COLD_ITL_S = 0.5, 0.02
_MOST_SPARE = 2.0


class LiveCall:
    """One call under way; the first reported ending counts, further ones are ignored."""

    __slots__ = ("_first_s", "_key", "_measured", "_open", "_started_s", "_telemetry")

    def __init__(
        self, telemetry: Telemetry, measured: Measured, key: int, started_s: float
    ) -> None:
        self._telemetry, self._measured, self._key = telemetry, measured, key
        self._started_s, self._open = started_s, True
        self._first_s: float | None = None

    def got_first_token(self) -> None:
        """The first token arrived."""
        with self._telemetry.lock:
            if self._open and self._first_s is None:
                self._first_s = self._telemetry.clock() - self._started_s
                self._measured.waiting.pop(self._key, None)

    def answered(self, output_tokens: int | None = None) -> None:
        """The whole answer arrived; its length in tokens where the provider reports it."""
        with self._telemetry.lock:
            if self._end():
                now = self._telemetry.clock()
                whole_s = max(now - self._started_s, 1e-6)
                self._measured.answered(self._first_s, whole_s, output_tokens, now)

    def failed(self, kind: FailureKind, retry_after_s: float | None = None) -> None:
        """It failed; if the provider sent a `Retry-After`, the arm is left alone that long."""
        with self._telemetry.lock:
            if self._end():
                now = self._telemetry.clock()
                self._measured.failed(kind, retry_after_s, now - self._started_s, now)

    def abandoned(self) -> None:
        """Its caller abandoned it, e.g. because a hedged call was faster: no evidence."""
        with self._telemetry.lock:
            if self._end():
                self._measured.breaker.abandoned()

    def _end(self) -> bool:
        was_open, self._open = self._open, False
        self._measured.waiting.pop(self._key, None)
        return was_open


@dataclass(eq=False)
class Telemetry(CheckedArguments):
    """Live statistics of every arm of one process.

    A call that was not streamed shows only its total time, which is split between first token and
    the rest in the proportion expected so far. Calls still waiting count too: when the third
    oldest waits longer than expected, the arm is at least that slow, so that an endpoint that
    hangs is avoided before its first slow answer arrives.

    Args:
        half_life_s: The time after which a duration counts half (failures: twice as long,
            quantiles: ten times, so that they have enough samples).
        probe_every_s: An arm not asked for this long is due for a probe; its past then weighs
            one sample at most.
            probe_share: Largest share of calls that may be such probes; first calls and those of
            half-open breakers do not count.
        breaking: When circuit breakers open.
        clock: Returns the time in seconds; wall-clock time, so that processes and restarts agree.
    """

    half_life_s: float = 30.0
    probe_every_s: float = 15.0
    probe_share: float = 0.05
    breaking: Breaking = field(default_factory=Breaking)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        check_range(self, "half_life_s", "probe_every_s", above=True)
        check_range(self, "probe_share", high=1)
        self.lock = threading.Lock()
        self._spare = _MOST_SPARE
        self._keys = itertools.count()
        self._arms: dict[str, Measured] = {}
        self._others: dict[str, Measured] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Telemetry:
        # A copy of a router calls the same endpoints.
        return self

    def expect(self, arm: str, *, ttft_s: float | None = None, itl_s: float | None = None) -> None:
        """Set what to assume of an arm until it has been measured."""
        with self.lock:
            measured = self._measured(arm)
            measured.prior_ttft_s, measured.prior_itl_s = ttft_s, itl_s

    def began(self, arm: str, *, streamed: bool = False) -> LiveCall:
        """A call to an arm starts now."""
        with self.lock:
            now, key, measured = self.clock(), next(self._keys), self._measured(arm)
            if any(measured.counts.values()) and measured.is_due(now, self._others.get(arm)):
                self._spare = max(0.0, self._spare - 1)
            self._spare = min(self._spare + self.probe_share, _MOST_SPARE)
            measured.began(key, now, streamed=streamed)
        return LiveCall(self, measured, key, now)

    def look(self, arms: Iterable[str]) -> dict[str, ArmStats]:
        """What is known of the arms now: all that a policy sees of the telemetry."""
        with self.lock:
            now = self.clock()
            spare = self._spare >= 1
            found = {
                name: self._measured(name).stats(now, self._others.get(name), spare=spare)
                for name in arms
            }
        # Optimism about arms never asked: as good as the best, so that they get asked.
        ttft = min((s.ttft_s for s in found.values() if s.ttft_s is not None), default=_COLD_TTFT_S)
        itl = min((s.itl_s for s in found.values() if s.itl_s is not None), default=_COLD_ITL_S)
        return {
            name: replace(
                stats,
                ttft_s=ttft if stats.ttft_s is None else stats.ttft_s,
                itl_s=itl if stats.itl_s is None else stats.itl_s,
            )
            for name, stats in found.items()
        }

    def quantile_s(
        self, arm: str, q: float, *, first_token: bool = False, least_calls: float = 8.0
    ) -> float | None:
        """A quantile of the time to an answer, or to its first token; None: too few calls."""
        with self.lock:
            if arm not in self._arms:
                return None
            histogram = self._arms[arm].first if first_token else self._arms[arm].whole
            if histogram.weight_at(self.clock()) < least_calls:
                return None
            return histogram.quantile(q)

    def report(self) -> dict[str, dict[str, Any]]:
        """Everything about every arm, for people and dashboards, with quantiles and counts."""
        with self.lock:
            now, table = self.clock(), {}
            for name, arm in self._arms.items():
                stats = arm.stats(now, self._others.get(name))
                row: dict[str, Any] = {
                    key: getattr(stats, key)
                    for key in ("ttft_s", "itl_s", "error_rate", "timeout_rate", "breaker")
                }
                for label, histogram in (("ttft", arm.first), ("latency", arm.whole)):
                    row[f"{label}_p50_s"] = histogram.quantile(0.5)
                    row[f"{label}_p95_s"] = histogram.quantile(0.95)
                row["in_flight"], row["counts"] = len(arm.waiting), dict(arm.counts)
                began = arm.last_began_s
                row["asked_s_ago"] = None if began is None else now - began
                table[name] = row
        return table

    # Saving and sharing

    def state(self) -> dict[str, Any]:
        """This process's own statistics, as plain data."""
        with self.lock:
            arms = {name: measured.state() for name, measured in self._arms.items()}
        return {"schema_version": _SCHEMA_VERSION, "arms": arms}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned, aged by the time since.

        Raises:
            ValueError: If the data is not what `state` gives; nothing is changed then.
        """
        arms = self._parsed(state)
        with self.lock:
            for name, measured in arms.items():
                old = self._arms.get(name)
                if old is not None:
                    measured.prior_ttft_s = old.prior_ttft_s
                    measured.prior_itl_s = old.prior_itl_s
                self._arms[name] = measured

    def take_in_others(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Take in what other processes measured, replacing what they reported before.

        Raises:
            ValueError: If one of them is not what `state` gives; nothing is changed then.
        """
        merged: dict[str, Measured] = {}
        now = self.clock()
        for state in states:
            for name, measured in self._parsed(state).items():
                if name in merged:
                    merged[name].take_in(measured, now)
                else:
                    merged[name] = measured
        with self.lock:
            self._others = merged

    def save(self, path: str | Path) -> Path:
        """Write a snapshot; a reader sees the old file or the new one, never half of it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        half.write_text(json.dumps(self.state(), allow_nan=False), encoding="utf-8")
        half.replace(path)
        return path

    def load(self, path: str | Path) -> None:
        """Load a snapshot that `save` wrote.

        Raises:
            ArtifactError: If the file is not one.
        """
        try:
            self.restore(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            msg = f"{str(path)!r} is not a snapshot of telemetry: {error}."
            raise ArtifactError(msg) from error

    def _measured(self, arm: str) -> Measured:
        if arm not in self._arms:
            self._arms[arm] = Measured(self.breaking, self.half_life_s, self.probe_every_s)
        return self._arms[arm]

    def _parsed(self, state: Mapping[str, Any]) -> dict[str, Measured]:
        now, arms = self.clock(), {}
        try:
            if state["schema_version"] != _SCHEMA_VERSION:
                msg = f"schema version {state['schema_version']!r}, expected {_SCHEMA_VERSION}"
                raise ValueError(msg)
            for name, plain in state["arms"].items():
                measured = Measured(self.breaking, self.half_life_s, self.probe_every_s)
                measured.restore(plain, now)
                arms[str(name)] = measured
        except (AttributeError, KeyError, TypeError, OverflowError) as error:
            msg = f"not what `Telemetry.state` gives: {type(error).__name__} {error}"
            raise ValueError(msg) from error
        return arms
