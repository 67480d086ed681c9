"""The one reader of answers: which letter, number or text an answer gives.

Graders and `Agreement` read with it. What cannot be read is None: it is unknown, not wrong. Of
several statements the last counts. All expressions need linear time.
"""

from __future__ import annotations

import re
import unicodedata

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_marks import (
    ANSWER,
    IS,
    last_match,
    marked,
    without_markup,
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
    rf"{ANSWER}[*_]{{0,2}}(?:\s(?:to|for|of)\s[^.\n=:]{{1,60}}?)?(?:{IS}){{1,3}}", re.IGNORECASE
)
_END = re.compile(r"[.!](?=\s|$)|[。！\n]")
_SHORT = re.compile(r"(?:\b[A-Z]|\b(?:mrs?|ms|dr|st|mt|ft|prof|sgt|lt|gen|capt|rev|no|vs))$", re.I)
_NEXT = re.compile(
    r"\s{0,3}(?:it|this|that|these|the|he|she|they|we|you|i|in|a|an|as|because)\b", re.I
)
_REASON = re.compile(r",\s(?:because|since|as|which)\s|\sbecause\s", re.IGNORECASE)
_COPULA = re.compile(r"(?<=[^\sa-z])(?:です|である|입니다|이다)$")
_BULLET = re.compile(r"^(?:[-•>–]|#{1,6})\s{1,3}")
_QUOTES = " \t\r\n'\"`*_“”‘’«»「」"
_STOPS = ".,;:!?。！？،"
_PLAIN = str.maketrans("‘’‐‑", "''--")


def read_text(answer: str) -> str:
    """Return the part of an answer that is its result, e.g. "Paris" of "The answer is: **Paris**.".

    This is the content of the last LaTeX box, the text after `####`, the answer in a tag or a JSON
    field, or the sentence after the last "answer is" or "answer:", without its reason; of an answer
    without any of them, all of it except thoughts.
    """
    text = without_markup(visible_text(answer))
    stated = marked(text)
    if stated is None and (mark := last_match(_MARK, text)) is not None:
        stated = _COPULA.sub("", _trimmed(_sentence(text, mark.end())))
    return _trimmed(stated or "") or _trimmed(text)


def normalized(text: str) -> str:
    """Normalize an answer for comparison with another.

    Case, character width, spaces, stops at the end, surrounding quotes, and the format of numbers
    (currency signs, separators, trailing zeros, fractions) do not matter.

    Example:
        >>> normalized(" $1,200.00. ") == normalized("1200")
        True
    """
    trimmed = _trimmed(text)
    quantity = whole_number(trimmed)
    if quantity is not None:
        return str(quantity.value) + ("%" if quantity.unit == "%" else "")
    plain = unicodedata.normalize("NFKC", trimmed.translate(_PLAIN)).casefold()
    return re.sub(r"\s+", "", _trimmed(plain))


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


def _sentence(text: str, start: int) -> str:
    """Return the sentence that begins there; the dot of "Dr." or of an initial does not end it."""
    start += len(text[start:]) - len(text[start:].lstrip())
    for end in _END.finditer(text, start):
        at = end.start()
        inside = end[0] == "." and _SHORT.search(text, max(start, at - 5), at) is not None
        if not inside or _NEXT.match(text, end.end()) is not None:
            return _REASON.split(text[start:at], maxsplit=1)[0]
    return _REASON.split(text[start:], maxsplit=1)[0]


def _trimmed(text: str) -> str:
    """Return a text without spaces, quotes, bullets and emphasis around it, and without stops."""
    text = _BULLET.sub("", text.strip(_QUOTES)).strip(_QUOTES)
    text = text.rstrip(_STOPS).strip(_QUOTES) or text
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text
