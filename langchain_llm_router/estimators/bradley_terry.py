"""RouteLLM's similarity-weighted ranking: a Bradley–Terry fit per query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from langchain_core.embeddings import Embeddings
from scipy.sparse import csr_array

from langchain_llm_router.data.embeddings import dense
from langchain_llm_router.estimators import ratings
from langchain_llm_router.estimators.memory import ExactMemory
from langchain_llm_router.estimators.memory_based import MemoryBasedEstimator
from langchain_llm_router.estimators.preference import IndexedBattles, PreferenceEstimator
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Indices, Vectors

__all__ = ["BradleyTerry"]

_GAMMAS = (1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e6)
_TOP_KS = (10, 30, 100, 300, 1000)
_MAX_LEFT_OUT = 300
_MAX_ENTRIES = 8_000_000


@dataclass(eq=False)
class BradleyTerry(MemoryBasedEstimator, PreferenceEstimator):
    """Ranks candidates for each query by battles weighted with gamma^(1 + similarity).

    Battles enter a query's fit only through their weighted wins per pair, so a fit needs only a
    small table, and a decision costs little more than the comparison with the stored queries. See
    `PreferenceEstimator` for how win rates become qualities.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        gamma: Base of the weight of similar battles; the paper's value is 10. `"loo"` chooses it
            by leave-one-query-out log loss on the training battles.
        top_k: Number of nearest queries whose battles are used; None uses all. `"loo"` chooses it
            in the same way as `gamma`.
        n_tiers: Number of tiers of similar strength (10 in the paper) that are ranked in place of
            the candidates, for sparse battles among many candidates. Battles within a tier are
            dropped. If None, candidates are ranked.
        ridge: Precision of the Gaussian prior that keeps undefeated candidates finite.
        win_weights: Weight of the battles that a candidate wins, by name, where one side wins too
            often for the other to be learned; a missing name has 1. `"even"` weighs the wins of
            every pair so that both sides win half of the training battles. The predicted win rates
            are then those of the balanced battles. For the battles of `strong_weak_battles`,
            `{"strong": 1 / battles.score_a.mean()}` weighs the wins of the strong side alone. If
            None, every battle counts as it is.
        candidates: Names of the candidates to predict, in order. If None, all in the data.
        memory: Index of the training queries. If None, `ExactMemory`; other memories need a
            `top_k`.

    Attributes:
        gamma_: The gamma in use.
        top_k_: The top_k in use.
        tier_: Tier index of each candidate, 0 for the strongest tier.
        wins_: Wins per query and pair of tiers, sparse, of shape (n_rows, n_tiers ** 2).
        leave_one_out_: The settings that `"loo"` compared, as (gamma, top_k, log loss).

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2. As in its code, the similarity is
        the cosine divided by the largest cosine of the query. Deviations: battles within a tier
        are dropped (the code counts each as a loss of its tier), and a small ridge is added.
    """

    gamma: float | Literal["loo"] = 10.0
    top_k: int | Literal["loo"] | None = None
    n_tiers: int | None = None
    ridge: float = 1e-4
    win_weights: Mapping[str, float] | Literal["even"] | None = None

    def __post_init__(self) -> None:
        if self.gamma != "loo" and not (np.isfinite(self.gamma) and self.gamma >= 1):
            msg = f"`gamma` must be a number >= 1 or 'loo', got {self.gamma!r}."
            raise ValueError(msg)
        if self.top_k is not None and self.top_k != "loo" and self.top_k < 1:
            msg = f"`top_k` must be >= 1, None or 'loo', got {self.top_k!r}."
            raise ValueError(msg)
        if self.n_tiers is not None and self.n_tiers < 2:
            msg = f"`n_tiers` must be >= 2 or None, got {self.n_tiers!r}."
            raise ValueError(msg)
        check_range(self, "ridge", above=True)
        self.win_weights = _checked_win_weights(self.win_weights)
        if self.top_k is None and not isinstance(self.memory, ExactMemory | None):
            kind = type(self.memory).__name__
            msg = f"{kind} finds only near queries: set `top_k` to a number such as 200, or 'loo'."
            raise ValueError(msg)

    def _fit_battles(self, vectors: Vectors | csr_array, battles: IndexedBattles) -> None:
        tier_of = self._tiers(battles)
        self.tier_ = tier_of[self._columns(battles.names)]
        self._n_tiers = int(tier_of.max()) + 1
        a, b = tier_of[battles.a], tier_of[battles.b]
        rows = np.flatnonzero(a != b)
        cross_tier = IndexedBattles(
            battles.texts, battles.names, battles.query[rows], a[rows], b[rows], battles.score[rows]
        )
        won = self._weighted_wins(cross_tier, battles.a[rows], battles.b[rows])
        self.wins_ = _wins(cross_tier, won, self._n_tiers)
        self._fit_memory(vectors, battles.texts)
        self._choose_settings(vectors, cross_tier, won)

    def _tiers(self, battles: IndexedBattles) -> Indices:
        n = len(battles.names)
        if self.n_tiers is None or self.n_tiers >= n:
            return np.arange(n)
        strengths = ratings.bradley_terry(
            battles.a, battles.b, battles.score, n_candidates=n, ridge=self.ridge
        )
        return ratings.tiers(strengths, self.n_tiers)

    def _weighted_wins(self, cross_tier: IndexedBattles, a: Indices, b: Indices) -> Floats:
        """Weigh the wins of side a and of side b in each battle, of shape (2, n_battles).

        Args:
            cross_tier: Battles between tiers.
            a: Index of the candidate, not of the tier, on side a in each battle.
            b: The same for side b.
        """
        score = cross_tier.score
        won = np.stack([score, 1 - score])
        if self.win_weights is None:
            return won
        if self.win_weights == "even":
            sides = (cross_tier.a, cross_tier.b)
            total = ratings.win_table(*sides, score, n_candidates=self._n_tiers)
            half = (total + total.T) / 2
            weight = np.divide(half, total, out=np.ones_like(total), where=total > 0)
            return np.asarray(won * np.stack([weight[sides], weight[sides[::-1]]]))
        unknown = sorted(set(self.win_weights) - set(cross_tier.names))
        if unknown:
            msg = (
                f"`win_weights` must name candidates of the battles, {list(cross_tier.names)}, "
                f"got {unknown}."
            )
            raise ValueError(msg)
        own = np.array([self.win_weights.get(name, 1.0) for name in cross_tier.names])
        return np.asarray(won * np.stack([own[a], own[b]]))

    def _choose_settings(
        self, vectors: Vectors | csr_array, cross_tier: IndexedBattles, won: Floats
    ) -> None:
        """Set gamma and top_k as configured, or choose them by leave-one-query-out log loss."""
        exact = isinstance(self.memory_, ExactMemory)
        n = len(cross_tier.texts)
        gammas = _GAMMAS if self.gamma == "loo" else (float(self.gamma),)
        top_ks: tuple[int | None, ...] = (None if self.top_k == "loo" else self.top_k,)
        if self.top_k == "loo":
            top_ks = (*(k for k in _TOP_KS if k < n), *((None,) if exact else (n,)))
        tried: list[tuple[float, int | None, float]] = []
        if "loo" in {self.gamma, self.top_k} and len(cross_tier) > 0:
            left_out = np.unique(cross_tier.query)
            if len(left_out) > _MAX_LEFT_OUT:
                left_out = np.random.default_rng(0).choice(left_out, _MAX_LEFT_OUT, replace=False)
            for gamma, k in product(gammas, top_ks):
                tried.append(
                    (gamma, k, self._left_out_loss(vectors, cross_tier, won, left_out, gamma, k))
                )
        self.leave_one_out_ = tuple(tried)
        best = min(tried, key=lambda trial: trial[2], default=(gammas[0], top_ks[-1], 0.0))
        self.gamma_, self.top_k_ = best[0], best[1]

    def _left_out_loss(
        self,
        vectors: Vectors | csr_array,
        cross_tier: IndexedBattles,
        won: Floats,
        left_out: Indices,
        gamma: float,
        top_k: int | None,
    ) -> float:
        tables = []
        for part in np.array_split(left_out, self._n_parts(len(left_out), top_k)):
            texts = [cross_tier.texts[i] for i in part]
            tables.append(self._win_tables(dense(vectors[part]), texts, gamma, top_k, part))
        strengths = ratings.fit_win_tables(np.concatenate(tables), ridge=self.ridge)
        position = np.full(len(cross_tier.texts), -1)
        position[left_out] = np.arange(len(left_out))
        used = np.flatnonzero(position[cross_tier.query] >= 0)
        row, (won_a, won_b) = position[cross_tier.query[used]], won[:, used]
        ahead = strengths[row, cross_tier.a[used]] - strengths[row, cross_tier.b[used]]
        loss = won_a * np.logaddexp(0, -ahead) + won_b * np.logaddexp(0, ahead)
        return float(loss.sum() / max(won[:, used].sum(), np.finfo(float).tiny))

    def _strengths(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        strengths = []
        for part in np.array_split(
            np.arange(len(queries)), self._n_parts(len(queries), self.top_k_)
        ):
            texts = [queries[i] for i in part]
            tables = self._win_tables(vectors[part], texts, self.gamma_, self.top_k_)
            strengths.append(ratings.fit_win_tables(tables, ridge=self.ridge))
        return np.concatenate(strengths)[:, self.tier_]

    def _n_parts(self, n_queries: int, top_k: int | None) -> int:
        """Return how many parts a batch needs for each to use at most about 64 MB."""
        n_weights = self.memory_.n_rows_ if top_k is None else top_k
        per_query = max(n_weights, self._n_tiers**2)
        return max(1, -(-n_queries * per_query // _MAX_ENTRIES))

    def _win_tables(
        self,
        vectors: Vectors,
        texts: Sequence[str],
        gamma: float,
        top_k: int | None,
        left_out: Indices | None = None,
    ) -> Floats:
        """Compute weighted win tables, of shape (n_queries, n_tiers, n_tiers)."""
        shape = (len(vectors), self._n_tiers, self._n_tiers)
        if top_k is None:
            assert isinstance(self.memory_, ExactMemory), "checked in the constructor"
            cosine = self.memory_.cosines(vectors)
            if left_out is not None:
                cosine[np.arange(len(vectors)), left_out] = -np.inf
            return np.asarray(_weights(cosine, gamma) @ self.wins_).reshape(shape)
        # A left-out query is its own nearest neighbor, which takes one place.
        n_nearest = top_k if left_out is None else top_k + 1
        rows, cosine = self.memory_.search(vectors, texts, n_nearest)
        if left_out is not None:
            cosine[rows == left_out[:, None]] = -np.inf
        starts = np.arange(0, rows.size + 1, rows.shape[1])
        weights = csr_array(
            (_weights(cosine, gamma).ravel(), rows.ravel(), starts),
            shape=(len(vectors), self.memory_.n_rows_),
        )
        return np.asarray((weights @ self.wins_).toarray()).reshape(shape)

    def _settings(self) -> dict[str, Any]:
        chosen = {"gamma": self.gamma_, "top_k": self.top_k_, "n_tiers": self._n_tiers}
        return {**super()._settings(), "chosen": chosen, "leave_one_out": self.leave_one_out_}

    def _learned(self) -> Arrays:
        wins = self.wins_
        return {
            "tier": self.tier_,
            "wins_data": wins.data,
            "wins_indices": wins.indices,
            "wins_indptr": wins.indptr,
        }

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        chosen = settings["chosen"]
        self.gamma_, self.top_k_ = chosen["gamma"], chosen["top_k"]
        self._n_tiers = chosen["n_tiers"]
        self.leave_one_out_ = tuple((g, k, loss) for g, k, loss in settings["leave_one_out"])
        super()._restore(settings, arrays, embeddings)

    def _restore_learned(self, arrays: Arrays) -> None:
        self.tier_ = arrays["tier"]
        parts = (arrays["wins_data"], arrays["wins_indices"], arrays["wins_indptr"])
        self.wins_ = csr_array(parts, shape=(self.memory_.n_rows_, self._n_tiers**2))
        self.wins_.check_format()
        in_range = bool(((self.tier_ >= 0) & (self.tier_ < self._n_tiers)).all())
        if self.tier_.shape != (len(self.candidates_),) or not in_range:
            msg = f"the tiers {self.tier_.tolist()} do not match {list(self.candidates_)}"
            raise ValueError(msg)


def _checked_win_weights(
    weights: Mapping[str, float] | Literal["even"] | None,
) -> dict[str, float] | Literal["even"] | None:
    if weights is None or weights == "even":
        return weights
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights.values()):
        msg = f"`win_weights` must map names to finite numbers >= 0, got {weights!r}."
        raise ValueError(msg)
    return dict(weights)


def _wins(cross_tier: IndexedBattles, won: Floats, n_tiers: int) -> csr_array:
    """Sum the weighted wins per query and pair of tiers; a tie is half a win for each side."""
    cells = np.concatenate(
        [cross_tier.a * n_tiers + cross_tier.b, cross_tier.b * n_tiers + cross_tier.a]
    )
    rows = np.concatenate([cross_tier.query, cross_tier.query])
    wins = csr_array((won.ravel(), (rows, cells)), shape=(len(cross_tier.texts), n_tiers**2))
    wins.eliminate_zeros()
    return wins


def _weights(cosine: Vectors, gamma: float) -> Floats:
    """Compute ω = gamma^(1 + S), where S = cosine / largest cosine.

    A cosine of -inf gives the weight 0. If no cosine is above 0, all battles weigh the same.
    """
    largest = cosine.max(axis=1, keepdims=True)
    excluded = np.isneginf(cosine)
    if excluded.any():
        cosine = np.where(excluded, np.float32(0), cosine)
    similarity = cosine / np.where(largest > 0, largest, np.inf)
    weights = np.power(np.float32(gamma), 1 + similarity).astype(np.float64)
    weights[excluded] = 0.0
    return np.asarray(weights)
