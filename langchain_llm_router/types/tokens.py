"""The estimated number of tokens of a text, in every script."""

from __future__ import annotations

import re

from langchain_llm_router.types.candidates import CHARS_PER_TOKEN

__all__ = ["estimate_tokens"]

# Chinese, Japanese and Korean characters, full-width forms, emoji.
_WIDE = re.compile("[\u2e80-\uffff\U00010000-\U0010ffff]")
# Scripts whose characters are two or three bytes long: Greek, Cyrillic, Arabic, Hindi, Thai.
_OTHER = re.compile("[\u0370-\u1fff]")
# A list of all matches in a longer text takes seconds, in which nothing else runs.
_LONG = 10_000


def estimate_tokens(text: str) -> float:
    """Estimate the number of tokens of a text.

    Four characters of Latin text are about one token, two of Cyrillic, Arabic or Thai, and one
    character of Chinese, Japanese or Korean. Tokenizers differ, by about a third for English and
    by up to a half for other scripts.

    Example:
        >>> estimate_tokens("What is it?"), estimate_tokens("这是什么？")
        (2.75, 5.0)
    """
    if text.isascii():
        return len(text) / CHARS_PER_TOKEN
    wide, other = _n_wide_and_other(text)
    return wide + other / 2 + (len(text) - wide - other) / CHARS_PER_TOKEN


def _n_wide_and_other(text: str) -> tuple[int, int]:
    """Count the characters of both kinds, as many as they are without stopping other threads."""
    if len(text) < _LONG:
        return len(_WIDE.findall(text)), len(_OTHER.findall(text))
    import numpy as np  # noqa: PLC0415 - slow to load

    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    wide = np.count_nonzero(points >= ord("\u2e80"))
    other = np.count_nonzero((points >= ord("\u0370")) & (points <= ord("\u1fff")))
    return int(wide), int(other)
