"""Cross-validation folds and out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["fold_indices", "out_of_fold"]


def fold_indices(
    n: int, n_folds: int, *, seed: int = 0, groups: Sequence[str] | None = None
) -> list[Indices]:
    """Split the row indices into `n_folds` disjoint random folds.

    Args:
        n: Number of rows.
        n_folds: Number of folds, at least 2.
        seed: Seed of the split.
        groups: Label of each row, e.g. its query. Rows with the same label are in the same fold.

    Raises:
        ValueError: If `n_folds` is below 2.
    """
    if n_folds < 2:
        msg = f"`n_folds` must be >= 2, got {n_folds!r}."
        raise ValueError(msg)
    return split_indices(n, [1 / n_folds] * n_folds, seed=seed, groups=groups)


def out_of_fold(
    estimator: QualityEstimator, data: Outcomes, *, n_folds: int = 5, seed: int = 0
) -> Floats:
    """Predict every row with a copy of the estimator that was fitted on the other folds.

    Rows with the same query are in the same fold, and every query is embedded once.

    Args:
        estimator: The estimator to copy, fitted or not; it is not changed.
        data: The rows, with at least two different queries.
        n_folds: Number of folds; capped at the number of different queries.
        seed: Seed of the split into folds.

    Returns:
        Predicted quality of shape (n_queries, n_candidates).
    """
    n_folds = min(n_folds, len(set(data.queries)))
    predicted = np.empty(data.quality.shape)
    cached = _cache_embeddings(estimator)
    for fold in fold_indices(len(data), n_folds, seed=seed, groups=data.queries):
        rest = np.setdiff1d(np.arange(len(data)), fold)
        fitted = cached.unfitted().fit(data.take(rest))
        predicted[fold] = fitted.predict([data.queries[i] for i in fold])
    return predicted


def _cache_embeddings(estimator: QualityEstimator) -> QualityEstimator:
    embeddings: Any = getattr(estimator, "embeddings", None)
    if embeddings is None or isinstance(embeddings, LexicalEmbeddings | _CachedEmbeddings):
        return estimator
    return replace(estimator, embeddings=_CachedEmbeddings(embeddings))  # type: ignore[type-var]


class _CachedEmbeddings(Embeddings):
    """Embeddings that embed every text only once."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._vectors: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            vectors = self._embeddings.embed_documents(missing)
            self._vectors.update(zip(missing, vectors, strict=True))
        return [self._vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
