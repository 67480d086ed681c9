"""The letter of a multiple-choice answer, A to J."""

from __future__ import annotations

import re
import unicodedata

from langchain_llm_router.types.answers import visible_text
from langchain_llm_router.verification.answer_marks import (
    ANSWER,
    IS,
    both_ends,
    marked,
    without_markup,
)

__all__ = ["LONE_LETTER", "read_letter"]

LONE_LETTER = re.compile(r"[^\w\n]{0,6}([A-Ja-j])(?!-)[^\w\n+#]{0,6}")
"""Expression for a text that is one letter, with its brackets and marks."""

# Squared and negative letters of Unicode, which NFKC leaves; marks of emphasis and quotes.
_PLAIN = {first + i: chr(65 + i) for first in (0x1F150, 0x1F170) for i in range(10)}
_PLAIN |= dict.fromkeys(map(ord, '*_`"“”„«»$\\'), "")
_PLAIN |= {ord(a): b for a, b in zip("【】「」‘’", "()()''", strict=True)}

_OPEN = r"\s{0,3}[(\[{<]?\s?"
_FILLER = (
    r"(?:\s{0,3}(?:the|correct|option|choice|letter|answer|only|just|clearly|definitely|probably"
    r"|likely|most likely|therefore|thus|indeed|actually|simply|that|is|it|be|:|,|=|选项|選項)"
    r"(?![a-z])){0,4}"
)
_NOUN = rf"(?:{ANSWER}|choice|option|solution|response|letter|pick|selection|guess|verdict|correct)"
_VERB = (
    r"(?:choose|chose|chosen|pick|picked|select|selected|go with|going with|went with|vote for|say"
    r"|conclude|settle on|opt for|prefer|therefore|thus|hence|so|leaves|leaving|left with|i think"
    r"|i believe|i guess|(?P<turn>but|rather|instead))"
)
_MARK = re.compile(
    rf"(?:(?<![a-z])(?P<strong>{ANSWER})(?:\s(?:choice|option|letter))?(?:{IS}){{0,3}}"
    rf"|(?<![a-z]){_NOUN}(?:{IS}){{1,3}}"
    r"|(?<![a-z])(?:it|this|that|which)(?:'s| is| must be| has to be| should be| would be"
    r"| can only be| will be)"
    rf"|(?<![a-z]){_VERB}[,:]?(?![a-z])|选择?|選択?)"
    rf"{_FILLER}{_OPEN}(?P<letter>[A-J])",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    r"\W{0,3}(?:(?:is|was|would be|must be|has to be|should be|seems|looks|appears)\s"
    r"(?:\w{1,12}ly\s)?(?:(?:the|my|to|be|final|most|only|single)\s){0,4}"
    r"(?:correct|right|true|answer|best|better|accurate|appropriate|suitable|valid|likely|choice"
    r"|one)\b|(?:holds|fits|works|wins|remains|it is)\b|(?:是|が|は)?(?:正确|正確|对的|正解))"
    r"|\s?[:=-]\s?(?:correct|right|yes)\b|\?\s{0,2}yes\b",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"\?(?!\s{0,2}yes)|[\s):,\]-]{0,4}(?:(?:is|was|are|seems|looks|can|could|would|does|must)\s?){0,2}"
    r"(?:tempting\b|(?:also |clearly |simply )?(?:not\b|n't|never|wrong|incorrect|false|no\b|cannot"
    r"|can't|isn't|doesn't|impossible|invalid|out\b|错|不))",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|isn't|aren't|wasn't|don't|doesn't|can't|couldn't|won't"
    r"|rather than|instead of|rules? out|ruled out|ruling out|eliminat\w{1,4}|exclud\w{1,4}|unlike"
    r"|if|whether|except)\b[^.!?;,:\n]{0,40}$",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"[)\]}]?(?:,\s?(?:and\s|or\s)?|\s(?:or|and|&)\s|\s?[/&]\s?)(?:option |choice |both )?[(\[]?"
    r"[A-J](?![\w'])(?! (?:think|believe|guess|hope))(?!\W{0,2}(?:is|was|are|has|does|would|can)\b)"
)
_LINKED = re.compile(
    r"\s(?:because|since|as|is|was|must|has|would|can|could|seems|looks|fits|holds|works|wins|which"
    r"|due|for|and|or|but|not|it is|on|from|in)\b"
)
# Unlike an answer, who says "I" would, can, must and was.
_LINKED_I = re.compile(r"\s(?:because|since|is|seems|looks|fits|holds|works|wins)\b")
_ENDED = re.compile(r"\s{0,2}(?:[).:,;!\]}>]|$|\n|[\u2013\u2014-]\s)|\s(?:because|since|as|is)\b")
_LABELLED = re.compile(r"(?:option|choice|letter)\s[(\[]?$", re.IGNORECASE)
_OTHER_NAME = re.compile(
    r"(?:vitamin|hepatitis|type|plan|figure|fig\.|point|table|section|appendix|part|class|group"
    r"|vertex|angle|line|node|set|drug|company|team|city)\s$",
    re.IGNORECASE,
)
_LONE_LINE = re.compile(
    r"^[^\w\n]{0,6}(?:(?:option|choice|letter)\s)?[^\w\n]{0,3}([A-Ja-j])[^\w\n+#]{0,6}$",
    re.MULTILINE | re.IGNORECASE,
)
_LEADING = re.compile(r"^[^\w\n]{0,6}([A-J](?!\w)|[a-j](?=[).:\]]))", re.MULTILINE)
# Chinese, Japanese and Korean have no spaces around a letter.
_IN_WORD = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]"
_ANY = re.compile(
    rf"(?<!{_IN_WORD})([A-J]|(?<=[(\[])[a-j](?=[)\]])|(?<=option )[a-j])(?!{_IN_WORD})"
)


