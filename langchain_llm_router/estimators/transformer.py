"""Base classes of what fine-tunes a pretrained transformer.

`fit` loads the weights from a folder or a hub. `save` writes the network as safetensors, and its
configuration and tokenizer as JSON, so `load` needs no hub.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.training_loop import (
    History,
    Training,
    TrainingJob,
    autocast,
    choose_device,
    seed_torch,
    train,
)
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Arrays, Floats
from langchain_llm_router.types.errors import ArtifactError, import_extra

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")

__all__ = ["Pooling", "PretrainedNetwork", "TransformerEstimator", "pad_tokens", "pool_tokens"]

Pooling = Literal["cls", "mean"]

_NETWORK, _TRANSFORMER = "network.safetensors", "transformer"
_PREDICTION_BATCH = 64


@dataclass(eq=False)
class PretrainedNetwork(CheckedArguments, ABC):
    """Base class for what fine-tunes a pretrained transformer.

    Args:
        pretrained: Folder in Hugging Face's layout with safetensors, or a hub name.
        max_length: Maximum number of tokens of a text, or fewer if the model's limit is lower;
            longer texts are cut.
        training: The training settings.

    Attributes:
        history_: Steps and held-out losses of the training.
    """

    _auto_class: ClassVar[str] = "AutoModel"
    _n_extra_tokens: ClassVar[int] = 0

    pretrained: str
    max_length: int = 512
    training: Training = field(default_factory=Training, kw_only=True)

    def __post_init__(self) -> None:
        if self.max_length < 3:
            msg = f"`max_length` must be >= 3, got {self.max_length!r}."
            raise ValueError(msg)

    @classmethod
    def _constructor_arguments(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "training": Training(**params["training"])}

    def _params(self) -> dict[str, Any]:
        """Return the hyper-parameters as JSON data."""
        params = {field.name: getattr(self, field.name) for field in fields(self)}
        return params | {"training": self.training.settings()}

    def _load_pretrained(self) -> None:
        """Build the network from the pretrained weights, with new layers initialized by seed."""
        transformers = import_extra("transformers", "torch")
        with _no_loading_bar(), seed_torch(self.training.seed):
            self.tokenizer_ = transformers.AutoTokenizer.from_pretrained(self.pretrained)
            model = getattr(transformers, self._auto_class).from_pretrained(self.pretrained)
            # The optimizer needs full precision; published weights may have less.
            self.network_ = self._build(model.float())
        self.network_.to(choose_device(self.training.device))

    def _train(self, job: TrainingJob, training: Training) -> None:
        self.history_: History = train(job, training)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.network_.parameters()).device
        return device

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self._max_tokens
        rows = self.tokenizer_(list(texts), truncation=True, max_length=limit)["input_ids"]
        return [list(row) for row in rows]

    @property
    def _max_tokens(self) -> int:
        """Limit of tokens: the lowest of all limits, minus the tokens that the network adds."""
        positions = getattr(self._model.config, "max_position_embeddings", None)
        limits = [self.max_length, self.tokenizer_.model_max_length, positions or self.max_length]
        return int(min(limits)) - self._n_extra_tokens

    def _in_batches(self, tokens: Sequence[Sequence[int]], width: int, *columns: Any) -> Floats:
        """Compute the network's outputs in batches, of shape (n_rows, width), in full precision."""
        out = np.empty((len(tokens), width))
        order = np.argsort([len(row) for row in tokens], kind="stable")
        with torch.inference_mode(), autocast(self._device):
            for start in range(0, len(order), _PREDICTION_BATCH):
                rows = order[start : start + _PREDICTION_BATCH]
                batch = self._forward([tokens[i] for i in rows], *(c[rows] for c in columns))
                out[rows] = batch.float().cpu().numpy().reshape(len(rows), width)
        return out

    @abstractmethod
    def _build(self, model: nn.Module) -> nn.Module:
        """Add the estimator's layers to the transformer."""

    @abstractmethod
    def _forward(self, tokens: Sequence[Sequence[int]], *columns: Any) -> torch.Tensor:
        """Compute the logits of one batch."""

    def _write_files(self, folder: Path) -> Sequence[str]:
        inner = folder / _TRANSFORMER
        inner.mkdir(parents=True, exist_ok=True)
        for stale in inner.iterdir():
            stale.unlink()
        self._model.config.save_pretrained(inner)
        self.tokenizer_.save_pretrained(inner, save_jinja_files=False)
        import_extra("safetensors.torch", "torch").save_model(self.network_, str(folder / _NETWORK))
        names = sorted(path.name for path in inner.iterdir())
        return [_NETWORK, *(f"{_TRANSFORMER}/{name}" for name in names)]

    @property
    def _model(self) -> Any:
        """The transformer inside the network."""
        return self.network_.model

    def _read_network(self, folder: Path) -> None:
        transformers = import_extra("transformers", "torch")
        load_model = import_extra("safetensors.torch", "torch").load_model
        inner = str(folder / _TRANSFORMER)
        offline = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer_ = transformers.AutoTokenizer.from_pretrained(inner, **offline)
            config = transformers.AutoConfig.from_pretrained(inner, **offline)
            with seed_torch(0):
                model = getattr(transformers, self._auto_class).from_config(config)
                self.network_ = self._build(model.float())
            load_model(self.network_, str(folder / _NETWORK))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            msg = f"{str(folder)!r} has no valid network of a {type(self).__name__}: {error}."
            raise ArtifactError(msg) from error
        self.network_.to(choose_device(self.training.device)).eval()


@dataclass(eq=False)
class TransformerEstimator(PretrainedNetwork, QualityEstimator):
    """Base class for quality estimators that fine-tune a pretrained transformer."""

    def _arrays(self) -> Arrays:
        return self.history_.to_arrays()

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self.history_ = History.from_arrays(arrays)

    @classmethod
    def load(cls, folder: str | Path, *, embeddings: Embeddings | None = None) -> Self:
        """Read an estimator that `save` wrote, without a hub and without pickle.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or has another network.
        """
        estimator = super().load(folder, embeddings=embeddings)
        estimator._read_network(Path(folder))
        return estimator


def pad_tokens(
    tokens: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids with 0 on the right; return ids and mask, of shape (n_rows, longest)."""
    width = max(len(row) for row in tokens)
    ids = np.zeros((len(tokens), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(tokens):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def pool_tokens(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Reduce the tokens of each text to one vector, of shape (n_texts, hidden size)."""
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    logging = import_extra("transformers.utils.logging", "torch")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
