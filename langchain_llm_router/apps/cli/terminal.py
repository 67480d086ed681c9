"""Output of the commands: text and tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_llm_router.types.errors import import_extra

if TYPE_CHECKING:
    from langchain_llm_router.history import History

__all__ = ["EXIT_CODES", "unread_lines", "write_json", "write_text"]

EXIT_CODES = {"kept": 0, "not_kept": 3, "unknown": 4}
"""Exit code of `fit`, `evaluate` and `calibrate` by the outcome of the verdict."""


def write_text(*things: Any) -> None:
    """Print texts and rich tables on standard output."""
    console = import_extra("rich.console", "cli").Console(highlight=False, soft_wrap=True)
    for thing in things:
        console.print(thing, markup=False)


def write_json(figures: Mapping[str, Any]) -> None:
    """Print one JSON object as the last line of standard output."""
    sys.stdout.write(json.dumps(figures, ensure_ascii=False, allow_nan=False) + "\n")


def unread_lines(history: History) -> list[str]:
    """Return a line on what could not be read of a log, or none."""
    n = history.n_torn
    return [f"Left out: {n:,} lines that cannot be read."] if n > 0 else []
