"""What was measured of one arm, and what to expect of the next call: no lock, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_llm_router.live.breakers import Breaker, BreakerState, Breaking
from langchain_llm_router.live.decayed_statistics import (
    DecayedHistogram,
    DecayedLogMean,
    DecayedRate,
)

__all__ = ["ArmStats", "FailureKind", "Measured"]

FailureKind = Literal["error", "rate_limit", "timeout", "cut"]
"""`cut` is a stream that broke off after its first token."""

_COLD_TTFT_S, _COLD_ITL_S = 0.5, 0.02
_SHORTEST_S = 1e-6
_LATE = 2.0
_MEANS = ("ttft", "ttft_base", "itl", "itl_base", "output")
_RATES = ("errors", "timeouts")
_HISTOGRAMS = ("first", "whole")


@dataclass(frozen=True, slots=True)
class ArmStats:
    """What is known of an arm at one moment."""

    ttft_s: float | None = None
    """Typical time to first token; an arm never asked is assumed as fast as the best arm."""

    itl_s: float | None = None
    error_rate: float | None = None
    """P(the next call fails), timeouts included; None: never asked."""

    timeout_rate: float | None = None
    output_tokens: float | None = None
    """Typical length of its recent answers."""

    breaker: BreakerState = "closed"
    available: bool = True
    """Whether its breaker lets a call through."""

    probe: bool = False
    """A probe is due: its statistics are stale or missing, or its breaker is half-open."""

    n_calls: int = 0


class Measured:
    """All statistics of one arm.

    Durations have a short memory and a long one: as recent samples age, the estimate returns to
    the arm's long-run average, so an arm that was avoided because it was slow does not count as
    slow indefinitely.
    """

    def __init__(self, rules: Breaking, half_life_s: float, probe_every_s: float) -> None:
        half, idle = half_life_s, probe_every_s / 2
        self.probe_every_s = probe_every_s
        self.ttft = DecayedLogMean(half, idle_s=idle)
        self.itl = DecayedLogMean(half, idle_s=idle)
        self.ttft_base = DecayedLogMean(100 * half, most=1000, idle_s=1000 * half)
        self.itl_base = DecayedLogMean(100 * half, most=1000, idle_s=1000 * half)
        self.output = DecayedLogMean(100 * half, most=200, idle_s=1000 * half)
        self.errors, self.timeouts = DecayedRate(2 * half), DecayedRate(2 * half)
        self.first, self.whole = DecayedHistogram(10 * half), DecayedHistogram(10 * half)
        self.breaker = Breaker(rules)
        self.prior_ttft_s: float | None = None
        self.prior_itl_s: float | None = None
        self.counts = {"answered": 0, "error": 0, "rate_limit": 0, "timeout": 0, "cut": 0}
        self.last_began_s: float | None = None
        self.surprised = False
        # Oldest first: when it started, and whether its first token will be seen.
        self.waiting: dict[int, tuple[float, bool]] = {}

    # What happened

    def began(self, key: int, now: float, *, streamed: bool) -> None:
        """A call was started."""
        self.waiting[key] = (now, streamed)
        self.breaker.began(now)
        self.last_began_s, self.surprised = now, False

    def answered(
        self, first_s: float | None, whole_s: float, output_tokens: int | None, now: float
    ) -> None:
        """A call was answered; without a first token its time is split as expected so far."""
        ttft, itl = self._ttft(now), self._itl(now)
        more = 0 if output_tokens is None else max(0, output_tokens - 1)
        if first_s is None:
            ratio = whole_s / self._expected_s(output_tokens, now)
            first_s, gap_s = ttft * ratio, itl * ratio
        else:
            self.first.add(max(first_s, _SHORTEST_S), now)
            gap_s = (whole_s - first_s) / max(more, 1)
        # Twice as fast as expected: do not wait for the next probe to find out more.
        self.surprised = self.ttft.weight > 0 and first_s < ttft / 2
        self._add_ttft(first_s, now)
        self.whole.add(max(whole_s, _SHORTEST_S), now)
        if more > 0:
            self.itl.add(max(gap_s, _SHORTEST_S), now)
            self.itl_base.add(max(gap_s, _SHORTEST_S), now)
        if output_tokens is not None and output_tokens > 0:
            self.output.add(output_tokens, now)
        self.errors.add(now, hit=False)
        self.timeouts.add(now, hit=False)
        self.counts["answered"] += 1
        self.breaker.succeeded(now)

    def failed(
        self, kind: FailureKind, retry_after_s: float | None, waited_s: float, now: float
    ) -> None:
        """A call failed."""
        self.errors.add(now, hit=True)
        self.timeouts.add(now, hit=kind == "timeout")
        self.counts[kind] += 1
        if kind == "timeout":
            # It took at least this long: without counting it a dead endpoint would look fast.
            self._add_ttft(waited_s, now)
            self.whole.add(max(waited_s, _SHORTEST_S), now)
        rate, calls = self.errors.value(now), self.errors.weight_at(now)
        self.breaker.failed(now, rate, calls, retry_after_s)

    def _add_ttft(self, value_s: float, now: float) -> None:
        self.ttft.add(max(value_s, _SHORTEST_S), now)
        self.ttft_base.add(max(value_s, _SHORTEST_S), now)

    # What to expect

    def is_due(self, now: float, others: Measured | None = None) -> bool:
        """Whether it was not asked for so long that its statistics are stale."""
        began = max(self.last_began_s or 0.0, (others and others.last_began_s) or 0.0)
        return now - began >= self.probe_every_s

    def stats(self, now: float, others: Measured | None = None, *, spare: bool = True) -> ArmStats:
        """What to expect now, from this process's calls and those of other processes.

        Args:
            now: The time.
            others: What other processes measured of it.
            spare: Whether calls may be spent on probes that are due.
        """
        ttft = self._duration(now, "ttft", self.prior_ttft_s, others)
        itl = self._duration(now, "itl", self.prior_itl_s, others)
        overdue = self._overdue(now)
        # Only if well overdue: a busy moment of this process delays all its calls under way.
        if overdue > _LATE:
            ttft = overdue * (_COLD_TTFT_S if ttft is None else ttft)
        asked = sum(self.counts.values()) + (sum(others.counts.values()) if others else 0)
        state, available = self._door(now, others)
        due = (spare or asked == 0) and self.is_due(now, others)
        worth = state == "half_open" or (state == "closed" and (due or self.surprised))
        return ArmStats(
            ttft_s=ttft,
            itl_s=itl,
            error_rate=self._rate(now, "errors", others) if asked > 0 else None,
            timeout_rate=self._rate(now, "timeouts", others) if asked > 0 else None,
            output_tokens=self._duration(now, "output", None, others),
            breaker=state,
            available=available,
            probe=worth and available,
            n_calls=asked,
        )

    def _duration(
        self, now: float, name: str, prior: float | None, others: Measured | None
    ) -> float | None:
        mean: DecayedLogMean = getattr(self, name)
        if others is not None:
            both = DecayedLogMean(mean.half_life_s, mean.most, mean.idle_s)
            both.take_in(mean, now)
            both.take_in(getattr(others, name), now)
            mean = both
        if prior is None and name != "output":
            prior = getattr(self, f"{name}_base").value(now)
        return mean.value(now, prior)

    def _rate(self, now: float, name: str, others: Measured | None) -> float:
        rate: DecayedRate = getattr(self, name)
        if others is None:
            return rate.value(now)
        both = DecayedRate(rate.half_life_s, rate.most, rate.prior, rate.strength)
        both.take_in(rate, now)
        both.take_in(getattr(others, name), now)
        return both.value(now)

    def _door(self, now: float, others: Measured | None) -> tuple[BreakerState, bool]:
        state = self.breaker.state(now)
        if state == "closed" and others is not None and others.breaker.state(now) == "open":
            # An endpoint that another process found failing is left alone here too, for as long.
            return "open", False
        return state, self.breaker.admits(now)

    def _overdue(self, now: float) -> float:
        """How many times longer than expected the third oldest call has been waiting."""
        third = next(itertools.islice(self.waiting.values(), 2, None), None)
        if third is None:
            return 0.0
        started_s, streamed = third
        return (now - started_s) / (self._ttft(now) if streamed else self._expected_s(None, now))

    def _expected_s(self, output_tokens: int | None, now: float) -> float:
        length = output_tokens if output_tokens is not None else self.output.value(now) or 1.0
        return self._ttft(now) + self._itl(now) * max(0.0, length - 1)

    def _ttft(self, now: float) -> float:
        return self._duration(now, "ttft", self.prior_ttft_s, None) or _COLD_TTFT_S

    def _itl(self, now: float) -> float:
        return self._duration(now, "itl", self.prior_itl_s, None) or _COLD_ITL_S

    # Saving and sharing

    def state(self) -> dict[str, Any]:
        """As plain data."""
        parts = {name: getattr(self, name).state() for name in _MEANS + _RATES + _HISTOGRAMS}
        return {
            **parts,
            "breaker": self.breaker.snapshot(),
            "counts": dict(self.counts),
            "last_began_s": self.last_began_s,
        }

    def restore(self, state: Mapping[str, Any], now: float) -> None:
        """Set to what `state` gave."""
        for name in _MEANS + _RATES + _HISTOGRAMS:
            getattr(self, name).restore(state[name])
        self.breaker.restore(state["breaker"], now)
        for name in self.counts:
            self.counts[name] = max(0, int(state["counts"].get(name, 0)))
        began = state["last_began_s"]
        self.last_began_s = None if began is None else min(float(began), now)

    def take_in(self, other: Measured, now: float) -> None:
        """Add what another process measured."""
        for name in _MEANS + _RATES + _HISTOGRAMS:
            getattr(self, name).take_in(getattr(other, name), now)
        for name, count in other.counts.items():
            self.counts[name] += count
        until = other.breaker.open_until_s
        if until is not None:
            self.breaker.open_until_s = max(self.breaker.open_until_s or until, until)
        began = [t for t in (self.last_began_s, other.last_began_s) if t is not None]
        self.last_began_s = max(began, default=None)
