"""How answers mark their result: a LaTeX box, `####`, "the answer is"."""

from __future__ import annotations

import re

__all__ = ["ANSWER", "IS", "both_ends", "last_match", "marked"]

ANSWER = (
    r"(?:answers?|antwort|r[ée]ponse|respuesta|resposta|risposta|ответ|答案|答え|回答|정답|답|उत्तर"
    r"|الإجابة)"
)
"""Expression for a word that announces an answer."""

IS = (
    r"(?:\s{0,2}(?:is|was|are|ist|lautet|est|es|é|è|would be|should be|must be|has to be|will be"
    r"|can only be)(?![a-z])|\s{0,2}(?:是|为|為|は|은|는)|\s{0,2}[:=]|\s[-\u2013\u2014](?=\s)"
    r"|\s{0,2}(?:->|→|⇒))"
)
"""Expression for what stands between that word and the answer."""

_HEAD, _TAIL = 2_000, 20_000
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")


def marked(text: str) -> str | None:
    """Return the content of the last LaTeX box, or else of the last line with `####`, or None."""
    box = last_match(_BOXED, text)
    if box is not None:
        depth = 1
        for i in range(box.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return text[box.end() : i].strip() or None
    hashes = last_match(_HASHES, text)
    return None if hashes is None else hashes[1].strip() or None


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match of a pattern, or None."""
    last = None
    for last in pattern.finditer(text):  # noqa: B007 - only the last one counts
        pass
    return last


def both_ends(text: str) -> str:
    """Return a text, or the beginning and the end of a long one, where answers stand."""
    if len(text) <= _HEAD + _TAIL:
        return text
    return f"{text[:_HEAD]}\n{text[-_TAIL:]}"
