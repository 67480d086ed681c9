"""Several estimators as one: stacked on predictions for rows that they had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from scipy.optimize import nnls

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import read_artifact
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.folds import out_of_fold
from langchain_llm_router.estimators.linear import Linear, into_unit
from langchain_llm_router.estimators.neighbors import Clusters, NearestNeighbors
from langchain_llm_router.types.arrays import Arrays, Floats
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["Ensemble", "load_part"]


@dataclass(eq=False)
class Ensemble(QualityEstimator):
    """A calibrated sum of estimators, weighted by how well each predicts unseen rows.

    Every part predicts the training rows out of fold. Non-negative least squares then finds how
    much of each part's differences between candidates, and of its mean over candidates, belongs in
    the sum. A part that knows nothing gets weight 0, one that is too sure of itself is shrunk: that
    is the calibration. Finally all parts are fitted on all rows.

    Args:
        estimators: The parts; None: `Linear`, `NearestNeighbors` and `Clusters`, all lexical.
        n_folds: Folds for the out-of-fold predictions.
        seed: For the cut into folds.

    Attributes:
        estimators_: The fitted parts.
        weights_: Of shape (2, n_parts): for the mean over candidates, for the differences.
        intercept_: Mean training quality of each candidate.

    References:
        Breiman, 1996, Stacked regressions, Machine Learning 24, section 2 (non-negative weights on
        cross-validated predictions). Deviation: differences and mean are weighted separately.
    """

    estimators: Sequence[QualityEstimator] | None = None
    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_folds < 2:
            msg = f"`n_folds` must be >= 2, got {self.n_folds!r}."
            raise ValueError(msg)
        if self.estimators is not None and len(self.estimators) == 0:
            msg = "`estimators` is empty: give at least one, or None for the usual ones."
            raise ValueError(msg)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        embeddings: Embeddings | None = None,
        part_embeddings: Sequence[Embeddings | None] | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The artifact's folder; each part has a sub-folder.
            embeddings: The embedding of all parts that are not lexical.
            part_embeddings: Instead, one embedding per part, None for lexical ones.

        Raises:
            ArtifactError: If a folder is corrupted, too new, or needs another embedding.
        """
        ensemble = cls._load(folder, embeddings)
        given = part_embeddings
        if given is None:
            given = [embeddings] * len(ensemble._kinds)
        if len(given) != len(ensemble._kinds):
            msg = f"`part_embeddings` has {len(given)} entries for {len(ensemble._kinds)} parts."
            raise ArtifactError(msg)
        ensemble.estimators_ = [
            load_part(Path(folder) / _part(i), kind, each)
            for i, (kind, each) in enumerate(zip(ensemble._kinds, given, strict=True))
        ]
        ensemble.estimators = ensemble.estimators_
        return ensemble

    def _fit(self, data: Outcomes) -> None:
        parts = self.estimators
        if parts is None:
            parts = (Linear(), NearestNeighbors(), Clusters())
        self.intercept_ = np.array(data.quality.mean(axis=0))
        self.weights_ = np.full((2, len(parts)), 1 / len(parts))
        if len(set(data.queries)) >= 2 * self.n_folds:
            unseen = [
                out_of_fold(part, data, n_folds=self.n_folds, seed=self.seed) for part in parts
            ]
            self.weights_ = _stack(np.array(unseen), np.asarray(data.quality))
        # Copies: fitting the ensemble leaves the given parts as they are.
        self.estimators_ = [part.unfitted().fit(data) for part in parts]
        predicted = np.array([part.predict(data.queries) for part in self.estimators_])
        self._centers = predicted.mean(axis=1)

    def _predict(self, queries: Sequence[str]) -> Floats:
        predicted = np.array([part.predict(queries) for part in self.estimators_])
        mean, differences = _split(predicted - self._centers[:, None, :])
        mean_part, difference_part = self.weights_
        total = np.tensordot(mean_part, mean, 1) + np.tensordot(difference_part, differences, 1)
        return into_unit(self.intercept_ + total)

    def _params(self) -> dict[str, Any]:
        return {"n_folds": self.n_folds, "seed": self.seed}

    def _settings(self) -> dict[str, Any]:
        return {"parts": [type(part).__name__ for part in self.estimators_]}

    def _arrays(self) -> Arrays:
        return {"weights": self.weights_, "intercept": self.intercept_, "centers": self._centers}

    def _write_files(self, folder: Path) -> Sequence[str]:
        names = []
        for i, part in enumerate(self.estimators_):
            part.save(folder / _part(i))
            names.append(f"{_part(i)}/manifest.json")
        return names

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self._kinds = [str(kind) for kind in settings["parts"]]
        self.weights_, self.intercept_ = arrays["weights"], arrays["intercept"]
        self._centers = arrays["centers"]
        if self.weights_.shape != (2, len(self._kinds)):
            msg = f"weights have shape {self.weights_.shape}, expected (2, {len(self._kinds)})"
            raise ValueError(msg)


def _part(i: int) -> str:
    return f"part_{i}"


def load_part(folder: Path, kind: str, embeddings: Embeddings | None) -> QualityEstimator:
    """Load an estimator of this package by the name of its kind."""
    found = getattr(import_module("langchain_llm_router.estimators"), kind, None)
    if not (isinstance(found, type) and issubclass(found, QualityEstimator)):
        msg = f"{str(folder)!r} holds a {kind!r}, which is no estimator of this package."
        raise ArtifactError(msg)
    described = read_artifact(folder, kind).settings.get("embedding", {})
    lexical = described.get("class") == LexicalEmbeddings.__name__
    return found.load(folder, embeddings=None if lexical else embeddings)


def _split(values: Floats) -> tuple[Floats, Floats]:
    """Mean over candidates, and each candidate's difference to it; candidates are the last axis."""
    mean = values.mean(axis=-1, keepdims=True)
    return np.broadcast_to(mean, values.shape), values - mean


def _stack(unseen: Floats, quality: Floats) -> Floats:
    """Weights of shape (2, n_parts) from predictions of shape (n_parts, n_queries, k)."""
    centered = unseen - unseen.mean(axis=1, keepdims=True)
    truth = quality - quality.mean(axis=0)
    weights = [
        nnls(guess.reshape(len(guess), -1).T, target.ravel())[0]
        for guess, target in zip(_split(centered), _split(truth), strict=True)
    ]
    return np.array(weights)
