"""Are today's queries like the training queries? A plain p-value, per query and per window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from scipy.stats import mannwhitneyu

from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Arrays, Floats, Vectors
from langchain_llm_router.types.errors import NotFittedError

__all__ = ["DriftGauge", "DriftReading", "DriftWatch"]


_MOST_COMPARED = 300
_N_PERMUTATIONS = 499


@dataclass(frozen=True)
class DriftReading:
    """How a window of queries compares with the training queries."""

    n: int
    p_far: float
    """P(distances this large or larger | no drift): are they further from what was trained on?"""

    p_mix: float
    """P(means this different or more | no drift): is the mix of topics different?"""

    @property
    def p_value(self) -> float:
        """Both combined: twice the smaller, at most 1 (Bonferroni)."""
        return min(1.0, 2 * min(self.p_far, self.p_mix))

    def __str__(self) -> str:
        if self.p_value > 0.05:
            how = "look like the training queries"
            return f"The last {self.n} queries {how} (p = {self.p_value:.2g})."
        how = "are further from the training queries than those from each other"
        if self.p_mix < self.p_far:
            how = "are a different mix from the training queries"
        return f"The last {self.n} queries {how} (p = {self.p_value:.2g})."


@dataclass(eq=False)
class DriftGauge(CheckedArguments):
    """Measures how far queries are from those that an estimator was trained on.

    Part of the training queries is held out. A new query's p-value is the share of held-out ones
    that are at least as far from the others: without drift it is below α for at most α of the
    queries, whatever the embedding; with n held out none is below 1 / (n + 1), so that a gauge
    that has seen little never calls anything strange. A window has two tests: see `DriftReading`.

    Args:
        embeddings: Any LangChain `Embeddings`; None: lexical, no model needed.
        n_neighbors: The distance is 1 - the mean cosine to so many nearest queries.
        held_out: Share of the training queries that is held out.
        most_rows: More training queries than this are sampled.
        seed: Another seed, other rows held out.

    Attributes:
        embeddings_: The embedding in use.
        reference_: Unit vectors that are compared with, of shape (n, width).
        held_out_: Unit vectors of those held out.
        distances_: Their distances, sorted.

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
        """Learn what the training queries look like.

        Args:
            queries: The texts, duplicates included.
            embeddings: A fitted embedding to share with an estimator, in place of its own.

        Raises:
            ValueError: If there are none.
        """
        if len(queries) == 0:
            msg = "A DriftGauge cannot be fitted on 0 queries."
            raise ValueError(msg)
        order = np.random.default_rng(self.seed).permutation(len(queries))[: self.most_rows]
        n_held = max(1, round(self.held_out * len(order)))
        held = [queries[i] for i in order[:n_held]]
        # A single query has nothing but itself to be compared with.
        rest = [queries[i] for i in order[n_held:]] or held
        # Its rarities from the others alone: held-out queries must be as new as tomorrow's.
        self.embeddings_ = embeddings or self.embeddings or LexicalEmbeddings().fit(rest)
        self.reference_ = embed(self.embeddings_, rest)
        self.held_out_ = embed(self.embeddings_, held)
        self.distances_ = np.sort(self.distance(self.held_out_))
        return self

    def distance(self, vectors: Vectors) -> Floats:
        """1 - mean cosine to the nearest reference queries, of shape (n_queries,)."""
        k = min(self.n_neighbors, len(self.reference_))
        cosine = vectors @ self.reference_.T
        nearest = np.partition(cosine, cosine.shape[1] - k, axis=1)[:, -k:]
        return np.asarray(1.0 - nearest.mean(axis=1), dtype=np.float64)

    def p_values(self, distance: Floats) -> Floats:
        """(1 + held-out queries at least as far) / (1 + held-out queries), per query."""
        n = len(self.distances_)
        further = n - np.searchsorted(self.distances_, distance, side="left")
        return np.asarray((1 + further) / (1 + n), dtype=np.float64)

    def per_query(self, queries: Sequence[str]) -> Floats:
        """p-value of each query, of shape (n_queries,)."""
        if len(queries) == 0:
            return np.empty(0)
        return self.p_values(self.distance(self.embed(queries)))

    def per_window(self, queries: Sequence[str]) -> DriftReading:
        """How these queries together compare with the training queries.

        Raises:
            ValueError: If there are none.
        """
        return self.reading(self.embed(queries))

    def embed(self, queries: Sequence[str]) -> Vectors:
        """The queries as this gauge sees them.

        Raises:
            NotFittedError: If it is not fitted.
        """
        if not hasattr(self, "embeddings_"):
            msg = "This DriftGauge is not fitted: call `fit(queries)` first."
            raise NotFittedError(msg)
        return embed(self.embeddings_, queries)

    def reading(self, vectors: Vectors) -> DriftReading:
        """The same from vectors, of shape (n_queries, width)."""
        if len(vectors) == 0:
            msg = "A window needs at least one query."
            raise ValueError(msg)
        found = mannwhitneyu(self.distance(vectors), self.distances_, alternative="greater")
        return DriftReading(len(vectors), float(found.pvalue), self._p_mix(vectors))

    def _p_mix(self, vectors: Vectors) -> float:
        old, new = self.held_out_[:_MOST_COMPARED], vectors[-_MOST_COMPARED:]
        rows, n_new = np.vstack([new, old]), len(new)
        rng = np.random.default_rng(self.seed)
        is_new = np.zeros((1 + _N_PERMUTATIONS, len(rows)), dtype=bool)
        is_new[0, :n_new] = True
        for i in range(1, len(is_new)):
            is_new[i, rng.permutation(len(rows))[:n_new]] = True
        signs = np.where(is_new, 1 / n_new, -1 / len(old)).astype(np.float32)
        apart = np.square(signs @ rows, dtype=np.float64).sum(axis=1)
        # Sums of one set in another order differ in their last bits.
        return float((apart >= apart[0] * (1 - 1e-6)).mean())

    def settings(self) -> dict[str, Any]:
        """Its parameters, for an artifact."""
        names = ("n_neighbors", "held_out", "most_rows", "seed")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """What it learned, for an artifact."""
        return {"reference": self.reference_, "held_out": self.held_out_}

    @classmethod
    def restored(
        cls,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings,
    ) -> Self:
        """What `settings` and `arrays` were taken from."""
        gauge = cls(**settings)
        gauge.embeddings_ = embeddings
        gauge.reference_, gauge.held_out_ = arrays["reference"], arrays["held_out"]
        gauge.distances_ = np.sort(gauge.distance(gauge.held_out_))
        return gauge


class DriftWatch(CheckedArguments):
    """The last queries of a live router, and whether they have drifted.

    One watch may be shared by threads. It is tested again after every `every` queries, so that even
    without drift an alarm will come once in a while: about once in `every` / `p_below` queries.

    Args:
        size: How many queries make a window; before there are so many there is no alarm.
        every: How often it is tested.
        p_below: The alarm is on while the window's p-value is below this.

    Attributes:
        reading: The latest one; None: not yet.
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
        """Whether the last window had drifted."""
        return self.reading is not None and self.reading.p_value < self.p_below

    def see(self, gauge: DriftGauge, vectors: Vectors) -> bool:
        """Take queries in, and tell whether the alarm is on."""
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
