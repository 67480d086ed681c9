"""The estimated number of tokens of a text, in every script."""

from __future__ import annotations

import re

from langchain_llm_router.types.candidates import CHARS_PER_TOKEN

__all__ = ["estimate_tokens"]

# Chinese, Japanese and Korean characters, full-width forms, emoji.
_WIDE = re.compile("[\u2e80-\uffff\U00010000-\U0010ffff]")
# Scripts whose characters are two or three bytes long: Greek, Cyrillic, Arabic, Hindi, Thai.
_OTHER = re.compile("[\u0370-\u1fff]")


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
    wide, other = len(_WIDE.findall(text)), len(_OTHER.findall(text))
    return wide + other / 2 + (len(text) - wide - other) / CHARS_PER_TOKEN
