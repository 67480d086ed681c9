"""What every estimator is: `fit` on outcomes, `predict` a quality per candidate, `save`, `load`.

A new kind of estimator is one file with one dataclass: hyper-parameters as fields, `_fit`,
`_predict`, and the learned arrays in `_arrays` / `_restore`. Adding it to the list in
`tests/test_contracts.py` runs the whole contract over it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import Artifact, data_hash, read_artifact, write_artifact
from langchain_llm_router.data.embeddings import (
    LexicalEmbeddings,
    describe_embeddings,
    embed,
    restore_embeddings,
)
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Arrays, Floats, Vectors
from langchain_llm_router.types.errors import ArtifactError, NotFittedError

__all__ = ["Constant", "EmbeddingEstimator", "QualityEstimator", "Random"]


class QualityEstimator(CheckedArguments, ABC):
    """Guesses how good each candidate's answer to a query would be.

    Attributes:
        candidates_: Names of the candidates, in the order of the columns of `predict`.
        data_hash_: Fingerprint of the training data.
        report_: What an evaluation found, JSON-ready, e.g. `held_out_report(...).as_dict()`; it is
            saved and loaded with the estimator. None until you set it.
    """

    candidates_: tuple[str, ...]
    data_hash_: str
    report_: Mapping[str, Any] | None = None

    def fit(self, data: Outcomes) -> Self:
        """Learn from measured outcomes, forgetting any earlier fit.

        Raises:
            ValueError: If there are no rows.
        """
        if len(data) == 0:
            msg = f"{type(self).__name__} cannot be fitted on 0 rows."
            raise ValueError(msg)
        self.report_ = None
        self.candidates_ = tuple(data.candidates)
        self.data_hash_ = data_hash(data.queries, data.candidates, data.quality)
        self._fit(data)
        return self

    def unfitted(self) -> Self:
        """A copy with the same settings that has learned nothing."""
        return replace(self)  # type: ignore[type-var]

    def predict(self, queries: Sequence[str]) -> Floats:
        """Expected quality in [0, 1], of shape (n_queries, n_candidates).

        Raises:
            NotFittedError: If `fit` or `load` was not called before.
        """
        self._check_fitted()
        if isinstance(queries, str):
            msg = f"`queries` must be a sequence of texts, got the single text {queries[:40]!r}."
            raise TypeError(msg)
        if len(queries) == 0:
            return np.empty((0, len(self.candidates_)))
        return np.clip(self._predict(queries), 0.0, 1.0)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted estimator into a folder of JSON and arrays.

        Raises:
            NotFittedError: If it was not fitted.
        """
        self._check_fitted()
        settings = {
            "params": self._params(),
            "candidates": list(self.candidates_),
            "data_hash": self.data_hash_,
            "report": None if self.report_ is None else dict(self.report_),
            **self._settings(),
        }
        files = self._write_files(Path(folder))
        artifact = Artifact(type(self).__name__, settings, self._arrays(), files)
        return write_artifact(folder, artifact)

    @classmethod
    def load(cls, folder: str | Path, *, embeddings: Embeddings | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The artifact's folder.
            embeddings: The embedding it was fitted with; not needed for the lexical one.

        Raises:
            ArtifactError: If the folder is corrupted, too new, or needs another embedding.
        """
        return cls._load(folder, embeddings)

    @classmethod
    def _load(cls, folder: str | Path, embeddings: Embeddings | None, **live: object) -> Self:
        """Load with live objects that no artifact can hold given to the constructor."""
        artifact = read_artifact(folder, cls.__name__)
        try:
            estimator = cls(**cls._given(artifact.settings["params"]), **live)
            estimator.candidates_ = tuple(artifact.settings["candidates"])
            estimator.data_hash_ = artifact.settings["data_hash"]
            estimator.report_ = artifact.settings.get("report")
            estimator._restore_artifact(Path(folder), artifact, embeddings)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{str(folder)!r} does not hold a whole {cls.__name__}: {error}."
            raise ArtifactError(msg) from error
        return estimator

    @property
    def fitted_candidates(self) -> tuple[str, ...]:
        """The candidates it was fitted on, in the order of its columns.

        Raises:
            NotFittedError: If `fit` or `load` was not called before.
        """
        self._check_fitted()
        return self.candidates_

    def _check_fitted(self) -> None:
        if not hasattr(self, "candidates_"):
            name = type(self).__name__
            msg = f"This {name} is not fitted: call `fit(outcomes)` or `{name}.load(folder)` first."
            raise NotFittedError(msg)

    @classmethod
    def _given(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the constructor is given, from what `_params` wrote."""
        return dict(params)

    def _params(self) -> dict[str, Any]:
        """Hyper-parameters that JSON can hold: the dataclass fields, without live objects."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)  # type: ignore[arg-type]
            if field.name not in {"embeddings", "memory"}
        }

    def _settings(self) -> dict[str, Any]:
        """Learned things that belong in the manifest."""
        return {}

    def _write_files(self, folder: Path) -> Sequence[str]:
        """Write what is neither JSON nor arrays; the names returned are hashed in the manifest."""
        return ()

    def _restore_artifact(
        self, folder: Path, artifact: Artifact, embeddings: Embeddings | None
    ) -> None:
        """Take over what was read; override where `_write_files` wrote more than arrays."""
        self._restore(artifact.settings, artifact.arrays, embeddings)

    @abstractmethod
    def _fit(self, data: Outcomes) -> None: ...

    @abstractmethod
    def _predict(self, queries: Sequence[str]) -> Floats: ...

    @abstractmethod
    def _arrays(self) -> Arrays: ...

    @abstractmethod
    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None: ...


@dataclass(eq=False)
class Constant(QualityEstimator):
    """Predicts every candidate's mean quality, whatever the query: the baseline to beat.

    Attributes:
        mean_: Mean training quality, of shape (n_candidates,).
    """

    def _fit(self, data: Outcomes) -> None:
        self.mean_ = data.quality.mean(axis=0)

    def _predict(self, queries: Sequence[str]) -> Floats:
        return np.tile(self.mean_, (len(queries), 1))

    def _arrays(self) -> Arrays:
        return {"mean": self.mean_}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self.mean_ = arrays["mean"]


@dataclass(eq=False)
class Random(QualityEstimator):
    """Predicts noise that depends on the query and the seed alone: the random baseline.

    Args:
        seed: Another seed, other noise.
    """

    seed: int = 0

    def _fit(self, data: Outcomes) -> None:
        pass

    def _predict(self, queries: Sequence[str]) -> Floats:
        k = len(self.candidates_)
        return np.array(
            [np.random.default_rng([self.seed, crc32(q.encode())]).random(k) for q in queries]
        )

    def _arrays(self) -> Arrays:
        return {}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        pass


@dataclass(eq=False)
class EmbeddingEstimator(QualityEstimator):
    """An estimator that looks at an embedding of the query; subclasses work on vectors.

    Args:
        embeddings: Any LangChain `Embeddings`; None: `LexicalEmbeddings` fitted on the training
            queries, which needs no model and no network.

    Attributes:
        embeddings_: The embedding in use.
        width_: Its width.
    """

    embeddings: Embeddings | None = None

    def _fit(self, data: Outcomes) -> None:
        self._fit_vectors(self._embed_training(data.queries), data)

    def _predict(self, queries: Sequence[str]) -> Floats:
        return self._predict_vectors(self._embed_queries(queries), queries)

    def _embed_training(self, queries: Sequence[str]) -> Vectors:
        self.embeddings_ = self.embeddings or LexicalEmbeddings().fit(queries)
        vectors = embed(self.embeddings_, queries)
        self.width_ = vectors.shape[1]
        return vectors

    def _embed_queries(self, queries: Sequence[str]) -> Vectors:
        vectors = embed(self.embeddings_, queries)
        if vectors.shape[1] != self.width_:
            msg = (
                f"The embedding gives {vectors.shape[1]} numbers per text, "
                f"but this {type(self).__name__} was fitted with {self.width_}."
            )
            raise ValueError(msg)
        return vectors

    def _settings(self) -> dict[str, Any]:
        return {"embedding": describe_embeddings(self.embeddings_, self.width_)}

    def _arrays(self) -> Arrays:
        learned = self._learned()
        if isinstance(self.embeddings_, LexicalEmbeddings):
            return {**learned, "lexical_idf": self.embeddings_.idf_}
        return learned

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        described = settings["embedding"]
        self.embeddings_ = restore_embeddings(described, embeddings, arrays.get("lexical_idf"))
        self.width_ = int(described["width"])
        self._restore_learned(arrays)

    @abstractmethod
    def _fit_vectors(self, vectors: Vectors, data: Outcomes) -> None: ...

    @abstractmethod
    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats: ...

    @abstractmethod
    def _learned(self) -> Arrays: ...

    @abstractmethod
    def _restore_learned(self, arrays: Arrays) -> None: ...
