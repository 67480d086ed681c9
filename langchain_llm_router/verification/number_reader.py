r"""Numbers as answers write them, read exactly.

Signs and digits of any script, thousands and decimal separators of several countries, powers of
ten, fractions, per cent, currencies and ranges are understood. Values are fractions, so that large
integers stay exact. All expressions here need linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_marks import (
    ANSWER,
    IS,
    both_ends,
    last_match,
    marked,
    without_markup,
)

__all__ = [
    "Quantity",
    "is_same_number",
    "quantities",
    "quantities_of",
    "read_number",
    "whole_number",
]

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
    0xF7: "/",
    0x2215: "/",
}


def _recurring(match: re.Match[str]) -> str:
    """Return a decimal whose last digits repeat for ever as a fraction."""
    whole, once, period = match.groups()
    numerator = int(whole + once + period or 0) - int(whole + once or 0)
    return f"{numerator}/{10 ** len(once + period) - 10 ** len(once)}"


_LATEX: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<=\d)(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[cdt]?frac\s?\{([^{}]{1,60})\}\s?\{([^{}]{1,60})\}"), r"\1/\2 "),
    (re.compile(r"\\[cdt]?frac\s?(\d)(\d)"), r"\1/\2 "),
    (re.compile(r"(?<=\d) and (?=\d{1,3}/\d)"), " "),
    (re.compile(r"(?<![\d.])(\d{0,9})\.(\d{0,9})\\(?:overline|bar)\{(\d{1,9})\}"), _recurring),
    (re.compile(r"(?<!\d )\b(?:minus|negative) (?=[$€£\d.])", re.IGNORECASE), "-"),
    (re.compile(r"\{,\}|\\!"), ","),
    (re.compile(r"\\[,;: ]"), " "),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\([$%#&])"), r"\1"),
    # The power of a unit or a variable, an index, and an uncertainty are not the number.
    (re.compile(r"(?<=[^\W\d_])\s?\^\s?[({]?[-+]?\d{1,9}[)}]?"), " "),
    # After a unit or a variable, because other words stand before bold type too.
    (re.compile(r"(?<![a-zA-Z])([a-zA-Z]|[cdkm]m|ft|yd|mi)\*\*[-+]?\d{1,9}"), r"\1 "),
    (re.compile(r"(?<=\w)_\{\d{1,9}\}"), " "),
    (re.compile(r"(?<=[\d}])\s?(?:±|\+/-|\\pm)\s?[\d.,]{1,20}"), ""),
    # Millions; 5 m are metres, and 0.1M HCl is a concentration.
    (re.compile(r"(?<![\d.,])([1-9][\d.,]{0,12})M\b(?!\s?[A-Z])"), r"\1 million"),
    (re.compile(r"(?<=\d)B\b"), " billion"),
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
_SCALES = {
    2: "hundred",
    3: "thousand k 千 천",
    4: "万 萬 만",
    5: "lakh lakhs",
    6: "million millions millionen millones milioni mio mio.",
    7: "crore crores",
    8: "亿 億 억",
    9: "billion billions milliarden milliards mrd mrd. bn",
    12: "trillion trillions",
}
_EXPONENTS = {name: exponent for exponent, names in _SCALES.items() for name in names.split()}
_SCALE = "|".join(re.escape(name) for name in sorted(_EXPONENTS, key=len, reverse=True))

_DIGITS = (
    r"[1-9]\d{0,2}(?:,\d{3}){1,100}+(?![\d,])(?:\.\d++)?"  # 1,234,567.8
    r"|\d{1,2}(?:,\d{2}(?=,)){1,50}+,\d{3}(?!\d)(?:\.\d++)?"  # 12,34,567
    r"|\d{1,3}(?:\.\d{3}){2,}+(?!\d)(?:,\d++)?"  # 1.234.567,8
    r"|\d{1,3}\.\d{3},\d++"  # 1.234,5
    r"|\d{1,3}(?: \d{3}){1,100}+(?! \d{3}|\d)(?:[.,]\d++)?"  # 1 234 567.8
    r"|\d{1,3}(?:['_]\d{3}){1,100}+(?!['_]\d{3}|\d)(?:\.\d++)?"  # 1'234'567.8
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
    rf"(?: ?(?P<scale>{_SCALE})(?![a-z]))?"
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


def quantities_of(text: str) -> list[Quantity]:
    """Return all numbers of a text."""
    return list(quantities(_plain_text(text).casefold()))


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
    exponent = (
        int(match["e"] or 0) + int(match["ten"] or 0) + _EXPONENTS.get(match["scale"] or "", 0)
    )
    power = int(match["power"] or 1)
    if abs(power) * len(digits) + abs(exponent) > _MOST_DIGITS:
        return None
    unit = _unit_of(match)
    if unit == "€" and _POINT_OF_THOUSANDS.fullmatch(digits) is not None:
        digits = digits.replace(".", "")
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
    return Quantity(value, unit, None, match.start(), match.end())


_POINT_OF_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")


def _value_of(digits: str) -> Fraction:
    """Return the value of digits with separators; the last separator may be a decimal one."""
    bare = digits.replace(" ", "").replace("'", "").replace("_", "")
    points, commas = bare.count("."), bare.count(",")
    if points > 1 or (points and commas and bare.rindex(",") > bare.index(".")):
        bare = bare.replace(".", "").replace(",", ".")
    elif commas == 1 and not points and not _GROUPED.fullmatch(bare):
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
_DENIED = re.compile(r"(?:\bnot|n't|\brather than|\binstead of|\bunlike|\bnor) (?:exactly )?$")
_MARK = re.compile(rf"{ANSWER}[^.\n=:]{{0,40}}?{IS}{{1,3}}(?!\s?not\b)")
_REASON = re.compile(r"\b(?:because|since|given that)\b")
# Time, length or money in two units; powers, roots and variables; a point, a vector, an interval.
_TWO_UNITS = (
    re.compile(
        r"\d\s?(?:h|hrs?|hours?|days?|weeks?|years?|ft|feet|foot|m|min|minutes?|dollars?|lbs?"
        r"|pounds?|')?,? (?:and )?$"
    ),
    re.compile(
        r" ?-?(?:m|min|mins|minutes?|hours?|days?|months?|in|inch|inches|s|sec|seconds?|cents?"
        r"|oz|ounces?|\")(?![a-z])"
    ),
)
_ALGEBRA = re.compile(
    r"sqrt|√|π|\\?\bpi\b|\d[xyzni](?![a-z])|(?<![a-z])[xyzn]\s?[-+*/^]|[-+*/]\s?[xyzn](?![a-z])"
)
_TUPLE = re.compile(r"[(\[][^()\[\],]{0,99},[^()\[\]]{0,200}[)\]]")
_SECOND_THOUGHT = re.compile(
    r"\b(?:wait|actually|however|hmm|correction|mistake|wrong|incorrect|instead|recheck)\b"
)
# Roots, logarithms, multiples of pi, dates and versions are not the number next to them.
_UNREADABLE_AHEAD = re.compile(r"\s?\*?\s?(?:π|√|\\?pi\b|\\?sqrt)|\.\d|x\d")
_UNREADABLE_BEHIND = re.compile(r"(?:√|sqrt|\blog|\bln|\bsin|\bcos)\s?[({]?$|\d/$|\d-\d{1,2}-$")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_INTEGER_TOLERANCE = 1e-6


def read_number(answer: str) -> Quantity | None:
    """Return the number that an answer gives, or None if it gives none that can be read.

    This is the last number of the last LaTeX box or after `####`, else what the last "answer is"
    states, else the last number that is neither an aside in brackets nor a label ("step 3").
    """
    text = without_markup(both_ends(visible_text(answer)))
    box = marked(text)
    of_box = None if box is None else _of_box(_plain_text(box).casefold().strip())
    if of_box is not None:
        return of_box[0]
    text = _plain_text(text).casefold()
    mark = last_match(_MARK, text)
    if mark is not None and _SECOND_THOUGHT.search(text, mark.end()) is None:
        end = _SENTENCE_END.search(text, mark.end())
        stated = text[mark.end() : None if end is None else end.start()]
        stated = _before_reason(stated)
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


def _of_box(text: str) -> tuple[Quantity | None] | None:
    """Return the number of a box in a tuple, None in it if the box has no single number."""
    result = re.split(r"=|≈|\\approx", text)[-1].strip(" $")
    if _TUPLE.fullmatch(result) is not None and _GROUPED.fullmatch(result[1:-1]) is None:
        return (None,)
    if _ALGEBRA.search(result) is not None:
        return (None,)
    found = _last(text)
    return None if found is None else (found,)


def _before_reason(text: str) -> str:
    """Return what a statement says before "because", if it has a number there."""
    reason = _REASON.search(text)
    if reason is None or next(quantities(text[: reason.start()]), None) is None:
        return text
    return text[: reason.start()]


def _last(text: str, *, first: bool = False) -> Quantity | None:
    """Return the last number, or the first, preferably one that is not an aside."""
    for part in (_ASIDE.sub(" ", text), text):
        found = [
            quantity
            for quantity in quantities(part)
            if _LABEL.search(part, max(0, quantity.start - 16), quantity.start) is None
            and _DENIED.search(part, max(0, quantity.start - 24), quantity.start) is None
        ]
        if found:
            chosen = found[0] if first else found[-1]
            behind = _UNREADABLE_BEHIND.search(part, max(0, chosen.start - 8), chosen.start)
            unreadable = behind or _UNREADABLE_AHEAD.match(part, chosen.end)
            first_unit, second_unit = _TWO_UNITS
            if second_unit.match(part, chosen.end) is not None:
                near = max(0, chosen.start - 16)
                unreadable = unreadable or first_unit.search(part, near, chosen.start)
            return None if unreadable else chosen
    return None
