"""Prices that change, read again and again from a feed in a background thread."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from langchain_llm_router.live.repeated_call import RepeatedCall
from langchain_llm_router.types import Price
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.files import read_limited
from langchain_llm_router.types.secrets import describe_error

__all__ = ["DatedPrices", "PriceFeed", "QuotedPrice"]

_MOST_BYTES = 50_000_000
_CLOCKS_DIFFER_S = 300.0
"""How far the clocks of two machines may lie apart."""


@dataclass(frozen=True, slots=True)
class QuotedPrice:
    """A price and how old it is."""

    price: Price
    age_s: float | None
    """Seconds since the price was known to hold; None if its source does not say."""


@dataclass(frozen=True)
class DatedPrices:
    """Prices with the time since when they are known, for a source that has it.

    Args:
        prices: The prices by name of an arm, a candidate or a model.
        as_of_s: Unix time in seconds, not in the future; None if unknown.
    """

    prices: Mapping[str, Price]
    as_of_s: float | None


@dataclass(eq=False)
class PriceFeed(CheckedArguments):
    """Current prices by name, for `Live(prices=...)`: they replace those of the candidates.

    Every request takes the prices that hold when it begins, for its choice, its bounds and its
    costs alike. If the source fails later, or no longer has a name, the last prices stay in use
    while their age grows; the error is in `last_error`.

    Args:
        source: A function that returns the prices by name of an arm (`model@endpoint`) or of a
            model, or `DatedPrices`; or a JSON file of such prices that is written anew, `{"gpt-4o":
            {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10}}`. The function runs in a thread;
            its method `close`, if it has one, is called when the feed is closed.
        every_s: Seconds between two reads.
        clock: Returns the Unix time in seconds.
    """

    source: Callable[[], Mapping[str, Price] | DatedPrices] | str | Path
    every_s: float = 60.0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        check_range(self, "every_s", above=True)
        self._reading = RepeatedCall(self.refresh, self.every_s, "llm-router-prices")
        self._known: dict[str, tuple[Price, float | None]] = {}
        self.last_error: str | None = None
        """Error of the last read, or the names it no longer has; None if it succeeded."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PriceFeed:
        # Copies of a router share what was read.
        return self

    def start(self) -> Self:
        """Read the prices, unless they have been read, and go on reading them in the background.

        `Live` starts its feed when a router is made.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the source has no prices by name, or they hold from a time that is none
                or lies in the future.
        """
        if len(self._known) == 0:
            self._known = self._read()
        self._reading.start()
        return self

    def refresh(self) -> bool:
        """Read now; return False if that fails, also for one name that had a price before."""
        try:
            read = self._read()
        except Exception as error:  # noqa: BLE001 - a user's function raises whatever it does
            self.last_error = describe_error(error, self.source)
            return False
        dropped = sorted(self._known.keys() - read.keys())
        self._known = {**self._known, **read}
        self.last_error = None
        if dropped:
            self.last_error = f"The source has no more prices of {dropped}: the last stay in use."
        return len(dropped) == 0

    def look(self, *names: str) -> QuotedPrice | None:
        """Return the price of the first of the names that has one; None if none has."""
        if self._reading.is_lost:
            self._reading.start()
        known = self._known
        found = next((known[name] for name in names if name in known), None)
        if found is None:
            return None
        price, since = found
        return QuotedPrice(price, None if since is None else max(0.0, self.clock() - since))

    def close(self) -> None:
        """Stop reading, and close the source; the last prices stay in use."""
        self._reading.stop()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read(self) -> dict[str, tuple[Price, float | None]]:
        if callable(self.source):
            found = self.source()
            dated = found if isinstance(found, DatedPrices) else DatedPrices(found, self.clock())
        else:
            dated = _read_file(Path(self.source))
        prices = dated.prices
        if (
            not isinstance(prices, Mapping)
            or len(prices) == 0
            or not all(isinstance(price, Price) for price in prices.values())
        ):
            msg = f"The source of a PriceFeed must return `Price`s by name, got {prices!r:.80}."
            raise ValueError(msg)
        self._check_time(dated.as_of_s)
        return {name: (price, dated.as_of_s) for name, price in prices.items()}

    def _check_time(self, as_of_s: Any) -> None:
        if as_of_s is None:
            return
        is_number = isinstance(as_of_s, int | float) and not isinstance(as_of_s, bool)
        latest_s = self.clock() + _CLOCKS_DIFFER_S
        if not (is_number and math.isfinite(as_of_s) and as_of_s <= latest_s):
            msg = (
                "`as_of_s` must be a Unix time in seconds that is not in the future, or None, got "
                f"{as_of_s!r:.80}."
            )
            raise ValueError(msg)


def _read_file(path: Path) -> DatedPrices:
    """Read a file of prices, which hold since it was written."""
    written_s = path.stat().st_mtime
    try:
        table = json.loads(read_limited(path, _MOST_BYTES))
        prices = {name: Price(**rates) for name, rates in table.items()}
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        msg = (
            f"{path.name} must map names to prices such as "
            f'{{"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10}}: {error}'
        )
        raise ValueError(msg) from error
    return DatedPrices(prices, written_s)
