"""What a result is, whatever notation it is in: a number with a unit, a collection, algebra, words.

Two results are the same if their forms are alike. Python's literals are read as code output, whose
letters and spaces count. All expressions need linear time; what is longer than 2,000 characters is
compared as words.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Hashable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from langchain_llm_router.verification.algebra import expression, looks_like_algebra
from langchain_llm_router.verification.number_reader import Quantity, quantities_of, whole_number
from langchain_llm_router.verification.number_words import number_in_words
from langchain_llm_router.verification.units import split_unit

__all__ = ["Form", "alike", "canonical", "json_value", "read_form"]

_MOST_CHARS = 2_000
_MOST_ITEMS = 200
_FEWEST_WORDS = 2
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_SIZES = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])")
_MOST_NESTED = 20
_QUOTED = re.compile(r"[bBrRuUfF]{0,2}(['\"])")
# A backslash that Python warns of is no code output.
_ODD_ESCAPE = re.compile(r"\\(?![\\'\"abfnrtvxNuU0-7\n])")
_LEADING_ZERO = re.compile(r"[-+]?0\d+")
_SEPARATOR = re.compile(r"\s{1,3}(?:and|or)\s{1,3}|,|;|∪")
_DIGITS_WITH_COMMAS = re.compile(r"[-+−]?\d{1,30}(?:,\d{1,30}){1,200}")
_EQUATION = re.compile(r"\s{0,3}([a-zA-Z])\s{0,3}(?:=|∈|\\in\b)\s{0,3}(?=[^=\s])")
_UNORDERED = frozenset({"or", "and", "{}"})
_UNBRACKETED = _UNORDERED | {","}
_PLUS_MINUS = re.compile(r"(?:±|\\pm)\s?(?=[\d\\√])")
_THING = (
    r"(?:final|total|correct|exact|required|overall)?\s?"
    r"(?:result|value|total|sum|difference|product|quotient|solution|outcome|output|number|count)"
)
_IS = (
    r"(?:is|was|equals|makes|gives|comes\sto|amounts\sto|adds\sup\sto|evaluates\sto"
    r"|(?:would|must|should|will)\sbe)"
)
_BEFORE = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|and|finally|altogether|overall|in\stotal)\b,?\s){0,2}"
    rf"(?:(?:it|this|that|which|the\s{_THING})\s{_IS}|(?:it|that|this)['’]s|{_IS}|{_THING}:"
    r"|(?:we|i|you)(?:['’](?:ve|ll))?\s(?:get|got|have|obtain|find|end\sup\swith|arrive\sat)"
    r"|there\s(?:are|is)|=(?!=)|(?<=[a-z,]\s))"
    r"(?:\s?:|\s(?:exactly|equal\sto|simply|just|precisely))?\s{0,3}",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"\s(?:is|was)\s(?:the|my)\s(?:(?:final|right|correct)\s)?(?:answer|{_THING})$"
    r"|\s(?:is\s(?:correct|right)|in\s(?:total|all)|altogether)$",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(
    r"\b(?:not|never|no|neither|cannot|\w{2,8}n['’]t|(?:more|less|fewer|greater|larger|smaller)\sthan"
    r"|at\s(?:least|most)|\d\sof)\b",
    re.IGNORECASE,
)
"""A sentence in which a number is not the result."""
_SPACE = re.compile(r"\s+")
_AROUND = re.compile(r"\s?([,;:()\[\]{}])\s?")
_CAPITAL_INSIDE = re.compile(r"[a-z][A-Z]")
_PLAIN = str.maketrans("‘’“”‐‑−", "''\"\"---")
_STOPS = ".,;:!?。！？،"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a result.

    Attributes:
        kind: `number`, `string` (of code output), `collection`, `algebra` or `words`.
        value: What must be equal to that of another result of the same kind.
        text: The result as it was written, without spaces around it.
        quantity: The number, or None.
        unit: Its unit in one spelling, or None.
        prose: Length in characters of the longest text with spaces in an object; 0 of all else.
    """

    kind: str
    value: Hashable
    text: str
    quantity: Quantity | None = None
    unit: str | None = None
    prose: int = 0


