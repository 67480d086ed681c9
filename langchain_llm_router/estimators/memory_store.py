"""A memory of training queries in a LangChain vector store."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.vectorstores import VectorStore

from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.memory import Memory
from langchain_llm_router.types.arrays import Arrays, Indices, Vectors

__all__ = ["StoreMemory"]

_SCORES: Mapping[str, tuple[float, float, int]] = {
    # cosine = offset + factor x score ** power
    "cosine": (0.0, 1.0, 1),
    "cosine distance": (1.0, -1.0, 1),
    "squared distance": (1.0, -0.5, 1),
    "distance": (1.0, -0.5, 2),
    "relevance": (-1.0, 2.0, 1),
}
_MARK, _ROW = "llm_router_memory", "llm_router_row"


@dataclass(eq=False)
class StoreMemory(Memory):
    """A memory in a LangChain `VectorStore`, for more queries than fit on one machine.

    Stores return different scores (cosine, cosine distance, squared distance, ...). `fit` finds
    out which by searching for a few queries whose cosine similarities it has computed.

    Args:
        store: An empty collection for this estimator alone, with the estimator's embedding.
            Fitting the estimator again deletes the rows of the earlier fit.
        batch_size: Number of documents to write at once.

    Attributes:
        mark_: Fingerprint of the texts and vectors, in the metadata of every document written.
        score_: The kind of score that the store returns: one of "cosine", "cosine distance",
            "squared distance", "distance", "relevance".
    """

    store: VectorStore
    batch_size: int = 1000

    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.mark_ = data_hash(texts, vectors)
        for start in range(0, len(texts), self.batch_size):
            part = slice(start, start + self.batch_size)
            self._write(list(texts[part]), vectors[part], start)
        self.score_ = self._measure_score(vectors, texts)

    def forget(self) -> None:
        """Delete the rows from the store."""
        for start in range(0, self.n_rows_, self.batch_size):
            self.store.delete(self._ids(start, min(start + self.batch_size, self.n_rows_)))

    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the most similar rows by one search of the store per query."""
        rows, scores = self._search(vectors, texts, min(k, self.n_rows_))
        if np.isnan(scores).all(axis=1).any():
            msg = (
                f"The store returned no documents for a query, but {self.n_rows_} rows were "
                "written to it: fit the estimator again."
            )
            raise ValueError(msg)
        cosine = _cosine(scores, self.score_)
        cosine[np.isnan(scores)] = -np.inf
        return rows, cosine

    def describe(self) -> dict[str, Any]:
        """Describe the mark and the kind of score; the rows stay in the store."""
        params = {"batch_size": self.batch_size}
        return {**super().describe(), "params": params, "score": self.score_, "mark": self.mark_}

    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        self.score_, self.mark_ = str(described["score"]), str(described["mark"])

    def _ids(self, start: int, stop: int) -> list[str]:
        return [f"{self.mark_}-{row}" for row in range(start, stop)]

    def _write(self, texts: list[str], vectors: Vectors, start: int) -> None:
        marks = [{_MARK: self.mark_, _ROW: start + i} for i in range(len(texts))]
        ids = self._ids(start, start + len(texts))
        add = getattr(self.store, "add_embeddings", None)
        # A store that accepts vectors need not embed every text again. A method of this name with
        # another signature is not used.
        if add is not None and {"texts", "embeddings", "ids"} <= set(
            inspect.signature(add).parameters
        ):
            add(texts=texts, embeddings=vectors.tolist(), metadatas=marks, ids=ids)
        else:
            self.store.add_texts(texts, metadatas=marks, ids=ids)

    def _search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        rows = np.zeros((len(vectors), k), dtype=np.intp)
        scores = np.full((len(vectors), k), np.nan, dtype=np.float32)
        by_vector = getattr(self.store, "similarity_search_with_score_by_vector", None)
        for i, (vector, text) in enumerate(zip(vectors, texts, strict=True)):
            if by_vector is not None:
                hits = by_vector(vector.tolist(), k=k)
            else:
                hits = self.store.similarity_search_with_score(text, k=k)
            for j, (document, score) in enumerate(hits):
                if document.metadata.get(_MARK) != self.mark_:
                    msg = (
                        f"The store contains {document.page_content[:40]!r}, which this fit did "
                        "not write: empty the store, and use one collection per estimator."
                    )
                    raise ValueError(msg)
                rows[i, j], scores[i, j] = int(document.metadata[_ROW]), score
        return rows, scores

    def _measure_score(self, vectors: Vectors, texts: Sequence[str]) -> str:
        probes = np.unique(np.linspace(0, len(texts) - 1, 5).astype(int))
        rows, scores = self._search(
            vectors[probes], [texts[i] for i in probes], min(20, len(texts))
        )
        true = np.einsum("qkd,qd->qk", vectors[rows], vectors[probes])
        errors = {
            kind: float(np.nanmax(np.abs(_cosine(scores, kind) - true), initial=0.0))
            for kind in _SCORES
        }
        best = min(errors, key=lambda kind: errors[kind])
        if not errors[best] < 0.02 or np.isnan(scores).all():
            msg = (
                f"The scores of {type(self.store).__name__} must be one of {list(_SCORES)} in the "
                "estimator's embedding, but match none: give the store that embedding."
            )
            raise ValueError(msg)
        return best


def _cosine(scores: Vectors, kind: str) -> Vectors:
    offset, factor, power = _SCORES[kind]
    return np.asarray(offset + factor * scores**power, dtype=np.float32)
