"""Candidates that are added to a fitted estimator, from their answers to a few questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash, kind_of
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.estimators.wrapper import Wrapper
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["AddedCandidates"]

_PRIOR_ROWS = 20.0
"""Strength of the pull of the weights towards equal shares. Right and wrong as 1 and 0 vary by at
most ¼, so it weighs as much as the answers to 80 questions or more."""

_OFFSET_ROWS = 3.0
"""A candidate's lead over the mix is shrunk as by so many questions without a lead."""


@dataclass(eq=False)
class AddedCandidates(Wrapper):
    """A fitted estimator with further candidates, each a mix of those of the fit.

    A further candidate's quality is predicted as a weighted sum of the predictions for the fitted
    candidates, plus an offset. Weights and offset come from its answers to a few questions, by a
    ridge regression on how good the fitted candidates are there. `estimator.add_candidate` makes
    one of these from any estimator; `fit` fits the estimator within anew, to all candidates of the
    data, and forgets the mixes.

    Args:
        estimator: The estimator of the candidates of the fit. If None, `NearestNeighbors`.

    Attributes:
        estimator_: The fitted estimator.
        mix_: Weights of the fitted candidates, of shape (n_added, n_fitted).
        offset_: What is added to the sum, of shape (n_added,).
    """

    estimator: QualityEstimator | None = None

    @classmethod
    def around(cls, estimator: QualityEstimator) -> Self:
        """Return a fitted estimator as it is, ready for further candidates.

        Raises:
            NotFittedError: If the estimator is not fitted.
        """
        around = cls(estimator)
        around.candidates_ = estimator.fitted_candidates
        around.data_hash_ = estimator.data_hash_
        around._begin(estimator)
        return around

    def add_candidate(self, name: str, outcomes: Outcomes) -> Self:
        """Return a copy with one more candidate; see `QualityEstimator.add_candidate`."""
        data = self._check_new(name, outcomes)
        seen = self._seen(outcomes)
        known = np.isfinite(seen).all(axis=1)
        if not known.any():
            msg = (
                f"The estimator abstains on all {len(data)} questions of {name!r}: add the columns "
                f"of {list(self.estimator_.candidates_)}, or other questions."
            )
            raise ValueError(msg)
        mix, offset = _fit_mix(seen[known], data.quality[known, 0])
        added = copy(self)
        added.report_ = None
        added.candidates_ = (*self.candidates_, name)
        added.data_hash_ = data_hash(self.data_hash_, data.queries, name, data.quality)
        added.mix_ = np.vstack([self.mix_, mix])
        added.offset_ = np.append(self.offset_, offset)
        return added

    def _seen(self, outcomes: Outcomes) -> Floats:
        """Return how good the fitted candidates are there: as measured, else as predicted."""
        fitted = self.estimator_.fitted_candidates
        measured = [name for name in outcomes.candidates if name in fitted]
        if len(measured) == len(fitted):
            return outcomes.select(fitted).quality
        seen = self.estimator_.predict(outcomes.queries)
        for name in measured:
            seen[:, fitted.index(name)] = outcomes.select([name]).quality[:, 0]
        return seen

    def _begin(self, estimator: QualityEstimator) -> None:
        self.estimator_ = estimator
        self.mix_ = np.empty((0, len(estimator.fitted_candidates)))
        self.offset_ = np.empty(0)

    def _fit(self, data: Outcomes) -> None:
        inner = NearestNeighbors() if self.estimator is None else self.estimator
        self._begin(inner.unfitted().fit(data))

    def _predict(self, queries: Sequence[str]) -> Floats:
        known = self.estimator_.predict(queries)
        return np.hstack([known, known @ self.mix_.T + self.offset_])

    def _params(self) -> dict[str, Any]:
        return {}

    def _settings(self) -> dict[str, Any]:
        return {"part": kind_of(type(self.estimator_))}

    def _arrays(self) -> Arrays:
        return {"mix": self.mix_, "offset": self.offset_}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self.mix_, self.offset_ = arrays["mix"], arrays["offset"]
        n_fitted = len(self.estimator_.fitted_candidates)
        expected = (len(self.candidates_) - n_fitted, n_fitted)
        if self.mix_.shape != expected or self.offset_.shape != expected[:1]:
            msg = f"the mixes have shape {self.mix_.shape}, expected {expected}"
            raise ValueError(msg)


def _fit_mix(seen: Floats, quality: Floats) -> tuple[Floats, float]:
    """Return the weights of the columns of `seen`, and the offset, that explain `quality`."""
    n, k = seen.shape
    equal = np.full(k, 1 / k)
    off = seen - seen.mean(axis=0)
    unexplained = quality - quality.mean() - off @ equal
    gram = off.T @ off + _PRIOR_ROWS * np.eye(k)
    mix = equal + np.linalg.solve(gram, off.T @ unexplained)
    lead = float(quality.mean() - seen.mean(axis=0) @ mix)
    return mix, lead * n / (n + _OFFSET_ROWS)
