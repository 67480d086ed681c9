"""Reads the confidence that a model writes beside its answer, on the last line if it obeys.

All such lines are removed, wherever they are, so they are recognised narrowly: they are short and
say nothing else. Text that merely speaks of confidence stays, and so do code, tables, and lists of
figures of which confidence is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_llm_router.verification.answer_marks import ANSWER

__all__ = [
    "ends_in_code",
    "longest_line",
    "margin",
    "read_number",
    "split_last_line",
    "split_report",
    "without_report_lines",
]

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
    r"(?:(?:my|overall|final|meine?|ma|mon|mi|nivel de|niveau de|degree of|level of)\s){0,4}"
    rf"{_WORD}(?: (?:level|score|rating|estimate))?"
    r"(?: (?:in (?:my|the|this|that) (?:answer|response|result|solution)|"
    r"that (?:my|the|this) answer is (?:right|correct)))?"
    r"(?:\s?\((?:in )?(?:0\s?(?:-|–|to)\s?100?|%|percent)\))?"
)
_SEPARATOR = r"\s?(?::|：|=|-|–|—|→|\bis\b|\bist\b|\best\b|\bes\b|\bof\b)?\s?"
_SURE = r"(?:sure|confident|certain|sicher|überzeugt|sûre?|certaine?|seguro|segura)"
_LABELLED = re.compile(
    rf"{_LABEL}{_SEPARATOR}{_VALUE}(?:\s?{_SURE})?\s?\.?\s?(?:\([^()]{{0,100}}\)?)?\.?",
    re.IGNORECASE,
)
_I_AM = re.compile(
    rf"(?:i am|i['’]m|ich bin(?: mir)?(?: zu)?|estoy)\s{_VALUE}\s?{_SURE}"
    r"(?:\s(?:of|about|in)\s(?:this|that|it|my|the)(?:\s(?:answer|result|response|solution))?"
    r"|\sthat\s(?:this|it|(?:my|the|this) answer)\sis\s(?:right|correct|true|accurate)"
    r"|,?\sdass\s(?:das|es|dies|(?:die|meine) antwort)\s(?:stimmt|(?:richtig|korrekt) ist))?\.?",
    re.IGNORECASE,
)
_I_AM_SURE = re.compile(rf"(?:je suis|estoy)\s{_SURE}\s(?:à|al)\s{_VALUE}\.?", re.IGNORECASE)
_COPIED = re.compile(rf"{_LABEL}{_SEPARATOR}(?-i:N)\s?%?\.?", re.IGNORECASE)
# A confidence that is none in [0, 1], in words or out of range.
_UNREAD = re.compile(
    rf"{_LABEL}\s?[:：=-]\s?(?:(?P<word>"
    r"(?:(?:very|fairly|quite|relatively|extremely|sehr|très|muy) )?"
    r"(?:high|low|medium|moderate|full|certain|hoch|mittel|niedrig|gering|haute|élevée?|moyenne?"
    rf"|faible|alta|media|baja)(?:\s?\([^()]{{0,100}}\))?)|\d{{3,6}}\s?%)\.?",
    re.IGNORECASE,
)
_LABEL_ALONE = re.compile(rf"{_LABEL}\s?[:：]?", re.IGNORECASE)
_STARTS = re.compile(rf"{_LABEL}(?!\w)", re.IGNORECASE)
_TAGGED = re.compile(r"<(confidence)>\s{0,9}([^<>\n]{1,60}?)\s{0,9}</\1>", re.IGNORECASE)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCES = ("```", "~~~")
_CODE_FENCE = re.compile(r"[ \t]{0,9}(?:`{3}|~{3})[\w-]{0,20}\s*$")
# A line of a list of figures or properties, which may be what the user asked for.
_FIELD = re.compile(
    rf"[\s*_`#>•+-]{{0,9}}(?!(?:final )?{ANSWER})[^\W\d_][\w ()-]{{0,40}}[*_`]{{0,3}}\s?[:=]"
    r"[\s*_`]{0,9}(?:(?P<number>[-+$€£~]{0,2}\.?\d)|(?=\S))",
    re.IGNORECASE,
)
_OPENING = re.compile(rf"(?<!\w){_LABEL}(?!\w)", re.IGNORECASE)
# Emphasis, code, quotes, boxes and LaTeX's escapes around the words.
_MARKS = re.compile(r"[*_`~#>\"“”„«»\[\]{}\\$|]+")
_SPACES = re.compile(r"\s+")
# What may stand between the end of an answer and a confidence on the same line.
_BEFORE = re.compile(r"(?:^|<br ?/?>|[.!?;:,)\]}*_`|–—-])[ \t]{0,9}[*_`(\[\"]{0,9}$")


def split_report(
    text: str, options: Sequence[str] = (), before: str = ""
) -> tuple[str, float | None] | None:
    r"""Split a text into the answer, without any line that is its confidence, and the confidence.

    Args:
        text: The visible text of an answer.
        options: Options whose scores a line has in place of one confidence.
        before: What comes before the text and stays, e.g. because it has been shown.

    Returns:
        The answer, and the last confidence in [0, 1] that can be read, or None. None if no line is
        a confidence.

    Example:
        >>> split_report("Confidence: 85%\nParis.\nConfidence: 85%\nConfidence: 90%")
        ('Paris.', 0.9)
    """
    last = split_last_line(text, options)
    rest, values = (text, []) if last is None else (last[0], [last[1]])
    cleaned = without_report_lines(rest, options, before)
    if cleaned is not None:
        rest, more = cleaned
        rest, values = rest.rstrip(), [*values, more]
    if last is not None and (inline := _split_inline(rest, options)) is not None:
        rest, values = inline[0], [*values, inline[1]]
    if not values:
        return None
    if not before:
        rest = rest.lstrip("\r\n")
    return rest, next((value for value in values if value is not None), None)


def without_report_lines(
    text: str, options: Sequence[str] = (), before: str = ""
) -> tuple[str, float | None] | None:
    """Return a text without the lines that are a confidence alone, and the last of these.

    Args:
        text: A text.
        options: Options whose scores a line may have.
        before: What comes before the text and stays; it may end within a line, or in code.

    Returns:
        None if there is no such line.
    """
    if _OPENING.search(text) is None:
        return None
    lines: list[str] = _LINE.findall(before)
    n_before = len(lines)
    if n_before > 0 and not before.endswith("\n"):
        first, end, text_rest = text.partition("\n")
        lines[-1] += first + end
        kept, text = first + end, text_rest
    else:
        kept = ""
    lines += _LINE.findall(text)
    found = {i: value for i, value in _report_lines(lines, options).items() if i >= n_before}
    if not found:
        return None
    kept += "".join(line for i, line in enumerate(lines) if i >= n_before and i not in found)
    values = [value for value in found.values() if value is not None]
    return kept, values[-1] if values else None


def _report_lines(lines: Sequence[str], options: Sequence[str]) -> dict[int, float | None]:
    """Return the places of the lines that are a confidence, and of fences around nothing else."""
    found: dict[int, float | None] = {}
    last = max((i for i, line in enumerate(lines) if line.strip()), default=-1)
    opened: int | None = None
    for i, line in enumerate(lines):
        if not _is_fence(line):
            if opened is None and (read := _read_alone(lines, i, options)) is not None:
                found[i] = read[0]
            continue
        if opened is not None:
            inside = [j for j in range(opened + 1, i) if lines[j].strip()]
            read = _read_alone(lines, inside[-1], options) if inside else None
            if read is not None and (len(inside) == 1 or i == last):
                found[inside[-1]] = read[0]
                # A fence that says more than that it ends a block stays.
                around = (opened, i) if line.strip() in _FENCES else (opened,)
                found |= dict.fromkeys(around) if len(inside) == 1 else {}
        opened = i if _opens_code(line, in_code=opened is not None) else None
    return found


def ends_in_code(text: str) -> bool:
    """Return whether a block of code is open at the end of a text."""
    in_code = False
    for line in filter(_is_fence, text.splitlines()):
        in_code = _opens_code(line, in_code=in_code)
    return in_code


def _is_fence(line: str) -> bool:
    return line.lstrip()[:3] in _FENCES


def _opens_code(line: str, *, in_code: bool) -> bool:
    """Return whether a block of code is open behind a fence; one with a language begins anew."""
    ends = in_code and line.strip() in _FENCES
    return not ends and _CODE_FENCE.match(line) is not None


def _read_alone(lines: Sequence[str], i: int, options: Sequence[str]) -> tuple[float | None] | None:
    """Return the confidence of a line that stands anywhere, if it is no item of a list."""
    line = lines[i].strip()
    if len(line) > longest_line(options) or _STARTS.match(_bare(line)) is None:
        return None
    read = _read_line(line, options)
    return None if read is None or _is_listed(lines, i) else read


def _is_listed(lines: Sequence[str], i: int) -> bool:
    """Return whether a line beside this one has a figure or property of its own."""
    in_words = (unread := _UNREAD.fullmatch(_bare(lines[i]))) is not None and unread["word"]
    for near in (*lines[max(0, i - 1) : i], *lines[i + 1 : i + 2]):
        field = _FIELD.match(near)
        if field is None or _STARTS.match(_bare(near)) is not None:
            continue
        if in_words or field["number"] is not None:
            return True
    return False


def split_last_line(text: str, options: Sequence[str] = ()) -> tuple[str, float | None] | None:
    """Split a text into what comes before the confidence at its end, and the confidence.

    Args:
        text: The visible text of an answer.
        options: Options whose scores the last line has in place of one confidence.

    Returns:
        The text before it, without white space at its end, and the confidence in [0, 1]: None if
        its line has no scores of two options, a value that cannot be read, or is a copy of the form
        asked for. None if the text ends in no confidence.

    Example:
        >>> split_last_line("Paris. **Confidence:** 85 %")
        ('Paris.', 0.85)
        >>> split_last_line("We have a confidence of 95% that it lies in [1, 2].") is None
        True
    """
    ended = text.rstrip()
    start = max(ended.rfind("\n"), ended.rfind("\r")) + 1
    line = ended[start:]
    if len(line) <= longest_line(options) and (found := _read_line(line, options)) is not None:
        unread = _UNREAD.fullmatch(_bare(line))
        lines = [*ended[:start].splitlines()[-1:], line]
        if unread is None or not _is_listed(lines, len(lines) - 1):
            return ended[:start].rstrip(), found[0]
        return None
    # A label that is a heading or a line of its own.
    earlier = ended[:start].rstrip()
    at = max(earlier.rfind("\n"), earlier.rfind("\r")) + 1
    value = _LONE_VALUE.fullmatch(_bare(line)) if len(line) <= _LONGEST_LINE else None
    if value is not None and value["percent"] and len(earlier) - at <= _LONGEST_LINE:
        label = _bare(earlier[at:])
        if _LABEL_ALONE.fullmatch(label) is not None:
            found = _read_line(f"{label} {line}", options)
            return None if found is None else (earlier[:at].rstrip(), found[0])
    return _split_inline(ended, options)


def _split_inline(text: str, options: Sequence[str]) -> tuple[str, float | None] | None:
    """Split off a confidence on the last line of the answer itself, where a sentence ends."""
    start = max(text.rfind("\n"), text.rfind("\r")) + 1
    line = text[start:]
    if line.lstrip().startswith("|"):
        return None
    for opening in reversed(
        list(_OPENING.finditer(line, max(0, len(line) - longest_line(options))))
    ):
        before = _BEFORE.search(line[: opening.start()][-_LONGEST_LINE:])
        if before is None or not opening[0].lstrip("( ")[:1].isupper():
            continue
        found = _read_line(line[opening.start() :], options)
        if found is not None:
            return text[:start] + line[: opening.start()].rstrip('*_`(["').rstrip(), found[0]
    return None


def longest_line(options: Sequence[str]) -> int:
    """Return the number of characters that a line with the scores of all options may have."""
    return _LONGEST_LINE + sum(len(option) + 20 for option in options)


def _read_line(line: str, options: Sequence[str]) -> tuple[float | None] | None:
    """Return the confidence of a line in a tuple; None if it is no line of a confidence."""
    if line.lstrip().startswith("|"):
        return None
    plain = _bare(line)
    if options and (scores := _read_scores(plain, options)) is not None:
        return (margin(scores),)
    if _COPIED.fullmatch(plain) is not None or _UNREAD.fullmatch(plain) is not None:
        return (None,)
    for pattern in (_LABELLED, _I_AM, _I_AM_SURE):
        found = pattern.fullmatch(plain)
        if found is not None:
            value = _value(found)
            if value is None or (pattern is not _LABELLED and found["percent"] is None):
                return None
            return (None,) if options else (value,)
    return None


def _bare(line: str) -> str:
    """Return a line without marks, bullets and brackets around it."""
    plain = _MARKS.sub("", _TAGGED.sub(r"\1: \2", line))
    plain = _SPACES.sub(" ", plain).strip(" -–—•")
    while plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1].strip()
    return plain


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
        name = known.get(pair[1].casefold())
        if name is None:
            # Without case "i" is also a letter that other languages have.
            return None
        scores[name] = float(pair[2].replace(",", "."))
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
    if len(values) < 2 or not all(0 <= value <= 100 for value in values):
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
