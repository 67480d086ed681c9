"""Estimators that average the quality measured on similar queries."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.data.embeddings import dense
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.memory_based import MemoryBasedEstimator
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Indices, Vectors

__all__ = ["Clusters", "NearestNeighbors"]


@dataclass(eq=False)
class NearestNeighbors(MemoryBasedEstimator):
    """Predicts the mean quality of the most similar training queries.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        n_neighbors: Number of training rows to average; capped at the number of rows. Rows of one
            query count each, so average them first, as the commands do.
        temperature: Weights are proportional to exp(cosine / temperature). If None, all
            neighbors weigh the same.
        memory: Index of the training vectors. If None, `ExactMemory`; for more than 100,000
            queries consider `ApproximateMemory` or `StoreMemory`.

    Attributes:
        memory_: The fitted memory, with one row per training query.
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

    def _fit_vectors(self, vectors: Vectors | csr_array, data: Outcomes) -> None:
        self._fit_memory(vectors, data.queries)
        self.quality_ = np.array(data.quality)
        self._has_unknown = False

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        nearest, similarity = self.memory_.search(vectors, queries, self.n_neighbors)
        cosine = similarity.astype(np.float64)
        weights = np.isfinite(cosine).astype(np.float64)
        if self.temperature is not None:
            weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        neighbor_quality = self.quality_[nearest]
        if self._has_unknown:
            return self._mean_of_known(weights, neighbor_quality)
        mean: Floats = np.einsum("qn,qnk->qk", weights, neighbor_quality)
        return mean

    def extended(self, queries: Sequence[str], quality: ArrayLike) -> Self:
        """Return a copy with further rows, without fitting the embedding again.

        A candidate's prediction is then averaged over the neighbors whose quality is known. If
        no neighbor's quality is known, it is the candidate's mean over all rows.

        Args:
            queries: The texts of the further rows.
            quality: Quality in [0, 1], of shape (n_queries, n_candidates), NaN where unknown.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If a shape or value is wrong, or the memory cannot grow.
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
        extended._has_unknown = bool(np.isnan(extended.quality_).any())
        extended.report_ = None
        return extended

    def _mean_of_known(self, weights: Floats, quality: Floats) -> Floats:
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
        self._has_unknown = bool(np.isnan(self.quality_).any())
        expected = (self.memory_.n_rows_, len(self.candidates_))
        if self.quality_.shape != expected:
            msg = f"quality has shape {self.quality_.shape}, expected {expected}"
            raise ValueError(msg)


@dataclass(eq=False)
class Clusters(EmbeddingEstimator):
    """Predicts the weighted mean quality of the clusters nearest to a query.

    Training queries are clustered by spherical k-means. A query's prediction is the mean over its
    nearest clusters, weighted by softmax(sharpness * cosine).

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        n_clusters: Number of clusters; at most one per training query.
        n_nearest: Number of nearest clusters to average.
        sharpness: Rate at which the weight falls with the distance 1 - cosine.
        prior_rows: Number of rows of overall mean quality that are added to each cluster, which
            shrinks small clusters towards the overall mean.
        seed: Seed of the initial centers.

    Attributes:
        centers_: Unit centers, of shape (n_clusters, embedding dimension).
        quality_: Mean quality per cluster, of shape (n_clusters, n_candidates).
        counts_: Number of training queries per cluster, of shape (n_clusters,).

    References:
        Zhang et al., 2025, Avengers-Pro, arXiv:2508.12631, section 3. Deviations: clusters are
        averaged by their softmax weight as the paper writes (its code uses 1/rank), the cost is
        the policy's concern, and small clusters are shrunk towards the mean.
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

    def _fit_vectors(self, vectors: Vectors | csr_array, data: Outcomes) -> None:
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
    vectors: Vectors | csr_array, n_clusters: int, rng: np.random.Generator
) -> tuple[Vectors, Indices]:
    """Run Lloyd's algorithm with cosine similarity from k-means++ centers; drop empty clusters."""
    n = vectors.shape[0]
    centers = dense(vectors[[int(rng.integers(n))]])
    nearest = vectors @ centers[0]
    while len(centers) < n_clusters:
        distance = np.maximum(1 - nearest.astype(np.float64), 0)
        distance[distance < 1e-6] = 0
        if distance.sum() == 0:
            break
        drawn = dense(vectors[[int(rng.choice(n, p=distance / distance.sum()))]])
        centers = np.vstack([centers, drawn])
        nearest = np.maximum(nearest, vectors @ drawn[0])
    member = np.full(n, -1)
    for _ in range(100):
        cosine = vectors @ centers.T
        moved = cosine.argmax(axis=1)
        if (moved == member).all():
            break
        member = moved
        sums = np.array([vectors[member == c].sum(axis=0) for c in range(len(centers))])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(lengths > 1e-9, sums / np.maximum(lengths, 1e-9), centers)
    nonempty, member = np.unique(member, return_inverse=True)
    return np.ascontiguousarray(centers[nonempty], dtype=np.float32), member
