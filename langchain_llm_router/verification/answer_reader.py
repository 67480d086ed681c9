"""The one reader of answers: which letter, number or text an answer gives.

Graders and `Agreement` read with it. What cannot be read is None: it is unknown, not wrong. Of
several statements the last counts. All expressions need linear time.
"""

from __future__ import annotations

import re
import unicodedata

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_marks import (
    last_match,
    marked,
)
from langchain_llm_router.verification.letter_reader import LONE_LETTER, read_letter
from langchain_llm_router.verification.number_reader import (
    is_same_number,
    read_number,
    whole_number,
)

__all__ = [
    "is_same_number",
    "normalized",
    "read_letter",
    "read_number",
    "read_text",
    "same_answer",
]

_MARK = re.compile(
    r"(?:answers?|antwort|respuesta|答案|答え)(?:\s{0,2}(?:is|lautet|ist|es)(?![a-z])"
    r"|\s{0,2}(?::|是|为|は)){1,3}",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\s*([^\n]*?)(?:[.!。！](?=\s|$)|\n|$)")
_QUOTES = " \t\r\n'\"`*_“”‘’«»「」"


def read_text(answer: str) -> str:
    """Return the part of an answer that is its result, e.g. "Paris" of "The answer is: **Paris**.".

    This is the content of the last LaTeX box, the text after `####`, or the sentence after the last
    "answer is" or "answer:"; of an answer without any of them, all of it except thoughts.
    """
    text = visible_text(answer)
    stated = marked(text)
    if stated is None and (mark := last_match(_MARK, text)) is not None:
        sentence = _SENTENCE.match(text, mark.end())
        stated = None if sentence is None else sentence[1]
    return _trimmed(stated or "") or _trimmed(text)


def normalized(text: str) -> str:
    """Normalize an answer for comparison with another.

    Case, character width, spaces, a final period, surrounding quotes, and the format of numbers
    (currency signs, separators, trailing zeros, fractions) do not matter.

    Example:
        >>> normalized(" $1,200.00. ") == normalized("1200")
        True
    """
    trimmed = _trimmed(text)
    quantity = whole_number(trimmed)
    if quantity is not None:
        return str(quantity.value) + ("%" if quantity.unit == "%" else "")
    return re.sub(r"\s+", "", _trimmed(unicodedata.normalize("NFKC", trimmed).casefold()))


def same_answer(a: str, b: str) -> bool:
    """Return whether two answers give the same result; an empty answer equals none.

    Numbers are the same if their values are and their currencies do not differ, letters if they
    are, and texts if they are `normalized` to the same; of a sentence, what it states is compared.

    Example:
        >>> same_answer("The answer is B.", "(b)"), same_answer("€5", "$5")
        (True, False)
    """
    a, b = read_text(a), read_text(b)
    if not a or not b:
        return False
    if normalized(a) == normalized(b):
        x, y = whole_number(a), whole_number(b)
        return x is None or y is None or x.is_like(y)
    for one, other in ((a, b), (b, a)):
        lone = LONE_LETTER.fullmatch(one)
        if lone is not None:
            return lone[1].upper() == read_letter(other)
    return False


def _trimmed(text: str) -> str:
    """Return a text without spaces, quotes and marks of emphasis around it, and without a stop."""
    text = text.strip(_QUOTES).rstrip(".。").strip(_QUOTES)
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text
