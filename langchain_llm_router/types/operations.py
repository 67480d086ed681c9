"""What a request wants done, and what everybody else needs to know about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Operation"]


class Operation(ABC):
    """One piece of I/O, performed by a driver; the same thing twice, around logic written once.

    Money and hiding are decided by the two declarations below and by nothing else.
    """

    worst_usd: float | None = 0.0
    """Upper bound on what it may be billed, also if it is cancelled under way; None: unknown."""

    draft: bool = False
    """Whether its text must not be seen by the caller before it is accepted."""

    @abstractmethod
    def perform(self) -> Any:
        """Do it, and give the result."""

    def refused(self, error: Exception) -> Any:
        """The result where there is no money for it."""
        raise error

    async def aperform(self) -> Any:
        """Do it, and give the result; as it stands only for what never waits."""
        return self.perform()
