"""Progress of operations that take longer than a moment."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Watch"]

Watch = Callable[[str, int, int], None]
"""Called before each step: what it is, how many are done, and how many there are."""


class Progress:
    """Counts steps whose number is known beforehand.

    Args:
        watch: Is called; None: progress is not reported.
        total: How many steps there are.
    """

    def __init__(self, watch: Watch | None, total: int) -> None:
        self._watch, self._begun, self._total = watch, 0, total

    def begin(self, what: str) -> None:
        """Report the next step; the ones before it are done."""
        if self._watch is not None:
            self._watch(what, self._begun, self._total)
        self._begun += 1
