"""Snapshots of telemetry on disk, which a restarted worker loads, aged by the pause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from langchain_llm_router.live.repeated_call import RepeatedCall
from langchain_llm_router.live.telemetry import Telemetry
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["Snapshots"]


@dataclass(eq=False)
class Snapshots(CheckedArguments):
    """Writes a process's `Telemetry` to a file every few seconds, in a background thread.

    A killed process loses at most one interval. A file that cannot be read or written does not
    stop the router; the error is in `last_error`.

    Args:
        telemetry: Telemetry of this process's router.
        path: The file; each process needs its own.
        every_s: Seconds between two writes.
    """

    telemetry: Telemetry
    path: str | Path
    every_s: float = 5.0

    def __post_init__(self) -> None:
        check_range(self, "every_s", above=True)
        self._writing = RepeatedCall(self.write, self.every_s, "llm-router-snapshots")
        self.last_error: str | None = None
        """Error of the last read or write; None if it succeeded."""

    def start(self) -> Self:
        """Load the file, if there is one, and start writing in the background."""
        if not self._writing.is_running:
            if Path(self.path).exists():
                try:
                    self.telemetry.load(self.path)
                except ArtifactError as error:
                    self.last_error = str(error)
            self._writing.start()
        return self

    def write(self) -> bool:
        """Write now; return False if that fails."""
        try:
            self.telemetry.save(self.path)
        except OSError as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        self.last_error = None
        return True

    def close(self) -> None:
        """Stop, after a last write."""
        self._writing.stop()
        self.write()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()
