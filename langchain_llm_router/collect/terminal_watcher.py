"""The quote, the confirmation and the progress bar of `collect`, in a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from langchain_llm_router.collect.collector import Watcher
from langchain_llm_router.collect.quote import Quote
from langchain_llm_router.types.errors import import_extra

__all__ = ["TerminalWatcher"]


class TerminalWatcher(Watcher):
    """Prints the quote and asks, then draws a bar with rate, time left and dollars spent.

    Args:
        yes: Begin without asking.
        console: A `rich.console.Console`; None: one on standard error.
    """

    def __init__(self, *, yes: bool = False, console: Any = None) -> None:
        self._yes = yes
        self._console = console or import_extra("rich.console", "cli").Console(stderr=True)
        bar = import_extra("rich.progress", "cli")
        self._bar = bar.Progress(
            bar.TextColumn("[progress.description]{task.description}"),
            bar.BarColumn(),
            bar.MofNCompleteColumn(),
            bar.TextColumn("{task.fields[rate]}"),
            bar.TimeRemainingColumn(),
            bar.TextColumn("${task.fields[spent]:.4f}"),
            console=self._console,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A bar that was never drawn would leave an empty line.
        if self._task is not None:
            self._bar.stop()

    def confirm(self, quote: Quote) -> bool:
        """Print the quote; unless `yes` was given, ask whether to begin."""
        self._console.print(str(quote), highlight=False)
        if self._yes or quote.calls == 0:
            return True
        return bool(import_extra("rich.prompt", "cli").Confirm.ask("Begin?", console=self._console))

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        """Move the bar."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("answers", total=total, rate="", spent=0.0)
        speed = self._bar.tasks[0].speed
        rate = "" if speed is None else f"{speed:.1f}/s"
        self._bar.update(self._task, completed=done, rate=rate, spent=spent_usd)
