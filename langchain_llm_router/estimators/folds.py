"""Predictions for rows that were not trained on: what stacking and honest reports need."""

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
    """Cut row numbers into `n_folds` disjoint random parts that together hold every row.

    Args:
        n: Number of rows.
        n_folds: Number of parts, at least 2.
        seed: Same seed, same parts.
        groups: Rows with the same label stay in one part (repeated prompts).
    """
    if n_folds < 2:
        msg = f"`n_folds` must be >= 2, got {n_folds!r}."
        raise ValueError(msg)
    return split_indices(n, [1 / n_folds] * n_folds, seed=seed, groups=groups)


def out_of_fold(
    estimator: QualityEstimator, data: Outcomes, *, n_folds: int = 5, seed: int = 0
) -> Floats:
    """Predict every row by a copy of the estimator that was fitted without it.

    Rows with the same query are in the same fold, and every query is embedded once.

    Args:
        estimator: Unfitted or fitted; it is not changed.
        data: The rows, at least two different queries.
        n_folds: Number of parts, each predicted from the others.
        seed: For the cut into folds.

    Returns:
        Predicted quality of shape (n_queries, n_candidates).
    """
    n_folds = min(n_folds, len(set(data.queries)))
    predicted = np.empty(data.quality.shape)
    held_in_memory = _with_memo(estimator)
    for fold in fold_indices(len(data), n_folds, seed=seed, groups=data.queries):
        rest = np.setdiff1d(np.arange(len(data)), fold)
        fitted = held_in_memory.unfitted().fit(data.take(rest))
        predicted[fold] = fitted.predict([data.queries[i] for i in fold])
    return predicted


def _with_memo(estimator: QualityEstimator) -> QualityEstimator:
    given: Any = getattr(estimator, "embeddings", None)
    if given is None or isinstance(given, LexicalEmbeddings | _Memo):
        return estimator
    return replace(estimator, embeddings=_Memo(given))  # type: ignore[type-var]


class _Memo(Embeddings):
    """Embeds every text once."""

    def __init__(self, given: Embeddings) -> None:
        self._given = given
        self._known: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known.update(zip(missing, self._given.embed_documents(missing), strict=True))
        return [self._known[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
