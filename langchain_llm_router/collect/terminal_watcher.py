"""The quote, the confirmation and the progress bar of `collect`, in a terminal."""

from __future__ import annotations

from typing import Any, Self

from langchain_llm_router.collect.collector import Watcher
from langchain_llm_router.collect.quote import Quote
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.progress import Bar

__all__ = ["TerminalWatcher"]


class TerminalWatcher(Watcher):
    """A watcher that asks for confirmation in the terminal and draws a progress bar.

    Args:
        yes: Whether to begin without asking.
        console: A `rich.console.Console`; if None, one on standard error.
    """

    def __init__(self, *, yes: bool = False, console: Any = None) -> None:
        self._yes = yes
        self._console = console or import_extra("rich.console", "cli").Console(stderr=True)
        self._bar = Bar(console=self._console, keep=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def confirm(self, quote: Quote) -> bool:
        """Print the quote, and ask whether to begin unless `yes` is set."""
        self._console.print(str(quote), highlight=False)
        if self._yes or quote.calls == 0:
            return True
        return bool(import_extra("rich.prompt", "cli").Confirm.ask("Begin?", console=self._console))

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        """Move the bar."""
        self._bar.note = f"${spent_usd:.4f}"
        self._bar("answers", done, total)
