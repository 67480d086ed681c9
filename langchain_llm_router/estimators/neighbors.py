"""Routing by what happened to similar queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators.estimator import Floats
from langchain_llm_router.estimators.remembering import RememberingEstimator

__all__ = ["NearestNeighbors"]


@dataclass(eq=False)
class NearestNeighbors(RememberingEstimator):
    """Predicts the mean quality over the most similar training queries.

    Keeps the training vectors and qualities: the data is the model.

    Args:
        embeddings: Any LangChain `Embeddings`; None: lexical, no model needed.
        n_neighbors: How many similar queries are averaged; at most all of them.
        temperature: Neighbours weigh exp(cosine / temperature); None: all the same.
        memory: Where the vectors are kept; None: `ExactMemory`. From 100,000 queries on, consider
            `ApproximateMemory` or `StoreMemory`.

    Attributes:
        memory_: The filled memory, a row per training query.
        quality_: Training quality, of shape (n_rows, n_candidates).

    References:
        Hu et al., 2024, RouterBench, arXiv:2403.12031, section 4 (k-NN router). Deviation: the
        optional softmax weighting.
    """

    n_neighbors: int = 50
    temperature: float | None = 0.1

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            msg = f"`n_neighbors` must be >= 1, got {self.n_neighbors!r}."
            raise ValueError(msg)
        if self.temperature is not None and self.temperature <= 0:
            msg = f"`temperature` must be > 0 or None, got {self.temperature!r}."
            raise ValueError(msg)

    def _fit_vectors(self, vectors: NDArray[np.float32], data: Outcomes) -> None:
        self._remember(vectors, data.queries)
        self.quality_ = np.array(data.quality)

    def _predict_vectors(self, vectors: NDArray[np.float32], queries: Sequence[str]) -> Floats:
        nearest, found = self.memory_.search(vectors, queries, self.n_neighbors)
        cosine = found.astype(np.float64)
        weights = np.isfinite(cosine).astype(np.float64)
        if self.temperature is not None:
            weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        mean: Floats = np.einsum("qn,qnk->qk", weights, self.quality_[nearest])
        return mean

    def _learned(self) -> dict[str, NDArray[Any]]:
        return {"quality": self.quality_}

    def _restore_learned(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.quality_ = arrays["quality"]
        expected = (self.memory_.n_rows_, len(self.candidates_))
        if self.quality_.shape != expected:
            msg = f"quality has shape {self.quality_.shape}, expected {expected}"
            raise ValueError(msg)
