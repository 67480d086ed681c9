"""An embedding trained for routing: queries that need the same candidate are near one another."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.data.artifacts import (
    Artifact,
    data_hash,
    incomplete_error,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.estimators.training_loop import History, Training, TrainingJob
from langchain_llm_router.estimators.transformer import (
    Pooling,
    PretrainedNetwork,
    pad_tokens,
    pool_tokens,
)
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.errors import NotFittedError, import_extra

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")
    nn = torch.nn

__all__ = ["ContrastiveEncoder"]

_HIDDEN = -1e9
"""Logit of a row against itself; finite, because 0 times infinity is not a number."""


@dataclass(eq=False)
class ContrastiveEncoder(PretrainedNetwork, Embeddings):
    """A sentence encoder, fine-tuned so that queries that need the same candidate are near.

    It is a LangChain `Embeddings`, for any estimator that takes one. In a batch, each query has a
    target distribution over the others, proportional to exp(-d² / `target_temperature`), where d²
    is the squared distance of their measured qualities, with each query's mean over the candidates
    subtracted, in units of its mean over the training rows. The loss is the cross-entropy of this
    target and of softmax(cosine / `temperature`).

    Whether it is better than the pretrained weights is measured on the rows held out for early
    stopping, by the error of `NearestNeighbors`. If it is not, `fit` warns and keeps the
    pretrained weights.

    Compare before you use it: MiniLM trained on 1,500 questions of MMLU-Pro and the outcomes of
    eight models was better on the held-out rows, and on 1,500 others no better than without the
    training: APGR -0.012 and +0.003 for one pair of models, -0.096 and -0.117 for another
    (`NearestNeighbors` and `BradleyTerry`; the interval of the last one lies below 0).

    Args:
        pretrained: Folder or hub name of a sentence encoder.
        max_length: Maximum number of tokens of a query; longer queries are cut.
        pooling: Vector of a query: the mean over its tokens, or its [CLS] token. It should be what
            the pretrained encoder was trained with.
        temperature: Unit of the cosine in the loss, > 0.
        target_temperature: Unit of the distance of qualities in the target, > 0.
        n_layers: Number of last layers that are trained. If None, the whole network.
        training: The training settings. `validation_share` must be above 0.

    Attributes:
        history_: Steps and held-out losses of the training.
        held_out_error_: Mean squared error of `NearestNeighbors` on the held-out rows, with the
            pretrained and with the trained weights. Each query's mean over the candidates is
            subtracted, because routing depends on the differences.
        is_trained_: Whether the trained weights were kept.

    References:
        Khosla et al., 2020, Supervised contrastive learning, arXiv:2004.11362, equation 2.
        Deviation: a graded target in place of classes, because outcomes of many candidates seldom
        repeat exactly.
    """

    pretrained: str
    max_length: int = 128
    pooling: Pooling = "mean"
    temperature: float = 0.1
    target_temperature: float = 0.2
    n_layers: int | None = 2
    training: Training = field(
        default_factory=lambda: Training(
            epochs=4, batch_size=64, learning_rate=2e-4, validation_share=0.2
        ),
        kw_only=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "temperature", "target_temperature", above=True)
        if self.n_layers is not None and self.n_layers < 1:
            msg = f"`n_layers` must be >= 1 or None, got {self.n_layers!r}."
            raise ValueError(msg)
        if self.training.validation_share == 0:
            msg = (
                "`validation_share` of `training` must be above 0, got 0: the held-out rows say "
                "whether the trained encoder is better than the pretrained one."
            )
            raise ValueError(msg)

    def fit(self, data: Outcomes) -> Self:
        """Fine-tune on measured outcomes, replacing any earlier fit.

        Only quality counts: what a candidate costs on every query alike does not tell queries
        apart. An estimator that is fitted to the same rows must not choose its settings by
        leave-one-out on them, because the encoder has seen their outcomes.

        Raises:
            ValueError: If there are fewer than two candidates, fewer rows than a batch, or the
                same differences between the candidates in every row.
        """
        if len(data.candidates) < 2:
            msg = f"`data` must have at least two candidates, got {list(data.candidates)}."
            raise ValueError(msg)
        share = self.training.validation_share
        train, held_out = split_indices(
            len(data), [1 - share, share], seed=self.training.seed, groups=data.queries
        )
        if len(train) < self.training.batch_size or len(held_out) == 0:
            msg = (
                f"`data` must have at least {self.training.batch_size} rows to train on, a batch, "
                f"and one held out, got {len(train)} and {len(held_out)}: give more rows or lower "
                "`batch_size`."
            )
            raise ValueError(msg)
        profile = _centered(data.quality)
        spread = 2 * float(profile.var(axis=0).sum())
        if spread < 1e-12:
            msg = (
                "`data` must have rows in which the candidates differ in another way than in the "
                "other rows: every row has the same differences, so no query needs another "
                "candidate than the others."
            )
            raise ValueError(msg)
        self._load_pretrained()
        self.data_hash_ = data_hash(data.queries, data.candidates, data.quality)
        parts = data.take(train), data.take(held_out)
        before = self._error(*parts)
        self._freeze()
        old = {name: weight.clone() for name, weight in self.network_.state_dict().items()}
        self._train(self._job(data.queries, profile / spread**0.5), self.training)
        after = self._error(*parts)
        self.held_out_error_ = (before, after)
        self.is_trained_ = after < before
        if not self.is_trained_:
            self.network_.load_state_dict(old)
            msg = (
                "The trained encoder is not better than the pretrained one on the held-out rows "
                f"(squared error {after:.5f}, before {before:.5f}), so the pretrained weights are "
                "kept: give more rows, or use the pretrained encoder."
            )
            warnings.warn(msg, stacklevel=2)
        return self

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts as unit vectors, as LangChain's interface requires.

        Raises:
            NotFittedError: If neither `fit` nor `load` was called before.
        """
        self._check_fitted()
        if len(texts) == 0:
            return []
        width = self._model.config.hidden_size
        rows: list[list[float]] = self._in_batches(self._tokens(texts), width).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Embed one text, as LangChain's interface requires."""
        return self.embed_documents([text])[0]

    @property
    def model(self) -> str:
        """Identifier of the fit, by which a saved estimator knows its embedding."""
        self._check_fitted()
        return f"contrastive-{data_hash(self.data_hash_, self._params())}"

    def save(self, folder: str | Path) -> Path:
        """Write the fitted encoder into a folder as JSON, arrays and safetensors.

        Raises:
            NotFittedError: If the encoder is not fitted.
        """
        self._check_fitted()
        settings = {
            "params": self._params(),
            "data_hash": self.data_hash_,
            "held_out_error": list(self.held_out_error_),
            "is_trained": self.is_trained_,
        }
        files = self._write_files(Path(folder))
        name = type(self).__name__
        return write_artifact(folder, Artifact(name, settings, self.history_.to_arrays(), files))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an encoder that `save` wrote, without a hub and without pickle.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or has another network.
        """
        artifact = read_artifact(folder, cls.__name__)
        settings = artifact.settings
        try:
            encoder = cls(**cls._constructor_arguments(settings["params"]))
            encoder.data_hash_ = settings["data_hash"]
            before, after = settings["held_out_error"]
            encoder.held_out_error_ = (float(before), float(after))
            encoder.is_trained_ = settings["is_trained"]
            encoder.history_ = History.from_arrays(artifact.arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error
        encoder._read_network(Path(folder))
        return encoder

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            name = type(self).__name__
            msg = f"This {name} is not fitted: call `fit(outcomes)` or `{name}.load(folder)` first."
            raise NotFittedError(msg)

    def _freeze(self) -> None:
        """Leave the last `n_layers` layers alone to be trained."""
        if self.n_layers is None:
            return
        stacks = [part for part in self._model.modules() if isinstance(part, nn.ModuleList)]
        layers = max(stacks, key=len, default=())
        if len(layers) < self.n_layers:
            msg = (
                f"`n_layers` must be at most {len(layers)}, the layers of {self.pretrained!r}, or "
                f"None, got {self.n_layers!r}."
            )
            raise ValueError(msg)
        self.network_.requires_grad_(requires_grad=False)
        for layer in layers[-self.n_layers :]:
            layer.requires_grad_(requires_grad=True)

    def _job(self, queries: Sequence[str], profile: Floats) -> TrainingJob:
        tokens = self._tokens(queries)
        profiles = torch.from_numpy(profile.astype(np.float32)).to(self._device)

        def loss(rows: Indices) -> torch.Tensor:
            vectors = self._forward([tokens[i] for i in rows])
            wanted = profiles[torch.from_numpy(rows).to(profiles.device)]
            distance = torch.cdist(wanted, wanted) ** 2
            itself = torch.eye(len(rows), dtype=torch.bool, device=vectors.device)
            target = (-distance / self.target_temperature).masked_fill(itself, _HIDDEN)
            near = (vectors @ vectors.T / self.temperature).masked_fill(itself, _HIDDEN)
            return -(target.softmax(dim=1) * near.log_softmax(dim=1)).sum(dim=1)

        return TrainingJob(
            self.network_,
            loss,
            groups=queries,
            lengths=np.array([len(row) for row in tokens]),
            fingerprint=data_hash(self.data_hash_, self._params()),
        )

    def _error(self, train: Outcomes, held_out: Outcomes) -> float:
        guess = NearestNeighbors(self).fit(train).predict(held_out.queries)
        return float(np.mean((_centered(guess) - _centered(held_out.quality)) ** 2))

    def _build(self, model: nn.Module) -> nn.Module:
        return _Sentence(model, self.pooling)

    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        vectors: torch.Tensor = self.network_(*pad_tokens(tokens, self._device))
        return vectors


class _Sentence(nn.Module):
    def __init__(self, model: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(pool_tokens(hidden, mask, self.pooling), dim=1)


def _centered(quality: Floats) -> Floats:
    """Subtract each query's mean over the candidates."""
    centered: Floats = quality - quality.mean(axis=1, keepdims=True)
    return centered