def read_form(text: str) -> Form:
    """Return the form of a result.

    Args:
        text: The result alone, e.g. "1/2", "5 km", "[1, 2]" or "Paris", with its quotes.
    """
    text = text.strip()
    if len(text) > _MOST_CHARS:
        return Form("words", _folded(text), text)
    found = _literal(text) or _plain_number(text) or _collection(text) or _announced(text)
    return found or _algebra(text) or Form("words", _folded(text), text)


def _announced(text: str) -> Form | None:
    """Return the form of what a sentence gives as the result, which is no word: "It is 4"."""
    bare = _bare(text)
    before = _BEFORE.match(bare)
    rest = bare if before is None else bare[before.end() :]
    after = _AFTER.search(rest)
    rest = rest if after is None else rest[: after.start()]
    form = None
    if rest != bare and _OTHERWISE.search(bare) is None:
        form = _plain_number(rest) or _collection(rest) or _algebra(rest)
    # Code output is compared as it was written.
    return None if form is None else replace(form, text=text)


def alike(a: Form, b: Form) -> bool:
    """Return whether two forms are of the same result."""
    if a.kind == b.kind == "number":
        return _same_number(a, b)
    if "string" in (a.kind, b.kind):
        return _as_written(a) == _as_written(b)
    if a.kind == b.kind == "words":
        inside = _CAPITAL_INSIDE.search(a.text) or _CAPITAL_INSIDE.search(b.text)
        return _trimmed(a.text) == _trimmed(b.text) if inside else a.value == b.value
    if "number" in (a.kind, b.kind):
        return _gives_number(*((a, b) if a.kind == "number" else (b, a)))
    if a.kind == b.kind == "collection":
        return _same_collection(a.value, b.value)
    return a.kind == b.kind and a.value == b.value


def _gives_number(number: Form, other: Form) -> bool:
    """Return whether a form of another kind gives the same as a number."""
    if other.kind == "words":
        said = _only_number(other.text)
        return said is not None and _same_number(number, said)
    listed = _digits_in_order(number.text)
    return (
        other.kind == "collection" and listed is not None and _same_collection(listed, other.value)
    )


def _same_collection(a: Hashable, b: Hashable) -> bool:
    """Return whether two collections are the same, where one may be written without brackets.

    Values with commas are a sequence among their like, and may be a set or solutions besides. They
    are no list: of ZeroEval's code outputs "[1, 2]" is nearly always right where "1, 2" is wrong.
    """
    if a == b:
        return True
    assert isinstance(a, tuple), "a kind and its items"
    assert isinstance(b, tuple), "a kind and its items"
    kinds = {a[0], b[0]}
    if kinds == {"or", "and"} or len(kinds) == 1 or not kinds <= _UNBRACKETED:
        return False
    return all(len(set(one[1])) == len(one[1]) for one in (a, b)) and set(a[1]) == set(b[1])


def _as_written(form: Form) -> Hashable:
    """Return a text of code output, also where it was written without quotes."""
    if form.kind == "string":
        return form.value
    return form.text.replace("\\n", "\n").replace("\\t", "\t")


def _same_number(a: Form, b: Form) -> bool:
    assert a.quantity is not None and b.quantity is not None, "both are numbers"  # noqa: PT018
    units = {a.unit, b.unit}
    # A unit may be left out, but per cent is a factor.
    alike_units = len(units) == 1 or (None in units and "%" not in units)
    return alike_units and a.value == b.value and a.quantity.is_like(b.quantity)


# Code output


