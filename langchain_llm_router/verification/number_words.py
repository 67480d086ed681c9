"""Whole numbers in English words, from zero to ninety-nine."""

from __future__ import annotations

import re

__all__ = ["number_in_words"]

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {
    **{word: i for i, word in enumerate(_SMALL)},
    **{word: 10 * i for i, word in enumerate(_TENS, 2)},
    **{
        f"{tens} {one}": 10 * i + j
        for i, tens in enumerate(_TENS, 2)
        for j, one in enumerate(_SMALL[:10])
        if j > 0
    },
}
_MOST_CHARS = 30
_MINUS = re.compile(r"(?:minus|negative) ")
_HYPHENS = re.compile(r"\s?[-\u2010\u2011]\s?|\s{1,3}")


def number_in_words(text: str) -> int | None:
    """Return the number that a text names; None if it says anything else, or more.

    Example:
        >>> number_in_words("Twenty-one"), number_in_words("minus two"), number_in_words("two km")
        (21, -2, None)
    """
    if len(text) > _MOST_CHARS:
        return None
    plain = _HYPHENS.sub(" ", text.strip().casefold())
    minus = _MINUS.match(plain)
    value = _VALUES.get(plain if minus is None else plain[minus.end() :])
    return value if minus is None or value is None else -value
