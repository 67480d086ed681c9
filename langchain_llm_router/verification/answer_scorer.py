"""FrugalGPT's scorer: a small classifier of queries with their answers, without model calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit

from langchain_llm_router.data import split_indices
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
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_text, visible_text
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.errors import NotFittedError
from langchain_llm_router.verification.verifier import Case, Evaluating, Evaluation, Verifier

__all__ = ["AnswerScorer"]


class AnswerScorer(Verifier):
    """Logistic regression on the embedding of "query answer"; the score is P(good).

    Fit one per candidate (`ByCandidate`), or one for all. Scores of training rows are far too
    optimistic, so fit thresholds and observation models on `held_out_scores_`, which are
    out-of-fold, or on other rows.

    Args:
        embeddings: Embeds the texts; if None, hashed words, which need no model.
        l2: Strength of the penalty ½·l2·|w|² on the summed log-loss.
        n_folds: Number of folds for `held_out_scores_`.

    Attributes:
        held_out_scores_: Out-of-fold scores of the training rows, of shape (n_rows,).

    References:
        Chen et al., 2023, FrugalGPT, arXiv:2305.05176, section 3 (generation scoring function).
        Deviation: logistic regression on an embedding instead of a fine-tuned DistilBERT.
    """

    def __init__(
        self, embeddings: Embeddings | None = None, *, l2: float = 1.0, n_folds: int = 5
    ) -> None:
        if n_folds < 2:
            msg = f"`n_folds` must be >= 2, got {n_folds!r}."
            raise ValueError(msg)
        self.embeddings = embeddings
        self.l2 = l2
        self.n_folds = n_folds
        check_range(self, "l2", above=True)

    def fit(self, queries: Sequence[str], answers: Sequence[str], good: ArrayLike) -> Self:
        """Fit on answers of measured quality.

        Args:
            queries: The queries; equal ones stay in one fold.
            answers: The answer to each query.
            good: Quality of each answer in [0, 1], of shape (n_rows,).

        Raises:
            ValueError: If lengths differ, or a quality is missing or outside [0, 1].
        """
        labels = np.asarray(good, dtype=np.float64)
        if not len(queries) == len(answers) == labels.size or labels.ndim != 1 or not labels.size:
            msg = (
                "`queries`, `answers` and `good` must have the same length, at least 1, got "
                f"{len(queries)}, {len(answers)} and shape {labels.shape}."
            )
            raise ValueError(msg)
        if not ((labels >= 0) & (labels <= 1)).all():
            msg = "`good` must lie in [0, 1], without NaN: drop the rows that were not measured."
            raise ValueError(msg)
        texts = _texts(queries, answers)
        given = self.embeddings
        self.fitted_embeddings_ = LexicalEmbeddings().fit(texts) if given is None else given
        vectors = self._vectors(texts)
        self.weights_, self.intercept_ = _logistic(vectors, labels, self.l2)
        parts = split_indices(len(texts), [1 / self.n_folds] * self.n_folds, groups=queries)
        self.held_out_scores_ = np.full(len(texts), labels.mean())
        for part in parts:
            rest = np.setdiff1d(np.arange(len(texts)), part)
            if len(rest) > 0 and len(part) > 0:
                weights, intercept = _logistic(vectors[rest], labels[rest], self.l2)
                self.held_out_scores_[part] = expit(vectors[part] @ weights + intercept)
        self.data_hash_ = data_hash(texts, labels)
        return self

    def score(self, queries: Sequence[str], answers: Sequence[str]) -> Floats:
        """Return P(good) of each answer, of shape (n_rows,).

        Raises:
            NotFittedError: Before `fit`.
        """
        self._check_fitted()
        vectors = self._vectors(_texts(queries, answers))
        return np.asarray(expit(vectors @ self.weights_ + self.intercept_), dtype=np.float64)

    @property
    def blocks(self) -> bool:
        """Embeddings of your own may ask a server or compute for long."""
        return self.embeddings is not None

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return no calls: the scorer calls no model."""
        return []

    def evaluate(self, case: Case) -> Evaluating:
        """Score the answer without calling a model."""
        return Evaluation(float(self.score([case.question], [answer_text(case.answer)])[0]))
        yield  # pragma: no cover - makes this a generator like every verifier

    def save(self, folder: str | Path) -> Path:
        """Write the fitted scorer into a folder."""
        self._check_fitted()
        arrays: dict[str, NDArray[Any]] = {
            "weights": self.weights_,
            "held_out_scores": self.held_out_scores_,
        }
        if isinstance(self.fitted_embeddings_, LexicalEmbeddings):
            arrays["idf"] = self.fitted_embeddings_.idf_
        settings = {
            "l2": self.l2,
            "n_folds": self.n_folds,
            "intercept": self.intercept_,
            "embeddings": describe_embeddings(self.fitted_embeddings_, len(self.weights_)),
            "data_hash": self.data_hash_,
        }
        return write_artifact(folder, Artifact(type(self).__name__, settings, arrays))

    @classmethod
    def load(cls, folder: str | Path, *, embeddings: Embeddings | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder that `save` wrote.
            embeddings: The embeddings that the scorer was fitted with; not needed for the lexical
                ones.

        Raises:
            ArtifactError: If the folder is corrupted or needs other embeddings.
        """
        artifact = read_artifact(folder, cls.__name__)
        settings, arrays = artifact.settings, artifact.arrays
        try:
            scorer = cls(embeddings, l2=settings["l2"], n_folds=settings["n_folds"])
            described, idf = settings["embeddings"], arrays.get("idf")
            scorer.fitted_embeddings_ = restore_embeddings(described, embeddings, idf)
            scorer.weights_ = arrays["weights"]
            scorer.intercept_ = float(settings["intercept"])
            scorer.held_out_scores_ = arrays["held_out_scores"]
            scorer.data_hash_ = settings["data_hash"]
        except (KeyError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error
        return scorer

    def _vectors(self, texts: Sequence[str]) -> Any:
        # Vectors of hashed words are nearly all zeros, and a sparse fit takes a tenth of a second.
        vectors = embed(self.fitted_embeddings_, texts)
        lexical = isinstance(self.fitted_embeddings_, LexicalEmbeddings)
        return sparse.csr_array(vectors) if lexical else vectors

    def _check_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            msg = (
                "This AnswerScorer is not fitted: call `fit(queries, answers, good)` or "
                "`AnswerScorer.load(folder)` first."
            )
            raise NotFittedError(msg)


def _texts(queries: Sequence[str], answers: Sequence[str]) -> list[str]:
    pairs = zip(queries, answers, strict=True)
    return [f"{query} {visible_text(answer)}" for query, answer in pairs]


def _logistic(vectors: Any, labels: Floats, l2: float) -> tuple[Floats, float]:
    """Minimize the penalized log-loss over weights and intercept; only weights are penalized.

    Two pseudo-rows without features, one per label, keep the intercept finite on constant labels.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - slow, and only fitting needs it

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, intercept = parameters[:-1], parameters[-1]
        logits = vectors @ weights + intercept
        value = np.logaddexp(0, logits).sum() - labels @ logits + l2 / 2 * (weights @ weights)
        value += 2 * np.logaddexp(0, intercept) - intercept
        excess = expit(logits) - labels
        slope = vectors.T @ excess + l2 * weights
        return float(value), np.append(slope, excess.sum() + 2 * expit(intercept) - 1)

    solution = minimize(loss, np.zeros(vectors.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return np.asarray(solution[:-1], dtype=np.float64), float(solution[-1])
