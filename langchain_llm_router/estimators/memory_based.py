"""The base class of estimators that look up similar training queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from langchain_core.embeddings import Embeddings
from scipy.sparse import csr_array

from langchain_llm_router.data.artifacts import Artifact
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.memory import ApproximateMemory, ExactMemory, Memory
from langchain_llm_router.types.arrays import Arrays, Vectors
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["MemoryBasedEstimator"]


@dataclass(eq=False)
class MemoryBasedEstimator(EmbeddingEstimator):
    """Base class for estimators that store the training queries and look up similar ones.

    Args:
        embeddings: Any LangChain `Embeddings`. If None, `LexicalEmbeddings`.
        memory: Index of the training queries. If None, `ExactMemory`.

    Attributes:
        memory_: The fitted memory.
    """

    memory: Memory | None = field(default=None, kw_only=True)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        embeddings: Embeddings | None = None,
        memory: Memory | None = None,
    ) -> Self:
        """Read an estimator that `save` wrote.

        Args:
            folder: The artifact's folder. Do not move it while the estimator is in use: an
                `ApproximateMemory` maps its files from there.
            embeddings: The embedding used for fitting; not needed for `LexicalEmbeddings`.
            memory: The memory; needed only for a `StoreMemory`, whose rows are in the store.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or needs another
                embedding or memory.
        """
        return cls._load(folder, embeddings, memory=memory)

    def _fit_memory(self, vectors: Vectors | csr_array, texts: Sequence[str]) -> None:
        earlier: Memory | None = getattr(self, "memory_", None)
        if earlier is not None:
            earlier.forget()
        self.memory_ = (self.memory or ExactMemory()).refitted(vectors, texts)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "memory": self.memory_.describe()}

    def _arrays(self) -> Arrays:
        return {**super()._arrays(), **self.memory_.arrays()}

    def _write_files(self, folder: Path) -> Sequence[str]:
        return self.memory_.write_files(folder)

    def _restore_artifact(
        self, folder: Path, artifact: Artifact, embeddings: Embeddings | None
    ) -> None:
        described = artifact.settings["memory"]
        self.memory_ = _restore_memory(described, artifact.arrays, folder, self.memory)
        if self.memory is None and not isinstance(self.memory_, ExactMemory):
            self.memory = type(self.memory_)(**described["params"])
        super()._restore_artifact(folder, artifact, embeddings)


_KINDS: Mapping[str, type[Memory]] = {
    "ExactMemory": ExactMemory,
    "ApproximateMemory": ApproximateMemory,
}


def _restore_memory(
    described: Mapping[str, Any],
    arrays: Arrays,
    folder: Path,
    configured: Memory | None,
) -> Memory:
    """Rebuild a saved memory; a store cannot be saved, so its memory must be configured."""
    kind = described["kind"]
    if configured is not None and type(configured).__name__ != kind:
        msg = (
            f"`memory` must be the {kind} that the estimator was fitted with, "
            f"got {type(configured).__name__}."
        )
        raise ArtifactError(msg)
    if configured is None and kind not in _KINDS:
        msg = f"The estimator was fitted with {kind}: pass `memory={kind}(...)` to `load`."
        raise ArtifactError(msg)
    memory = copy(configured) if configured is not None else _KINDS[kind](**described["params"])
    memory.restore(described, arrays, folder)
    return memory
