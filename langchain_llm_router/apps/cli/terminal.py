"""What commands print: color for people, JSON for machines, and their progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_llm_router.types.errors import import_extra

__all__ = ["Steps", "say", "steps", "write_json"]


def say(*things: Any) -> None:
    """Print texts and rich tables on standard output."""
    console = import_extra("rich.console", "cli").Console(highlight=False, soft_wrap=True)
    for thing in things:
        console.print(thing, markup=False)


def write_json(figures: Mapping[str, Any]) -> None:
    """Print one JSON object as the last line of standard output."""
    sys.stdout.write(json.dumps(figures, ensure_ascii=False, allow_nan=False) + "\n")


class Steps:
    """A bar on standard error, one step at a time."""

    def __init__(self, bar: Any, what: str, total: int | None) -> None:
        self._bar, self._done, self._total = bar, 0, total
        self._task = bar.add_task(what, total=total, count=self._count())

    def begin(self, what: str) -> None:
        """Show what is being done now."""
        self._bar.update(self._task, description=what)

    def done(self, n: int = 1) -> None:
        """Count steps that are done."""
        self._done += n
        self._bar.update(self._task, completed=self._done, count=self._count())

    def reach(self, what: str, done: int, total: int) -> None:
        """Show what is being done now, how many steps are done, and how many there are."""
        self._done, self._total = done, total
        self._bar.update(self._task, description=what, total=total)
        self.done(0)

    def _count(self) -> str:
        return "" if self._total is None else f"{self._done}/{self._total}"


@contextmanager
def steps(what: str, total: int | None = None) -> Iterator[Steps]:
    """A progress bar for as long as the block runs; until a total is known it shows the time.

    It is drawn on standard error and wiped away at the end.
    """
    rich = import_extra("rich.progress", "cli")
    console = import_extra("rich.console", "cli").Console(stderr=True)
    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.TextColumn("{task.fields[count]}"),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Steps(bar, what, total)
