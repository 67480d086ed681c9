"""Pacing: a λ that makes a period's budget last for the period."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from langchain_llm_router.types.arguments import CheckedArguments

__all__ = ["Pacer"]

_FURTHEST = 12.0
"""How far λ may go from its start, in units of log λ."""


@dataclass(eq=False)
class Pacer(CheckedArguments):
    """Raises λ while spending is ahead of time, lowers it while it is behind.

    λ is the dual variable of the budget: the quality that the last dollar should buy. It follows
    log λ ← log λ + gain · clip(log r, -1, 2), once per step, with r the rate of spending over the
    rate that would spend exactly the rest in the time left. It paces by time: if a period's traffic
    comes early, some of the money is left at its end.

    Args:
        limit_usd: The budget of one period.
        period_s: Its length; periods begin at multiples of it.
        start: Initial λ, in quality per dollar; one over the cost of the most expensive call is a
            good guess, and a wrong one is soon corrected.
        gain: How strongly it reacts.
        steps: How often λ is updated in a period; ten times as often while far too much is spent.

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
        self._alarm = False
        self._seen: tuple[float, float] | None = None

    @property
    def lambda_(self) -> float:
        """λ now, in quality per dollar."""
        return math.exp(self._log)

    def observe(self, used_usd: float, now: float) -> float:
        """Update λ from the account and return it.

        Args:
            used_usd: What this period has cost so far, over all callers.
            now: Unix time.
        """
        with self._lock:
            if self._seen is None or used_usd < self._seen[0] - 1e-12 or self._over(now):
                # The first look, or a new period: what it costs is learned, its start is not.
                self._seen = (used_usd, now)
                return self.lambda_
            spent, elapsed = used_usd - self._seen[0], now - self._seen[1]
            if elapsed >= self.period_s / self.steps / (10 if self._alarm else 1):
                left_s = self.period_s - now % self.period_s
                fair = max(self.limit_usd - self._seen[0], 0.0) / (left_s + elapsed) * elapsed
                ratio = math.inf if fair <= 0 else spent / fair
                news = -1.0 if ratio <= 0 else min(max(math.log(ratio), -1.0), 2.0)
                # A quiet night must not lower λ so far that the morning spends everything.
                least = math.log(self.start) - _FURTHEST
                self._log = min(max(self._log + self.gain * news, least), least + 2 * _FURTHEST)
                self._alarm = news > 1
                self._seen = (used_usd, now)
            return self.lambda_

    def _over(self, now: float) -> bool:
        assert self._seen is not None
        return now // self.period_s != self._seen[1] // self.period_s
