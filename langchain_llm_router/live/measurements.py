"""The measurements of one arm and its expected latencies, without a lock or a clock."""

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
    check_numbers,
)

__all__ = ["ArmMeasurements", "ArmStats", "FailureKind", "throughput"]

FailureKind = Literal["error", "rate_limit", "timeout", "cut"]
"""Kind of a failure; `cut` is a stream that broke off after its first token."""

_COLD_TTFT_S, _COLD_ITL_S = 0.5, 0.02
_SHORTEST_S = 1e-6
_LATE = 2.0
_MEANS = ("ttft", "ttft_base", "itl", "itl_base", "output")
_RATES = ("errors", "timeouts")
_HISTOGRAMS = ("first", "whole")


@dataclass(frozen=True, slots=True)
class ArmStats:
    """Statistics of an arm at one moment."""

    ttft_s: float | None = None
    """Typical time to first token; that of the fastest arm if the arm was never called."""

    itl_s: float | None = None
    error_rate: float | None = None
    """P(the next call fails), timeouts included; None if the arm was never called."""

    timeout_rate: float | None = None
    output_tokens: float | None = None
    """Typical length of its recent answers."""

    breaker: BreakerState = "closed"
    available: bool = True
    """Whether its breaker lets a call through."""

    probe: bool = False
    """Whether a probe is due: statistics are stale or missing, or the breaker is half-open."""

    n_calls: int = 0
    price_age_s: float | None = None
    """Seconds since its current price was known to hold; None if the feed does not say, or without
    one."""

    price_from_feed: bool = False
    """Whether its current price is from a feed."""

    @property
    def tokens_per_s(self) -> float | None:
        """Throughput of a typical answer, see `throughput`; None until answers were measured."""
        return throughput(self.ttft_s, self.itl_s, self.output_tokens)


def throughput(
    ttft_s: float | None, itl_s: float | None, output_tokens: float | None
) -> float | None:
    """Return the output tokens per second of an answer, the wait for its first token included.

    Args:
        ttft_s: Seconds to the first token.
        itl_s: Seconds between two tokens.
        output_tokens: Length of the answer.

    Returns:
        None if one of them is unknown, or the answer takes no time.
    """
    if ttft_s is None or itl_s is None or output_tokens is None:
        return None
    whole_s = ttft_s + itl_s * max(0.0, output_tokens - 1)
    return output_tokens / whole_s if whole_s > 0 else None


