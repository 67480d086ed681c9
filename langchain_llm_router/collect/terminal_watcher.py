"""The quote, the confirmations and the progress bar of `collect`, in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Self

from langchain_llm_router.collect.collector import Watcher
from langchain_llm_router.collect.quote import Quote, Spending
from langchain_llm_router.collect.readability import Readable
from langchain_llm_router.types.errors import CollectionError, import_extra
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.types.progress import Bar

__all__ = ["TerminalWatcher"]


class TerminalWatcher(Watcher):
    """A watcher that asks for confirmation in the terminal and draws a progress bar.

    Args:
        yes: Whether to begin without asking. A run whose prices are unknown, or whose first rows
            are unreadable, stops then as it does without a terminal.
        without_prices: Whether to begin although the price of a candidate is unknown.
        console: A `rich.console.Console`; if None, one on standard error.

    Attributes:
        spending: What the run spent; None until its end.
    """

    def __init__(
        self, *, yes: bool = False, without_prices: bool = False, console: Any = None
    ) -> None:
        self._yes, self._without_prices = yes, without_prices
        self._console = console or import_extra("rich.console", "cli").Console(stderr=True)
        self._bar = Bar(console=self._console, keep=True)
        self.spending: Spending | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def confirm(self, quote: Quote) -> bool:
        """Print the quote, and ask whether to begin unless `yes` is set.

        Raises:
            CollectionError: If there is no one to ask, or a price is unknown and neither a person
                nor `without_prices` accepts that.
        """
        self._console.print(str(quote), highlight=False, markup=False)
        if quote.calls == 0:
            return True
        unpriced = [] if self._without_prices else list(quote.unpriced_candidates)
        if unpriced:
            text = (
                f"The price of {', '.join(unpriced)} is unknown, and `fit` needs the cost of every "
                f"answer: give `--price {unpriced[0]}=input,output` in USD per million tokens (0,0 "
                "if it is free)"
            )
            if self._yes:
                msg = f"{text}, or begin with `--without-prices`. No call was made."
                raise CollectionError(msg)
            self._console.print(f"{text}.", highlight=False, markup=False)
        return self._yes or self._ask("Begin without prices?" if unpriced else "Begin?")

    def confirm_unreadable(self, poor: Sequence[Readable]) -> bool:
        """Ask whether to go on; without a terminal, go on unless nothing at all can be read."""
        if self._yes or not (self._console.is_terminal and sys.stdin.isatty()):
            return super().confirm_unreadable(poor)
        self._bar.__exit__()
        self._bar = Bar(console=self._console, keep=True)
        for each in poor:
            self._console.print(f"{each}: {each.advice}.", highlight=False, markup=False)
        return self._ask("Go on?")

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        """Move the bar."""
        self._bar.note = format_usd(spent_usd)
        self._bar("answers", done, total)

    def end(self, spending: Spending) -> None:
        """Print what was spent beside what was expected, also without a terminal."""
        self._bar.__exit__()
        self.spending = spending
        self._console.print(str(spending), highlight=False, markup=False)

    def _ask(self, question: str) -> bool:
        prompt = import_extra("rich.prompt", "cli").Confirm
        try:
            return bool(prompt.ask(question, console=self._console))
        except EOFError as error:
            # The error stands on a line of its own.
            self._console.print()
            msg = "There is no terminal to confirm the quote: pass `--yes`. No call was made."
            raise CollectionError(msg) from error
