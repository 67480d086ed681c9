"""What estimators of preferences share: fitting on battles, and win rates read as qualities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.ratings import mean_win_rates
from langchain_llm_router.types.arrays import Floats, Indices, Vectors

__all__ = ["NumberedBattles", "PreferenceEstimator"]


@dataclass(frozen=True, eq=False)
class NumberedBattles:
    """Battles with numbers in place of texts and names.

    Args:
        texts: The distinct queries.
        names: Every candidate in a battle.
        query: Number of each battle's query in `texts`, of shape (n_battles,).
        a: Number of the candidate on side a, same shape.
        b: Number of the candidate on side b, same shape.
        score: 1 a won, 0 b won, 0.5 tie, same shape.
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
    def of_battles(cls, battles: Battles) -> NumberedBattles:
        """Number a table of battles."""
        names = battles.candidates
        texts, query = _numbered(battles.queries)
        number = {name: i for i, name in enumerate(names)}
        a = np.array([number[name] for name in battles.candidate_a], dtype=np.intp)
        b = np.array([number[name] for name in battles.candidate_b], dtype=np.intp)
        return cls(texts, names, query, a, b, battles.score_a)

    @classmethod
    def of_outcomes(cls, outcomes: Outcomes) -> NumberedBattles:
        """Number what `Outcomes.to_battles` would give, without building a million strings."""
        texts, query = _numbered(outcomes.queries)
        a, b = np.triu_indices(len(outcomes.candidates), k=1)
        score = (1 + np.sign(outcomes.quality[:, a] - outcomes.quality[:, b])) / 2
        n = len(outcomes)
        rows = np.repeat(query, len(a))
        return cls(texts, outcomes.candidates, rows, np.tile(a, n), np.tile(b, n), score.ravel())


@dataclass(eq=False)
class PreferenceEstimator(EmbeddingEstimator):
    """Learns which candidate beats which; fits on `Battles` as well as on `Outcomes`.

    Its quality of a candidate is the predicted win rate against the other candidates, ties counted
    half, so a pair's win rate is 1/2 (1 + q_strong - q_weak), as `Threshold` reads it. With more
    than two candidates the order is kept, and `predict_strengths` has every pair's exact win rate:
    1 / (1 + exp(s_b - s_a)). Only differences mean something: a pair of equals has 0.5 each,
    whether both are perfect or useless.

    Args:
        embeddings: Any LangChain `Embeddings`; None: lexical, no model needed.
        candidates: Those to predict, in this order; None: all in the data. Battles of the
            others still count in the fit.
    """

    candidates: Sequence[str] | None = field(default=None, kw_only=True)

    def fit(self, data: Outcomes | Battles) -> Self:
        """Learn from battles, or from outcomes read as battles, forgetting any earlier fit.

        Raises:
            ValueError: If there are no rows, or a name in `candidates` is in no battle.
        """
        if isinstance(data, Outcomes):
            return super().fit(data)
        if len(data) == 0:
            msg = f"{type(self).__name__} cannot be fitted on 0 battles."
            raise ValueError(msg)
        battles = NumberedBattles.of_battles(data)
        self.candidates_ = self._chosen(battles.names)
        sides = (data.queries, data.candidate_a, data.candidate_b)
        self.report_ = None
        self.data_hash_ = data_hash(*sides, data.score_a)
        self._fit_battles(self._embed_training(battles.texts), battles)
        return self

    def predict_strengths(self, queries: Sequence[str]) -> Floats:
        """How strong each candidate is on each query, of shape (n_queries, n_candidates).

        In natural-log units: a beats b with probability 1 / (1 + exp(s_b - s_a)).

        Raises:
            NotFittedError: If `fit` or `load` was not called before.
        """
        self._check_fitted()
        if len(queries) == 0:
            return np.empty((0, len(self.candidates_)))
        return self._strengths(self._embed_queries(queries), queries)

    def _chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        chosen = tuple(names if self.candidates is None else self.candidates)
        unknown = [name for name in chosen if name not in names]
        if len(chosen) == 0 or unknown:
            msg = f"`candidates` {list(chosen)} must be among those who fought: {list(names)}."
            raise ValueError(msg)
        return chosen

    def _columns(self, names: Sequence[str]) -> Indices:
        return np.array([list(names).index(name) for name in self.candidates_], dtype=np.intp)

    def _fit_vectors(self, vectors: Vectors, data: Outcomes) -> None:
        battles = NumberedBattles.of_outcomes(data)
        self.candidates_ = self._chosen(battles.names)
        first = {text: i for i, text in reversed(list(enumerate(data.queries)))}
        self._fit_battles(vectors[[first[text] for text in battles.texts]], battles)

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        return mean_win_rates(self._strengths(vectors, queries))

    @abstractmethod
    def _fit_battles(self, vectors: Vectors, battles: NumberedBattles) -> None: ...

    @abstractmethod
    def _strengths(self, vectors: Vectors, queries: Sequence[str]) -> Floats: ...


def _numbered(texts: Sequence[str]) -> tuple[tuple[str, ...], Indices]:
    number: dict[str, int] = {}
    numbers = np.array([number.setdefault(text, len(number)) for text in texts], dtype=np.intp)
    return tuple(number), numbers
