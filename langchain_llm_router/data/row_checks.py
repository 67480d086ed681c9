"""What every table checks on construction: shapes, ranges, names, row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["Floats", "checked_column", "checked_matrix", "distinct_names", "row_numbers"]


def checked_matrix(
    name: str, values: ArrayLike, shape: tuple[int, ...], *, unit: bool, unknown: bool
) -> Floats:
    """Check one table on construction: its shape, its range, and whether NaN may stand in it."""
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != shape:
        msg = f"`{name}` has shape {matrix.shape}, expected {shape}: (queries, candidates)."
        raise ValueError(msg)
    holes = np.isnan(matrix)
    if not unknown and bool(holes.any()):
        row = int(np.argwhere(holes)[0][0])
        msg = f"`{name}` is NaN in row {row}: drop the rows that were not measured."
        raise ValueError(msg)
    known = matrix[~holes]
    top = 1.0 if unit else np.inf
    bad = known[(known < 0) | (known > top) | ~np.isfinite(known)]
    if bad.size > 0:
        allowed = "[0, 1]" if unit else "finite and >= 0"
        msg = f"`{name}` holds {float(bad[0])!r}, allowed is {allowed}."
        raise ValueError(msg)
    matrix.setflags(write=False)
    return matrix


def distinct_names(candidates: Sequence[str]) -> tuple[str, ...]:
    """The candidates' names, which must differ."""
    names = tuple(candidates)
    if len(names) == 0 or len(set(names)) < len(names):
        msg = f"`candidates` must be distinct names, at least one, got {list(names)}."
        raise ValueError(msg)
    return names


def row_numbers(rows: ArrayLike, n: int) -> Indices:
    """Row numbers from an index or a mask; an empty list, which NumPy takes for floats, is none."""
    chosen = np.asarray(rows)
    index: Indices = np.arange(n)[chosen if chosen.size > 0 else chosen.astype(np.intp)]
    return index


def checked_column(name: str, values: Sequence[str] | None, n: int) -> tuple[str, ...] | None:
    """One text per row, if there are any."""
    if values is None:
        return None
    if len(values) != n:
        msg = f"`{name}` has {len(values)} entries for {n} queries."
        raise ValueError(msg)
    return tuple(str(value) for value in values)