def _literal(text: str) -> Form | None:
    quoted = _QUOTED.match(text)
    if quoted is None and text[:1] not in _BRACKETS:
        return None
    value = None
    try:
        if _ODD_ESCAPE.search(text) is None:
            value = _evaluated(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = None
    if value is None and quoted is not None and len(text) > 1 and text[-1] == quoted[1]:
        # A text with line ends in it, which Python does not read.
        inside = text[quoted.end() : -1]
        value = None if quoted[1] in inside else inside
    if isinstance(value, str):
        number = None if _LEADING_ZERO.fullmatch(value) else _number(value)
        return number or Form("string", value, text)
    return None if value is None else Form("collection", value, text)


def _evaluated(text: str) -> Hashable | None:
    """Return a text, or the canonical value of a collection; None of anything else."""
    node = ast.parse(text, mode="eval").body
    if isinstance(node, ast.Tuple) and node.elts and node.elts[0].col_offset == 0:
        # Without brackets of its own it is no tuple, but several solutions.
        return None
    value = ast.literal_eval(node)
    if isinstance(value, list | tuple | set | dict):
        return canonical(value)
    return value if isinstance(value, str) else None


def json_value(text: str) -> Any:
    """Return the value that a text of JSON stands for; None of any other text."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(word: str) -> None:
    msg = f"{word} is no JSON."
    raise ValueError(msg)


def canonical(value: Any) -> Hashable:
    """Return a literal's value such that equal values are equal, and True is not 1."""
    if isinstance(value, bool | None):
        return ("words", str(value).casefold())
    if isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf")):
        # As it was written: the nearest binary number is no tenth.
        return ("number", Fraction(repr(value)), None)
    if isinstance(value, list | tuple):
        around = "[]" if isinstance(value, list) else "()"
        return (around, tuple(canonical(item) for item in value))
    if isinstance(value, set):
        return ("{}", frozenset(canonical(item) for item in value))
    if isinstance(value, dict):
        items = ((canonical(key), canonical(item)) for key, item in value.items())
        return ("dict", frozenset(items))
    return ("string", value if isinstance(value, str) else repr(value))


# Numbers


def _plain_number(text: str) -> Form | None:
    """Return the form of a number in digits, or in English words."""
    found = _number(text)
    if found is None and (named := number_in_words(_bare(text))) is not None:
        return Form("number", Fraction(named), text, Quantity(Fraction(named)))
    return found


def _number(text: str) -> Form | None:
    bare = _bare(text)
    equation = _EQUATION.match(bare)
    if equation is not None:
        bare = bare[equation.end() :]
    quantity, unit = whole_number(bare), None
    if quantity is None:
        number, unit = split_unit(bare)
        quantity = None if unit is None else whole_number(number)
    if quantity is None:
        return None
    return Form("number", quantity.value, text, quantity, unit or quantity.unit)


def _only_number(text: str) -> Form | None:
    """Return the number of a sentence that has no other, or None."""
    if len(text) > _MOST_CHARS // 10 or "==" in text:
        return None
    if _OTHERWISE.search(text) is not None:
        return None
    if sum(word.strip(_STOPS).isalpha() for word in text.split()) < _FEWEST_WORDS:
        return None
    found = quantities_of(text)
    if len(found) != 1 or found[0].low is not None:
        return None
    return Form("number", found[0].value, text, found[0], found[0].unit)


# Collections, intervals and solutions


def _digits_in_order(text: str) -> Hashable | None:
    """Return "1,2" as a sequence, which may be a number as well; None of any other number."""
    bare = _bare(text)
    if _DIGITS_WITH_COMMAS.fullmatch(bare) is None:
        return None
    return (",", tuple(_item(part, None) for part in bare.split(",")))


def _collection(text: str) -> Form | None:
    bare = _bare(text).replace("\\{", "{").replace("\\}", "}")
    equation = _EQUATION.match(bare)
    inner = bare if equation is None else bare[equation.end() :]
    parts, around = _split(inner), ""
    if len(parts) == 1 and _is_bracketed(inner):
        parts, around = _split(inner[1:-1], whole=False), inner[0] + inner[-1]
        if len(parts) < 2 and around != "{}":
            return None
    if _PLUS_MINUS.match(inner) is not None and len(parts) == 1:
        value = _PLUS_MINUS.sub("", inner, count=1)
        parts = [value, f"-{value}"]
    if len(parts) < 2 and around != "{}":
        return None
    items = [_item(part, None if equation is None else equation[1]) for part in parts]
    if any(item is None for item in items):
        return None
    assigned = None if around else _assignments(bare)
    if assigned is not None:
        return Form("collection", ("=", assigned), text)
    # Points and the values of one variable are solutions.
    are_solutions = equation is not None or all(map(_is_bracketed, parts))
    around = around or _joined(inner, are_solutions=are_solutions)
    if around in _UNORDERED:
        return Form("collection", (around, frozenset(items)), text)
    return Form("collection", (around, tuple(items)), text)


def _assignments(text: str) -> Hashable | None:
    """Return names with their values if all parts have one and the names differ, or None."""
    parts = _split(text)
    names = [match and match[1] for match in map(_EQUATION.match, parts)]
    if None in names or len(set(names)) < 2:
        return None
    return frozenset((name, _item(part, None)) for name, part in zip(names, parts, strict=True))


def _joined(text: str, *, are_solutions: bool) -> str:
    """Return what joins parts without brackets: "or", "and", or "," of a sequence."""
    words = {match[0].strip() for match in _SEPARATOR.finditer(text)}
    if "or" in words or _PLUS_MINUS.match(text) is not None:
        return "or"
    if are_solutions or "∪" in words:
        return "{}"
    return "and" if words == {"and"} else ","


def _is_bracketed(text: str) -> bool:
    """Return whether one pair of brackets holds the whole text; an interval's may differ."""
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}":
        return False
    depth = 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth > _MOST_NESTED:
            return False
        if depth == 0:
            return i == len(text) - 1
    return False


