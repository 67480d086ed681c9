"""The rows of the audit of the article, and how a test says which of them it is about.

The article is "Dynamically Choosing the Right Language Model on Every Query", which this package
implements. Its systems, formulas, figures and remarks are numbered from 1 to 77.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

NUMBERS = range(1, 78)
MOST_REASONS = 5

Kind = Literal["works", "option", "reason"]
_Test = TypeVar("_Test", bound=Callable[..., object])


class Row(NamedTuple):
    """One row of the audit."""

    number: int
    does: str
    kind: Kind
    why: str


def row(number: int, does: str, *, kind: Kind = "works", why: str = "") -> Callable[[_Test], _Test]:
    """Mark a test as the proof of a row.

    Args:
        number: Number of the row.
        does: What the article does there.
        kind: `works`: as in the article. `option`: the article's way is one argument away, which
            the test uses. `reason`: our way is better by a measured amount, and the article's way
            is not offered.
        why: For an option the argument; for a reason one sentence with the measured figure.
    """
    if number not in NUMBERS or (kind == "works") != (why == ""):
        msg = f"Row {number!r} is of kind {kind!r}, so `why` must be given unless it works: {why!r}"
        raise ValueError(msg)

    def mark(test: _Test) -> _Test:
        test.article_row = Row(number, does, kind, why)  # type: ignore[attr-defined]
        return test

    return mark
