"""Statistics with exponential decay: O(1) time per sample, O(1) memory, mergeable.

The time is an argument of each method, so that tests control it. Samples lose half their weight
every `half_life_s`. The total weight of past samples is also capped, so that a sudden change of a
busy endpoint shows after a few calls and not only after a half-life.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

__all__ = [
    "DecayedHistogram",
    "DecayedLogMean",
    "DecayedRate",
    "check_numbers",
    "decay",
]

_LARGEST, _LARGEST_LOG = 1e30, 50.0


def decay(elapsed_s: float, half_life_s: float) -> float:
    """Return the share of a weight that is left, at most 1 even if a clock was set back."""
    return float(2.0 ** (-max(0.0, elapsed_s) / half_life_s))


def _latest(now: float, at_s: float, half_life_s: float) -> float:
    """Return the later time, unless the clock was set back: then samples go on to age."""
    return now if now < at_s - half_life_s else max(now, at_s)


class DecayedLogMean:
    """Geometric mean of recent durations.

    Durations span orders of magnitude. An outlier would dominate an arithmetic mean for long, which
    also rises fast when an endpoint slows down and falls late when it recovers. A geometric mean
    takes equally many samples for both.

    Args:
        half_life_s: Time in seconds after which a sample counts half.
        max_weight: Maximum total weight, in samples.
        idle_s: Pause in seconds after which past samples weigh at most as much as one.
    """

    __slots__ = ("at_s", "half_life_s", "idle_s", "log_mean", "max_weight", "weight")

    def __init__(
        self, half_life_s: float = 30.0, max_weight: float = 16.0, idle_s: float = 15.0
    ) -> None:
        self.half_life_s, self.max_weight, self.idle_s = half_life_s, max_weight, idle_s
        self.weight = self.log_mean = self.at_s = 0.0

    def weight_at(self, now: float) -> float:
        """Return the current weight of past samples, in samples."""
        elapsed = now - self.at_s
        left = self.weight * decay(elapsed, self.half_life_s)
        return min(left, 1.0) if elapsed > self.idle_s else left

    def add(self, value: float, now: float) -> None:
        """Add a sample, which must be positive."""
        past = min(self.weight_at(now), self.max_weight - 1)
        self.at_s = _latest(now, self.at_s, self.half_life_s)
        self.weight = past + 1
        self.log_mean += (math.log(value) - self.log_mean) / self.weight

    def value(self, now: float, prior: float | None = None) -> float | None:
        """Return the mean, shrunk towards the prior as samples age; None without both.

        The prior counts as much as one fresh sample.
        """
        weight = self.weight_at(now)
        if prior is None:
            return math.exp(self.log_mean) if self.weight > 0 else None
        return math.exp((weight * self.log_mean + math.log(prior)) / (weight + 1))

    def merge(self, other: DecayedLogMean, now: float) -> None:
        """Add the samples of another instance."""
        own_weight, other_weight = self.weight_at(now), other.weight_at(now)
        if other_weight > 0:
            self.log_mean = (own_weight * self.log_mean + other_weight * other.log_mean) / (
                own_weight + other_weight
            )
            self.weight, self.at_s = own_weight + other_weight, now

    def state(self) -> list[float]:
        """Return the state as plain numbers."""
        return [self.weight, self.log_mean, self.at_s]

    def restore(self, state: Sequence[Any]) -> Self:
        """Restore what `state` returned."""
        self.weight, self.log_mean, self.at_s = check_numbers(state, 3)
        self.weight = max(0.0, self.weight)
        # A value from a file must not overflow `exp`.
        self.log_mean = min(max(self.log_mean, -_LARGEST_LOG), _LARGEST_LOG)
        return self


class DecayedRate:
    """Share of recent calls that failed, with a prior that keeps it between 0 and 1.

    Args:
        half_life_s: Time in seconds after which a call counts half.
        max_weight: Maximum total weight, in calls.
        prior: Rate before any call.
        strength: Weight of the prior, in calls.
    """

    __slots__ = ("at_s", "half_life_s", "hits", "max_weight", "prior", "strength", "weight")

    def __init__(
        self,
        half_life_s: float = 60.0,
        max_weight: float = 50.0,
        prior: float = 0.01,
        strength: float = 2.0,
    ) -> None:
        self.half_life_s, self.max_weight = half_life_s, max_weight
        self.prior, self.strength = prior, strength
        self.weight = self.hits = self.at_s = 0.0

    def add(self, now: float, *, hit: bool) -> None:
        """Add a call."""
        left = decay(now - self.at_s, self.half_life_s)
        if self.weight * left > self.max_weight - 1:
            left = (self.max_weight - 1) / self.weight
        self.weight = self.weight * left + 1
        self.hits = self.hits * left + hit
        self.at_s = _latest(now, self.at_s, self.half_life_s)

    def weight_at(self, now: float) -> float:
        """Return the current weight of past calls, in calls."""
        return self.weight * decay(now - self.at_s, self.half_life_s)

    def value(self, now: float) -> float:
        """Return the rate, in (0, 1)."""
        left = decay(now - self.at_s, self.half_life_s)
        hits, weight = self.hits * left, self.weight * left
        return (hits + self.prior * self.strength) / (weight + self.strength)

    def merge(self, other: DecayedRate, now: float) -> None:
        """Add the calls of another instance."""
        own_weight = decay(now - self.at_s, self.half_life_s)
        other_weight = decay(now - other.at_s, other.half_life_s)
        self.weight = self.weight * own_weight + other.weight * other_weight
        self.hits = self.hits * own_weight + other.hits * other_weight
        self.at_s = now

    def state(self) -> list[float]:
        """Return the state as plain numbers."""
        return [self.weight, self.hits, self.at_s]

    def restore(self, state: Sequence[Any]) -> Self:
        """Restore what `state` returned."""
        self.weight, self.hits, self.at_s = check_numbers(state, 3)
        self.weight = max(0.0, self.weight)
        self.hits = min(max(0.0, self.hits), self.weight)
        return self


_BINS_PER_OCTAVE = 8
_SHORTEST_S = 1e-3
_N_BINS = 20 * _BINS_PER_OCTAVE
_RESCALE = 1e12


class DecayedHistogram:
    """Quantiles of recent durations from 1 ms to about 1,000 s, accurate to 5 %.

    Bins are an eighth of an octave wide. New samples get growing weights (forward decay), which
    costs O(1) per sample, while scaling down all old ones would not.

    Args:
        half_life_s: Time in seconds after which a sample counts half.

    References:
        Cormode et al., 2009, Forward decay: a practical time decay model for streaming systems,
        ICDE, section III.
    """

    __slots__ = ("bins", "half_life_s", "origin_s", "total")

    def __init__(self, half_life_s: float = 300.0) -> None:
        self.half_life_s = half_life_s
        self.bins = [0.0] * _N_BINS
        self.total = self.origin_s = 0.0

    def add(self, value: float, now: float) -> None:
        """Add a sample, which must be positive."""
        if self.total == 0 or now < self.origin_s - self.half_life_s:
            self.origin_s = now
        weight = self._growth(now)
        if weight > _RESCALE:
            self._move_origin(now)
            weight = 1.0
        position = math.log2(max(value, _SHORTEST_S) / _SHORTEST_S) * _BINS_PER_OCTAVE
        self.bins[min(int(position), _N_BINS - 1)] += weight
        self.total += weight

    def weight_at(self, now: float) -> float:
        """Return the current weight of past samples, in samples."""
        return self.total / self._growth(now)

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile as the middle of its bin; None without samples."""
        if self.total <= 0:
            return None
        target, cumulated = q * self.total, 0.0
        last = 0
        for i, weight in enumerate(self.bins):
            if weight > 0:
                last = i
                cumulated += weight
                if cumulated >= target:
                    break
        return float(_SHORTEST_S * 2.0 ** ((last + 0.5) / _BINS_PER_OCTAVE))

    def merge(self, other: DecayedHistogram, now: float) -> None:
        """Add the samples of another instance."""
        self._move_origin(now)
        shrink = 1 / other._growth(now)
        self.bins = [a + b * shrink for a, b in zip(self.bins, other.bins, strict=True)]
        self.total = math.fsum(self.bins)

    def state(self) -> dict[str, Any]:
        """Return the state as plain numbers, without empty bins."""
        filled = {str(i): weight for i, weight in enumerate(self.bins) if weight > 0}
        return {"origin_s": self.origin_s, "bins": filled}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        self.bins = [0.0] * _N_BINS
        (self.origin_s,) = check_numbers([state["origin_s"]], 1)
        for key, weight in state["bins"].items():
            index = int(key)
            if not 0 <= index < _N_BINS:
                msg = f"The bins of a histogram must be 0 to {_N_BINS - 1}, got {index!r}."
                raise ValueError(msg)
            (self.bins[index],) = check_numbers([weight], 1)
            if self.bins[index] < 0:
                msg = f"The weights of a histogram must be >= 0, got {weight!r}."
                raise ValueError(msg)
        self.total = math.fsum(self.bins)
        return self

    def _growth(self, now: float) -> float:
        return 1 / decay(min(now - self.origin_s, 1000 * self.half_life_s), self.half_life_s)

    def _move_origin(self, now: float) -> None:
        shrink = 1 / self._growth(now)
        self.bins = [weight * shrink for weight in self.bins]
        self.total = math.fsum(self.bins)
        self.origin_s = now


def check_numbers(values: Sequence[Any], n: int) -> list[float]:
    """Return n numbers of a snapshot.

    Raises:
        ValueError: If there are more or fewer, or one is not finite or unreasonably large.
    """
    numbers = [float(value) for value in values]
    if len(numbers) != n or not all(abs(number) < _LARGEST for number in numbers):
        msg = f"There must be {n} numbers below {_LARGEST:g}, got {list(values)!r}."
        raise ValueError(msg)
    return numbers
