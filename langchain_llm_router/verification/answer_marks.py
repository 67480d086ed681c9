"""How answers mark their result: a LaTeX box, `####`, a tag, a JSON field, "the answer is"."""

from __future__ import annotations

import re

__all__ = ["ANSWER", "IS", "both_ends", "last_match", "marked", "without_markup"]

ANSWER = (
    r"(?:answers?|antwort|antwoord|r[ée]ponse|respuesta|resposta|risposta|ответ|відповідь"
    r"|odpowied[źz]|svar(?:et)?|vastaus|cevap|jawaban(?:nya)?|đáp án(?: đúng)?|câu trả lời|απάντηση"
    r"|答案|答え|回答|正解|正确选项|正確選項|정답|답|คำตอบ(?:คือ)?|उत्तर|תשובה|الإجابة)"
)
"""Expression for a word that announces an answer."""

IS = (
    r"(?:\s{0,2}(?:is|was|are|ist|lautet|est|es|é|è|would be|should be|must be|has to be|will be"
    r"|can only be|adalah|är|هي|هو)(?![a-z])|\s{0,2}(?:是|为|為|は|은|는)|\s{0,2}[:：=]"
    r"|\s[-\u2013\u2014](?=\s)"
    r"|\s{0,2}(?:->|→|⇒))"
)
"""Expression for what stands between that word and the answer."""

_HEAD, _TAIL = 2_000, 20_000
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_FIELD = re.compile(
    r'<(?:final_?)?answer>([^<]*+)</|"(?:final[_ ]?)?answer"\s{0,9}:\s{0,9}"((?:[^"\\]|\\.)*+)"',
    re.IGNORECASE,
)
_TAGS = re.compile(r"<(b|strong|em|i|u|code|span|p)>([^<>]*+)</\1>", re.IGNORECASE)
_STRONG = re.compile(r"(?<!\w)__([^_\n]{1,200})__(?!\w)")
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~")
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)\s{0,3}\{([^{}]{0,99})\}"
)


def marked(text: str) -> str | None:
    """Return what the last LaTeX box holds, or else the last line with `####`, the last field.

    A field is `<answer>...</answer>` or a text `"answer": "..."` of JSON.
    """
    box = last_match(_BOXED, text)
    if box is not None:
        depth = 1
        for i in range(box.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return text[box.end() : i].strip() or None
    hashes = last_match(_HASHES, text)
    if hashes is not None:
        return hashes[1].strip() or None
    field = last_match(_FIELD, text)
    return None if field is None else (field[1] or field[2] or "").strip() or None


def without_markup(text: str) -> str:
    """Return a text without tags of emphasis, LaTeX's commands for text, and what is struck out."""
    text = _STRONG.sub(r"\1", _TAGS.sub(r"\2", _STRUCK.sub(" ", text)))
    return _WRAPPED.sub(r"\1", text)


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
