"""Reads the confidence that a model writes on the last line of its answer.

The line is cut off where it can be read, so it is recognised narrowly: it is short, it is the last
one, and it says nothing else. Text that merely speaks of confidence stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["longest_line", "margin", "read_number", "split_last_line"]

_LONGEST_LINE = 160
"""Number of characters up to which a last line, or the end of one, may be a confidence."""

_NUMBER = r"(?:\d{1,3}(?:[.,]\d{1,6})?|[.,]\d{1,6})"
_UNIT = (
    r"(?:\s?(?P<percent>[%％]|percent\b|per ?cent\b|prozent\b|pour ?cent\b|por ?ciento\b)"
    r"|\s?(?:/|out of|von|sur)\s?(?P<of>\d{1,3})\b)?"
)
_VALUE = (
    r"(?:about|around|approximately|roughly|etwa|ungefähr|environ|≈)?\s?"
    rf"(?P<low>{_NUMBER})(?:\s?[%％]?\s?(?:-|–|—|to|bis|à)\s?(?P<high>{_NUMBER}))?{_UNIT}"
)
_LONE_VALUE = re.compile(rf"{_VALUE}")
_WORD = (
    r"(?:confidence|certainty|konfidenz|zuversicht|sicherheit|gewissheit|"
    r"confiance|certitude|confianza|certeza)"
)
_LABEL = (
    rf"(?:(?:my|overall|final|meine?|ma|mon|mi|nivel de|niveau de|degree of|level of)\s)*{_WORD}"
    r"(?: (?:level|score|rating|estimate))?"
    r"(?: (?:in (?:my|the|this|that) (?:answer|response|result|solution)|"
    r"that (?:my|the|this) answer is (?:right|correct)))?"
)
_SEPARATOR = r"\s?(?::|=|-|–|—|→|\bis\b|\bist\b|\best\b|\bes\b|\bof\b)?\s?"
_SURE = r"(?:sure|confident|certain|sicher|überzeugt|sûre?|certaine?|seguro|segura)"
_LABELLED = re.compile(
    rf"{_LABEL}{_SEPARATOR}{_VALUE}(?:\s?{_SURE})?\s?\.?\s?(?:\([^()]{{0,100}}\)?)?\.?",
    re.IGNORECASE,
)
_I_AM = re.compile(
    rf"(?:i am|i['’]m|ich bin(?: mir)?(?: zu)?|estoy)\s{_VALUE}\s?{_SURE}"
    r"(?:\s(?:of|that|about|in|dass)\b[^.]{1,60})?\.?",
    re.IGNORECASE,
)
_I_AM_SURE = re.compile(rf"(?:je suis|estoy)\s{_SURE}\s(?:à|al)\s{_VALUE}\.?", re.IGNORECASE)
_COPIED = re.compile(rf"{_LABEL}{_SEPARATOR}(?-i:N)\s?%?\.?", re.IGNORECASE)
_OPENING = re.compile(rf"(?<!\w){_LABEL}(?!\w)", re.IGNORECASE)
# Emphasis, code, quotes, boxes and LaTeX's escapes around the words.
_MARKS = re.compile(r"[*_`~#>\"“”„«»\[\]{}\\$|]+")
_SPACES = re.compile(r"\s+")
# What may stand between the end of an answer and a confidence on the same line.
_BEFORE = re.compile(r"(?:^|[.!?;:,)\]}*_`|–—-])[ \t]{0,9}[*_`(\[\"]{0,9}$")


def split_last_line(text: str, options: Sequence[str] = ()) -> tuple[str, float | None] | None:
    """Split a text into what comes before its confidence, and the confidence.

    Args:
        text: The visible text of an answer.
        options: Options whose scores the last line has in place of one confidence.

    Returns:
        The text before it, without white space at its end, and the confidence in [0, 1]: None if
        its line has no scores of two options, or is a copy of the form asked for. None if the text
        ends in no confidence.

    Example:
        >>> split_last_line("Paris. **Confidence:** 85 %")
        ('Paris.', 0.85)
        >>> split_last_line("We have a confidence of 95% that it lies in [1, 2].") is None
        True
    """
    ended = text.rstrip()
    start = max(ended.rfind("\n"), ended.rfind("\r")) + 1
    line = ended[start:]
    longest = longest_line(options)
    if len(line) <= longest and (found := _read_line(line, options)) is not None:
        return ended[:start].rstrip(), found[0]
    # On the last line of the answer itself, where a sentence ends before it.
    for opening in reversed(list(_OPENING.finditer(line, max(0, len(line) - longest)))):
        before = _BEFORE.search(line[: opening.start()][-_LONGEST_LINE:])
        if before is None or not opening[0].lstrip("( ")[:1].isupper():
            continue
        found = _read_line(line[opening.start() :], options)
        if found is not None:
            return ended[:start] + line[: opening.start()].rstrip('*_`(["').rstrip(), found[0]
    return None


def longest_line(options: Sequence[str]) -> int:
    """Return the number of characters that a line with the scores of all options may have."""
    return _LONGEST_LINE + sum(len(option) + 20 for option in options)


def _read_line(line: str, options: Sequence[str]) -> tuple[float | None] | None:
    """Return the confidence of a line in a tuple; None if it is no line of a confidence."""
    plain = _SPACES.sub(" ", _MARKS.sub("", line)).strip(" -–—•")
    while plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1].strip()
    if options and (scores := _read_scores(plain, options)) is not None:
        return (margin(scores),)
    if _COPIED.fullmatch(plain) is not None:
        return (None,)
    for pattern in (_LABELLED, _I_AM, _I_AM_SURE):
        found = pattern.fullmatch(plain)
        if found is not None:
            value = _value(found)
            if value is None or (pattern is not _LABELLED and found["percent"] is None):
                return None
            return (None,) if options else (value,)
    return None


def _value(found: re.Match[str]) -> float | None:
    numbers = [found["low"], *([found["high"]] if found["high"] else [])]
    mean = sum(float(number.replace(",", ".")) for number in numbers) / len(numbers)
    if found["percent"]:
        value = mean / 100
    elif found["of"]:
        value = mean / float(found["of"]) if float(found["of"]) > 0 else -1.0
    else:
        value = _share(mean)
    return value if 0 <= value <= 1 else None


def _share(number: float) -> float:
    """Return a bare number as a share: up to 1 it is one, above it is in percent."""
    return number if number <= 1 else number / 100


def _read_scores(plain: str, options: Sequence[str]) -> dict[str, float] | None:
    """Return the scores on a line that has a label, scores of options and nothing else."""
    label = re.match(rf"(?:{_LABEL}|scores?)\s?[:=-]?\s?", plain, re.IGNORECASE)
    if label is None:
        return None
    rest, scores = plain[label.end() :], {}
    # Longer names first: one option may begin another.
    names = sorted(options, key=len, reverse=True)
    known = {_SPACES.sub(" ", _MARKS.sub("", name)).strip().casefold(): name for name in names}
    one = re.compile(
        rf"\(?({'|'.join(map(re.escape, known))})\)?\s?(?::|=|-|–|→)?\s?({_NUMBER})\s?[%％]?",
        re.IGNORECASE,
    )
    for pair in one.finditer(rest):
        scores[known[pair[1].casefold()]] = float(pair[2].replace(",", "."))
    left = one.sub("", rest).strip(" ,;.()/")
    return scores if len(scores) > 0 and left == "" else None


def margin(scores: dict[str, float]) -> float | None:
    """Return the margin between the best and the second score, in [0, 1].

    Args:
        scores: Score of each option: shares if none is above 1, else from 0 to 100.

    Returns:
        None if there are fewer than two scores, or one is out of range.
    """
    values = sorted(scores.values(), reverse=True)
    if len(values) < 2 or values[0] > 100 or values[-1] < 0:
        return None
    return (values[0] - values[1]) / (1 if values[0] <= 1 else 100)


def read_number(value: Any) -> float | None:
    """Return a confidence in [0, 1] from a field of structured output; None if it is none.

    Args:
        value: A number from 0 to 100, a share up to 1, or a text such as `85 %`.
    """
    if isinstance(value, str):
        found = _LONE_VALUE.fullmatch(_MARKS.sub("", value).strip().casefold())
        return None if found is None else _value(found)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    share = _share(float(value))
    return share if 0 <= share <= 1 else None
