"""A report on whether an embedding separates queries with different best candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed
from langchain_llm_router.estimators import Linear, QualityEstimator, out_of_fold
from langchain_llm_router.evaluation.intervals import Interval, Resampling, bootstrap
from langchain_llm_router.evaluation.metrics import auc
from langchain_llm_router.types.arrays import Floats, Indices, Vectors
from langchain_llm_router.types.figures import format_share

__all__ = ["Closeness", "Separability", "closeness", "separability"]


_ROWS = 2000
_NEIGHBORS = 10
_PERMUTATIONS = 200


@dataclass(frozen=True, eq=False)
class Separability:
    """The relation between similarity in an embedding and the labels of queries.

    The label of a query is its best candidate: weak, strong or tie for two candidates, and the
    first of the best for more.

    Attributes:
        edges: Edges of the bins of the cosine similarity, of shape (n_bins + 1,).
        same: Share of the pairs with equal labels in each bin, of shape (n_bins,).
        different: Share of the pairs with different labels in each bin, same shape.
        pair_auc: Probability that a pair with equal labels is more similar than a pair with
            different labels.
        neighbor_agreement: Share of the ten nearest neighbors with the label of the query.
        chance_agreement: Mean of `neighbor_agreement` with shuffled labels.
        p_value: P-value of `neighbor_agreement` if the embedding is independent of the labels.
        predictor_auc: AUC of out-of-fold predictions of "the last candidate beats the first",
            without ties; None with fewer than ten such queries or only one label.
    """

    edges: Floats
    same: Floats
    different: Floats
    pair_auc: float
    neighbor_agreement: float
    chance_agreement: float
    p_value: float
    predictor_auc: Interval | None

    @property
    def carries_signal(self) -> bool:
        """Whether neighbors agree more often than chance and the predictor is above 0.5."""
        predicts = self.predictor_auc is None or self.predictor_auc.low > 0.5
        return self.p_value < 0.05 and predicts

    @property
    def sentence(self) -> str:
        """The result in words."""
        auc = self.predictor_auc
        shown = "" if auc is None else f", predictor AUC {auc:.3f}"
        facts = (
            f"neighbors share the label in {format_share(self.neighbor_agreement, 1)} of cases, by "
            f"chance in {format_share(self.chance_agreement, 1)} (p = {self.p_value:.3f}){shown}"
        )
        if self.carries_signal:
            return f"This embedding carries a signal for routing: {facts}."
        return (
            f"This embedding carries no reliable signal for routing: {facts}. Do not expect a "
            "learned router on it to beat a random choice of candidates."
        )


@dataclass(frozen=True, eq=False)
class Closeness:
    """The similarity of one query to all others, by their labels (see `Separability`).

    Attributes:
        query: Text of the query.
        edges: Edges of the bins of the cosine similarity, of shape (n_bins + 1,).
        same: Share of the queries with the same label in each bin, of shape (n_bins,).
        different: Share of the queries with another label in each bin, same shape.
    """

    query: str
    edges: Floats
    same: Floats
    different: Floats


def separability(
    outcomes: Outcomes,
    *,
    embeddings: Embeddings | None = None,
    predictor: QualityEstimator | None = None,
    n_bins: int = 40,
    resampling: Resampling | None = None,
) -> Separability:
    """Compare the similarity of queries with the same best candidate and with different ones.

    Args:
        outcomes: Measured outcomes; at most 2,000 random rows are compared.
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        predictor: Estimator for the out-of-fold AUC. If None, `Linear` on the embedding alone.
        n_bins: Number of bins of the similarity.
        resampling: Settings of the bootstrap of the AUC; its seed is also that of the sample and
            the permutations. If None, 300 resamples.

    Raises:
        ValueError: If there are fewer than three rows, or all have the same label.
    """
    how = Resampling(n_resamples=300) if resampling is None else resampling
    rng = np.random.default_rng(how.seed)
    some = outcomes.take(rng.permutation(len(outcomes))[:_ROWS])
    labels = _labels(some)
    if len(some) < 3 or len(np.unique(labels)) < 2:
        msg = (
            "`outcomes` must have at least 3 rows and 2 labels, "
            f"got {len(some)} and {len(np.unique(labels))}."
        )
        raise ValueError(msg)
    vectors = _vectors(some, embeddings)
    cosine = (vectors @ vectors.T).astype(np.float64)
    i, j = np.triu_indices(len(some), 1)
    close, equal = cosine[i, j], labels[i] == labels[j]
    edges = np.linspace(min(0.0, float(close.min())), 1.0, n_bins + 1)
    np.fill_diagonal(cosine, -np.inf)
    k = min(_NEIGHBORS, len(some) - 1)
    nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    shuffled = [_agreement(rng.permutation(labels), nearest) for _ in range(_PERMUTATIONS)]
    agreement = _agreement(labels, nearest)
    if predictor is None:
        predictor = Linear(embeddings=embeddings, lexical=False, surface_share=0.0)
    return Separability(
        edges=edges,
        same=_shares(close[equal], edges),
        different=_shares(close[~equal], edges),
        pair_auc=auc(close, equal) if 0 < equal.sum() < len(equal) else 0.5,
        neighbor_agreement=agreement,
        chance_agreement=float(np.mean(shuffled)),
        p_value=(1 + int(np.sum(np.array(shuffled) >= agreement))) / (1 + _PERMUTATIONS),
        predictor_auc=_predictor_auc(predictor, some, how),
    )


def closeness(
    outcomes: Outcomes, row: int, *, embeddings: Embeddings | None = None, n_bins: int = 15
) -> Closeness:
    """Compare one query with all others: those with its best candidate, and the rest.

    Args:
        outcomes: Measured outcomes.
        row: Index of the query.
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        n_bins: Number of bins of the similarity.

    Raises:
        ValueError: If there is no such row, or no other.
    """
    if not 0 <= row < len(outcomes) or len(outcomes) < 2:
        msg = (
            f"`row` must be the index of one of at least 2 rows, got {row!r} for "
            f"{len(outcomes)} rows."
        )
        raise ValueError(msg)
    vectors, labels = _vectors(outcomes, embeddings), _labels(outcomes)
    others = np.arange(len(outcomes)) != row
    close = (vectors[others] @ vectors[row]).astype(np.float64)
    equal = labels[others] == labels[row]
    edges = np.linspace(min(0.0, float(close.min())), max(float(close.max()), 0.01), n_bins + 1)
    return Closeness(
        outcomes.queries[row], edges, _shares(close[equal], edges), _shares(close[~equal], edges)
    )


def _vectors(outcomes: Outcomes, embeddings: Embeddings | None) -> Vectors:
    model = LexicalEmbeddings().fit(outcomes.queries) if embeddings is None else embeddings
    return embed(model, outcomes.queries)


def _labels(outcomes: Outcomes) -> Indices:
    if len(outcomes.candidates) == 2:
        return np.asarray(np.sign(outcomes.quality[:, 1] - outcomes.quality[:, 0]), np.intp)
    return np.asarray(outcomes.quality.argmax(axis=1), np.intp)


def _agreement(labels: Indices, nearest: Indices) -> float:
    return float((labels[nearest] == labels[:, None]).mean())


def _shares(cosine: Floats, edges: Floats) -> Floats:
    counts = np.histogram(np.clip(cosine, edges[0], edges[-1]), edges)[0]
    return np.asarray(counts / max(len(cosine), 1), np.float64)


def _predictor_auc(
    predictor: QualityEstimator, outcomes: Outcomes, how: Resampling
) -> Interval | None:
    gap = outcomes.quality[:, -1] - outcomes.quality[:, 0]
    decided = np.flatnonzero(gap != 0)
    won = gap[decided] > 0
    if len(decided) < 10 or won.all() or not won.any():
        return None
    predicted = out_of_fold(predictor, outcomes, seed=how.seed)
    score = (predicted[:, -1] - predicted[:, 0])[decided]

    def statistic(rows: Indices) -> float:
        return float("nan") if len(set(won[rows])) < 2 else auc(score[rows], won[rows])

    return bootstrap(
        statistic,
        len(decided),
        n_resamples=how.n_resamples,
        confidence=how.confidence,
        seed=how.seed,
    )
