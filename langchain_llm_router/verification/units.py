"""Units of measure in one spelling."""

from __future__ import annotations

import re

__all__ = ["split_unit"]

_SPELLINGS = {
    "m": "meter metre",
    "km": "kilometer kilometre",
    "cm": "centimeter centimetre",
    "mm": "millimeter millimetre",
    "ft": "foot feet",
    "in": "inch inche",
    "yd": "yard",
    "mi": "mile",
    "g": "gram gramme gm",
    "kg": "kilogram kilo",
    "mg": "milligram",
    "lb": "pound lbs",
    "oz": "ounce",
    "l": "liter litre",
    "ml": "milliliter millilitre",
    "gal": "gallon",
    "s": "sec second",
    "ms": "millisecond",
    "min": "minute",
    "h": "hr hour",
    "yr": "year",
    "mph": "mi/h",
    "km/h": "kph kmh",
    "deg": "degree ° circ",
    "deg f": "°f fahrenheit",
    "deg c": "°c celsius",
    "%": "percent",
    "$": "dollar usd",
    "€": "euro eur",
    "cent": "¢",
}
_NAMES = {name: unit for unit, names in _SPELLINGS.items() for name in (unit, *names.split())}
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}
_VALUE = re.compile(
    r"[-+−]?\s?[$€£]?\s?(?:\\[dt]?frac\{\d{1,30}\}\{\d{1,30}\}|\d[\d.,]{0,40}(?:/\d{1,30})?"
    r"|\.\d{1,30})"
)
_UNIT = re.compile(
    r"[-\s~]?(\\circ|\^\\circ|\^\{\\circ\}|[a-zA-Z°µ¢%][\w°µ%²³^/.\-\s]{0,60})", re.ASCII
)
_BRACKETS = re.compile(r"\s?\([^()]{0,80}\)$")
_ASIDE = re.compile(
    r"\s(?:in total|in all|total|altogether|each|left|remaining|more|away|old|of\s.{1,60})$"
)


def split_unit(text: str) -> tuple[str, str | None]:
    """Split a number from its unit.

    Args:
        text: A result, e.g. "5 kilometers".

    Returns:
        The number's text, and the unit in one spelling; None if the rest of the text is no unit,
        as in "5x".
    """
    value = _VALUE.match(text)
    if value is None:
        return text, None
    rest = text[value.end() :].replace("\\,", " ").replace("\\ ", " ").replace("^\\circ", "°")
    rest = rest.replace("^{\\circ}", "°").replace("\\circ", "°")
    unit = _UNIT.fullmatch(_BRACKETS.sub("", rest))
    if unit is None:
        return text, None
    name = _one_spelling(unit[1], spaced=rest[:1].isspace() or rest[:1] == "-")
    return value[0], name


def _one_spelling(text: str, *, spaced: bool) -> str | None:
    name = _ASIDE.sub("", " ".join(text.casefold().replace("²", "^2").replace("³", "^3").split()))
    name = name.rstrip(".")
    parts = re.split(r"\s?/\s?|\sper\s|\sa(?:n)?\s", name)
    units = [_one_part(part.strip(), spaced=spaced or len(parts) > 1) for part in parts]
    if any(unit is None for unit in units):
        return None
    joined = "/".join(unit for unit in units if unit is not None)
    return _NAMES.get(joined, joined)


def _one_part(text: str, *, spaced: bool) -> str | None:
    words, power = text.split(), ""
    if len(words) > 1 and words[0] in _POWERS:
        power, words = _POWERS[words[0]], words[1:]
    if len(words) == 1 and "^" in words[0]:
        words[0], _, power = words[0].partition("^")
        power = f"^{power}"
    known = _known(" ".join(words))
    if known is not None:
        return known + power
    # A word is what is counted, e.g. books; one or two letters may be variables.
    plain = all(word.isalpha() for word in words) and len("".join(words)) > 2
    return " ".join(map(_singular, words)) + power if spaced and plain and words else None


def _known(name: str) -> str | None:
    if name.startswith(("degrees ", "degree ")):
        name = f"°{name.split()[1][:1]}"
    return _NAMES.get(name) or _NAMES.get(_singular(name))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
