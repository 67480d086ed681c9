r"""Numbers as answers write them, read exactly.

Signs and digits of any script, thousands and decimal separators of several countries, powers of
ten, fractions, per cent, currencies and ranges are understood. Values are fractions, so that large
integers stay exact. All expressions here need linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_marks import (
    ANSWER,
    IS,
    both_ends,
    last_match,
    marked,
)

__all__ = ["Quantity", "is_same_number", "quantities", "read_number", "whole_number"]

_MOST_DIGITS = 4000
_MOST_EXPONENT = 5

_MINUS_SIGNS = dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014\ufe63"), "-")
_SEPARATORS = {
    0x066B: ".",
    0x066C: ",",
    0x2044: "/",
    0x2019: "'",
    0xD7: "*",
    0x22C5: "*",
    0xB7: "*",
}
_LATEX = (
    (re.compile(r"(?<=\d)(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[dt]?frac\s?\{([^{}]{1,60})\}\s?\{([^{}]{1,60})\}"), r"\1/\2 "),
    (re.compile(r"\\[dt]?frac\s?(\d)(\d)"), r"\1/\2 "),
    (re.compile(r"(?<!\d )\b(?:minus|negative) (?=[$€£\d.])", re.IGNORECASE), "-"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)\s*\{([^{}]{0,99})\}"), r"\1"),
    (re.compile(r"\{,\}|\\!"), ","),
    (re.compile(r"\\[,;: ]"), " "),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\([$%#&])"), r"\1"),
)
_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]{1,9}")
_BEFORE_VULGAR_FRACTION = re.compile("(?<=\\d)(?=[¼-¾⅐-⅞])")

_CURRENCIES = {
    "$": "$ us$ usd dollar dollars",
    "€": "€ eur euro euros",
    "£": "£ gbp pound pounds",
    "¥": "¥ jpy cny rmb yen yuan 元 円",
    "₹": "₹ inr rs rs. rupee rupees",
    "₩": "₩ krw won",
    "₽": "₽ rub ruble rubles",
    "chf": "chf",
}
_UNITS = {name: symbol for symbol, names in _CURRENCIES.items() for name in names.split()}
_UNITS |= dict.fromkeys(("%", "percent", "per cent", "pct", "prozent"), "%")
_SCALES = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "billion": 9, "trillion": 12}

_DIGITS = (
    r"[1-9]\d{0,2}(?:,\d{3})++(?![\d,])(?:\.\d++)?"  # 1,234,567.8
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?:\.\d++)?"  # 12,34,567
    r"|\d{1,3}(?:\.\d{3}){2,}+(?!\d)(?:,\d++)?"  # 1.234.567,8
    r"|\d{1,3}\.\d{3},\d++"  # 1.234,5
    r"|\d{1,3}(?: \d{3})++(?!\d)(?:[.,]\d++)?"  # 1 234 567.8
    r"|\d{1,3}(?:['_]\d{3})++(?!\d)(?:\.\d++)?"  # 1'234'567.8
    r"|(?<!,)\d++,\d++(?![,\d])"  # 1,5
    r"|\d++(?:\.\d*+)?"
    r"|\.\d++"
)
_NUMBER = re.compile(
    r"(?<![\d.a-z_])(?P<before>(?:(?:us)?\$|[€£¥₹₩₽]|\b(?:usd|eur|gbp|jpy|cny|inr|rs\.?|chf)) ?)?"
    r"(?P<sign>(?<![\w)\]}%])[-+](?=[$€£¥₹₩₽.\d])|(?<== )- (?=\d))?(?P<inner>[$€£¥₹₩₽] ?)?"
    rf"(?P<digits>{_DIGITS})"
    r"(?:e(?P<e>[-+]?\d++)(?!\w))?"
    r"(?: ?[*x] ?10 ?(?:\^|\*\*) ?[({]?(?P<ten>[-+]?\d++)[)}]?)?"
    r"(?:(?:\^|\*\*)[({]?(?P<power>[-+]?\d++)[)}]?)?"
    r"(?:(?: (?P<numerator>\d{1,9}))? ?/ ?(?P<divisor>\d{1,99}(?:\.\d{1,99})?)(?![\d/]))?"
    r"(?: ?(?P<scale>hundred|thousand|million|billion|trillion|k)\b)?"
    r"(?P<after> ?(?:%|\$(?!\d)|[€£¥₹₩₽元円])| ?-?(?:percent|per cent|pct|prozent|us dollars?"
    r"|dollars?|euros?|pounds?|yen|yuan|rupees?|rubles?|usd|eur|gbp|jpy|cny|rmb|inr|chf)\b)?"
)
_RANGE = re.compile(r"\s?(?:-|to|bis|and)\s?|:")


@dataclass(frozen=True)
class Quantity:
    """A number that an answer gives.

    Attributes:
        value: The exact value; of a range, its upper end; of 5%, 5.
        unit: The currency's sign, "%", or None.
        low: The lower end of a range, or the first part of a ratio or time of day, or None.
    """

    value: Fraction
    unit: str | None = None
    low: Fraction | None = None
    start: int = 0
    end: int = 0

    def is_like(self, other: Quantity) -> bool:
        """Return whether units and lower ends agree where both have one."""
        units = self.unit is None or other.unit is None or self.unit == other.unit
        return units and (self.low is None or other.low is None or self.low == other.low)


def _plain_text(text: str) -> str:
    """Return a text with ASCII digits and signs, without LaTeX's commands around numbers."""
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = unicodedata.normalize("NFKC", _BEFORE_VULGAR_FRACTION.sub(" ", text))
    text = text.translate(_MINUS_SIGNS | _SEPARATORS)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c, c)) if not c.isascii() else c for c in text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def quantities(text: str) -> Iterator[Quantity]:
    """Yield the numbers of a case-folded `_plain_text`; a range is one of them."""
    before: Quantity | None = None
    for match in _NUMBER.finditer(text):
        found = _quantity(match)
        if found is None:
            before = None
            continue
        if before is not None and _joins(text, before, found):
            unit = found.unit or before.unit
            found = Quantity(found.value, unit, before.value, before.start, found.end)
            before = None
        if before is not None:
            yield before
        before = found
    if before is not None:
        yield before


