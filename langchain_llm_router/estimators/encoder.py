"""Fine-tuned encoders: RouteLLM's BERT classifier, and Unify's scorer with a vector per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators.training_loop import Lesson, Training
from langchain_llm_router.estimators.transformer import TransformerEstimator, padded
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.errors import import_extra

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")
    nn = torch.nn

__all__ = ["EncoderClassifier", "ModelScorer"]

Pooling = Literal["cls", "mean"]


@dataclass(eq=False)
class EncoderClassifier(TransformerEstimator):
    """A BERT-type encoder fine-tuned with one linear head on [CLS].

    With `objective="quality"` the head has one logit per candidate, trained with cross-entropy
    against the measured quality. With `"three_way"` it says for a pair whether the second
    candidate's answer is worse, equal or better; quality is then relative, (q₀, q₁) =
    (P(worse) + ½ P(equal), P(better) + ½ P(equal)), so that the win rate ½(1 + q₁ − q₀) counts a
    tie half. This objective also fits on `Battles` between two candidates.

    Args:
        pretrained: Folder or hub name of an encoder.
        max_length: Longer queries are cut to this many tokens.
        objective: `"quality"` (any number of candidates) or `"three_way"` (two).
        tie_share: Share of a tie that the second candidate gets; RouteLLM's code has 0.
        pooling: What the head looks at: `"cls"`, or `"mean"` over tokens as sentence encoders do.
        training: How it is trained.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2 (BERT classifier). Deviations:
        half a tie instead of none, N candidates, early stopping on held-out queries.
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
                f"`objective='three_way'` compares two candidates, got {list(data.candidates)}: "
                "select two, or use `objective='quality'`."
            )
            raise ValueError(msg)
        if isinstance(data, Outcomes):
            return super().fit(data)
        if self.objective != "three_way":
            msg = "`objective='quality'` needs `Outcomes`; only 'three_way' fits on `Battles`."
            raise ValueError(msg)
        first, second = data.candidates
        score = np.where(np.array(data.candidate_a) == first, data.score_a, 1 - data.score_a)
        return super().fit(Outcomes(data.queries, (first, second), np.c_[score, 1 - score]))

    def _fit(self, data: Outcomes) -> None:
        self._start()
        tokens = self._tokens(data.queries)
        target = torch.from_numpy(self._target(data.quality)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[i] for i in rows])
            wanted = target[torch.from_numpy(rows).to(target.device)]
            if self.objective == "three_way":
                return nn.functional.cross_entropy(logits, wanted, reduction="none")
            each = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            return each.mean(dim=1)

        lesson = Lesson(
            self.network_,
            loss,
            groups=data.queries,
            lengths=np.array([len(row) for row in tokens]),
            fingerprint=data_hash(self.data_hash_, self._params()),
            fresh=("head.",),
        )
        self._train(lesson, self.training)

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
        logits: torch.Tensor = self.network_(*padded(tokens, self._device))
        return logits


class _Classifier(nn.Module):
    def __init__(self, model: nn.Module, width: int, pooling: Pooling) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(model.config.hidden_size, width)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head(self.dropout(_pool(hidden, mask, self.pooling)))


@dataclass(eq=False)
class ModelScorer(TransformerEstimator):
    """An encoder that reads the query together with a learned vector for the candidate.

    The vector joins the query's token embeddings as one more token, and a dense head on [CLS]
    predicts the quality of that candidate's answer. The encoder is shared, so `add_candidate`
    learns a new model by its vector alone.

    Args:
        pretrained: Folder or hub name of an encoder that accepts `inputs_embeds`.
        max_length: Longer queries are cut to this many tokens, the candidate's included.
        pooling: What the head looks at: `"cls"`, or `"mean"` over tokens as sentence encoders do.
        training: How it is trained; `head_learning_rate` is also that of the vectors.

    References:
        Unify's published router design: query and learned model token through BERT, dense head on
        [CLS], quality from five grades mapped to [0, 1]. Deviation: the vector stands right after
        [CLS] instead of at the end, where its position would change with the query's length.
    """

    _n_extra_tokens: ClassVar[int] = 1

    pretrained: str = "google-bert/bert-base-uncased"
    pooling: Pooling = "cls"

    def add_candidate(
        self, name: str, outcomes: Outcomes, *, training: Training | None = None
    ) -> Self:
        """Learn one more candidate's vector; every other weight stays as it is.

        It starts from the vector of the known candidate whose answers its own resemble most.

        Args:
            name: The new candidate, a column of `outcomes`; other columns are not looked at.
            outcomes: Its measured answers; a few dozen are enough to start with.
            training: How its vector is trained; None: as the whole was.

        Raises:
            ValueError: If the candidate is known already, or not a column of `outcomes`.
        """
        self._check_fitted()
        if name in self.candidates_:
            msg = f"Candidate {name!r} is known already: {list(self.candidates_)}."
            raise ValueError(msg)
        data = outcomes.select([name])
        if len(data) == 0:
            msg = f"{name!r} cannot be learned from 0 rows."
            raise ValueError(msg)
        known, old_hash = self.candidates_, self.data_hash_
        self.network_.requires_grad_(requires_grad=False)
        guesses = np.clip(self._predict(data.queries), 1e-6, 1 - 1e-6)
        loss = -data.quality * np.log(guesses) - (1 - data.quality) * np.log(1 - guesses)
        start = self.network_.vectors[int(loss.mean(axis=0).argmin())].detach().clone()
        self.network_.vectors.append(nn.Parameter(start))
        self.candidates_ = (*known, name)
        self.report_ = None
        self.data_hash_ = data_hash(old_hash, data.queries, name, data.quality)
        try:
            self._learn(data, [len(known)], training or self.training, whole=False)
        except BaseException:
            self.candidates_, self.data_hash_ = known, old_hash
            self.network_.vectors = self.network_.vectors[:-1]
            raise
        return self

    def _fit(self, data: Outcomes) -> None:
        self._start()
        self._learn(data, range(len(self.candidates_)), self.training, whole=True)

    def _learn(
        self, data: Outcomes, columns: Sequence[int], training: Training, *, whole: bool
    ) -> None:
        """Train on every (query, candidate) pair; row r is query r // k and candidate r % k."""
        k = len(columns)
        tokens = self._tokens(data.queries)
        candidate = np.array(columns)
        target = torch.from_numpy(data.quality.astype(np.float32)).to(self._device).reshape(-1)

        def loss(rows: Indices) -> torch.Tensor:
            logits = self._forward([tokens[r // k] for r in rows], candidate[rows % k])
            wanted = target[torch.from_numpy(rows).to(target.device)]
            return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

        lesson = Lesson(
            self.network_,
            loss,
            groups=[query for query in data.queries for _ in columns],
            lengths=np.repeat([len(row) for row in tokens], k),
            fingerprint=data_hash(self.data_hash_, self._params()),
            fresh=("head.", "vectors."),
            dropout=whole,
        )
        self._train(lesson, training)

    def _predict(self, queries: Sequence[str]) -> Floats:
        tokens = self._tokens(queries)
        columns = [
            self._in_batches(tokens, 1, np.full(len(tokens), j))
            for j in range(len(self.candidates_))
        ]
        return _sigmoid(np.concatenate(columns, axis=1))

    def _build(self, model: nn.Module) -> nn.Module:
        return _Scorer(model, len(self.candidates_), self.pooling)

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        candidate = torch.from_numpy(columns[0]).to(self._device)
        logits: torch.Tensor = self.network_(*padded(tokens, self._device), candidate)
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
        return self.head(_pool(hidden, mask, self.pooling)).squeeze(1)


def _pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probability: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return probability
