"""Pacing: adjusts λ so that a budget lasts for its period."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from langchain_llm_router.types.arguments import CheckedArguments

__all__ = ["Pacer"]

_MAX_DISTANCE = 12.0
"""Largest distance of log λ from its initial value."""


@dataclass(eq=False)
class Pacer(CheckedArguments):
    """Controller that raises λ while spending is ahead of schedule and lowers it while behind.

    λ is the dual variable of the budget: the quality that the last dollar should buy. It follows
    log λ ← log λ + gain · clip(log r, -1, 2), once per step, where r is the rate of spending over
    the rate that would use up the rest of the budget in the time left. The schedule is linear in
    time: if most traffic comes early in a period, a part of the budget is left at its end.

    Args:
        limit_usd: Budget of one period.
        period_s: Length of a period; periods begin at multiples of it.
        start: Initial λ in quality per dollar; one over the cost of the most expensive call is a
            reasonable value, and a wrong one is soon corrected.
        gain: Step size of the updates of log λ.
        steps: Number of updates of λ in a period; ten times as many while spending is far too fast.

    References:
        Balseiro & Gur, 2019, Learning in repeated auctions with budgets, Management Science 65(9)
        (adaptive pacing by dual descent). Deviation: multiplicative steps, because the scale of λ
        is not known in advance.
    """

    limit_usd: float
    period_s: float
    start: float = 1.0
    gain: float = 0.5
    steps: int = 200

    def __post_init__(self) -> None:
        for name in ("limit_usd", "period_s", "start", "gain", "steps"):
            if not 0 < getattr(self, name) < math.inf:
                msg = f"`{name}` must be > 0 and finite, got {getattr(self, name)!r}."
                raise ValueError(msg)
        self._lock = threading.Lock()
        self._log = math.log(self.start)
        self._overspends = False
        self._last: tuple[float, float] | None = None

    @property
    def lambda_(self) -> float:
        """Current λ in quality per dollar."""
        return math.exp(self._log)

    def observe(
        self, used_usd: float, now: float, period: tuple[float, float] | None = None
    ) -> float:
        """Update λ from the state of the account and return it.

        Args:
            used_usd: Amount spent in this period so far, by all callers.
            now: Unix time.
            period: Unix times of the start and end of the current period; if None, the multiples of
                `period_s` around `now`.
        """
        if period is None:
            start_s = now // self.period_s * self.period_s
            period = (start_s, start_s + self.period_s)
        with self._lock:
            if (
                self._last is None
                or used_usd < self._last[0] - 1e-12
                or self._last[1] < period[0]
                or now < self._last[1] - (period[1] - period[0]) / self.steps
            ):
                # The first observation of a period, or since the clock was set back: there is
                # nothing to compare it with.
                self._last = (used_usd, now)
                return self.lambda_
            spent, elapsed = used_usd - self._last[0], now - self._last[1]
            if elapsed >= self.period_s / self.steps / (10 if self._overspends else 1):
                left_s = period[1] - now
                fair = max(self.limit_usd - self._last[0], 0.0) / (left_s + elapsed) * elapsed
                ratio = math.inf if fair <= 0 else spent / fair
                step = -1.0 if ratio <= 0 else min(max(math.log(ratio), -1.0), 2.0)
                # Unbounded, λ would fall so far in a quiet night that the morning spends all.
                lowest = math.log(self.start) - _MAX_DISTANCE
                self._log = min(
                    max(self._log + self.gain * step, lowest), lowest + 2 * _MAX_DISTANCE
                )
                self._overspends = step > 1
                self._last = (used_usd, now)
            return self.lambda_
