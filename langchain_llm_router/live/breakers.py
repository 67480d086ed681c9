"""Circuit breakers: a failing endpoint is not called for a while and then probed.

    closed ──(failures in a row, or a high failure rate)──► open
      ▲                                                      │ its time is up
      └──────────(the probe answered)──── half-open ◄────────┘
                                              │ the probe failed: open, twice as long
                                              └──────────────────────────────────────► open

The time is an argument of each method, so that tests control it. `telemetry` has the lock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_llm_router.types.arguments import CheckedArguments, check_range

__all__ = ["Breaker", "BreakerState", "Breaking"]

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Breaking(CheckedArguments):
    """Rules for when a breaker opens, and for how long.

    Args:
        failures_in_a_row: Number of failures without an answer in between that open it.
        failure_rate: Decayed share of failures that opens it.
        least_calls: Decayed number of calls from which on `failure_rate` applies.
        open_s: Time in seconds that it stays open at first, doubled with every failed probe.
        longest_open_s: Maximum time in seconds that it stays open, also after a `Retry-After`.
    """

    failures_in_a_row: int = 5
    failure_rate: float = 0.5
    least_calls: float = 10.0
    open_s: float = 5.0
    longest_open_s: float = 60.0

    def __post_init__(self) -> None:
        if self.failures_in_a_row < 1:
            msg = f"`failures_in_a_row` must be >= 1, got {self.failures_in_a_row!r}."
            raise ValueError(msg)
        if not 0 < self.failure_rate <= 1:
            msg = f"`failure_rate` must lie in (0, 1], got {self.failure_rate!r}."
            raise ValueError(msg)
        check_range(self, "least_calls")
        if not 0 < self.open_s <= self.longest_open_s < math.inf:
            msg = (
                f"`open_s` must be > 0 and at most `longest_open_s`, which must be finite, got "
                f"{self.open_s!r} and {self.longest_open_s!r}."
            )
            raise ValueError(msg)


class Breaker:
    """The circuit breaker of one endpoint."""

    __slots__ = ("failures", "open_until_s", "probing_since_s", "rules", "trips")

    def __init__(self, rules: Breaking) -> None:
        self.rules = rules
        self.failures = 0
        self.trips = 0
        self.open_until_s: float | None = None
        self.probing_since_s: float | None = None

    def state(self, now: float) -> BreakerState:
        """Return the current state."""
        if self.open_until_s is None:
            return "closed"
        # After the clock was set back, it would stay open until the clock has caught up.
        self.open_until_s = min(self.open_until_s, now + self.rules.longest_open_s)
        return "open" if now < self.open_until_s else "half_open"

    def admits(self, now: float) -> bool:
        """Return whether a call may be made; a half-open breaker admits one at a time."""
        state = self.state(now)
        if state != "half_open":
            return state == "closed"
        since = self.probing_since_s
        # A probe whose worker was killed never reports: after a while another one is admitted.
        return since is None or not 0 <= now - since <= self.rules.longest_open_s

    def began(self, now: float) -> None:
        """Record that a call was started."""
        if self.state(now) == "half_open":
            self.probing_since_s = now

    def succeeded(self, now: float) -> None:
        """Record an answer; while the breaker is open, it does not close it."""
        self.failures = 0
        if self.state(now) != "open":
            self.trips = 0
            self.open_until_s = self.probing_since_s = None

    def abandoned(self) -> None:
        """Record that a call was abandoned by its caller, which is no evidence either way."""
        self.probing_since_s = None

    def failed(self, now: float, rate: float, calls: float, retry_after_s: float | None) -> None:
        """Record a failure.

        Args:
            now: The current time in seconds.
            rate: Decayed share of failures, this one included.
            calls: Decayed number of calls, this one included.
            retry_after_s: Seconds of the provider's `Retry-After`; None if it sent none.
        """
        rules, state = self.rules, self.state(now)
        self.failures += 1
        if retry_after_s is not None:
            self._open(now, retry_after_s)
        elif state == "half_open":
            self._open(now, rules.open_s * 2.0 ** min(self.trips, 16))
            self.trips += 1
        elif state == "closed" and (
            self.failures >= rules.failures_in_a_row
            or (calls >= rules.least_calls and rate >= rules.failure_rate)
        ):
            self._open(now, rules.open_s)
            self.trips += 1

    def _open(self, now: float, wait_s: float) -> None:
        until = now + min(max(wait_s, 0.0), self.rules.longest_open_s)
        known = until if self.open_until_s is None else self.open_until_s
        self.open_until_s = max(until, min(known, now + self.rules.longest_open_s))
        self.probing_since_s = None

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {
            "failures": self.failures,
            "trips": self.trips,
            "open_until_s": self.open_until_s,
        }

    def restore(self, state: Mapping[str, Any], now: float) -> None:
        """Restore a snapshot, with the time that it stays open limited to `longest_open_s`."""
        self.failures, self.trips = max(0, int(state["failures"])), max(0, int(state["trips"]))
        until = state["open_until_s"]
        if until is not None:
            until = float(until)
            if not math.isfinite(until):
                msg = f"`open_until_s` must be a finite number, got {until!r}."
                raise ValueError(msg)
            until = min(until, now + self.rules.longest_open_s)
        self.open_until_s = until
        self.probing_since_s = None