def whole_number(text: str) -> Quantity | None:
    """Return the number that a text consists of, or None if it says anything else."""
    match = _NUMBER.fullmatch(_plain_text(text).casefold().strip())
    return None if match is None else _quantity(match)


def _joins(text: str, low: Quantity, high: Quantity) -> bool:
    between = text[low.end : high.start]
    if low.low is not None or len(between) > 5 or _RANGE.fullmatch(between) is None:
        return False
    return "and" not in between or text[max(0, low.start - 8) : low.start] == "between "


def _quantity(match: re.Match[str]) -> Quantity | None:
    digits = match["digits"]
    if any(len(match[name] or "") > _MOST_EXPONENT for name in ("e", "ten", "power")):
        return None
    exponent = int(match["e"] or 0) + int(match["ten"] or 0) + _SCALES.get(match["scale"] or "", 0)
    power = int(match["power"] or 1)
    if abs(power) * len(digits) + abs(exponent) > _MOST_DIGITS:
        return None
    value = _value_of(digits)
    if power < 0 and value == 0:
        return None
    value = value**power
    if match["divisor"] is not None:
        divisor = Fraction(match["divisor"])
        if divisor == 0:
            return None
        numerator = match["numerator"]
        value = value / divisor if numerator is None else value + int(numerator) / divisor
    value *= Fraction(10) ** exponent
    if (match["sign"] or "").startswith("-"):
        value = -value
    return Quantity(value, _unit_of(match), None, match.start(), match.end())


def _value_of(digits: str) -> Fraction:
    """Return the value of digits with separators; the last separator may be a decimal one."""
    bare = digits.replace(" ", "").replace("'", "").replace("_", "")
    points, commas = bare.count("."), bare.count(",")
    if points > 1 or (points and commas and bare.rindex(",") > bare.index(".")):
        bare = bare.replace(".", "").replace(",", ".")
    elif commas == 1 and not points and not re.fullmatch(r"[1-9]\d{0,2},\d{3}", bare):
        bare = bare.replace(",", ".")
    return Fraction(bare.replace(",", "").rstrip(".") or "0")


