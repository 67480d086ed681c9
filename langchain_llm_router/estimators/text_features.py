"""Surface features of a text, such as length, numbers and punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from langchain_llm_router.types.arrays import Floats

__all__ = ["SURFACE_FEATURES", "surface_features"]

SURFACE_FEATURES = (
    "characters",
    "words",
    "lines",
    "sentences",
    "questions",
    "commas",
    "numbers",
    "decimal_numbers",
    "largest_number",
    "money_and_percent",
    "operators",
    "code_marks",
    "quotes",
    "blanks",
    "mean_word_length",
    "long_word_share",
    "distinct_word_share",
    "digit_share",
    "capital_share",
    "punctuation_share",
    "non_ascii_share",
)
"""Names of the features. The values from `characters` to `blanks` are ln(1 + count)."""

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_LONG = 8
_COUNTED = {
    "lines": re.compile(r"\n"),
    # Tried once per row of marks, so that a million dots take linear time.
    "sentences": re.compile(r"(?<![.!?])[.!?]++(?=\s|$)"),
    "questions": re.compile(r"\?"),
    "commas": re.compile(r","),
    "money_and_percent": re.compile(r"[$€£¥%]"),
    "operators": re.compile(r"[-+*/^=<>]"),
    "code_marks": re.compile(r"[{}\[\];`\\|]"),
    "quotes": re.compile(r"[\"'“”‘’]"),
    "blanks": re.compile(r"_{2,}"),
}


def surface_features(texts: Sequence[str]) -> Floats:
    """Compute the surface features of each text, of shape (n_texts, len(SURFACE_FEATURES)).

    They take microseconds and often predict the difficulty of a query as well as an embedding.
    """
    rows = np.array([_row(text) for text in texts], dtype=np.float64)
    return rows.reshape(len(texts), len(SURFACE_FEATURES))


@lru_cache(maxsize=16_384)
def _row(text: str) -> tuple[float, ...]:
    """Compute the features of a text; cached, because every fold of every fit reads it again."""
    words = _WORD.findall(text)
    numbers = [match.replace(",", "") for match in _NUMBER.findall(text)]
    lengths = list(map(len, words))
    n_chars, n_words = max(len(text), 1), max(len(words), 1)
    largest = max((float(number[:15]) for number in numbers), default=0.0)
    counts = [
        len(text),
        len(words),
        *(len(_COUNTED[name].findall(text)) for name in ("lines", "sentences", "questions")),
        len(_COUNTED["commas"].findall(text)),
        len(numbers),
        sum("." in number for number in numbers),
        largest,
        *(
            len(_COUNTED[name].findall(text))
            for name in ("money_and_percent", "operators", "code_marks", "quotes", "blanks")
        ),
    ]
    shares = [
        sum(lengths) / n_words,
        sum(map(_LONG.__le__, lengths)) / n_words,
        len(set(map(str.lower, words))) / n_words,
        sum(map(str.isdigit, text)) / n_chars,
        sum(map(str.isupper, text)) / n_chars,
        (len(text) - sum(map(str.isalnum, text)) - sum(map(str.isspace, text))) / n_chars,
        (len(text) - len(text.encode("ascii", "ignore"))) / n_chars,
    ]
    return (*np.log1p(counts).tolist(), *shares)
