"""Progress of operations that take longer than a moment, and the bar that shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any, Self, TypeVar

from langchain_llm_router.types.errors import import_extra

__all__ = ["Bar", "Progress", "Watch", "track"]

_T = TypeVar("_T")

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


def track(items: Collection[_T], what: str, watch: Watch | None) -> Iterator[_T]:
    """The items, each of them a step.

    Args:
        items: What is worked on, one after another.
        what: What is done with each of them.
        watch: Is called; None: progress is not reported.
    """
    progress = Progress(watch, len(items))
    for item in items:
        progress.begin(what)
        yield item
    progress.begin(what)


class Bar:
    """A `Watch` that draws a bar with rate and time left, for as long as its block runs.

    It is drawn with rich (extra `cli`), and only in a terminal or a notebook.

    Args:
        what: What is being done until the first step is reported; None: draw nothing until then.
        console: A `rich.console.Console`; None: one on standard error.
        keep: Leave the bar standing at the end.

    Attributes:
        note: Shown behind the bar.
    """

    def __init__(self, what: str | None = None, *, console: Any = None, keep: bool = False) -> None:
        rich = import_extra("rich.progress", "cli")
        console = console or import_extra("rich.console", "cli").Console(stderr=True)
        self.note = ""
        self._what, self._task = what, None
        self._drawn = rich.Progress(
            rich.SpinnerColumn(finished_text="✓"),
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.TextColumn("{task.fields[bar].figures}", markup=False),
            console=console,
            transient=not keep,
            disable=not (console.is_terminal or console.is_jupyter),
        )

    def __enter__(self) -> Self:
        if self._what is not None:
            self._begin(self._what)
        return self

    def __exit__(self, *error: object) -> None:
        # A bar that was never drawn would leave an empty line.
        if self._task is not None:
            self._drawn.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show what is being done now, how many steps are done, and how many there are."""
        if self._task is None:
            self._begin(what)
        if done == 0:
            # Another series of steps, with a rate of its own.
            self._drawn.reset(self._task)
        self._drawn.update(self._task, description=what, completed=done, total=total)

    @property
    def figures(self) -> str:
        """Steps, rate and time left, as far as they are known, and the note."""
        (task,) = self._drawn.tasks
        shown = [] if task.total is None else [f"{task.completed}/{task.total}"]
        # Fewer steps than one a second are better told by the time that is left.
        if task.speed is not None and task.speed >= 1:
            shown.append(f"{task.speed:.1f}/s")
        if task.time_remaining is None or task.finished:
            shown.append(str(timedelta(seconds=int(task.elapsed or 0))))
        else:
            shown.append(f"{timedelta(seconds=task.time_remaining)} left")
        return " · ".join([*shown, self.note] if self.note else shown)

    def _begin(self, what: str) -> None:
        self._drawn.start()
        self._task = self._drawn.add_task(what, total=None, bar=self)
