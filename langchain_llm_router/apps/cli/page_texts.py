"""What the live page says about a saved router: its verdict, and questions to try."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["choose_examples", "page_texts"]

_VERDICT_FILE = "verdict.json"
_N_EXAMPLES, _MAX_LENGTH = 4, 200


def page_texts(folder: Path) -> dict[str, Any]:
    """Return the verdict and the examples that `fit` and `start` left in a router's folder.

    A folder of an older version has neither; the page then shows no verdict and general questions.
    """
    try:
        saved = json.loads((folder / _VERDICT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(saved, dict):
        return {}
    sentence, examples = saved.get("sentence"), saved.get("examples")
    texts = [text for text in examples or () if isinstance(text, str)]
    return {
        "verdict": sentence if isinstance(sentence, str) else None,
        "examples": choose_examples(texts),
    }


def choose_examples(queries: Iterable[str]) -> list[str]:
    """Return up to four short queries, in plain text where there are enough of them."""
    short = [query for query in dict.fromkeys(queries) if len(query) <= _MAX_LENGTH]
    return sorted(short, key=lambda query: ("\\" in query, len(query)))[:_N_EXAMPLES]
