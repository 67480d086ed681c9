"""A predictor of the number of output tokens, which are most of the cost of a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data.artifacts import (
    Artifact,
    incomplete_error,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.errors import NotFittedError

__all__ = ["OutputLength"]


@dataclass(eq=False)
class OutputLength(CheckedArguments):
    """A predictor of the number of output tokens per query and candidate.

    Ridge regression of log tokens on hashed words and the length of the query, one output per
    candidate. A factor per candidate then makes the sum over the training rows right, because
    costs are sums of tokens, not of their logarithms.

    Args:
        ridge: Strength of the ridge penalty.
        width: Number of hashed features.

    Attributes:
        candidates_: Names of the candidates, in the order of the columns of `predict`.

    Example:
        >>> fitted = OutputLength().fit(["add 1 and 2", "write an essay"], ["m"], [[5], [900]])
        >>> short, long = fitted.predict(["add 1 and 2", "write an essay"])[:, 0]
        >>> bool(short < long)
        True
    """

    ridge: float = 1.0
    width: int = 512

    def __post_init__(self) -> None:
        check_range(self, "ridge", above=True)
        check_range(self, "width", low=1)

    def fit(
        self, queries: Sequence[str], candidates: Sequence[str], output_tokens: ArrayLike
    ) -> Self:
        """Fit to measured lengths.

        Args:
            queries: The texts.
            candidates: Names of the columns.
            output_tokens: Measured lengths > 0, of shape (n_queries, n_candidates), NaN where
                unknown.

        Raises:
            ValueError: If the shape is wrong, or a candidate has no measured length.
        """
        tokens = np.asarray(output_tokens, dtype=np.float64)
        if tokens.shape != (len(queries), len(candidates)):
            msg = (
                f"`output_tokens` has shape {tokens.shape}, expected "
                f"({len(queries)}, {len(candidates)}): (queries, candidates)."
            )
            raise ValueError(msg)
        known = np.isfinite(tokens) & (tokens > 0)
        missing = [
            name for name, column in zip(candidates, known.T, strict=True) if not column.any()
        ]
        if missing:
            msg = (
                f"`output_tokens` has no measured length of {missing}: leave these candidates out."
            )
            raise ValueError(msg)
        # Version 1 of the words is that of saved artifacts which do not name one.
        self.words_version_ = 2
        features = self._features(queries)
        columns = [self._column(features[k], tokens[k, j]) for j, k in enumerate(known.T)]
        self.weights_: Floats = np.stack([weights for weights, _ in columns], axis=1)
        self.scale_: Floats = np.array([scale for _, scale in columns])
        self.longest_: Floats = np.array([tokens[k, j].max() for j, k in enumerate(known.T)])
        self.candidates_ = tuple(candidates)
        return self

    def predict(self, queries: Sequence[str]) -> Floats:
        """Predict the expected output tokens, of shape (n_queries, n_candidates).

        A prediction is never above the longest answer of the training rows.

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        names = self.fitted_candidates
        if len(queries) == 0:
            return np.empty((0, len(names)))
        log_tokens = self._features(queries) @ self.weights_
        return np.clip(np.exp(np.minimum(log_tokens, 50.0)) * self.scale_, 1, self.longest_)

    @property
    def fitted_candidates(self) -> tuple[str, ...]:
        """Names of the candidates of the fit, in the order of the columns of `predict`.

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        if not hasattr(self, "candidates_"):
            msg = (
                "This OutputLength is not fitted: call `fit` or `OutputLength.load(folder)` first."
            )
            raise NotFittedError(msg)
        return self.candidates_

    def save(self, folder: str | Path) -> Path:
        """Write the fitted predictor into a folder."""
        settings = {
            "words_version": self.words_version_,
            "ridge": self.ridge,
            "width": self.width,
            "candidates": list(self.fitted_candidates),
        }
        arrays = {
            "weights": self.weights_,
            "scale": self.scale_,
            "longest": self.longest_,
        }
        return write_artifact(folder, Artifact(type(self).__name__, settings, arrays))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a predictor that `save` wrote.

        Raises:
            ArtifactError: If the folder is not a valid artifact of this class.
        """
        artifact = read_artifact(folder, cls.__name__)
        try:
            settings, arrays = artifact.settings, artifact.arrays
            loaded = cls(settings["ridge"], settings["width"])
            loaded.words_version_ = settings.get("words_version", 1)
            loaded.candidates_ = tuple(settings["candidates"])
            loaded.weights_, loaded.scale_ = arrays["weights"], arrays["scale"]
            loaded.longest_ = arrays["longest"]
            n = len(loaded.candidates_)
            shapes = (loaded.weights_.shape, loaded.scale_.shape, loaded.longest_.shape)
            if shapes != ((settings["width"] + 3, n), (n,), (n,)):
                msg = f"the arrays have the shapes {shapes}"
                raise ValueError(msg)
        except (KeyError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error
        return loaded

    def _features(self, queries: Sequence[str]) -> Floats:
        words = (
            LexicalEmbeddings(self.width, 1, self.words_version_)
            .embed_array(queries)
            .astype(np.float64)
        )
        lengths = np.array([math.log1p(len(query)) for query in queries])
        ones = np.ones(len(queries))
        return np.column_stack([words, ones, lengths, lengths**2 / 10])

    def _column(self, features: Floats, tokens: Floats) -> tuple[Floats, float]:
        penalty = np.full(features.shape[1], self.ridge)
        # A tiny penalty on the intercept keeps the matrix regular.
        penalty[self.width] = 1e-6
        gram = features.T @ features + np.diag(penalty)
        weights = np.linalg.solve(gram, features.T @ np.log(tokens)).astype(np.float64)
        return weights, float(tokens.mean() / np.exp(features @ weights).mean())