def _split(text: str, *, whole: bool = True) -> list[str]:
    """Split at separators that are in no bracket; a number with separators may stay whole."""
    if whole and whole_number(text) is not None:
        return [text]
    parts, depth, start = [], 0, 0
    ends = {match.start(): match.end() for match in _SEPARATOR.finditer(text)}
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and i in ends:
            parts.append(text[start:i])
            start = ends[i]
    parts = [part.strip() for part in (*parts, text[start:])]
    parts = [part for i, part in enumerate(parts) if part or 0 < i < len(parts) - 1]
    return parts if 0 < len(parts) <= _MOST_ITEMS else [text]


def _item(text: str, variable: str | None) -> Hashable | None:
    """Return an element of a collection; None if it is a word, which may be anything."""
    equation = _EQUATION.match(text)
    if equation is not None and variable in (None, equation[1]):
        text = text[equation.end() :]
    number = _number(text)
    if number is not None:
        return ("number", number.value, number.unit)
    if _is_bracketed(text):
        nested = _collection(text)
        return None if nested is None else nested.value
    return ("algebra", expression(text)) if _is_term(text) else None


def _is_term(text: str) -> bool:
    return looks_like_algebra(text) or "inf" in expression(text)


# Algebra and words


def _algebra(text: str) -> Form | None:
    bare = _bare(text)
    if not looks_like_algebra(bare):
        return None
    equation = _EQUATION.match(bare)
    return Form("algebra", expression(bare[0 if equation is None else equation.end() :]), text)


def _folded(text: str) -> str:
    return _trimmed(text).casefold()


def _trimmed(text: str) -> str:
    """Return a text in plain characters, with single spaces and without stops at its end."""
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    plain = plain.strip(" \t\r\n'\"`*_") or plain.strip()
    if len(plain) > 1 and plain[-1] in _STOPS:
        plain = plain[:-1].rstrip(" '\"`*_")
    return _AROUND.sub(r"\1", _SPACE.sub(" ", plain))


def _bare(text: str) -> str:
    """Return a result without dollar signs of LaTeX and stops around it."""
    bare = text.strip(" \t\r\n'\"`*_“”").rstrip(".,;:!?。 ") or text
    if len(bare) > 2 and bare[0] == bare[-1] == "$":
        bare = bare[1:-1]
    return _SIZES.sub("", bare).strip()
