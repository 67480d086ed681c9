"""JSON rows with numbers by the candidates' names, None where unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from langchain_llm_router.types.arrays import Floats

__all__ = ["by_candidate", "candidate_field", "candidate_values", "required_field"]


def by_candidate(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    """Map candidates to numbers; NaN becomes None."""
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def required_field(row: Mapping[str, Any], name: str, i: int) -> Any:
    """Return a field of row `i`, or raise if it is missing."""
    if not isinstance(row, Mapping):
        raise TypeError(f"Row {i} must map fields to values, got {row!r}.")
    if row.get(name) is None:
        msg = f"Row {i} has no `{name}`: it has {sorted(row)}."
        raise ValueError(msg)
    return row[name]


def candidate_field(row: Mapping[str, Any], name: str, i: int) -> Mapping[str, Any]:
    """Return a field of row `i` that maps candidates to numbers."""
    values = required_field(row, name, i)
    if not isinstance(values, Mapping):
        msg = f"Row {i}: `{name}` must map candidates to numbers, got {values!r}."
        raise TypeError(msg)
    return values


def candidate_values(
    row: Mapping[str, Any], name: str, names: Sequence[str], i: int
) -> list[float]:
    """Return the numbers of such a field in the order of the candidates; None becomes NaN."""
    values = candidate_field(row, name, i)
    if set(values) != set(names):
        msg = (
            f"Row {i}: `{name}` must have the candidates of the first row, {sorted(names)}, "
            f"got {sorted(values)}."
        )
        raise ValueError(msg)
    return [np.nan if values[key] is None else float(values[key]) for key in names]
