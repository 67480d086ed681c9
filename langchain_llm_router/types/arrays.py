"""What numpy arrays hold, by one name each; importing this loads numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Bools", "Floats", "Indices", "Vectors"]

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
"""Embeddings and what is computed with them, a row each."""

Indices = NDArray[np.intp]
"""Numbers of rows or columns."""

Bools = NDArray[np.bool_]
Arrays = Mapping[str, NDArray[Any]]
"""What a saved file keeps, by name."""