class ArmMeasurements:
    """All measurements of one arm.

    Durations have a short-term and a long-term mean. As recent samples age, the estimate returns to
    the long-term mean, because an arm that is avoided for being slow has no new samples.
    """

    def __init__(self, rules: Breaking, half_life_s: float, probe_every_s: float) -> None:
        half, idle = half_life_s, probe_every_s / 2
        self.probe_every_s = probe_every_s
        self.ttft = DecayedLogMean(half, idle_s=idle)
        self.itl = DecayedLogMean(half, idle_s=idle)
        self.ttft_base = DecayedLogMean(100 * half, max_weight=1000, idle_s=1000 * half)
        self.itl_base = DecayedLogMean(100 * half, max_weight=1000, idle_s=1000 * half)
        self.output = DecayedLogMean(100 * half, max_weight=200, idle_s=1000 * half)
        self.errors, self.timeouts = DecayedRate(2 * half), DecayedRate(2 * half)
        self.first, self.whole = DecayedHistogram(10 * half), DecayedHistogram(10 * half)
        self.breaker = Breaker(rules)
        self.prior_ttft_s: float | None = None
        self.prior_itl_s: float | None = None
        self.counts = {"answered": 0, "error": 0, "rate_limit": 0, "timeout": 0, "cut": 0}
        self.last_began_s: float | None = None
        self.found_faster = False
        # Running calls, oldest first: the start, and whether the call is streamed.
        self.pending: dict[int, tuple[float, bool]] = {}

    # Recording

    def began(self, key: int, now: float, *, streamed: bool) -> None:
        """Record that a call was started."""
        self.pending[key] = (now, streamed)
        self.breaker.began(now)
        self.last_began_s, self.found_faster = now, False

    def answered(
        self, first_s: float | None, whole_s: float, output_tokens: int | None, now: float
    ) -> None:
        """Record an answer; if it was not streamed, its time is split as expected so far."""
        ttft, itl = self._ttft(now), self._itl(now)
        more = 0 if output_tokens is None else max(0, output_tokens - 1)
        if first_s is None:
            ratio = whole_s / self._expected_s(output_tokens, now)
            first_s, gap_s = ttft * ratio, itl * ratio
        else:
            self.first.add(max(first_s, _SHORTEST_S), now)
            gap_s = (whole_s - first_s) / max(more, 1)
        # An arm twice as fast as expected is worth an early probe.
        self.found_faster = self.ttft.weight > 0 and first_s < ttft / 2
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
        """Record a failure."""
        self.errors.add(now, hit=True)
        self.timeouts.add(now, hit=kind == "timeout")
        self.counts[kind] += 1
        if kind == "timeout":
            # Without this lower bound on its duration, a dead endpoint would look fast.
            self._add_ttft(waited_s, now)
            self.whole.add(max(waited_s, _SHORTEST_S), now)
        rate, calls = self.errors.value(now), self.errors.weight_at(now)
        self.breaker.failed(now, rate, calls, retry_after_s)

    def _add_ttft(self, value_s: float, now: float) -> None:
        self.ttft.add(max(value_s, _SHORTEST_S), now)
        self.ttft_base.add(max(value_s, _SHORTEST_S), now)

    # Estimates

    def is_due(self, now: float, others: ArmMeasurements | None = None) -> bool:
        """Return whether the last call is so long ago that the statistics are stale."""
        began = [m.last_began_s for m in (self, others) if m is not None]
        ages = [now - began_s for began_s in began if began_s is not None]
        # A call from the future was made before the clock was set back.
        return not any(0 <= age < self.probe_every_s for age in ages)

    def stats(
        self, now: float, others: ArmMeasurements | None = None, *, may_probe: bool = True
    ) -> ArmStats:
        """Return the current statistics, from the calls of this and other processes.

        Args:
            now: The current time in seconds.
            others: Measurements of the same arm by other processes.
            may_probe: Whether calls may be used for probes that are due.
        """
        ttft = self._duration(now, "ttft", self.prior_ttft_s, others)
        itl = self._duration(now, "itl", self.prior_itl_s, others)
        delay = self._delay_ratio(now)
        # A busy moment of this process delays all its calls, so a small delay is ignored.
        if delay > _LATE:
            ttft = delay * (_COLD_TTFT_S if ttft is None else ttft)
        n_calls = sum(self.counts.values()) + (sum(others.counts.values()) if others else 0)
        state, available = self._breaker_state(now, others)
        due = (may_probe or n_calls == 0) and self.is_due(now, others)
        useful = state == "half_open" or (state == "closed" and (due or self.found_faster))
        return ArmStats(
            ttft_s=ttft,
            itl_s=itl,
            error_rate=self._rate(now, "errors", others) if n_calls > 0 else None,
            timeout_rate=self._rate(now, "timeouts", others) if n_calls > 0 else None,
            output_tokens=self._duration(now, "output", None, others),
            breaker=state,
            available=available,
            probe=useful and available,
            n_calls=n_calls,
        )

    def _duration(
        self, now: float, name: str, prior: float | None, others: ArmMeasurements | None
    ) -> float | None:
        mean: DecayedLogMean = getattr(self, name)
        if others is not None:
            both = DecayedLogMean(mean.half_life_s, mean.max_weight, mean.idle_s)
            both.merge(mean, now)
            both.merge(getattr(others, name), now)
            mean = both
        if prior is None and name != "output":
            prior = getattr(self, f"{name}_base").value(now)
        return mean.value(now, prior)

    def _rate(self, now: float, name: str, others: ArmMeasurements | None) -> float:
        rate: DecayedRate = getattr(self, name)
        if others is None:
            return rate.value(now)
        both = DecayedRate(rate.half_life_s, rate.max_weight, rate.prior, rate.strength)
        both.merge(rate, now)
        both.merge(getattr(others, name), now)
        return both.value(now)

    def _breaker_state(
        self, now: float, others: ArmMeasurements | None
    ) -> tuple[BreakerState, bool]:
        state = self.breaker.state(now)
        if state == "closed" and others is not None and others.breaker.state(now) == "open":
            # An endpoint whose breaker another process opened is not called here either.
            return "open", False
        return state, self.breaker.admits(now)

    def _delay_ratio(self, now: float) -> float:
        """Return the age of the third oldest running call over its expected duration."""
        third = next(itertools.islice(self.pending.values(), 2, None), None)
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
        """Return the measurements as plain data."""
        parts = {name: getattr(self, name).state() for name in _MEANS + _RATES + _HISTOGRAMS}
        return {
            **parts,
            "breaker": self.breaker.snapshot(),
            "counts": dict(self.counts),
            "last_began_s": self.last_began_s,
        }

    def restore(self, state: Mapping[str, Any], now: float) -> None:
        """Restore what `state` returned."""
        for name in _MEANS + _RATES + _HISTOGRAMS:
            getattr(self, name).restore(state[name])
        self.breaker.restore(state["breaker"], now)
        for name in self.counts:
            (count,) = check_numbers([state["counts"].get(name, 0)], 1)
            self.counts[name] = max(0, int(count))
        began = state["last_began_s"]
        if began is not None:
            (began,) = check_numbers([began], 1)
        self.last_began_s = None if began is None else min(began, now)

    def merge(self, other: ArmMeasurements, now: float) -> None:
        """Add the measurements of another process."""
        for name in _MEANS + _RATES + _HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name), now)
        for name, count in other.counts.items():
            self.counts[name] += count
        until = other.breaker.open_until_s
        if until is not None:
            self.breaker.open_until_s = max(self.breaker.open_until_s or until, until)
        began = [t for t in (self.last_began_s, other.last_began_s) if t is not None]
        self.last_began_s = max(began, default=None)
