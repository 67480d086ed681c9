"""An ensemble of estimators, stacked on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import kind_of, known_class, read_artifact
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.folds import out_of_fold
from langchain_llm_router.estimators.linear import Linear, shift_to_unit_interval
from langchain_llm_router.estimators.neighbors import Clusters, NearestNeighbors
from langchain_llm_router.types.arrays import Arrays, Floats
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["Ensemble", "load_part"]

_STACKED_ROWS = 2560


@dataclass(eq=False)
class Ensemble(QualityEstimator):
    """A weighted sum of estimators, fitted to their out-of-fold predictions.

    Non-negative least squares on the out-of-fold predictions gives each part two weights: one for
    its mean over candidates and one for its differences between candidates. A part that predicts
    no better than the mean gets weight 0, and an overconfident part gets a small weight, which
    calibrates the sum. Finally all parts are fitted on all rows. Of more than 2,560 rows, so many
    drawn at random decide the weights.

    Args:
        estimators: The parts. If None, `Linear`, `NearestNeighbors` and `Clusters` with their
            default arguments.
        n_folds: Number of folds for the out-of-fold predictions.
        seed: Seed of the split into folds.

    Attributes:
        estimators_: The fitted parts.
        weights_: Weights of the parts for the mean over candidates (row 0) and for the differences
            between candidates (row 1), of shape (2, n_parts).
        intercept_: Mean training quality of each candidate, of shape (n_candidates,).

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
            msg = "`estimators` is empty: give at least one, or None for the default estimators."
            raise ValueError(msg)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        embeddings: Embeddings | None = None,
        part_embeddings: Sequence[Embeddings | None] | None = None,
    ) -> Self:
        """Read an ensemble that `save` wrote.

        Args:
            folder: The artifact's folder; each part has a sub-folder.
            embeddings: The embedding of all parts that do not use `LexicalEmbeddings`.
            part_embeddings: One embedding per part, in place of `embeddings`; None for a part that
                uses `LexicalEmbeddings`.

        Raises:
            ArtifactError: If a folder is corrupted, has a newer schema, or needs another embedding.
        """
        ensemble = cls._load(folder, embeddings)
        if part_embeddings is None:
            part_embeddings = [embeddings] * len(ensemble._kinds)
        if len(part_embeddings) != len(ensemble._kinds):
            msg = (
                f"`part_embeddings` must have one entry for each of the {len(ensemble._kinds)} "
                f"parts, got {len(part_embeddings)}."
            )
            raise ArtifactError(msg)
        ensemble.estimators_ = [
            load_part(Path(folder) / _part_name(i), kind, each)
            for i, (kind, each) in enumerate(zip(ensemble._kinds, part_embeddings, strict=True))
        ]
        ensemble.estimators = ensemble.estimators_
        return ensemble

    def _fit(self, data: Outcomes) -> None:
        parts = self.estimators
        if parts is None:
            parts = (Linear(), NearestNeighbors(), Clusters())
        self.intercept_ = np.array(data.quality.mean(axis=0))
        self.weights_ = np.full((2, len(parts)), 1 / len(parts))
        some = data
        if len(data) > _STACKED_ROWS:
            rows = np.random.default_rng(self.seed).permutation(len(data))[:_STACKED_ROWS]
            some = data.take(np.sort(rows))
        if len(set(some.queries)) >= 2 * self.n_folds:
            predictions = [
                out_of_fold(part, some, n_folds=self.n_folds, seed=self.seed) for part in parts
            ]
            self.weights_ = _stacking_weights(np.array(predictions), np.asarray(some.quality))
        # Copies are fitted because fitting the ensemble must not change the caller's estimators.
        self.estimators_ = [part.unfitted().fit(data) for part in parts]
        predicted = np.array([part.predict(some.queries) for part in self.estimators_])
        self._centers = predicted.mean(axis=1)

    def _predict(self, queries: Sequence[str]) -> Floats:
        predicted = np.array([part.predict(queries) for part in self.estimators_])
        mean, differences = _split_mean(predicted - self._centers[:, None, :])
        mean_part, difference_part = self.weights_
        total = np.tensordot(mean_part, mean, 1) + np.tensordot(difference_part, differences, 1)
        return shift_to_unit_interval(self.intercept_ + total)

    def _params(self) -> dict[str, Any]:
        return {"n_folds": self.n_folds, "seed": self.seed}

    def _settings(self) -> dict[str, Any]:
        return {"parts": [kind_of(type(part)) for part in self.estimators_]}

    def _arrays(self) -> Arrays:
        return {"weights": self.weights_, "intercept": self.intercept_, "centers": self._centers}

    def _write_files(self, folder: Path) -> Sequence[str]:
        names = []
        for i, part in enumerate(self.estimators_):
            part.save(folder / _part_name(i))
            names.append(f"{_part_name(i)}/manifest.json")
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


def _part_name(i: int) -> str:
    return f"part_{i}"


def load_part(folder: Path, kind: str, embeddings: Embeddings | None) -> QualityEstimator:
    """Load an estimator by its class name, as `kind_of` returns it."""
    cls = known_class(QualityEstimator, kind, folder)  # type: ignore[type-abstract]
    described = read_artifact(folder, cls.__name__).settings.get("embedding", {})
    lexical = described.get("class") == LexicalEmbeddings.__name__
    return cls.load(folder, embeddings=None if lexical else embeddings)


def _split_mean(values: Floats) -> tuple[Floats, Floats]:
    """Split values into their mean over the last axis (candidates) and the differences from it."""
    mean = values.mean(axis=-1, keepdims=True)
    return np.broadcast_to(mean, values.shape), values - mean


def _stacking_weights(predictions: Floats, quality: Floats) -> Floats:
    """Compute weights, of shape (2, n_parts), from predictions, of shape (n_parts, n_rows, k)."""
    from scipy.optimize import nnls  # noqa: PLC0415 - slow, and only fitting needs it

    centered = predictions - predictions.mean(axis=1, keepdims=True)
    truth = quality - quality.mean(axis=0)
    weights = [
        nnls(guess.reshape(len(guess), -1).T, target.ravel())[0]
        for guess, target in zip(_split_mean(centered), _split_mean(truth), strict=True)
    ]
    return np.array(weights)
