"""The base classes of estimators and two baselines.

A new kind of estimator is one file with one dataclass: hyper-parameters as fields, `_fit`,
`_predict`, and the fitted arrays in `_arrays` and `_restore`. Adding it to the list in
`tests/test_contracts.py` tests it against the whole contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zlib import crc32

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import (
    Artifact,
    data_hash,
    incomplete_error,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.data.embeddings import (
    LexicalEmbeddings,
    describe_embeddings,
    embed,
    restore_embeddings,
)
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Arrays, Floats, Vectors
from langchain_llm_router.types.errors import NotFittedError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Constant", "EmbeddingEstimator", "QualityEstimator", "Random"]

_PREDICTED_AT_ONCE = 8192


class QualityEstimator(CheckedArguments, ABC):
    """Base class for estimators of the quality of each candidate's answer to a query.

    Attributes:
        candidates_: Names of the candidates, in the order of the columns of `predict`.
        data_hash_: Fingerprint of the training data.
        report_: A JSON-ready report of an evaluation, e.g. `held_out_report(...).as_dict()`, which
            is saved and loaded with the estimator. None until you set it.
    """

    candidates_: tuple[str, ...]
    data_hash_: str
    report_: Mapping[str, Any] | None = None

    # Up to so many rows every estimator is fitted exactly, on every number of every vector. Beyond,
    # it is fitted by what grows no faster than the number of rows.
    _FEW_ROWS: ClassVar[int] = 2048

    def fit(self, data: Outcomes) -> Self:
        """Fit to measured outcomes, replacing any earlier fit.

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
        """Copy the settings without the fit."""
        return replace(self)  # type: ignore[type-var]

    def add_candidate(self, name: str, outcomes: Outcomes) -> QualityEstimator:
        """Return an estimator that predicts one more candidate as well, without fitting again.

        The new candidate is explained as a mix of the fitted ones (`AddedCandidates`); a
        `ModelScorer` trains a vector for it and returns itself.

        Args:
            name: Name of the new candidate, a column of `outcomes`.
            outcomes: Measured outcomes of the candidate; 20 rows are a useful minimum. Columns of
                fitted candidates are used where they are present, as on training questions; for
                the others their predictions are. Further columns are ignored.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If the candidate is fitted already, is not a column of `outcomes`, or has
                no rows.
        """
        from langchain_llm_router import estimators  # noqa: PLC0415 - its files import this one

        return estimators.AddedCandidates.around(self).add_candidate(name, outcomes)

    def predict(self, queries: Sequence[str]) -> Floats:
        """Predict the expected quality in [0, 1], of shape (n_queries, n_candidates).

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        self._check_fitted()
        if isinstance(queries, str):
            msg = f"`queries` must be a sequence of texts, got the single text {queries[:40]!r}."
            raise TypeError(msg)
        if len(queries) == 0:
            return np.empty((0, len(self.candidates_)))
        # Features of a million queries would take gigabytes.
        parts = [
            np.clip(self._predict(queries[start : start + _PREDICTED_AT_ONCE]), 0.0, 1.0)
            for start in range(0, len(queries), _PREDICTED_AT_ONCE)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted estimator into a folder as JSON and arrays.

        Raises:
            NotFittedError: If the estimator is not fitted.
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
        """Read an estimator that `save` wrote.

        Args:
            folder: The artifact's folder.
            embeddings: The embedding used for fitting; not needed for `LexicalEmbeddings`.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or needs another
                embedding.
        """
        return cls._load(folder, embeddings)

    @classmethod
    def _load(cls, folder: str | Path, embeddings: Embeddings | None, **live: object) -> Self:
        """Load an artifact; `live` are constructor arguments that no artifact can store."""
        artifact = read_artifact(folder, cls.__name__)
        try:
            estimator = cls(**cls._constructor_arguments(artifact.settings["params"]), **live)
            estimator.candidates_ = tuple(artifact.settings["candidates"])
            estimator.data_hash_ = artifact.settings["data_hash"]
            estimator.report_ = artifact.settings.get("report")
            estimator._restore_artifact(Path(folder), artifact, embeddings)
        except (KeyError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error
        return estimator

    @property
    def fitted_candidates(self) -> tuple[str, ...]:
        """Names of the candidates of the fit, in the order of the columns of `predict`.

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        self._check_fitted()
        return self.candidates_

    def _check_new(self, name: str, outcomes: Outcomes) -> Outcomes:
        """Return the column of a new candidate, or say why it cannot be added."""
        self._check_fitted()
        if name in self.candidates_:
            msg = f"`name` must be a new candidate, got {name!r}, one of {list(self.candidates_)}."
            raise ValueError(msg)
        data = outcomes.select([name])
        if len(data) == 0:
            msg = f"`outcomes` of {name!r} must have at least 1 row, got 0."
            raise ValueError(msg)
        return data

    def _check_fitted(self) -> None:
        if not hasattr(self, "candidates_"):
            name = type(self).__name__
            msg = f"This {name} is not fitted: call `fit(outcomes)` or `{name}.load(folder)` first."
            raise NotFittedError(msg)

    @classmethod
    def _constructor_arguments(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """Convert the output of `_params` to arguments of the constructor."""
        return dict(params)

    def _params(self) -> dict[str, Any]:
        """Return the hyper-parameters: the dataclass fields that JSON can store."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)  # type: ignore[arg-type]
            if field.name not in {"embeddings", "memory"}
        }

    def _settings(self) -> dict[str, Any]:
        """Return the fitted values that belong in the manifest."""
        return {}

    def _write_files(self, folder: Path) -> Sequence[str]:
        """Write further files and return their names; the manifest records their hashes."""
        return ()

    def _restore_artifact(
        self, folder: Path, artifact: Artifact, embeddings: Embeddings | None
    ) -> None:
        """Restore the fit; subclasses that write further files override this method."""
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
    """A baseline that predicts each candidate's mean quality for every query.

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
    """A baseline that predicts noise determined by the query and the seed.

    Args:
        seed: Seed of the noise.
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
    """Base class for estimators that predict from an embedding of the query.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings` fitted on the training
            queries, which needs no model and no network.

    Attributes:
        embeddings_: The embedding in use.
        width_: The embedding dimension.
    """

    embeddings: Embeddings | None = None

    def _fit(self, data: Outcomes) -> None:
        self._fit_vectors(self._embed_training(data.queries), data)

    def _predict(self, queries: Sequence[str]) -> Floats:
        return self._by_parts(self._predict_vectors, queries)

    def _by_parts(
        self, read: Callable[[Vectors, Sequence[str]], Floats], queries: Sequence[str]
    ) -> Floats:
        """Embed and read some queries after others, because all vectors would be large."""
        starts = range(0, len(queries), self._FEW_ROWS)
        parts = [queries[start : start + self._FEW_ROWS] for start in starts]
        return np.concatenate([read(self._embed_queries(part), part) for part in parts])

    def _embed_training(self, queries: Sequence[str]) -> Vectors | csr_array:
        """Embed the training queries; many vectors of `LexicalEmbeddings` without their zeros."""
        given = self.embeddings
        vectors: Vectors | csr_array
        if isinstance(given, LexicalEmbeddings | None) and len(queries) > self._FEW_ROWS:
            words = LexicalEmbeddings() if given is None else given
            vectors = words.fit_sparse(queries) if given is None else words.embed_sparse(queries)
            self.embeddings_: Embeddings = words
        else:
            self.embeddings_ = given or LexicalEmbeddings().fit(queries)
            vectors = embed(self.embeddings_, queries)
        self.width_ = vectors.shape[1]
        return vectors

    def _embed_queries(self, queries: Sequence[str]) -> Vectors:
        vectors = embed(self.embeddings_, queries)
        if vectors.shape[1] != self.width_:
            msg = (
                f"The embedding has dimension {vectors.shape[1]}, but this {type(self).__name__} "
                f"was fitted with dimension {self.width_}: use the embedding of the fit."
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
    def _fit_vectors(self, vectors: Vectors | csr_array, data: Outcomes) -> None: ...

    @abstractmethod
    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats: ...

    @abstractmethod
    def _learned(self) -> Arrays: ...

    @abstractmethod
    def _restore_learned(self, arrays: Arrays) -> None: ...
