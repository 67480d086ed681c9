"""RouteLLM's matrix factorization of models and queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from langchain_llm_router.data import split_indices
from langchain_llm_router.data.embeddings import dense
from langchain_llm_router.estimators.preference import IndexedBattles, PreferenceEstimator
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Bools, Floats, Indices, Vectors

__all__ = ["MatrixFactorization"]

_Weights = dict[str, Vectors]


@dataclass(eq=False)
class MatrixFactorization(PreferenceEstimator):
    """A factorization δ(M, q) = w₂ᵀ (v̂_M ⊙ (W₁ᵀ v_q + b)), where P(a beats b) = σ(δ_a − δ_b).

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        candidates: Names of the candidates to predict, in order. If None, all in the data.
        n_factors: Dimension of a model's vector.
        n_epochs: Maximum number of passes over the battles; training stops early when the loss on
            held-out queries stops falling. Of more than 2,048 queries, a pass sees some drawn at
            random, in 100 steps.
        learning_rate: Step size of Adam.
        weight_decay: L2 penalty, added to the gradient.
        noise: Standard deviation of the Gaussian noise on query vectors during training.
        batch_size: Battles per step; of more than 2,048 queries, queries with all of their battles.
        ties: `"half"` fits a tie as a win rate of 0.5. `"drop"` leaves ties out, as RouteLLM does,
            so that win rates are those of decided battles.
        seed: Seed of the initial weights, the noise and the split.

    Attributes:
        weights_: `projection` (embedding dimension, n_factors), `bias` and `output` (n_factors,),
            and `models` (n_candidates, n_factors) with rows of length 1.
        held_out_loss_: Log loss per epoch on the held-out battles; NaN if there were none.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2, equation 5. Deviations: ties
        count half by default, early stopping; the bias is the paper's, its code has none.
    """

    n_factors: int = 128
    n_epochs: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    noise: float = 0.1
    batch_size: int = 64
    ties: Literal["half", "drop"] = "half"
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("n_factors", "n_epochs", "batch_size"):
            if getattr(self, name) < 1:
                msg = f"`{name}` must be >= 1, got {getattr(self, name)!r}."
                raise ValueError(msg)
        check_range(self, "learning_rate", above=True)
        check_range(self, "weight_decay", "noise")

    def _fit_battles(self, vectors: Vectors | csr_array, battles: IndexedBattles) -> None:
        rng = np.random.default_rng(self.seed)
        weights = _initial_weights(rng, vectors.shape[1], self.n_factors, len(battles.names))
        use = battles.a != battles.b
        if self.ties == "drop":
            use &= battles.score != 0.5
        is_validation = _validation_mask(battles, self.seed)
        by_query = len(battles.texts) > self._FEW_ROWS
        batches = _Batches(battles, np.flatnonzero(use & ~is_validation), by_query=by_query)
        validation = batches.of(np.flatnonzero(use & is_validation))
        best, losses = weights, []
        adam = _Adam(weights, self.learning_rate, self.weight_decay)
        for _ in range(self.n_epochs if len(batches.rows) > 0 else 0):
            for batch in batches.draw(self.batch_size, rng):
                x = dense(vectors[batch.queries])
                if self.noise > 0:
                    x = x + self.noise * rng.standard_normal(x.shape, dtype=np.float32)
                weights = adam.step(weights, _gradient(weights, x, battles, batch))
            losses.append(_loss(weights, vectors, battles, validation))
            if len(validation.rows) == 0 or losses[-1] <= min(losses):
                best = weights
            elif len(losses) - int(np.argmin(losses)) > _PATIENCE:
                break
        self.held_out_loss_ = np.array(losses)
        chosen = _normalize_rows(best["models"])[self._columns(battles.names)]
        self.weights_ = {**best, "models": chosen}

    def _strengths(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        hidden = vectors @ self.weights_["projection"] + self.weights_["bias"]
        return np.asarray(
            (hidden * self.weights_["output"]) @ self.weights_["models"].T, dtype=np.float64
        )

    def _learned(self) -> Arrays:
        return {**self.weights_, "held_out_loss": self.held_out_loss_}

    def _restore_learned(self, arrays: Arrays) -> None:
        self.weights_ = {name: arrays[name] for name in _WEIGHT_NAMES}
        self.held_out_loss_ = arrays["held_out_loss"]
        factors = (self.n_factors,)
        expected = [(self.width_, *factors), factors, factors, (len(self.candidates_), *factors)]
        found = [self.weights_[name].shape for name in _WEIGHT_NAMES]
        if found != expected:
            msg = f"the weights have the shapes {found}, expected {expected}"
            raise ValueError(msg)


_WEIGHT_NAMES = ("projection", "bias", "output", "models")
_TINY = np.float32(1e-30)
_PATIENCE = 10
_HELD_OUT, _MOST_HELD_OUT = 0.05, 1000
_EPOCH_STEPS = 100


def _initial_weights(rng: np.random.Generator, width: int, d: int, n_models: int) -> _Weights:
    """Initialize as PyTorch does: linear layers uniform in ±1/√inputs, model vectors normal."""
    inner, outer = width**-0.5, d**-0.5
    return {
        "projection": rng.uniform(-inner, inner, (width, d)).astype(np.float32),
        "bias": rng.uniform(-inner, inner, d).astype(np.float32),
        "output": rng.uniform(-outer, outer, d).astype(np.float32),
        "models": rng.standard_normal((n_models, d), dtype=np.float32),
    }


def _validation_mask(battles: IndexedBattles, seed: int) -> Bools:
    """Select all battles of one in twenty queries, and of a thousand at most."""
    n = len(battles.texts)
    (queries,) = split_indices(n, [min(_HELD_OUT, _MOST_HELD_OUT / n)], seed=seed)
    return np.isin(battles.query, queries)


def _normalize_rows(models: Vectors) -> Vectors:
    norms = np.linalg.norm(models, axis=1, keepdims=True)
    return np.asarray(models / np.maximum(norms, _TINY))


def _loss(
    weights: _Weights, vectors: Vectors | csr_array, battles: IndexedBattles, batch: _Batch
) -> float:
    rows = batch.rows
    if len(rows) == 0:
        return float("nan")
    models = _normalize_rows(weights["models"])
    hidden = (vectors[batch.queries] @ weights["projection"] + weights["bias"])[batch.at]
    ahead = (hidden * (models[battles.a[rows]] - models[battles.b[rows]])) @ weights["output"]
    score = battles.score[rows]
    return float(np.mean(np.logaddexp(0, -ahead) * score + np.logaddexp(0, ahead) * (1 - score)))


def _gradient(weights: _Weights, x: Vectors, battles: IndexedBattles, batch: _Batch) -> _Weights:
    """Compute the gradient of the mean log loss of σ(δ_a − δ_b) against the score.

    Args:
        weights: The weights.
        x: Vectors of the batch's queries.
        battles: All battles.
        batch: Those to learn from.
    """
    rows = batch.rows
    models, output = _normalize_rows(weights["models"]), weights["output"]
    a, b = battles.a[rows], battles.b[rows]
    hidden: Vectors = (x @ weights["projection"] + weights["bias"])[batch.at]
    gap = models[a] - models[b]
    guess = expit((hidden * gap) @ output)
    residual: Vectors = (guess - battles.score[rows]).astype(np.float32)[:, None]
    residual /= np.float32(len(rows))
    on_hidden: Vectors = residual * gap * output
    on_models: Vectors = residual * hidden * output
    toward = np.zeros_like(models)
    np.add.at(toward, a, on_models)
    np.subtract.at(toward, b, on_models)
    norms = np.linalg.norm(weights["models"], axis=1, keepdims=True)
    along = (toward * models).sum(axis=1, keepdims=True)
    turned: Vectors = (toward - along * models) / np.maximum(norms, _TINY)
    return {
        "projection": np.asarray(x.T @ batch.sum_by_query(on_hidden), dtype=np.float32),
        "bias": on_hidden.sum(axis=0, dtype=np.float32),
        "output": (residual * hidden * gap).sum(axis=0, dtype=np.float32),
        "models": turned,
    }


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some battles and their queries.

    Args:
        rows: Indices of the battles.
        queries: Indices of the queries.
        at: Position in `queries` of the query of each battle, ascending.
    """

    rows: Indices
    queries: Indices
    at: Indices

    def sum_by_query(self, values: Vectors) -> Vectors:
        """Sum what belongs to battles, of shape (n_battles, n), to (n_queries, n)."""
        starts = np.flatnonzero(np.diff(self.at, prepend=-1))
        return np.asarray(np.add.reduceat(values, starts))


