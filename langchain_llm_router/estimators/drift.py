"""Tests of whether new queries differ from the training queries, per query and per window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Vectors
from langchain_llm_router.types.errors import NotFittedError

__all__ = ["DriftGauge", "DriftReading", "DriftWatch"]


_MAX_COMPARED = 300
_N_PERMUTATIONS = 499


@dataclass(frozen=True)
class DriftReading:
    """The comparison of a window of queries with the training queries."""

    n: int
    """Number of queries in the window."""

    p_far: float
    """P-value of the test for larger distances from the training queries."""

    p_mix: float
    """P-value of the test for a different mean vector, which shows a different mix of topics."""

    @property
    def p_value(self) -> float:
        """Combined p-value of both tests: twice the smaller one, at most 1 (Bonferroni)."""
        return min(1.0, 2 * min(self.p_far, self.p_mix))

    def __str__(self) -> str:
        if self.p_value > 0.05:
            how = "look like the training queries"
            return f"The last {self.n} queries {how} (p = {self.p_value:.2g})."
        how = "are further from the training queries than these are from each other"
        if self.p_mix < self.p_far:
            how = "are a different mix of topics than the training queries"
        return f"The last {self.n} queries {how} (p = {self.p_value:.2g})."


@dataclass(eq=False)
class DriftGauge(CheckedArguments):
    """A gauge of the distance of queries from the training queries.

    Part of the training queries is held out; the rest are the reference queries. The p-value of a
    new query is the share of held-out queries that are at least as far from the reference queries.
    Without drift it is below α for at most a share α of the queries, whatever the embedding. With
    n held-out queries it is never below 1 / (n + 1), so a gauge with little data raises no alarm.
    A window has two tests: see `DriftReading`.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        n_neighbors: Number of nearest reference queries whose mean cosine gives the distance.
        held_out: Share of the training queries that is held out, in (0, 1).
        most_rows: Maximum number of training queries; a random sample is used of more.
        seed: Seed of the sample and of the permutation test.

    Attributes:
        embeddings_: The embedding in use.
        reference_: Unit vectors of the reference queries, of shape (n, embedding dimension).
        held_out_: Unit vectors of the held-out queries.
        distances_: Sorted distances of the held-out queries.

    References:
        Vovk et al., 2005, Algorithmic learning in a random world, section 2 (the p-value); Mann &
        Whitney, 1947 (`p_far`); Gretton et al., 2012, A kernel two-sample test, JMLR 13, lemma 4
        with the linear kernel, by permutation (`p_mix`).
    """

    embeddings: Embeddings | None = None
    n_neighbors: int = 5
    held_out: float = 0.3
    most_rows: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            msg = f"`n_neighbors` must be >= 1, got {self.n_neighbors!r}."
            raise ValueError(msg)
        if not 0 < self.held_out < 1:
            msg = f"`held_out` must be in (0, 1), got {self.held_out!r}."
            raise ValueError(msg)

    def fit(self, queries: Sequence[str], *, embeddings: Embeddings | None = None) -> Self:
        """Fit to the training queries.

        Args:
            queries: The texts, duplicates included.
            embeddings: A fitted embedding that an estimator shares, in place of the gauge's own.

        Raises:
            ValueError: If `queries` is empty.
        """
        if len(queries) == 0:
            msg = "A DriftGauge cannot be fitted on 0 queries."
            raise ValueError(msg)
        order = np.random.default_rng(self.seed).permutation(len(queries))[: self.most_rows]
        n_held_out = max(1, round(self.held_out * len(order)))
        held_out = [queries[i] for i in order[:n_held_out]]
        # A single query can be compared only with itself.
        rest = [queries[i] for i in order[n_held_out:]] or held_out
        # Fitted on the reference queries alone: held-out queries must be as new as later ones.
        self.embeddings_ = embeddings or self.embeddings or LexicalEmbeddings().fit(rest)
        self.reference_ = embed(self.embeddings_, rest)
        self.held_out_ = embed(self.embeddings_, held_out)
        self.distances_ = np.sort(self.distance(self.held_out_))
        return self

    def distance(self, vectors: Vectors) -> Floats:
        """Compute 1 - mean cosine to the nearest reference queries, of shape (n_queries,)."""
        k = min(self.n_neighbors, len(self.reference_))
        cosine = vectors @ self.reference_.T
        nearest = np.partition(cosine, cosine.shape[1] - k, axis=1)[:, -k:]
        return np.asarray(1.0 - nearest.mean(axis=1), dtype=np.float64)

    def p_values(self, distance: Floats) -> Floats:
        """Compute (1 + held-out queries at least as far) / (1 + held-out queries) per query."""
        n = len(self.distances_)
        further = n - np.searchsorted(self.distances_, distance, side="left")
        return np.asarray((1 + further) / (1 + n), dtype=np.float64)

    def per_query(self, queries: Sequence[str]) -> Floats:
        """Compute the p-value of each query, of shape (n_queries,)."""
        if len(queries) == 0:
            return np.empty(0)
        return self.p_values(self.distance(self.embed(queries)))

    def per_window(self, queries: Sequence[str]) -> DriftReading:
        """Compare a window of queries with the training queries.

        Raises:
            ValueError: If `queries` is empty.
        """
        return self.reading(self.embed(queries))

    def embed(self, queries: Sequence[str]) -> Vectors:
        """Embed queries with the gauge's embedding.

        Raises:
            NotFittedError: If the gauge is not fitted.
        """
        if not hasattr(self, "embeddings_"):
            msg = "This DriftGauge is not fitted: call `fit(queries)` first."
            raise NotFittedError(msg)
        return embed(self.embeddings_, queries)

    def reading(self, vectors: Vectors) -> DriftReading:
        """Compare a window of vectors, of shape (n_queries, embedding dimension)."""
        from scipy.stats import mannwhitneyu  # noqa: PLC0415 - takes 1 s, and few routers have a gauge

        if len(vectors) == 0:
            msg = "A window needs at least one query."
            raise ValueError(msg)
        test = mannwhitneyu(self.distance(vectors), self.distances_, alternative="greater")
        return DriftReading(len(vectors), float(test.pvalue), self._p_mix(vectors))

    def _p_mix(self, vectors: Vectors) -> float:
        old, new = self.held_out_[:_MAX_COMPARED], vectors[-_MAX_COMPARED:]
        rows, n_new = np.vstack([new, old]), len(new)
        rng = np.random.default_rng(self.seed)
        is_new = np.zeros((1 + _N_PERMUTATIONS, len(rows)), dtype=bool)
        is_new[0, :n_new] = True
        for i in range(1, len(is_new)):
            is_new[i, rng.permutation(len(rows))[:n_new]] = True
        signs = np.where(is_new, 1 / n_new, -1 / len(old)).astype(np.float32)
        apart = np.square(signs @ rows, dtype=np.float64).sum(axis=1)
        # Sums of the same numbers in another order differ in their last bits.
        return float((apart >= apart[0] * (1 - 1e-6)).mean())

    def settings(self) -> dict[str, Any]:
        """Return the parameters to save in an artifact."""
        names = ("n_neighbors", "held_out", "most_rows", "seed")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """Return the fitted arrays to save in an artifact."""
        return {"reference": self.reference_, "held_out": self.held_out_}

    @classmethod
    def restored(
        cls,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings,
    ) -> Self:
        """Rebuild a gauge from its `settings` and `arrays`."""
        gauge = cls(**settings)
        gauge.embeddings_ = embeddings
        gauge.reference_, gauge.held_out_ = arrays["reference"], arrays["held_out"]
        gauge.distances_ = np.sort(gauge.distance(gauge.held_out_))
        return gauge


class DriftWatch(CheckedArguments):
    """A window of the last queries of a live router, tested for drift.

    Threads may share a watch. Because the test is repeated, alarms occur even without drift, about
    once in `every` / `p_below` queries.

    Args:
        size: Number of queries in the window; there is no alarm before the window is full.
        every: Number of queries between two tests.
        p_below: The alarm is on while the window's p-value is below this.

    Attributes:
        reading: The latest reading, or None before the first test.
    """

    def __init__(self, size: int = 100, *, every: int = 25, p_below: float = 0.005) -> None:
        if size < 1 or every < 1:
            msg = f"`size` and `every` must be >= 1, got {size!r} and {every!r}."
            raise ValueError(msg)
        self.size, self.every, self.p_below = size, every, p_below
        check_range(self, "p_below", high=1)
        self.reading: DriftReading | None = None
        self._last: deque[Vectors] = deque(maxlen=size)
        self._n_new = 0
        self._lock = threading.Lock()

    @property
    def alarm(self) -> bool:
        """Whether the latest reading shows drift."""
        return self.reading is not None and self.reading.p_value < self.p_below

    def see(self, gauge: DriftGauge, vectors: Vectors) -> bool:
        """Add queries to the window, and return whether the alarm is on."""
        with self._lock:
            self._last.extend(vectors)
            self._n_new += len(vectors)
            due = len(self._last) == self.size and self._n_new >= self.every
            if due:
                self._n_new = 0
                window = np.vstack(list(self._last))
        if due:
            self.reading = gauge.reading(window)
        return self.alarm