def _unit_of(match: re.Match[str]) -> str | None:
    ahead = (match["before"] or match["inner"] or "").strip()
    behind = (match["after"] or "").strip(" -")
    if ahead == "$" and behind == "$":
        # LaTeX, not dollars.
        return None
    return _UNITS.get(ahead) or _UNITS.get(behind)


# The number of an answer

_ASIDE = re.compile(r"\([^()]{0,200}\)|\[[^\[\]]{0,200}\]")
_LABEL = re.compile(
    r"\b(?:step|part|question|problem|equation|eq\.|line|option|example|figure|table|case|method"
    r"|page|chapter|section|theorem|note|reference|no\.|version|q)\s?[#(]?$"
)
_MARK = re.compile(rf"{ANSWER}[^.\n=:]{{0,40}}?{IS}{{1,3}}(?!\s?not\b)")
_SECOND_THOUGHT = re.compile(
    r"\b(?:wait|actually|however|hmm|correction|mistake|wrong|incorrect|instead|recheck)\b"
)
# Roots, logarithms, multiples of pi, dates and versions are not the number next to them.
_UNREADABLE_AHEAD = re.compile(r"\s?\*?\s?(?:π|√|\\?pi\b|\\?sqrt)|\.\d")
_UNREADABLE_BEHIND = re.compile(r"(?:√|sqrt|\blog|\bln|\bsin|\bcos)\s?[({]?$|\d/$|\d-\d{1,2}-$")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_INTEGER_TOLERANCE = 1e-6


def read_number(answer: str) -> Quantity | None:
    """Return the number that an answer gives, or None if it gives none that can be read.

    This is the last number of the last LaTeX box or after `####`, else what the last "answer is"
    states, else the last number that is neither an aside in brackets nor a label ("step 3").
    """
    text = both_ends(visible_text(answer))
    box = marked(text)
    if box is not None and (found := _last(_plain_text(box).casefold())) is not None:
        return found
    text = _plain_text(text).casefold()
    mark = last_match(_MARK, text)
    if mark is not None and _SECOND_THOUGHT.search(text, mark.end()) is None:
        end = _SENTENCE_END.search(text, mark.end())
        stated = text[mark.end() : None if end is None else end.start()]
        equal = stated.rfind("=")
        found = _last(stated, first=equal < 0)
        if found is not None:
            return found
    return _last(text)


def is_same_number(a: Quantity, b: Quantity, tolerance: float = _INTEGER_TOLERANCE) -> bool:
    """Return whether two numbers agree: integers exactly, others within a relative tolerance.

    Args:
        a: A number.
        b: Another number. 5% agrees with 5% and 0.05, and with 5, which may mean per cent.
        tolerance: Relative tolerance; absolute where one of them is 0. Above 1e-6 it is for
            integers too.
    """
    if "%" not in (a.unit, b.unit) or a.unit == b.unit:
        return a.is_like(b) and _is_close(a.value, b.value, tolerance)
    x, y = (q.value / 100 if q.unit == "%" else q.value for q in (a, b))
    return a.is_like(b) and (_is_close(a.value, b.value, tolerance) or _is_close(x, y, tolerance))


def _is_close(x: Fraction, y: Fraction, tolerance: float) -> bool:
    if x == y:
        return True
    if x.denominator == y.denominator == 1 and tolerance <= _INTEGER_TOLERANCE:
        return False
    largest = max(abs(x), abs(y)) if x and y else Fraction(1)
    return abs(x - y) <= Fraction(tolerance) * largest


def _last(text: str, *, first: bool = False) -> Quantity | None:
    """Return the last number, or the first, preferably one that is not an aside."""
    for part in (_ASIDE.sub(" ", text), text):
        found = [
            quantity
            for quantity in quantities(part)
            if _LABEL.search(part, max(0, quantity.start - 16), quantity.start) is None
        ]
        if found:
            chosen = found[0] if first else found[-1]
            behind = _UNREADABLE_BEHIND.search(part, max(0, chosen.start - 8), chosen.start)
            unreadable = behind or _UNREADABLE_AHEAD.match(part, chosen.end)
            return None if unreadable else chosen
    return None
