"""JSON rows with numbers by the candidates' names, None where unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from langchain_llm_router.types.arrays import Floats

__all__ = [
    "RowError",
    "by_candidate",
    "candidate_field",
    "candidate_values",
    "label_field",
    "number_field",
    "optional_values",
    "required_field",
    "text_field",
]


# The sum of as many as a file can have is still a finite number.
_MOST = 1e15


class RowError(TypeError, ValueError):
    """A row has a value of another type; also a `ValueError`, because it is in a user's file."""


def by_candidate(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    """Map candidates to numbers; NaN becomes None."""
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def required_field(row: Mapping[str, Any], name: str, i: int | str) -> Any:
    """Return a field of row `i`, or raise if it is missing.

    Args:
        row: The row.
        name: The field.
        i: Index of the row, or its place in a file in words.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"{_place(i)} must map fields to values, got {row!r}.")
    if row.get(name) is None:
        msg = f"{_place(i)} has no `{name}`: it has {sorted(row)}."
        raise ValueError(msg)
    return row[name]


def text_field(row: Mapping[str, Any], name: str, i: int | str) -> str:
    """Return a text of row `i`."""
    value = required_field(row, name, i)
    if not isinstance(value, str):
        msg = f"{_place(i)}: `{name}` must be a text, got {str(value)[:60]!r}."
        raise RowError(msg)
    return value


def number_field(
    row: Mapping[str, Any], name: str, i: int | str, *, low: float = -np.inf, high: float = np.inf
) -> float:
    """Return a finite number of row `i` in [low, high]; a text of a number is one, as in CSV."""
    value = required_field(row, name, i)
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not (np.isfinite(number) and low <= number <= high):
        allowed = f" in [{low:g}, {high:g}]" if np.isfinite([low, high]).all() else ""
        msg = f"{_place(i)}: `{name}` must be a finite number{allowed}, got {str(value)[:60]!r}."
        raise RowError(msg)
    return number


def label_field(row: Mapping[str, Any], name: str, i: int | str) -> str:
    """Return a label of row `i`, also one that is a number; an empty text if it is missing."""
    value = row.get(name)
    if isinstance(value, Mapping | list):
        msg = f"{_place(i)}: `{name}` must be a text or a number, got {str(value)[:60]!r}."
        raise RowError(msg)
    return "" if value is None else str(value)


def candidate_field(row: Mapping[str, Any], name: str, i: int | str) -> Mapping[str, Any]:
    """Return a field of row `i` that maps candidates to numbers."""
    values = required_field(row, name, i)
    if not isinstance(values, Mapping):
        msg = f"{_place(i)}: `{name}` must map candidates to numbers, got {values!r}."
        raise RowError(msg)
    return values


def candidate_values(
    row: Mapping[str, Any], name: str, names: Sequence[str], i: int | str, *, first: int | str = 0
) -> list[float]:
    """Return the shares in [0, 1] of such a field in the order of the candidates.

    Args:
        row: The row.
        name: The field.
        names: The candidates, which are those of the first row.
        i: The place of the row, as in `required_field`.
        first: That of the first row.
    """
    values = candidate_field(row, name, i)
    if set(values) != set(names):
        msg = (
            f"{_place(i)}: `{name}` must have the candidates of the first row ({_place(first)}), "
            f"{sorted(names)}, got {sorted(values)}: give both rows the same."
        )
        raise ValueError(msg)
    numbers = [_number(values[key], f"`{name}` of {key!r}", i, most=1.0) for key in names]
    unknown = [key for key, number in zip(names, numbers, strict=True) if np.isnan(number)]
    if unknown:
        msg = (
            f"{_place(i)}: `{name}` of {unknown[0]!r} is NaN or null: drop the rows that were not "
            "measured."
        )
        raise ValueError(msg)
    return numbers


def optional_values(
    row: Mapping[str, Any], name: str, names: Sequence[str], i: int | str
) -> list[float]:
    """Return the numbers of a field that may be missing, for all candidates or for some; as NaN."""
    if isinstance(row, Mapping) and row.get(name) is None:
        return [np.nan] * len(names)
    values = candidate_field(row, name, i)
    unknown = sorted(set(values) - set(names))
    if unknown:
        msg = (
            f"{_place(i)}: `{name}` must have candidates of {sorted(names)}, as `quality` has, got "
            f"{unknown}."
        )
        raise ValueError(msg)
    return [_number(values.get(key), f"`{name}` of {key!r}", i, most=_MOST) for key in names]


def _number(value: Any, name: str, i: int | str, *, most: float) -> float:
    """Return a number in [0, most]; None and NaN become NaN."""
    if value is None:
        return np.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{_place(i)}: {name} must be a number or null, got {str(value)[:60]!r}."
        raise RowError(msg) from error
    if number < 0 or number > most:
        msg = f"{_place(i)}: {name} must be in [0, {most:g}], got {number!r}."
        raise ValueError(msg)
    return number


def _place(i: int | str) -> str:
    return f"Row {i}" if isinstance(i, int) else i
