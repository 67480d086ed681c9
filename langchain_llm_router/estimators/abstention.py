"""An estimator that says nothing about queries unlike those it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import Artifact
from langchain_llm_router.data.embeddings import (
    LexicalEmbeddings,
    describe_embeddings,
    restore_embeddings,
)
from langchain_llm_router.estimators.drift import DriftGauge, DriftWatch
from langchain_llm_router.estimators.ensemble import load_part
from langchain_llm_router.estimators.estimator import EmbeddingEstimator, QualityEstimator
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["Abstaining"]

_PART = "part_0"


@dataclass(eq=False)
class Abstaining(QualityEstimator):
    """Predicts as another estimator does, but abstains (NaN) where queries are unfamiliar.

    A query is unfamiliar if its drift p-value is below `p_query`; with a `watch` every query is,
    as long as the window of the last ones has drifted. The policy decides what happens then:
    `SafeArm` asks the safe candidate. The log shows it as arms without a quality, so a replay
    needs no gauge.

    Args:
        estimator: The one that predicts; None: `NearestNeighbors`.
        gauge: Measures the drift; an estimator on embeddings shares its own with it.
        p_query: Abstain below this; 0: never because of a single query.
        watch: The last queries; it makes predictions depend on what was asked before.

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
        """Read what `save` wrote.

        Args:
            folder: The artifact's folder; the estimator has a sub-folder.
            embeddings: The embedding it was fitted with; not needed for the lexical one.
            watch: The last queries are no part of an artifact.

        Raises:
            ArtifactError: If the folder is corrupted, too new, or needs another embedding.
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
            # One embedding of a query is enough: it may be a model behind a network.
            vectors = inner._embed_queries(queries)
            predicted = np.clip(inner._predict_vectors(vectors, queries), 0.0, 1.0)
        else:
            vectors, predicted = gauge.embed(queries), inner.predict(queries)
        strange = gauge.p_values(gauge.distance(vectors)) < self.p_query
        if self.watch is not None and self.watch.see(gauge, vectors):
            strange[:] = True
        return np.where(strange[:, None], np.nan, predicted)

    def _params(self) -> dict[str, Any]:
        return {"p_query": self.p_query}

    def _settings(self) -> dict[str, Any]:
        embeddings = self.gauge_.embeddings_
        return {
            "part": type(self.estimator_).__name__,
            "gauge": self.gauge_.settings(),
            "embedding": describe_embeddings(embeddings, self.gauge_.reference_.shape[1]),
        }

    def _arrays(self) -> Arrays:
        arrays = self.gauge_.arrays()
        if isinstance(self.gauge_.embeddings_, LexicalEmbeddings):
            return {**arrays, "lexical_idf": self.gauge_.embeddings_.idf_}
        return arrays

    def _write_files(self, folder: Path) -> Sequence[str]:
        self.estimator_.save(folder / _PART)
        return [f"{_PART}/manifest.json"]

    def _restore_artifact(
        self, folder: Path, artifact: Artifact, embeddings: Embeddings | None
    ) -> None:
        self.estimator_ = load_part(folder / _PART, artifact.settings["part"], embeddings)
        self.estimator = self.estimator_
        super()._restore_artifact(folder, artifact, embeddings)

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        own = restore_embeddings(settings["embedding"], embeddings, arrays.get("lexical_idf"))
        inner = self.estimator_
        if isinstance(inner, EmbeddingEstimator) and _alike(own, inner.embeddings_):
            own = inner.embeddings_
        self.gauge_ = DriftGauge.restored(settings["gauge"], arrays, own)
        self.gauge = DriftGauge(**settings["gauge"])


def _alike(one: Embeddings, other: Embeddings) -> bool:
    """Whether two embeddings give the same vectors, so that one of them will do."""
    if isinstance(one, LexicalEmbeddings) and isinstance(other, LexicalEmbeddings):
        return one.n_words == other.n_words and np.array_equal(one.idf_, other.idf_)
    return one is other
