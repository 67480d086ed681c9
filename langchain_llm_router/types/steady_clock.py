"""Unix time that does not jump when the clock of the machine is set."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SteadyClock", "steady_time"]


class SteadyClock:
    """Clock of Unix time that follows a step of the wall clock only once the step has lasted.

    Periods of budgets and circuit breakers need the time of day, but a wall clock can be set back
    or forth by a day and be corrected a minute later. Between two readings this clock advances like
    the monotonic one. It follows differences of up to a second at once (adjustments by NTP), and
    larger ones after ten minutes (a suspended machine, a clock that was wrong at the start).

    Args:
        wall: Returns the Unix time.
        steady: Returns a time in seconds that never jumps.
        tolerance_s: Largest difference in seconds that is followed at once.
        confirm_s: Seconds after which a larger difference is followed.
    """

    __slots__ = ("_confirm_s", "_state", "_steady", "_tolerance_s", "_wall")

    def __init__(
        self,
        wall: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
        tolerance_s: float = 1.0,
        confirm_s: float = 600.0,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._tolerance_s, self._confirm_s = tolerance_s, confirm_s
        # The offset between the clocks, and since when the wall clock disagrees. Assigned as a
        # whole, without a lock, which a fork could copy in its locked state.
        self._state: tuple[float, float | None] | None = None

    def __call__(self) -> float:
        """Return the Unix time in seconds."""
        # Looked up with every call, so that libraries that replace them in tests are followed.
        steady = time.monotonic() if self._steady is None else self._steady()
        offset = (time.time() if self._wall is None else self._wall()) - steady
        if self._state is None:
            self._state = (offset, None)
        believed, since_s = self._state
        if abs(offset - believed) <= self._tolerance_s:
            self._state = (offset, None)
        elif since_s is None:
            self._state = (believed, steady)
        elif steady - since_s >= self._confirm_s:
            self._state = (offset, None)
        return steady + self._state[0]


steady_time = SteadyClock()
"""The clock that budgets and live statistics of one process share."""
