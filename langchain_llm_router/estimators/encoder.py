"""Fine-tuned encoders: RouteLLM's BERT classifier, and Unify's scorer with a vector per model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.training_loop import Training, TrainingJob
from langchain_llm_router.estimators.transformer import (
    Pooling,
    TransformerEstimator,
    pad_tokens,
    pool_tokens,
)
from langchain_llm_router.types.arrays import Arrays, Floats, Indices
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.figures import format_share

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")
    nn = torch.nn

__all__ = ["EncoderClassifier", "ModelScorer"]

_VECTOR_LEARNING_RATE, _VECTOR_STEPS = 0.01, 100
"""Embeddings of words vary by some 0.05, so that a hundred steps move a vector as far as that."""

_LEAST_MOVE = 0.01
"""Share of its length by which a vector must move."""


@dataclass(eq=False)
class EncoderClassifier(TransformerEstimator):
    """An encoder such as BERT, fine-tuned with one linear head.

    With `objective="quality"` the head has one logit per candidate, trained with cross-entropy
    against the measured quality. With `"three_way"` it predicts for two candidates whether the
    answer of the second is worse, equal or better. Quality is then relative: with a `tie_share`
    of ½, (q₀, q₁) = (P(worse) + ½ P(equal), P(better) + ½ P(equal)), so a tie is half a win in
    the win rate ½(1 + q₁ − q₀). This objective can also be fitted to `Battles` between two
    candidates.

    Args:
        pretrained: Folder or hub name of an encoder.
        max_length: Maximum number of tokens of a query; longer queries are cut.
        objective: `"quality"` for any number of candidates, or `"three_way"` for two.
        tie_share: Share of P(equal) added to the quality of the second candidate, in [0, 1]. The
            rest is added to the first; RouteLLM's code has 0.
        pooling: Input of the head: `"cls"` for the [CLS] token, or `"mean"` over all tokens.
        training: The training settings.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2 (BERT classifier). Deviations:
        a tie is half a win instead of none, more than two candidates, early stopping on held-out
        queries.
    """

    pretrained: str = "google-bert/bert-base-uncased"
    objective: Literal["quality", "three_way"] = "quality"
    tie_share: float = 0.5
    pooling: Pooling = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tie_share <= 1:
            msg = f"`tie_share` must be in [0, 1], got {self.tie_share!r}."
            raise ValueError(msg)

    def fit(self, data: Outcomes | Battles) -> Self:
        """Fine-tune on measured outcomes, or with `"three_way"` on battles of two candidates.

        Raises:
            ValueError: If there are no rows, or the objective does not suit the candidates.
        """
        if self.objective == "three_way" and len(data.candidates) != 2:
            msg = (
                "`objective='three_way'` needs two candidates, got "
                f"{list(data.candidates)}: select two, or use `objective='quality'`."
            )
            raise ValueError(msg)
        if isinstance(data, Outcomes):
            return super().fit(data)
        if self.objective != "three_way":
            msg = "`objective='quality'` needs `Outcomes`: use 'three_way' to fit to `Battles`."
            raise ValueError(msg)
        first, second = data.candidates
        score = np.where(np.array(data.candidate_a) == first, data.score_a, 1 - data.score_a)
        return super().fit(Outcomes(data.queries, (first, second), np.c_[score, 1 - score]))

    def _fit(self, data: Outcomes) -> None:
        self._load_pretrained()
        tokens = self._tokens(data.queries)
        target = torch.from_numpy(self._target(data.quality)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[i] for i in rows])
            wanted = target[torch.from_numpy(rows).to(target.device)]
            if self.objective == "three_way":
                return nn.functional.cross_entropy(logits, wanted, reduction="none")
            each = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            return each.mean(dim=1)

        job = TrainingJob(
            self.network_,
            loss,
            groups=data.queries,
            lengths=np.array([len(row) for row in tokens]),
            fingerprint=data_hash(self.data_hash_, self._params()),
            fresh=("head.",),
        )
        self._train(job, self.training)

    def _target(self, quality: Floats) -> NDArray[Any]:
        if self.objective == "quality":
            return quality.astype(np.float32)
        better = np.sign(quality[:, 1] - quality[:, 0])
        return (better + 1).astype(np.int64)

    def _predict(self, queries: Sequence[str]) -> Floats:
        logits = self._in_batches(self._tokens(queries), self._width)
        if self.objective == "quality":
            return _sigmoid(logits)
        worse, equal, better = _softmax(logits).T
        return np.stack(
            [worse + (1 - self.tie_share) * equal, better + self.tie_share * equal], axis=1
        )

    @property
    def _width(self) -> int:
        return 3 if self.objective == "three_way" else len(self.candidates_)

    def _build(self, model: nn.Module) -> nn.Module:
        return _Classifier(model, self._width, self.pooling)

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        logits: torch.Tensor = self.network_(*pad_tokens(tokens, self._device))
        return logits


class _Classifier(nn.Module):
    def __init__(self, model: nn.Module, width: int, pooling: Pooling) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(model.config.hidden_size, width)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head(self.dropout(pool_tokens(hidden, mask, self.pooling)))


@dataclass(eq=False)
class ModelScorer(TransformerEstimator):
    """An encoder of the query and of a trained vector per candidate.

    The vector is one more token embedding of the query, and a dense head predicts the quality of
    that candidate's answer. Candidates share the encoder, so `add_candidate` trains only a new
    vector, and an offset where the encoder makes too little of the vector.

    Args:
        pretrained: Folder or hub name of an encoder that accepts `inputs_embeds`.
        max_length: Maximum number of tokens of a query, the candidate's token included; longer
            queries are cut.
        pooling: Input of the head: `"cls"` for the [CLS] token, or `"mean"` over all tokens.
        training: The training settings; `head_learning_rate` applies to the vectors as well.

    Attributes:
        offsets_: What is added to each candidate's logit, of shape (n_candidates,); 0 for those
            of the fit.

    References:
        Unify's published router design: query and learned model token through BERT, dense head on
        [CLS], quality from five grades mapped to [0, 1]. Deviation: the vector is placed after
        [CLS] because at the end its position would change with the length of the query.
    """

    _n_extra_tokens: ClassVar[int] = 1

    pretrained: str = "google-bert/bert-base-uncased"
    pooling: Pooling = "cls"

    def add_candidate(
        self, name: str, outcomes: Outcomes, *, training: Training | None = None
    ) -> Self:
        """Train the vector of one more candidate without changing other weights.

        The vector is initialized with that of the fitted candidate whose predictions fit the new
        outcomes best, and trained at a learning rate of its own. Then an offset makes the mean
        prediction right, because an encoder whose fitted candidates are alike ignores the vector.
        A vector that has hardly moved is warned about.

        Args:
            name: Name of the new candidate, a column of `outcomes`; other columns are ignored.
            outcomes: Measured outcomes of the candidate; a few dozen rows are a useful minimum.
            training: The training settings of the vector. If None, some hundred steps at a rate
                of 0.01, without early stopping.

        Raises:
            ValueError: If the candidate is fitted already, is not a column of `outcomes`, or has
                no rows.
        """
        data = self._check_new(name, outcomes)
        training = training or _vector_training(self.training, len(data))
        old = self.candidates_, self.data_hash_, self.offsets_
        self.network_.requires_grad_(requires_grad=False)
        guesses = np.clip(self._predict(data.queries), 1e-6, 1 - 1e-6)
        loss = -data.quality * np.log(guesses) - (1 - data.quality) * np.log(1 - guesses)
        start = self.network_.vectors[int(loss.mean(axis=0).argmin())].detach().clone()
        self.network_.vectors.append(nn.Parameter(start.clone()))
        self.candidates_ = (*self.candidates_, name)
        self.offsets_: Floats = np.append(self.offsets_, 0.0)
        self.report_ = None
        self.data_hash_ = data_hash(self.data_hash_, data.queries, name, data.quality)
        try:
            self._center(data)
            self._train_pairs(data, [len(old[0])], training, full=False)
            self._center(data)
        except BaseException:
            self.candidates_, self.data_hash_, self.offsets_ = old
            self.network_.vectors = self.network_.vectors[:-1]
            raise
        self._warn_if_still(name, start)
        return self

    def _center(self, data: Outcomes) -> None:
        """Set the last offset so that the mean prediction is that of the outcomes.

        One further row that is half good keeps the offset finite.
        """
        logits = self._logits(data.queries, len(self.candidates_) - 1)
        wanted = float(data.quality.sum()) + 0.5
        offset, low, high = 0.0, -50.0, 50.0
        for _ in range(60):
            above = _sigmoid(logits + offset).sum() + _sigmoid(np.array(offset)) > wanted
            low, high = (low, offset) if above else (offset, high)
            offset = (low + high) / 2
        self.offsets_ = np.append(self.offsets_[:-1], offset)

    def _warn_if_still(self, name: str, start: torch.Tensor) -> None:
        moved = float((self.network_.vectors[-1].detach() - start).norm() / start.norm())
        if moved < _LEAST_MOVE:
            msg = (
                f"The vector of {name!r} has moved by {format_share(moved, 2)} only, so its "
                "predictions are those of the candidate most like it, shifted: raise "
                "`learning_rate` or `epochs` of `training`, or leave `training` out."
            )
            warnings.warn(msg, stacklevel=3)

    def _fit(self, data: Outcomes) -> None:
        self._load_pretrained()
        self.offsets_ = np.zeros(len(self.candidates_))
        self._train_pairs(data, range(len(self.candidates_)), self.training, full=True)

    def _train_pairs(
        self, data: Outcomes, columns: Sequence[int], training: Training, *, full: bool
    ) -> None:
        """Train on every (query, candidate) pair: row r is query r // k and column r % k."""
        k = len(columns)
        tokens = self._tokens(data.queries)
        candidate = np.array(columns)
        target = torch.from_numpy(data.quality.astype(np.float32)).to(self._device).reshape(-1)
        offsets = torch.from_numpy(self.offsets_[candidate].astype(np.float32)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[r // k] for r in rows], candidate[rows % k])
            logits = logits + offsets[torch.from_numpy(rows % k).to(offsets.device)]
            wanted = target[torch.from_numpy(rows).to(target.device)]
            return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

        job = TrainingJob(
            self.network_,
            loss,
            groups=[query for query in data.queries for _ in columns],
            lengths=np.repeat([len(row) for row in tokens], k),
            fingerprint=data_hash(self.data_hash_, self._params()),
            fresh=("head.", "vectors."),
            dropout=full,
        )
        self._train(job, training)

    def _predict(self, queries: Sequence[str]) -> Floats:
        columns = [self._logits(queries, j) for j in range(len(self.candidates_))]
        return _sigmoid(np.stack(columns, axis=1) + self.offsets_)

    def _logits(self, queries: Sequence[str], column: int) -> Floats:
        """Compute the network's output for one candidate, without its offset."""
        tokens = self._tokens(queries)
        return self._in_batches(tokens, 1, np.full(len(tokens), column))[:, 0]

    def _arrays(self) -> Arrays:
        return {**super()._arrays(), "offsets": self.offsets_}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        super()._restore(settings, arrays, embeddings)
        # Artifacts of earlier versions have none.
        self.offsets_ = arrays.get("offsets", np.zeros(len(self.candidates_)))
        if self.offsets_.shape != (len(self.candidates_),):
            msg = f"offsets have shape {self.offsets_.shape}, not one per candidate"
            raise ValueError(msg)

    def _build(self, model: nn.Module) -> nn.Module:
        return _Scorer(model, len(self.candidates_), self.pooling)

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        candidate = torch.from_numpy(columns[0]).to(self._device)
        logits: torch.Tensor = self.network_(*pad_tokens(tokens, self._device), candidate)
        return logits


class _Scorer(nn.Module):
    def __init__(self, model: nn.Module, n_candidates: int, pooling: Pooling) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling
        width = model.config.hidden_size
        words = model.get_input_embeddings().weight
        self.vectors = nn.ParameterList(
            nn.Parameter(torch.randn(width) * words.detach().std()) for _ in range(n_candidates)
        )
        self.head = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, candidate: torch.Tensor
    ) -> torch.Tensor:
        words = self.model.get_input_embeddings()(ids)
        vector = torch.stack(list(self.vectors))[candidate].unsqueeze(1)
        joined = torch.cat([words[:, :1], vector, words[:, 1:]], dim=1)
        mask = torch.cat([mask[:, :1], mask], dim=1)
        hidden = self.model(inputs_embeds=joined, attention_mask=mask).last_hidden_state
        return self.head(pool_tokens(hidden, mask, self.pooling)).squeeze(1)


def _vector_training(training: Training, n_rows: int) -> Training:
    """Return settings that move one vector, which those of a whole network do not."""
    epochs = math.ceil(_VECTOR_STEPS / math.ceil(n_rows / training.batch_size))
    return replace(
        training,
        epochs=max(epochs, 2),
        max_steps=None,
        learning_rate=_VECTOR_LEARNING_RATE,
        head_learning_rate=None,
        weight_decay=0.0,
        validation_share=0.0,
    )


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probability: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return probability
