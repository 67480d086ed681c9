"""Output of the commands: text and tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from langchain_llm_router.types.errors import import_extra

__all__ = ["write_json", "write_text"]


def write_text(*things: Any) -> None:
    """Print texts and rich tables on standard output."""
    console = import_extra("rich.console", "cli").Console(highlight=False, soft_wrap=True)
    for thing in things:
        console.print(thing, markup=False)


def write_json(figures: Mapping[str, Any]) -> None:
    """Print one JSON object as the last line of standard output."""
    sys.stdout.write(json.dumps(figures, ensure_ascii=False, allow_nan=False) + "\n")