def read_letter(answer: str) -> str | None:
    """Return the letter that an answer chooses, or None if it chooses none or several.

    This is the letter of the last LaTeX box or after `####`, else the last that the answer states
    ("the answer is C", "so it must be C", "C is right", a line of its own), else one that it begins
    with, else the only one that it mentions and does not deny.

    Example:
        >>> read_letter("Option A is tempting but wrong, so the answer is C.")
        'C'
    """
    text = both_ends(visible_text(answer))
    box = marked(text)
    if box is not None and (lone := LONE_LETTER.match(_plain(box))) is not None:
        return lone[1].upper()
    text = _plain(text).strip()
    stated = _last_stated(text)
    if stated is None:
        stated = _leading(text)
    if stated is not None:
        return None if _MORE.match(text, stated + 1) else text[stated].upper()
    found = {text[at].upper() for at in _mentions(text)}
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", without_markup(text)).translate(_PLAIN)


def _last_stated(text: str) -> int | None:
    """Return where the last letter stands that the text states as its answer, or None."""
    stated = [
        match.start("letter")
        for match in _MARK.finditer(text)
        if _is_letter(text, match.start("letter"))
        and not (match["turn"] is None and _is_denied(text, match.start()))
        and not (match["strong"] is None and _WRONG.match(text, match.end()))
        and not text.startswith("?", match.end())
    ]
    stated += [match.start(1) for match in _LONE_LINE.finditer(text)]
    stated += [at for at in _mentions(text) if _RIGHT.match(text, at + 1) is not None]
    return max(stated, default=None)


def _leading(text: str) -> int | None:
    """Return where the letter stands with which one line begins, and no other line another."""
    found = [
        match.start(1)
        for match in _LEADING.finditer(text)
        if _is_letter(text, match.start(1)) and _WRONG.match(text, match.end()) is None
    ]
    return found[0] if len({text[at].upper() for at in found}) == 1 else None


def _mentions(text: str) -> list[int]:
    """Return where letters stand that the text does not deny."""
    return [
        at
        for at in (match.start(1) for match in _ANY.finditer(text))
        if _is_letter(text, at)
        and _WRONG.match(text, at + 1) is None
        and not _is_denied(text, at)
        and _OTHER_NAME.search(text, max(0, at - 12), at) is None
    ]


def _is_denied(text: str, at: int) -> bool:
    """Return whether a clause says "not" before this place."""
    return _NEGATION.search(text, max(0, at - 60), at) is not None


def _is_letter(text: str, at: int) -> bool:
    """Return whether a character is the name of a choice: not an article, a pronoun, an initial."""
    letter, before, after = text[at], text[max(0, at - 2) : at], text[at + 1 : at + 3]
    joined = after[:1] and (_is_latin(after[0]) or after[0] in "'+#&")
    joined = joined or (after[:1] in ("-", ".") and after[1:].isalnum())
    joined = joined or (before[-1:] and (_is_latin(before[-1]) or before[-1] in "'&"))
    if joined or (before[-1:] in ("-", ".") and before[:1].isalnum()):
        return False
    bracketed = before[-1:] in ("(", "[") and after[:1] in (")", "]")
    if bracketed or _LABELLED.search(text, max(0, at - 10), at) is not None:
        return True
    if letter.islower():
        return _ENDED.match(text, at + 1) is not None
    if letter not in "AI" or re.match(r"\s[^\W\d_]", text[at + 1 : at + 3]) is None:
        return True
    return (_LINKED if letter == "A" else _LINKED_I).match(text, at + 1) is not None


def _is_latin(character: str) -> bool:
    return character.isalnum() and ord(character) < 0x250
