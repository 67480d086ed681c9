"""Algebraic text in one notation: LaTeX's commands, signs and spaces do not matter."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["expression", "looks_like_algebra"]

_MOST_NESTED = 8
_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\\\(?=[a-zA-Z{}])"), r"\\"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\[,;:! ]|[$~]"), ""),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:text|mathrm|operatorname)\s?\{([^{}]{0,99})\}"), r"\1"),
    (re.compile(r"\\(?:cdot|times)(?![a-zA-Z])|[·×⋅]"), "*"),
    (re.compile(r"\\pi(?![a-zA-Z])|π"), "pi"),
    (re.compile(r"\\infty|∞"), "inf"),
    (re.compile(r"\\(?:leq|le)(?![a-zA-Z])|≤"), "<="),
    (re.compile(r"\\(?:geq|ge)(?![a-zA-Z])|≥"), ">="),
    (re.compile(r"\\pm(?![a-zA-Z])|±"), "+-"),
    (re.compile(r"\\cup(?![a-zA-Z])|∪"), "U"),
    (re.compile(r"\\circ(?![a-zA-Z])|°"), "deg"),
    (re.compile(r"\\?sqrt\s?(?=[\w{(])|√"), "sqrt"),
    (re.compile(r"\\([{}])"), r"\1"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"(?<=\d)\s+(?=\d)"), "_"),
    (re.compile(r"\s+"), ""),
)
_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]{1,9}")
_FRACTION = re.compile(r"\\frac\{([^{}]{1,200})\}\{([^{}]{1,200})\}")
_SHORT_FRACTION = re.compile(r"\\frac(\w)(\w)")
_BRACED = re.compile(r"\{([^{}]{0,200})\}")
_BARE_ROOT = re.compile(r"sqrt(?!\()(\d{1,20}|[a-zA-Z])")
_SINGLE = re.compile(r"(?<![a-zA-Z\d])\((\d{1,20}|[a-zA-Z]|pi|inf)\)")
_TIMES = re.compile(r"(?<=[\d)])\*(?=[a-zA-Z(])|(?<=[a-zA-Z])\*(?=[a-zA-Z]\b)")
_FUNCTIONS = re.compile(
    r"\\[a-zA-Z]{1,20}|\b(?:sqrt|log|exp|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|inf|mod)"
    r"(?![a-zA-Z])|(?<=\d)(?:sqrt|pi)(?![a-zA-Z])"
)
_LONG_WORD = re.compile(r"[^\W\d_]{3}")
_SIGN = re.compile(
    r"[\\^=√π≤≥∞⁰¹²³⁴-⁹]|\d\s?[-+*/]|[-+*/]\s?\d|\b[a-zA-Z]\s?[-+*/]\s?[a-zA-Z]\b|\d\(|sqrt|\bpi\b"
)


def looks_like_algebra(text: str) -> bool:
    """Return whether a text has a sign of algebra and no word that is not a function's name."""
    if _SIGN.search(text) is None:
        return False
    return _LONG_WORD.search(_FUNCTIONS.sub(" ", text)) is None


def expression(text: str) -> str:
    r"""Return algebraic text in one notation.

    Example:
        >>> expression(r"\left( x^{2} + \dfrac{1}{2} \right)") == expression("(x^2+1/2)")
        True
    """
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    for pattern, new in _PLAIN:
        text = pattern.sub(new, text)
    text = _SHORT_FRACTION.sub(r"(\1)/(\2)", text)
    for _ in range(_MOST_NESTED):
        inner = _BRACED.sub(r"(\1)", _FRACTION.sub(r"(\1)/(\2)", text))
        if inner == text:
            break
        text = inner
    text = _BARE_ROOT.sub(r"sqrt(\1)", text)
    return _TIMES.sub("", _SINGLE.sub(r"\1", text)).rstrip(".,;:")
