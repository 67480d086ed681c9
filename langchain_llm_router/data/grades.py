"""The five grades of a judge and their qualities: the one scale of the package."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["GRADES", "grade_quality", "plain_grade"]

GRADES: Mapping[str, float] = MappingProxyType(
    {"irrelevant": 0.0, "bad": 0.25, "satisfactory": 0.5, "very good": 0.75, "excellent": 1.0}
)
"""Quality of each grade, evenly spaced, worst first. Unify's judge uses 0, 0, 0.5, 0.8 and 1,
which does not distinguish a bad answer from an irrelevant one."""


def plain_grade(grade: str) -> str:
    """Return a grade in lower case, with single spaces in place of `_` and `-`."""
    return " ".join(grade.lower().replace("_", " ").replace("-", " ").split())


def grade_quality(grade: str, grades: Mapping[str, float] = GRADES) -> float:
    """Convert a judge's grade to a quality in [0, 1].

    Args:
        grade: The grade; case, spaces, `_` and `-` do not matter.
        grades: Quality per grade, with names in lower case.

    Raises:
        ValueError: If the grade is not in `grades`, because an unreadable grade is unknown, not 0.

    Example:
        >>> grade_quality("Very_Good")
        0.75
    """
    name = plain_grade(grade)
    if name not in grades:
        msg = f"`grade` must be one of {list(grades)}, got {grade!r}."
        raise ValueError(msg)
    return grades[name]
