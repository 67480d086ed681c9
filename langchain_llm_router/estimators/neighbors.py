"""Routing by what happened to similar queries."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.memory_based import RememberingEstimator
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Indices, Vectors

__all__ = ["Clusters", "NearestNeighbors"]


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
        check_range(self, "temperature", above=True)

    def _fit_vectors(self, vectors: Vectors, data: Outcomes) -> None:
        self._remember(vectors, data.queries)
        self.quality_ = np.array(data.quality)
        self._gaps = False

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        nearest, found = self.memory_.search(vectors, queries, self.n_neighbors)
        cosine = found.astype(np.float64)
        weights = np.isfinite(cosine).astype(np.float64)
        if self.temperature is not None:
            weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        found_quality = self.quality_[nearest]
        if self._gaps:
            return self._over_known(weights, found_quality)
        mean: Floats = np.einsum("qn,qnk->qk", weights, found_quality)
        return mean

    def extended(self, queries: Sequence[str], quality: ArrayLike) -> Self:
        """A copy that remembers these queries too; nothing else is learned again.

        The embedding stays as it was fitted. A candidate's quality is then averaged over the
        neighbours whose quality is known, and is its mean over all rows where none is.

        Args:
            queries: The texts, n of them.
            quality: In [0, 1], of shape (n, n_candidates), NaN where unknown.

        Raises:
            NotFittedError: If it is not fitted.
            ValueError: If shapes or values are wrong, or the memory cannot grow.
        """
        self._check_fitted()
        rows = np.asarray(quality, dtype=np.float64)
        expected = (len(queries), len(self.candidates_))
        if rows.shape != expected or bool(((rows < 0) | (rows > 1)).any()):
            msg = f"`quality` must be in [0, 1] or NaN, of shape {expected}, got {rows.shape}."
            raise ValueError(msg)
        extended = copy(self)
        extended.memory_ = self.memory_.grown(self._embed_queries(queries), queries)
        extended.quality_ = np.vstack([self.quality_, rows])
        extended.data_hash_ = data_hash(self.data_hash_, tuple(queries), rows)
        extended._gaps = bool(np.isnan(extended.quality_).any())
        extended.report_ = None
        return extended

    def _over_known(self, weights: Floats, quality: Floats) -> Floats:
        known = ~np.isnan(quality)
        weighted = weights[:, :, None] * known
        total = weighted.sum(axis=1)
        summed = (weighted * np.where(known, quality, 0.0)).sum(axis=1)
        mean: Floats = np.where(
            total > 0, summed / np.where(total > 0, total, 1.0), np.nanmean(self.quality_, axis=0)
        )
        return mean

    def _learned(self) -> Arrays:
        return {"quality": self.quality_}

    def _restore_learned(self, arrays: Arrays) -> None:
        self.quality_ = arrays["quality"]
        self._gaps = bool(np.isnan(self.quality_).any())
        expected = (self.memory_.n_rows_, len(self.candidates_))
        if self.quality_.shape != expected:
            msg = f"quality has shape {self.quality_.shape}, expected {expected}"
            raise ValueError(msg)


@dataclass(eq=False)
class Clusters(EmbeddingEstimator):
    """Predicts the mean quality of the topics that a query is nearest to.

    Training queries are grouped by spherical k-means; a query takes the quality of its nearest
    groups, weighted by softmax(sharpness * cosine). Small, fast, and easy to inspect.

    Args:
        embeddings: Any LangChain `Embeddings`; None: lexical, no model needed.
        n_clusters: Number of groups; at most one per training query.
        n_nearest: How many of the nearest groups are averaged.
        sharpness: How fast the weight falls with the distance 1 - cosine.
        prior_rows: A group's mean counts as if this many average rows were in it.
        seed: For the first centers.

    Attributes:
        centers_: Unit centers, of shape (n_clusters, width).
        quality_: Mean quality per group, of shape (n_clusters, n_candidates).
        counts_: Training queries per group.

    References:
        Zhang et al., 2025, Avengers-Pro, arXiv:2508.12631, section 3. Deviations: groups are
        averaged by their softmax weight as the paper writes (its code uses 1/rank), cost is left
        to the policy, and small groups are shrunk to the mean.
    """

    n_clusters: int = 32
    n_nearest: int = 3
    sharpness: float = 9.0
    prior_rows: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_clusters", "n_nearest"):
            if getattr(self, name) < 1:
                msg = f"`{name}` must be >= 1, got {getattr(self, name)!r}."
                raise ValueError(msg)
        check_range(self, "sharpness", "prior_rows")

    def _fit_vectors(self, vectors: Vectors, data: Outcomes) -> None:
        rng = np.random.default_rng(self.seed)
        self.centers_, member = _spherical_kmeans(vectors, self.n_clusters, rng)
        self.counts_ = np.bincount(member, minlength=len(self.centers_))
        sums = np.array([data.quality[member == c].sum(axis=0) for c in range(len(self.centers_))])
        prior = self.prior_rows * data.quality.mean(axis=0)
        self.quality_ = (sums + prior) / (self.counts_ + self.prior_rows)[:, None]

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        cosine = (vectors @ self.centers_.T).astype(np.float64)
        k = min(self.n_nearest, len(self.centers_))
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(cosine, nearest, axis=1)
        weights = np.exp(self.sharpness * (near - near.max(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
        mean: Floats = np.einsum("qc,qck->qk", weights, self.quality_[nearest])
        return mean

    def _learned(self) -> Arrays:
        return {"centers": self.centers_, "quality": self.quality_, "counts": self.counts_}

    def _restore_learned(self, arrays: Arrays) -> None:
        self.centers_, self.quality_ = arrays["centers"], arrays["quality"]
        self.counts_ = arrays["counts"]
        expected = (len(self.quality_), self.width_)
        if self.centers_.shape != expected:
            msg = f"centers have shape {self.centers_.shape}, expected {expected}"
            raise ValueError(msg)


def _spherical_kmeans(
    vectors: Vectors, n_clusters: int, rng: np.random.Generator
) -> tuple[Vectors, Indices]:
    """Lloyd's algorithm on the cosine, started by k-means++; empty groups are dropped."""
    centers = vectors[[int(rng.integers(len(vectors)))]]
    nearest = vectors @ centers[0]
    while len(centers) < n_clusters:
        distance = np.maximum(1 - nearest.astype(np.float64), 0)
        distance[distance < 1e-6] = 0
        if distance.sum() == 0:
            break
        drawn = vectors[int(rng.choice(len(vectors), p=distance / distance.sum()))]
        centers = np.vstack([centers, drawn])
        nearest = np.maximum(nearest, vectors @ drawn)
    member = np.full(len(vectors), -1)
    for _ in range(100):
        cosine = vectors @ centers.T
        moved = cosine.argmax(axis=1)
        if (moved == member).all():
            break
        member = moved
        sums = np.array([vectors[member == c].sum(axis=0) for c in range(len(centers))])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(lengths > 1e-9, sums / np.maximum(lengths, 1e-9), centers)
    held, member = np.unique(member, return_inverse=True)
    return np.ascontiguousarray(centers[held], dtype=np.float32), member
