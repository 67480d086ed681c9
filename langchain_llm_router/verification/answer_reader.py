"""The one reader of answers: which letter, number or text an answer gives.

Graders and `Agreement` read with it. What cannot be read is None: it is unknown, not wrong. Of
several statements the last counts. All expressions need linear time.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_forms import Form, alike, read_form
from langchain_llm_router.verification.answer_marks import (
    ANSWER,
    IS,
    last_match,
    marked,
    without_markup,
)
from langchain_llm_router.verification.answer_objects import (
    names_nothing,
    object_form,
    only_answer,
    read_object,
)
from langchain_llm_router.verification.letter_reader import LONE_LETTER, read_letter
from langchain_llm_router.verification.non_answers import says_nothing
from langchain_llm_router.verification.number_reader import (
    is_same_number,
    read_number,
    whole_number,
)

__all__ = [
    "is_non_answer",
    "is_same_number",
    "normalized",
    "read_letter",
    "read_number",
    "read_text",
    "same_answer",
    "states_result",
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
_FENCED = re.compile(r"`{3}\w{0,20}\n(.*?)\n?`{3}", re.DOTALL)
_EMPHASIS = re.compile(r"^(`{1,2}|\*{2})([^`*\n]{1,500})\1$")
_STOPPED = ("'.", '".', "].", ").", "}.", "$.")
_MOST_CACHED = 500
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
    return _trimmed(_stated(text) or "") or _trimmed(text)


def _stated(text: str) -> str | None:
    """Return what a text states as its result, with its quotes; None if it marks none."""
    stated = marked(text)
    if stated is None and (mark := last_match(_MARK, text)) is not None:
        stated = _COPULA.sub("", _sentence(text, mark.end()).strip())
    return stated


def states_result(answer: str, max_chars: int) -> bool:
    """Return whether an answer has a result that can be compared: no free text.

    Args:
        answer: The text of the answer, which is no non-answer.
        max_chars: Length in characters up to which words are a result, also as a field of a JSON
            object; code output and numbers may be longer.
    """
    form = _form(answer)
    return form.prose <= max_chars and (0 < len(form.text) <= max_chars or form.kind != "words")


def is_non_answer(answer: str) -> bool:
    """Return whether an answer has no result: it is empty, refuses, or says that it does not know.

    Agreement among such answers says nothing about the question.
    """
    shown, fields = _text_or_fields(answer)
    if fields is not None:
        return names_nothing(fields)
    text = without_markup(shown)
    stated = _stated(text)
    result = _result(text, stated)
    return not result or any(map(says_nothing, (result, stated or "", text)))


def _result(text: str, stated: str | None) -> str:
    """Return what a text states, or all of it, with its quotes, but no fences and emphasis."""
    empty = stated is None or not stated.strip(_STOPS + " *_")
    result = _BULLET.sub("", (text if stated is None or empty else stated).strip())
    fenced = _FENCED.fullmatch(result)
    result = _EMPHASIS.sub(r"\2", result if fenced is None else fenced[1].strip()).strip()
    return result[:-1] if result[-2:] in _STOPPED else result


def _text_or_fields(answer: str) -> tuple[str, dict[str, Any] | None]:
    """Return the text of an answer, and its fields if it is an object that says more than one."""
    shown = visible_text(answer)
    fields = read_object(shown)
    said = None if fields is None else only_answer(fields)
    return (shown, fields) if said is None else (said, None)


def _form(answer: str) -> Form:
    # The answers to one question are compared with each other, so each is read several times.
    return _short_form(answer) if len(answer) <= _MOST_CACHED else _read_form(answer)


def _read_form(answer: str) -> Form:
    shown, fields = _text_or_fields(answer)
    if fields is not None:
        return object_form(fields, shown.strip())
    text = without_markup(shown)
    return read_form(_result(text, _stated(text)))


_short_form = lru_cache(maxsize=1024)(_read_form)


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

    Of a sentence, what it states is compared. Numbers are the same if their values are and their
    units do not differ (one may have none, except per cent); letters if they are; sets and
    solutions ("1 or 2") in any order, lists, tuples, intervals and values with commas in theirs, by
    name where each has one ("x = 1, y = 2"); algebra without its
    LaTeX and spaces; code output, which is what is in quotes, to the letter; JSON objects by their
    fields, without thoughts and confidence; other words without their case and stops. A number may
    be in English words, up to ninety-nine.

    Example:
        >>> same_answer("The answer is B.", "(b)"), same_answer("€5", "$5")
        (True, False)
        >>> same_answer('{"a": 1, "b": "x"}', '{"b": "x", "a": 1.0}')
        True
    """
    x, y = _form(a), _form(b)
    if not x.text or not y.text:
        return False
    if alike(x, y):
        return True
    a, b = _trimmed(x.text), _trimmed(y.text)
    if len(a) == len(b) == 1 or x.kind == y.kind == "collection":
        return False
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
