"""A judge's words as numbers: five grades from irrelevant to excellent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["GRADES", "grade_quality"]

GRADES: Mapping[str, float] = MappingProxyType(
    {"irrelevant": 0.0, "bad": 0.25, "satisfactory": 0.5, "very good": 0.75, "excellent": 1.0}
)
"""Quality of each grade, evenly spaced, worst first. Unify's own judge counts them 0, 0, 0.5, 0.8
and 1, which hides whether a bad answer was at least on the subject."""


def grade_quality(grade: str, grades: Mapping[str, float] = GRADES) -> float:
    """The quality in [0, 1] that a judge's grade stands for.

    Args:
        grade: The judge's word; case, spaces, `_` and `-` do not matter.
        grades: Quality per grade, with names in lower case.

    Raises:
        ValueError: If the grade is none of them: a verdict that cannot be read is unknown, not 0.

    Example:
        >>> grade_quality("Very_Good")
        0.75
    """
    name = " ".join(grade.lower().replace("_", " ").replace("-", " ").split())
    if name not in grades:
        msg = f"Unknown grade {grade!r}: allowed are {list(grades)}."
        raise ValueError(msg)
    return grades[name]
