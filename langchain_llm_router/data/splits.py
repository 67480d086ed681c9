"""Splits of rows into disjoint parts, e.g. for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langchain_llm_router.types.arrays import Indices, label_indices

__all__ = ["split_indices"]


def split_indices(
    n: int, fractions: Sequence[float], *, seed: int = 0, groups: Sequence[str] | None = None
) -> list[Indices]:
    """Split the row indices into disjoint random parts.

    Args:
        n: Number of rows.
        fractions: Share of the rows in each part. The sum must be at most 1; remaining rows are
            dropped.
        seed: Seed of the split.
        groups: Label of each row (e.g. its prompt or conversation). Rows with the same label are
            in the same part.

    Raises:
        ValueError: If the fractions are negative or sum to more than 1.
    """
    if min(fractions, default=-1.0) < 0 or sum(fractions) > 1 + 1e-9:
        msg = f"`fractions` must be >= 0 and sum to at most 1, got {list(fractions)}."
        raise ValueError(msg)
    labels = np.arange(n) if groups is None else label_indices(groups)
    order = np.random.default_rng(seed).permutation(int(labels.max(initial=-1)) + 1)
    edges = np.round(np.cumsum([0.0, *fractions]) * len(order)).astype(int)
    part_of = np.full(len(order), -1)
    for part in range(len(fractions)):
        part_of[order[edges[part] : edges[part + 1]]] = part
    return [np.flatnonzero(part_of[labels] == part) for part in range(len(fractions))]
