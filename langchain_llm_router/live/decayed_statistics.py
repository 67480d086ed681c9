"""Statistics that forget: O(1) per sample, O(1) memory, mergeable, plain numbers in and out.

The time is an argument of each call instead of read from a clock, so that tests control it. Old
samples lose half their weight every `half_life_s`. The past of a mean is also capped at the weight
of a few samples, so that a busy endpoint's sudden change shows after a few calls and not after a
half-life.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

__all__ = [
    "DecayedHistogram",
    "DecayedLogMean",
    "DecayedRate",
    "decay",
]

_LARGEST, _LARGEST_LOG = 1e30, 50.0


def decay(elapsed_s: float, half_life_s: float) -> float:
    """The share of a weight that is left; a clock that was set back forgets nothing."""
    return float(2.0 ** (-max(0.0, elapsed_s) / half_life_s))


class DecayedLogMean:
    """The geometric mean of recent durations.

    Durations span orders of magnitude: one outlier dominates an arithmetic mean for long, and the
    mean rises at once when an endpoint slows down but falls late when it recovers. With
    logarithms both take equally many samples.

    Args:
        half_life_s: The time after which a sample counts half.
        most: Largest weight, in samples, that the past can have.
        idle_s: After a pause of this length the past weighs at most one sample.
    """

    __slots__ = ("at_s", "half_life_s", "idle_s", "log_mean", "most", "weight")

    def __init__(self, half_life_s: float = 30.0, most: float = 16.0, idle_s: float = 15.0) -> None:
        self.half_life_s, self.most, self.idle_s = half_life_s, most, idle_s
        self.weight = self.log_mean = self.at_s = 0.0

    def weight_at(self, now: float) -> float:
        """How many samples the past is worth now."""
        elapsed = now - self.at_s
        left = self.weight * decay(elapsed, self.half_life_s)
        return min(left, 1.0) if elapsed > self.idle_s else left

    def add(self, value: float, now: float) -> None:
        """Take a sample; it must be positive."""
        past = min(self.weight_at(now), self.most - 1)
        self.weight = past + 1
        self.log_mean += (math.log(value) - self.log_mean) / self.weight
        self.at_s = max(now, self.at_s)

    def value(self, now: float, prior: float | None = None) -> float | None:
        """The mean, drawn towards the prior as samples age; None if there is neither.

        The prior counts as much as one fresh sample.
        """
        weight = self.weight_at(now)
        if prior is None:
            return math.exp(self.log_mean) if self.weight > 0 else None
        return math.exp((weight * self.log_mean + math.log(prior)) / (weight + 1))

    def take_in(self, other: DecayedLogMean, now: float) -> None:
        """Add the samples of another one."""
        mine, theirs = self.weight_at(now), other.weight_at(now)
        if theirs > 0:
            self.log_mean = (mine * self.log_mean + theirs * other.log_mean) / (mine + theirs)
            self.weight, self.at_s = mine + theirs, now

    def state(self) -> list[float]:
        """As plain numbers."""
        return [self.weight, self.log_mean, self.at_s]

    def restore(self, state: Sequence[Any]) -> Self:
        """Set to what `state` gave."""
        self.weight, self.log_mean, self.at_s = _numbers(state, 3)
        self.weight = max(0.0, self.weight)
        # What is read from a file must not overflow later.
        self.log_mean = min(max(self.log_mean, -_LARGEST_LOG), _LARGEST_LOG)
        return self


class DecayedRate:
    """The share of recent calls that went wrong, with a prior that never lets it be 0 or 1.

    Args:
        half_life_s: The time after which a call counts half.
        most: Largest weight, in calls, that the past can have.
        prior: The rate before anything is known.
        strength: The prior's weight, in calls.
    """

    __slots__ = ("at_s", "half_life_s", "hits", "most", "prior", "strength", "weight")

    def __init__(
        self,
        half_life_s: float = 60.0,
        most: float = 50.0,
        prior: float = 0.01,
        strength: float = 2.0,
    ) -> None:
        self.half_life_s, self.most = half_life_s, most
        self.prior, self.strength = prior, strength
        self.weight = self.hits = self.at_s = 0.0

    def add(self, now: float, *, hit: bool) -> None:
        """Count a call."""
        left = decay(now - self.at_s, self.half_life_s)
        if self.weight * left > self.most - 1:
            left = (self.most - 1) / self.weight
        self.weight = self.weight * left + 1
        self.hits = self.hits * left + hit
        self.at_s = max(now, self.at_s)

    def weight_at(self, now: float) -> float:
        """How many calls the past is worth now."""
        return self.weight * decay(now - self.at_s, self.half_life_s)

    def value(self, now: float) -> float:
        """The rate, in (0, 1)."""
        left = decay(now - self.at_s, self.half_life_s)
        hits, weight = self.hits * left, self.weight * left
        return (hits + self.prior * self.strength) / (weight + self.strength)

    def take_in(self, other: DecayedRate, now: float) -> None:
        """Add the calls of another one."""
        mine = decay(now - self.at_s, self.half_life_s)
        theirs = decay(now - other.at_s, other.half_life_s)
        self.weight = self.weight * mine + other.weight * theirs
        self.hits = self.hits * mine + other.hits * theirs
        self.at_s = now

    def state(self) -> list[float]:
        """As plain numbers."""
        return [self.weight, self.hits, self.at_s]

    def restore(self, state: Sequence[Any]) -> Self:
        """Set to what `state` gave."""
        self.weight, self.hits, self.at_s = _numbers(state, 3)
        self.weight = max(0.0, self.weight)
        self.hits = min(max(0.0, self.hits), self.weight)
        return self


_BINS_PER_OCTAVE = 8
_SHORTEST_S = 1e-3
_N_BINS = 20 * _BINS_PER_OCTAVE
_RESCALE = 1e12


class DecayedHistogram:
    """Quantiles of recent durations from 1 ms to about 1,000 s, accurate to 5 %.

    Bins are an eighth of an octave wide. New samples get a growing weight, instead of scaling down
    all old ones (forward decay), so that a sample costs O(1).

    Args:
        half_life_s: After which time a sample counts half.

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
        """Take a sample; it must be positive."""
        if self.total == 0:
            self.origin_s = now
        weight = self._growth(now)
        if weight > _RESCALE:
            self._move_origin(now)
            weight = 1.0
        position = math.log2(max(value, _SHORTEST_S) / _SHORTEST_S) * _BINS_PER_OCTAVE
        self.bins[min(int(position), _N_BINS - 1)] += weight
        self.total += weight

    def weight_at(self, now: float) -> float:
        """How many samples the past is worth now."""
        return self.total / self._growth(now)

    def quantile(self, q: float) -> float | None:
        """The q-quantile, at the middle of its bin; None without samples."""
        if self.total <= 0:
            return None
        wanted, seen = q * self.total, 0.0
        last = 0
        for i, weight in enumerate(self.bins):
            if weight > 0:
                last = i
                seen += weight
                if seen >= wanted:
                    break
        return float(_SHORTEST_S * 2.0 ** ((last + 0.5) / _BINS_PER_OCTAVE))

    def take_in(self, other: DecayedHistogram, now: float) -> None:
        """Add the samples of another one."""
        self._move_origin(now)
        shrink = 1 / other._growth(now)
        self.bins = [a + b * shrink for a, b in zip(self.bins, other.bins, strict=True)]
        self.total = math.fsum(self.bins)

    def state(self) -> dict[str, Any]:
        """As plain numbers; only the bins that are not empty."""
        held = {str(i): weight for i, weight in enumerate(self.bins) if weight > 0}
        return {"origin_s": self.origin_s, "bins": held}

    def restore(self, state: dict[str, Any]) -> Self:
        """Set to what `state` gave."""
        self.bins = [0.0] * _N_BINS
        (self.origin_s,) = _numbers([state["origin_s"]], 1)
        for key, weight in state["bins"].items():
            index = int(key)
            if not 0 <= index < _N_BINS:
                msg = f"A histogram has bins 0 to {_N_BINS - 1}, got {index!r}."
                raise ValueError(msg)
            (self.bins[index],) = _numbers([weight], 1)
        self.total = math.fsum(self.bins)
        return self

    def _growth(self, now: float) -> float:
        return 1 / decay(min(now - self.origin_s, 1000 * self.half_life_s), self.half_life_s)

    def _move_origin(self, now: float) -> None:
        shrink = 1 / self._growth(now)
        self.bins = [weight * shrink for weight in self.bins]
        self.total = math.fsum(self.bins)
        self.origin_s = now


def _numbers(values: Sequence[Any], n: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != n or not all(abs(number) < _LARGEST for number in numbers):
        msg = f"Expected {n} numbers below {_LARGEST:g}, got {list(values)!r}."
        raise ValueError(msg)
    return numbers
