"""An estimator that abstains on queries unlike the training queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import kind_of
from langchain_llm_router.data.embeddings import (
    LexicalEmbeddings,
    describe_embeddings,
    restore_embeddings,
)
from langchain_llm_router.estimators.drift import DriftGauge, DriftWatch
from langchain_llm_router.estimators.estimator import EmbeddingEstimator, QualityEstimator
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.estimators.wrapper import Wrapper
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["Abstaining"]


@dataclass(eq=False)
class Abstaining(Wrapper):
    """A wrapper that predicts NaN for unfamiliar queries, and otherwise asks another estimator.

    A query is unfamiliar if its drift p-value is below `p_query`. With a `watch`, every query is
    unfamiliar while the window of the last queries has drifted. The policy decides what happens
    then: `SafeArm` asks the safe candidate. The decision log records that the quality was
    missing, so a replay does not need the gauge.

    Args:
        estimator: The estimator that predicts. If None, `NearestNeighbors`.
        gauge: The gauge that measures drift. If None, a `DriftGauge`. A gauge without embeddings
            uses the estimator's, if it has any.
        p_query: Threshold of the p-value of a query; 0 disables this test.
        watch: Window of the last queries. With it, a prediction depends on earlier queries.

    Attributes:
        estimator_: The fitted estimator.
        gauge_: The fitted gauge.
    """

    estimator: QualityEstimator | None = None
    gauge: DriftGauge | None = None
    p_query: float = 0.005
    watch: DriftWatch | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.p_query < 1:
            msg = f"`p_query` must be in [0, 1), got {self.p_query!r}."
            raise ValueError(msg)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        embeddings: Embeddings | None = None,
        watch: DriftWatch | None = None,
    ) -> Self:
        """Read an estimator that `save` wrote.

        Args:
            folder: The artifact's folder; the estimator has a sub-folder.
            embeddings: The embedding used for fitting; not needed for `LexicalEmbeddings`.
            watch: Window of the last queries, which is not part of an artifact.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or needs another
                embedding.
        """
        return cls._load(folder, embeddings, watch=watch)

    def _fit(self, data: Outcomes) -> None:
        estimator = NearestNeighbors() if self.estimator is None else self.estimator
        self.estimator_ = estimator.unfitted().fit(data)
        gauge = replace(self.gauge or DriftGauge())
        shared = None
        if gauge.embeddings is None and isinstance(self.estimator_, EmbeddingEstimator):
            shared = self.estimator_.embeddings_
        self.gauge_ = gauge.fit(data.queries, embeddings=shared)

    def _predict(self, queries: Sequence[str]) -> Floats:
        inner, gauge = self.estimator_, self.gauge_
        if isinstance(inner, EmbeddingEstimator) and inner.embeddings_ is gauge.embeddings_:
            # Embed each query once, because embedding may call a model over the network.
            vectors = inner._embed_queries(queries)
            predicted = np.clip(inner._predict_vectors(vectors, queries), 0.0, 1.0)
        else:
            vectors, predicted = gauge.embed(queries), inner.predict(queries)
        unfamiliar = gauge.p_values(gauge.distance(vectors)) < self.p_query
        if self.watch is not None and self.watch.see(gauge, vectors):
            unfamiliar[:] = True
        return np.where(unfamiliar[:, None], np.nan, predicted)

    def _params(self) -> dict[str, Any]:
        return {"p_query": self.p_query}

    def _settings(self) -> dict[str, Any]:
        embeddings = self.gauge_.embeddings_
        return {
            "part": kind_of(type(self.estimator_)),
            "gauge": self.gauge_.settings(),
            "embedding": describe_embeddings(embeddings, self.gauge_.reference_.shape[1]),
        }

    def _arrays(self) -> Arrays:
        arrays = self.gauge_.arrays()
        if isinstance(self.gauge_.embeddings_, LexicalEmbeddings):
            return {**arrays, "lexical_idf": self.gauge_.embeddings_.idf_}
        return arrays

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        restored = restore_embeddings(settings["embedding"], embeddings, arrays.get("lexical_idf"))
        inner = self.estimator_
        if isinstance(inner, EmbeddingEstimator) and _same_vectors(restored, inner.embeddings_):
            restored = inner.embeddings_
        self.gauge_ = DriftGauge.restored(settings["gauge"], arrays, restored)
        self.gauge = DriftGauge(**settings["gauge"])


def _same_vectors(a: Embeddings, b: Embeddings) -> bool:
    """Whether two embeddings give the same vectors."""
    if isinstance(a, LexicalEmbeddings) and isinstance(b, LexicalEmbeddings):
        same = (a.n_words, a.version) == (b.n_words, b.version)
        return same and np.array_equal(a.idf_, b.idf_)
    return a is b
