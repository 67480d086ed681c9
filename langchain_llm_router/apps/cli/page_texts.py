"""What the live page says about a saved router: its verdict, and questions to try."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["choose_examples", "page_texts", "save_examples"]

_N_EXAMPLES, _MAX_LENGTH = 4, 200
# A page shows formulas as they are written, so questions without any are easier to read.
_FORMULA = frozenset("\\^{}$")


def page_texts(folder: Path) -> dict[str, Any]:
    """Return the verdict and the examples that `fit` and `start` left in a router's folder.

    A folder of an older version has neither; the page then shows no verdict and general questions.
    """
    verdict, examples = _read(folder / "verdict.json"), _read(folder / "examples.json")
    sentence = verdict.get("sentence") if isinstance(verdict, dict) else None
    texts = examples if isinstance(examples, list) else []
    return {
        "verdict": sentence if isinstance(sentence, str) else None,
        "examples": choose_examples(text for text in texts if isinstance(text, str)),
    }


def save_examples(folder: Path, queries: Iterable[str]) -> None:
    """Write a few of the queries beside a router, for its page."""
    text = json.dumps(choose_examples(queries), ensure_ascii=False)
    (folder / "examples.json").write_text(text, encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def choose_examples(queries: Iterable[str]) -> list[str]:
    """Return up to four short queries, in plain text where there are enough of them."""
    short = [query for query in dict.fromkeys(queries) if len(query) <= _MAX_LENGTH]
    return sorted(short, key=lambda query: (bool(_FORMULA & set(query)), len(query)))[:_N_EXAMPLES]
