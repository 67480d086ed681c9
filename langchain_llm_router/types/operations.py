"""The base class of the operations that a request yields to its driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Operation"]


class Operation(ABC):
    """One piece of I/O that a driver performs, in threads or in async tasks.

    `worst_usd` and `draft` alone decide how much is reserved for it and whether its text is hidden.
    """

    worst_usd: float | None = 0.0
    """Upper bound on its cost, also if it is cancelled; None if unknown."""

    @property
    def n_unsure(self) -> int | None:
        """Number of its calls that may be billed without an answer; None if it is not counted."""
        return None

    @property
    def unfinished_usd(self) -> float | None:
        """Upper bound on what it has cost by now, where it ends without a result."""
        return self.worst_usd

    @property
    def earlier_usd(self) -> float | None:
        """What its earlier run has cost that paused; None if there is none, or it was cut off."""
        return None

    draft: bool = False
    """Whether its text is hidden from the caller until it is accepted."""

    @abstractmethod
    def perform(self) -> Any:
        """Perform the operation and return its result."""

    def on_refusal(self, error: Exception) -> Any:
        """Return the result where the budget does not cover it; raises `error` by default."""
        raise error

    async def aperform(self) -> Any:
        """Perform the operation; an operation that waits overrides this."""
        return self.perform()
