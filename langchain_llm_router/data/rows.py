"""One row as JSON holds it: numbers by the candidates' names, None where unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from langchain_llm_router.types.arrays import Floats

__all__ = ["by_name", "field", "named", "ordered"]


def named(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    """Numbers by the candidates' names; NaN becomes None."""
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def field(row: Mapping[str, Any], name: str, i: int) -> Any:
    """A field of row `i` that must be there."""
    if not isinstance(row, Mapping):
        raise TypeError(f"Row {i} must map fields to values, got {row!r}.")
    if row.get(name) is None:
        msg = f"Row {i} has no `{name}`: it has {sorted(row)}."
        raise ValueError(msg)
    return row[name]


def by_name(row: Mapping[str, Any], name: str, i: int) -> Mapping[str, Any]:
    """A field of row `i` that maps candidates to numbers."""
    values = field(row, name, i)
    if not isinstance(values, Mapping):
        msg = f"Row {i}: `{name}` must map candidates to numbers, got {values!r}."
        raise TypeError(msg)
    return values


def ordered(row: Mapping[str, Any], name: str, names: Sequence[str], i: int) -> list[float]:
    """Such a field's numbers in the order of the candidates; None becomes NaN."""
    values = by_name(row, name, i)
    if set(values) != set(names):
        msg = f"Row {i}: `{name}` is about {sorted(values)}, the first row about {sorted(names)}."
        raise ValueError(msg)
    return [np.nan if values[key] is None else float(values[key]) for key in names]
