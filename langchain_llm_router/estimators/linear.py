"""An estimator that is linear in an embedding and in surface features of the query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.embeddings import LexicalEmbeddings, dense
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.ridge import (
    Block,
    NormalEquations,
    Spectrum,
    block_factors,
)
from langchain_llm_router.estimators.text_features import SURFACE_FEATURES, surface_features
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Indices, Vectors, label_indices

__all__ = [
    "Linear",
    "shift_to_unit_interval",
]


_LEXICAL_WIDTH = 2048
_SAMPLES, _SAMPLE_ROWS = 4, 2000
_PENALTY_GROWTH = 0.2
"""Power of the number of queries with which the best penalty of the mean grows, as measured by
tests/benchmarks/penalty_growth.py; that of the differences does not grow."""

_ALPHAS = 10.0 ** np.arange(-3, 3.01, 0.25)


_Sample = tuple[Spectrum, Floats, Floats]
"""Rows on which penalties are chosen, their targets, and how many equal rows each stands for."""


@dataclass(eq=False)
class Linear(EmbeddingEstimator):
    """Ridge or logistic regression on an embedding and on surface features.

    Surface features (length, numbers, punctuation, ...) enter directly, and through random
    Fourier features of a Laplace kernel, which models nonlinear effects. Exact leave-one-out on
    the training rows, all rows of a query at once, chooses two ridge penalties: one for the mean
    over candidates and one for the differences between candidates, which decide the routing. Of
    more than 2,048 rows, up to four samples of 2,000 queries choose them, and that of the mean
    grows with the fifth root of the number of queries.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        link: `"identity"` for ridge regression, `"logit"` for logistic regression with the ridge
            penalty of the differences.
        alpha: Ridge penalty, relative to the mean squared length of a feature row. If None, it is
            chosen by leave-one-out.
        lexical: Whether to add word n-grams to an embedding other than `LexicalEmbeddings`.
        surface_share: Share of the surface features in the kernel, in [0, 1]. If None, every kind
            of feature has an equal share.
        n_surface: Number of Fourier features of the surface features.
        seed: Seed of the Fourier features.

    Attributes:
        coefficients_: Coefficients, of shape (n_features, n_candidates).
        intercept_: Intercepts, of shape (n_candidates,).
        alpha_: The ridge penalties of the mean and of the differences.

    References:
        Rahimi & Recht, 2007, Random features for large-scale kernel machines, section 3. Rifkin &
        Lippert, 2007, Notes on regularized least squares, MIT-CSAIL-TR-2007-025, section 5
        (leave-one-out in closed form). LLM routing by such regressors: arXiv:2505.12601.
    """

    link: Literal["identity", "logit"] = "identity"
    alpha: float | None = None
    lexical: bool = True
    surface_share: float | None = None
    n_surface: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, "alpha", above=True)
        if self.surface_share is not None and not 0 <= self.surface_share <= 1:
            msg = f"`surface_share` must be in [0, 1] or None, got {self.surface_share!r}."
            raise ValueError(msg)
        if self.n_surface < 2 or self.n_surface % 2 != 0:
            msg = f"`n_surface` must be even and >= 2, got {self.n_surface!r}."
            raise ValueError(msg)

    def _fit_vectors(self, vectors: Vectors | csr_array, data: Outcomes) -> None:
        plain = surface_features(data.queries)
        self._surface_mean, spread = plain.mean(axis=0), plain.std(axis=0)
        self._surface_scale = np.where(spread > 1e-9, spread, 1.0)
        rng = np.random.default_rng(self.seed)
        # exp(-mean |Δ|) has Cauchy frequencies with the scale 1 / n_features.
        shape = (len(SURFACE_FEATURES), self.n_surface // 2)
        self._frequencies = rng.standard_cauchy(shape) / len(SURFACE_FEATURES)
        self._lexical = None
        if self.lexical and not isinstance(self.embeddings_, LexicalEmbeddings):
            self._lexical = LexicalEmbeddings(_LEXICAL_WIDTH).fit(data.queries)
        distinct = _Distinct.of(data.queries)
        if len(data) <= self._FEW_ROWS:
            blocks = self._blocks(vectors, data.queries, plain)
            self._fit_few([dense(block) for block in blocks], data.quality, distinct)
        else:
            self._fit_many(vectors, data, plain, distinct)

    def _shares(self) -> list[float]:
        """Return the share of each block in the squared length of a row."""
        n_text = 1 if self._lexical is None else 2
        surface = 1 / (n_text + 1) if self.surface_share is None else self.surface_share
        return [(1 - surface) / n_text] * n_text + [surface / 2] * 2

    def _fit_few(self, blocks: Sequence[Vectors], quality: Floats, distinct: _Distinct) -> None:
        """Solve on the principal axes of the rows, every penalty by leave-one-out on all rows."""
        means = [block.mean(axis=0) for block in blocks]
        centered = [block - mean for block, mean in zip(blocks, means, strict=True)]
        # All blocks are scaled to rows of mean squared length 1 before the shares are applied.
        lengths = [float((block**2).sum(axis=1).mean()) for block in centered]
        factors = block_factors(self._shares(), lengths)
        scales = np.repeat(factors, [block.shape[1] for block in blocks])
        features: Vectors = np.multiply(np.hstack(centered), scales, dtype=np.float32)
        targets, spectrum = _mean_and_differences(quality), Spectrum(features)
        if len(distinct.first) == len(quality):
            sample = spectrum, targets, distinct.counts
        else:
            averaged = distinct.average(targets)
            sample = _weighted(features[distinct.first], averaged, distinct.counts)
        self.alpha_ = self._choose_alpha([sample], _ALPHAS * distinct.counts.mean())
        weights, intercept = self._solve(
            lambda alpha, columns: spectrum.ridge(alpha, targets[:, columns]),
            spectrum.logistic,
            quality,
        )
        self.coefficients_ = spectrum.on_features(weights, features) * scales[:, None]
        self.intercept_ = intercept - np.concatenate(means) @ self.coefficients_

    def _fit_many(
        self, vectors: Vectors | csr_array, data: Outcomes, plain: Floats, distinct: _Distinct
    ) -> None:
        """Solve the normal equations, with penalties by leave-one-out on some rows."""

        def read(rows: Indices) -> list[Block]:
            return self._blocks(vectors[rows], [data.queries[i] for i in rows], plain[rows])

        targets = _mean_and_differences(data.quality)
        equations = NormalEquations(read, targets, self._shares())
        means, scales = equations.means, equations.scales

        n_distinct, averaged = len(distinct.first), distinct.average(targets)

        def samples() -> Iterator[_Sample]:
            n = max(1, min(_SAMPLES, n_distinct // _SAMPLE_ROWS))
            order = np.random.default_rng(self.seed).permutation(n_distinct)
            for some in np.array_split(order[: n * _SAMPLE_ROWS], n):
                sampled = np.hstack([dense(block) for block in read(distinct.first[some])])
                features = ((sampled - means) * scales).astype(np.float32)
                counts = distinct.counts[some]
                features -= np.average(features, axis=0, weights=counts).astype(np.float32)
                own = averaged[some] - np.average(averaged[some], axis=0, weights=counts)
                yield _weighted(features, own, counts)

        n_more = n_distinct / min(n_distinct, _SAMPLE_ROWS)
        mean, differences = self._choose_alpha(samples(), _ALPHAS * distinct.counts.mean())
        if self.alpha is None:
            mean *= n_more**_PENALTY_GROWTH
        self.alpha_ = mean, differences
        weights, intercept = self._solve(equations.ridge, equations.logistic, data.quality)
        self.coefficients_ = weights * scales[:, None]
        self.intercept_ = intercept - means @ self.coefficients_

    def _choose_alpha(self, samples: Iterable[_Sample], alphas: Floats) -> tuple[float, float]:
        """Return the penalties with the lowest leave-one-out error over samples of rows."""
        if self.alpha is not None:
            return self.alpha, self.alpha
        errors = np.zeros((2, len(alphas)))
        for spectrum, targets, counts in samples:
            if len(targets) < 3:
                return float(counts.mean()), float(counts.mean())
            parts = (targets[:, :1], targets[:, 1:])
            errors += [[spectrum.loo_error(a, part, counts) for a in alphas] for part in parts]
        if not errors[1].any():
            # One candidate, or candidates that never differ: only the mean says anything.
            errors[1] = errors[0]
        mean, differences = alphas[errors.argmin(axis=1)]
        return float(mean), float(differences)

    def _solve(
        self,
        ridge: Callable[[float, slice], Floats],
        logistic: Callable[[float, Floats], tuple[Floats, float]],
        quality: Floats,
    ) -> tuple[Floats, Floats]:
        """Solve for the weights and the intercepts of each candidate."""
        if self.link == "identity":
            mean = ridge(self.alpha_[0], slice(0, 1))
            return mean + ridge(self.alpha_[1], slice(1, None)), quality.mean(axis=0)
        fits = [logistic(self.alpha_[1], column) for column in quality.T]
        return np.column_stack([w for w, _ in fits]), np.array([b for _, b in fits])

    def _predict_vectors(self, vectors: Vectors, queries: Sequence[str]) -> Floats:
        blocks = self._blocks(vectors, queries, surface_features(queries))
        features = np.hstack([dense(block) for block in blocks])
        raw: Floats = features @ self.coefficients_ + self.intercept_
        return np.asarray(expit(raw)) if self.link == "logit" else shift_to_unit_interval(raw)

    def _blocks(
        self, vectors: Vectors | csr_array, texts: Sequence[str], plain: Floats
    ) -> list[Block]:
        """Return the blocks of features: text, then Fourier features, then surface features."""
        standard = (plain - self._surface_mean) / self._surface_scale
        standard = np.clip(standard, -5, 5)
        angles = standard @ self._frequencies
        waves = np.hstack([np.cos(angles), np.sin(angles)]) * np.sqrt(2 / self.n_surface)
        lexical: list[Block] = []
        if self._lexical is not None:
            many = len(texts) > self._FEW_ROWS
            embed = self._lexical.embed_sparse if many else self._lexical.embed_array
            lexical = [embed(texts)]
        return [vectors, *lexical, waves.astype(np.float32), standard.astype(np.float32)]

    def _learned(self) -> Arrays:
        return {
            "coefficients": self.coefficients_,
            "intercept": self.intercept_,
            "surface_mean": self._surface_mean,
            "surface_scale": self._surface_scale,
            "frequencies": self._frequencies,
            "alpha": np.array(self.alpha_),
            **({} if self._lexical is None else {"beside_idf": self._lexical.idf_}),
        }

    def _restore_learned(self, arrays: Arrays) -> None:
        self.coefficients_, self.intercept_ = arrays["coefficients"], arrays["intercept"]
        self._surface_mean, self._surface_scale = arrays["surface_mean"], arrays["surface_scale"]
        self._frequencies = arrays["frequencies"]
        self.alpha_ = float(arrays["alpha"][0]), float(arrays["alpha"][1])
        self._lexical = None
        if "beside_idf" in arrays:
            self._lexical = LexicalEmbeddings(len(arrays["beside_idf"]))
            self._lexical.idf_ = arrays["beside_idf"]
        width = self.width_ + len(arrays.get("beside_idf", ()))
        expected = (width + self.n_surface + len(SURFACE_FEATURES), len(self.candidates_))
        if self.coefficients_.shape != expected:
            msg = f"coefficients have shape {self.coefficients_.shape}, expected {expected}"
            raise ValueError(msg)


@dataclass(frozen=True)
class _Distinct:
    """The distinct queries of some rows.

    Args:
        first: The first row of each.
        groups: The number of each row's query.
    """

    first: Indices
    groups: Indices

    @classmethod
    def of(cls, queries: Sequence[str]) -> _Distinct:
        groups = label_indices(queries)
        return cls(np.unique(groups, return_index=True)[1], groups)

    @cached_property
    def counts(self) -> Floats:
        """Number of rows of each query."""
        return np.bincount(self.groups).astype(np.float64)

    def average(self, targets: Floats) -> Floats:
        """Average each query's rows, of shape (n_queries, n_targets)."""
        sums = np.zeros((len(self.first), targets.shape[1]))
        np.add.at(sums, self.groups, targets)
        return sums / self.counts[:, None]


def _weighted(features: Vectors, targets: Floats, counts: Floats) -> _Sample:
    """Return rows that stand for as many equal ones as they count."""
    roots = np.sqrt(counts)[:, None]
    return Spectrum((features * roots).astype(np.float32)), targets * roots, counts


def _mean_and_differences(quality: Floats) -> Floats:
    """Compute the centered targets: the mean over candidates, then the differences from it."""
    mean = quality.mean(axis=1, keepdims=True)
    targets: Floats = np.hstack([mean, quality - mean])
    targets -= targets.mean(axis=0)
    return targets


def shift_to_unit_interval(raw: Floats) -> Floats:
    """Shift each row into [0, 1] without changing its differences.

    A row that spans more than 1 is shifted to a minimum of 0.
    """
    down = np.maximum(raw.max(axis=1, keepdims=True) - 1, 0)
    up = np.maximum(-(raw - down).min(axis=1, keepdims=True), 0)
    shifted: Floats = raw - down + up
    return shifted