class _Batches:
    """Random batches of battles, or of queries with all of their battles.

    Many battles of one query cost hardly more than one, because most of the work is on the query's
    vector.

    Args:
        battles: All battles.
        rows: Indices of those to draw from.
        by_query: Whether queries are drawn, for `_EPOCH_STEPS` batches at most.
    """

    def __init__(self, battles: IndexedBattles, rows: Indices, *, by_query: bool) -> None:
        self._query, self._by_query = battles.query, by_query
        self.rows = rows[np.argsort(battles.query[rows], kind="stable")] if by_query else rows
        starts = np.unique(battles.query[self.rows], return_index=True)[1]
        self._of_query = np.split(self.rows, starts[1:]) if by_query else []

    def of(self, rows: Indices) -> _Batch:
        """Return a batch of these battles."""
        if not self._by_query:
            return _Batch(rows, self._query[rows], np.arange(len(rows)))
        ordered = rows[np.argsort(self._query[rows], kind="stable")]
        queries, at = np.unique(self._query[ordered], return_inverse=True)
        return _Batch(ordered, queries, at)

    def draw(self, size: int, rng: np.random.Generator) -> Iterator[_Batch]:
        """Yield the batches of an epoch."""
        if not self._by_query:
            order = rng.permutation(self.rows)
            for start in range(0, len(order), size):
                yield self.of(order[start : start + size])
            return
        order = rng.permutation(len(self._of_query))[: size * _EPOCH_STEPS]
        for start in range(0, len(order), size):
            drawn = [self._of_query[i] for i in order[start : start + size]]
            yield self.of(np.concatenate(drawn))


class _Adam:
    """Adam (Kingma and Ba, 2014, arXiv:1412.6980, algorithm 1) with L2 added to the gradient."""

    def __init__(self, weights: _Weights, learning_rate: float, weight_decay: float) -> None:
        self.learning_rate, self.weight_decay, self.n_steps = learning_rate, weight_decay, 0
        self.mean = {name: np.zeros_like(value) for name, value in weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in weights.items()}

    def step(self, weights: _Weights, gradient: _Weights) -> _Weights:
        self.n_steps += 1
        moved: _Weights = {}
        for name, value in weights.items():
            slope = gradient[name] + np.float32(self.weight_decay) * value
            self.mean[name] += np.float32(0.1) * (slope - self.mean[name])
            self.square[name] += np.float32(0.001) * (slope * slope - self.square[name])
            rate = self.learning_rate * (1 - 0.999**self.n_steps) ** 0.5 / (1 - 0.9**self.n_steps)
            spread = np.sqrt(self.square[name]) + np.float32(1e-8)
            moved[name] = np.asarray(value - np.float32(rate) * self.mean[name] / spread)
        return moved
