"""What numpy arrays hold, by one name each; importing this loads numpy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Bools", "Floats", "Indices", "Vectors", "label_indices"]

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
"""Embeddings and what is computed with them, a row each."""

Indices = NDArray[np.intp]
"""Numbers of rows or columns."""

Bools = NDArray[np.bool_]
Arrays = Mapping[str, NDArray[Any]]
"""What a saved file keeps, by name."""


def label_indices(labels: Sequence[Hashable]) -> Indices:
    """Return the place of each label among the sorted ones, of shape (n_labels,).

    Not by an array of the labels, in which every text takes as much memory as the longest.
    """
    place = {label: i for i, label in enumerate(sorted(set(labels)))}  # type: ignore[type-var]
    return np.fromiter((place[label] for label in labels), dtype=np.intp, count=len(labels))
