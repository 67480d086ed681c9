"""Finds the package's regular expressions, and the inputs on which each takes longest."""

import ast
import importlib
import math
import random
import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.support.paths import PACKAGE

_CALLS = ("compile", "sub", "subn", "search", "match", "fullmatch", "findall", "finditer", "split")
_PROBES = " a1.,<`-_x\n\t()[]|@:/="


def patterns() -> dict[str, tuple[str, int]]:
    """Return every pattern that is written in the package, by file and line, with its flags.

    Parts that are put in stand in it if they are texts of its module; others are "ab".
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "import re\n" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if _is_call_of_re(node):
                where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                found[where] = (_text(node.args[0], where, path), _flags(node))
    return found


def _is_call_of_re(node) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    return isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr in _CALLS


def _text(node, where, path) -> str:
    if isinstance(node, ast.JoinedStr):
        named = _names_of(path)
        return "".join(
            part.value if isinstance(part, ast.Constant) else _put_in(part, named)
            for part in node.values
        )
    assert isinstance(node, ast.Constant), f"{where}: write the pattern as one string"
    return node.value


def _names_of(path) -> dict[str, Any]:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return vars(importlib.import_module(name))


def _put_in(part, named) -> str:
    value = named.get(part.value.id) if isinstance(part.value, ast.Name) else None
    return value if isinstance(value, str) else "ab"


def _flags(node) -> int:
    names = {
        inner.attr
        for argument in [*node.args[1:], *(k.value for k in node.keywords if k.arg == "flags")]
        for inner in ast.walk(argument)
        if isinstance(inner, ast.Attribute)
        and isinstance(getattr(re, inner.attr, None), re.RegexFlag)
    }
    return sum(int(getattr(re, name)) for name in names)


def seconds(pattern: re.Pattern, text: str) -> float:
    """Return the CPU time of a search through a whole text, at least from its first character."""
    started = time.thread_time()
    data = text.encode() if isinstance(pattern.pattern, bytes) else text
    pattern.match(data)
    pattern.fullmatch(data)
    for _ in pattern.finditer(data):
        pass
    return time.thread_time() - started


class HardInput(NamedTuple):
    """A beginning that matches so far, a piece that is repeated, and an end that may not match."""

    begin: str
    piece: str
    end: str

    def of_size(self, size: int) -> str:
        """Return the text with as many pieces as fill the size."""
        return self.begin + self.piece * (size // len(self.piece)) + self.end


def hard_inputs(source: str, flags: int) -> list[HardInput]:
    """Return inputs that make a careless pattern try many ways, for every piece of the pattern."""
    # A long pattern takes long at every character.
    at_most = 250 if len(source) < 600 else 100
    samples = list(dict.fromkeys(s for s in _prefixes(parser.parse(source, flags)) if s))
    pieces = dict.fromkeys([*_PROBES, *samples, *(s[-1:] for s in samples)])
    pieces.update(dict.fromkeys(f"{s}{end}" for s in samples for end in " -"))
    parts: list[list[str]] = [["", *samples], list(pieces), ["\0", "!x", ""]]
    # By number, since a long pattern has millions of them.
    every: Sequence[int] = range(math.prod(map(len, parts)))
    chosen = every if len(every) <= at_most else random.Random(0).sample(every, at_most)
    return [_input_of(number, parts) for number in chosen]


def _input_of(number: int, parts: list[list[str]]) -> HardInput:
    """Return one of all combinations of the parts, whose last one changes from each to the next."""
    found: list[str] = []
    for part in reversed(parts):
        number, i = divmod(number, len(part))
        found.insert(0, part[i])
    return HardInput(*found)


def _prefixes(tokens) -> Iterator[str]:
    """Yield a text for each beginning of the pattern: those of every branch, too."""
    text = ""
    for op, value in tokens:
        for inner in _inner(op, value):
            yield from (text + part for part in _prefixes(inner))
        text += _sample([(op, value)])
        yield text


def _inner(op, value) -> list:
    if op is sre.BRANCH:
        return value[1]
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return [value[2]]
    if op is sre.SUBPATTERN:
        return [value[3]]
    if op is sre.ATOMIC_GROUP:
        return [value]
    return [value[1]] if op in (sre.ASSERT, sre.ASSERT_NOT) else []


def _sample(tokens) -> str:
    """Return a text that the tokens match, each repetition once at least."""
    text = ""
    for op, value in tokens:
        if op is sre.LITERAL:
            text += chr(value)
        elif op in (sre.IN, sre.NOT_LITERAL, sre.ANY):
            text += _character(op, value)
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            text += _sample(value[2]) * max(1, min(value[0], 20))
        elif op is sre.BRANCH:
            text += _sample(value[1][0])
        elif op in (sre.SUBPATTERN, sre.ATOMIC_GROUP):
            text += _sample(value[3] if op is sre.SUBPATTERN else value)
        elif op is sre.ASSERT and value[0] < 0:
            # What must stand before belongs to the beginning.
            text = _sample(value[1]) + text
    return text


def _character(op, value) -> str:
    if op is sre.ANY:
        return "a"
    if op is sre.NOT_LITERAL:
        return "b" if value == ord("a") else "a"
    wanted = value[0][0] is not sre.NEGATE
    return next((c for c in "a1 .-" + _PROBES + "AJ$€{*" if _is_in(value, c) is wanted), "a")


def _is_in(items, char) -> bool:
    for op, value in items:
        if op is sre.LITERAL and value == ord(char):
            return True
        if op is sre.RANGE and value[0] <= ord(char) <= value[1]:
            return True
        if op is sre.CATEGORY and re.match(_CATEGORIES[value], char):
            return True
    return False


_CATEGORIES = {
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
