"""The base class of estimators trained on pairwise battles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.ratings import mean_win_rates
from langchain_llm_router.types.arrays import Floats, Indices, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["IndexedBattles", "PreferenceEstimator"]


@dataclass(frozen=True, eq=False)
class IndexedBattles:
    """Battles with indices in place of texts and names.

    Args:
        texts: The distinct queries.
        names: Names of all candidates in the battles.
        query: Index in `texts` of the query of each battle, of shape (n_battles,).
        a: Index in `names` of the candidate on side a in each battle, same shape.
        b: Index in `names` of the candidate on side b in each battle, same shape.
        score: 1 where a won, 0 where b won, 0.5 for a tie, same shape.
    """

    texts: Sequence[str]
    names: Sequence[str]
    query: Indices
    a: Indices
    b: Indices
    score: Floats

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def of_battles(cls, battles: Battles) -> IndexedBattles:
        """Index a table of battles."""
        names = battles.candidates
        texts, query = _index_texts(battles.queries)
        index = {name: i for i, name in enumerate(names)}
        a = np.array([index[name] for name in battles.candidate_a], dtype=np.intp)
        b = np.array([index[name] for name in battles.candidate_b], dtype=np.intp)
        return cls(texts, names, query, a, b, battles.score_a)

    @classmethod
    def of_outcomes(cls, outcomes: Outcomes) -> IndexedBattles:
        """Index the battles of `Outcomes.to_battles`, without building lists of names."""
        texts, query = _index_texts(outcomes.queries)
        a, b = np.triu_indices(len(outcomes.candidates), k=1)
        score = (1 + np.sign(outcomes.quality[:, a] - outcomes.quality[:, b])) / 2
        n = len(outcomes)
        rows = np.repeat(query, len(a))
        return cls(texts, outcomes.candidates, rows, np.tile(a, n), np.tile(b, n), score.ravel())


@dataclass(eq=False)
class PreferenceEstimator(EmbeddingEstimator):
    """Base class for estimators trained on pairwise battles, from `Battles` or `Outcomes`.

    The quality of a candidate is its predicted win rate against the other candidates, where a tie
    is half a win. For two candidates the win rate of the strong one is
    1/2 (1 + q_strong - q_weak), which `Threshold` uses. For more candidates, qualities give only
    the order; a pair's exact win rate is 1 / (1 + exp(s_b - s_a)) by `predict_strengths`. Only
    differences of these qualities are meaningful: two equal candidates both have 0.5, whether both
    are perfect or useless.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        candidates: Names of the candidates to predict, in order. If None, all in the data. The
            battles of other candidates are used in the fit as well.
    """

    candidates: Sequence[str] | None = field(default=None, kw_only=True)

    def fit(self, data: Outcomes | Battles) -> Self:
        """Fit to battles or to outcomes converted to battles, replacing any earlier fit.

        Raises:
            ValueError: If there are no rows, or a name in `candidates` is in no battle.
        """
        if isinstance(data, Outcomes):
            return super().fit(data)
        if len(data) == 0:
            msg = f"{type(self).__name__} cannot be fitted on 0 battles."
            raise ValueError(msg)
        battles = IndexedBattles.of_battles(data)
        self.candidates_ = self._select_candidates(battles.names)
        sides = (data.queries, data.candidate_a, data.candidate_b)
        self.report_ = None
        self.data_hash_ = data_hash(*sides, data.score_a)
        self._fit_battles(self._embed_training(battles.texts), battles)
        return self

    def predict_strengths(self, queries: Sequence[str]) -> Floats:
        """Predict each candidate's strength on each query, of shape (n_queries, n_candidates).

        Strengths are on the log-odds scale: a beats b with probability 1 / (1 + exp(s_b - s_a)).

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        self._check_fitted()
        if len(queries) == 0:
            return np.empty((0, len(self.candidates_)))
        return self._by_parts(self._strengths, queries)

    def _select_candidates(self, names: Sequence[str]) -> tuple[str, ...]:
        chosen = tuple(names if self.candidates is None else self.candidates)
        unknown = [name for name in chosen if name not in names]
        if len(chosen) == 0 or unknown:
            msg = f"`candidates` must be names from the battles, {list(names)}, got {list(chosen)}."
            raise ValueError(msg)
        return chosen

    def _columns(self, names: Sequence[str]) -> Indices:
        return np.array([list(names).index(name) for name in self.candidates_], dtype=np.intp)

    def _fit_vectors(self, vectors: Vectors | csr_array, data: Outcomes) -> None:
        battles = IndexedBattles.of_outcomes(data)
        self.candidates_ = self._select_candidates(battles.names)
        first = {text: i for i, text in reversed(list(enumerate(data.queries)))}
        self._fit_battles(vectors[[first[text] for text in battles.texts]], battles)

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        return mean_win_rates(self._strengths(vectors, queries))

    @abstractmethod
    def _fit_battles(self, vectors: Vectors | csr_array, battles: IndexedBattles) -> None: ...

    @abstractmethod
    def _strengths(self, vectors: Vectors, queries: Sequence[str]) -> Floats: ...


def _index_texts(texts: Sequence[str]) -> tuple[tuple[str, ...], Indices]:
    index: dict[str, int] = {}
    indices = np.array([index.setdefault(text, len(index)) for text in texts], dtype=np.intp)
    return tuple(index), indices
