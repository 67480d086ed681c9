"""Checks of tables on construction: shapes, ranges, names, row indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.types.arrays import Floats, Indices

__all__ = [
    "Floats",
    "check_column",
    "check_groups",
    "check_matrix",
    "check_names",
    "column_indices",
    "row_indices",
]


def check_matrix(
    name: str, values: ArrayLike, shape: tuple[int, ...], *, unit: bool, unknown: bool
) -> Floats:
    """Check an array's shape and range and, unless `unknown`, that it has no NaN."""
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != shape:
        msg = f"`{name}` has shape {matrix.shape}, expected {shape}: (queries, candidates)."
        raise ValueError(msg)
    is_unknown = np.isnan(matrix)
    if not unknown and bool(is_unknown.any()):
        row = int(np.argwhere(is_unknown)[0][0])
        msg = f"`{name}` is NaN in row {row}: drop the rows that were not measured."
        raise ValueError(msg)
    known = matrix[~is_unknown]
    top = 1.0 if unit else np.inf
    bad = known[(known < 0) | (known > top) | ~np.isfinite(known)]
    if bad.size > 0:
        allowed = "in [0, 1]" if unit else "finite and >= 0"
        msg = f"`{name}` must be {allowed}, got {float(bad[0])!r}."
        raise ValueError(msg)
    matrix.setflags(write=False)
    return matrix


def check_groups(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Indices:
    """Check an array's shape, and that it holds whole numbers of at least -1."""
    numbers = np.array(values)
    if numbers.shape != shape:
        msg = f"`{name}` has shape {numbers.shape}, expected {shape}: (queries, candidates)."
        raise ValueError(msg)
    if numbers.dtype.kind not in "iu" or bool((numbers < -1).any()):
        bad = numbers[numbers < -1] if numbers.dtype.kind in "iu" else numbers
        msg = (
            f"`{name}` must be whole numbers of groups from 0, and -1 for an answer without one, "
            f"got {bad.flat[0] if bad.size else numbers.dtype}."
        )
        raise ValueError(msg)
    groups: Indices = numbers.astype(np.intp)
    groups.setflags(write=False)
    return groups


def check_names(candidates: Sequence[str]) -> tuple[str, ...]:
    """Check that there are candidates and that their names are distinct."""
    names = tuple(candidates)
    if len(names) == 0 or len(set(names)) < len(names):
        msg = f"`candidates` must be distinct names, at least one, got {list(names)}."
        raise ValueError(msg)
    return names


def column_indices(candidates: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return the index of each candidate among the columns.

    Raises:
        ValueError: If a name is not a column.
    """
    names = list(columns)
    unknown = [name for name in candidates if name not in names]
    if unknown:
        msg = f"`candidates` must be columns from {names}, got {unknown}."
        raise ValueError(msg)
    return [names.index(name) for name in candidates]


def row_indices(rows: ArrayLike, n: int) -> Indices:
    """Convert an index or a mask to row indices; an empty list selects no rows."""
    chosen = np.asarray(rows)
    index: Indices = np.arange(n)[chosen if chosen.size > 0 else chosen.astype(np.intp)]
    return index


def check_column(name: str, values: Sequence[str] | None, n: int) -> tuple[str, ...] | None:
    """Check that there is one text per row; None stays None."""
    if values is None:
        return None
    if len(values) != n:
        msg = f"`{name}` must have one entry for each of the {n} queries, got {len(values)}."
        raise ValueError(msg)
    return tuple(str(value) for value in values)
