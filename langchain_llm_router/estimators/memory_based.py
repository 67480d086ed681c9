"""What estimators share whose training data is the model: a memory that travels with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from langchain_core.embeddings import Embeddings

from langchain_llm_router.data.artifacts import Artifact
from langchain_llm_router.estimators.estimator import EmbeddingEstimator
from langchain_llm_router.estimators.memory import ApproximateMemory, ExactMemory, Memory
from langchain_llm_router.types.arrays import Arrays, Vectors
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["RememberingEstimator"]


@dataclass(eq=False)
class RememberingEstimator(EmbeddingEstimator):
    """An estimator that keeps its training queries and looks up the similar ones.

    Args:
        embeddings: Any LangChain `Embeddings`; None: lexical, no model needed.
        memory: Where they are kept; None: `ExactMemory`.

    Attributes:
        memory_: The filled memory.
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
        """Read what `save` wrote; vectors of an `ApproximateMemory` are mapped, not read.

        Args:
            folder: The artifact's folder. Keep it where it is while the estimator is in use.
            embeddings: The embedding it was fitted with; not needed for the lexical one.
            memory: Needed for a `StoreMemory`, whose rows are in the store.

        Raises:
            ArtifactError: If the folder is corrupted, too new, or needs another embedding or store.
        """
        return cls._load(folder, embeddings, memory=memory)

    def _remember(self, vectors: Vectors, texts: Sequence[str]) -> None:
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
        self.memory_ = _restored(described, artifact.arrays, folder, self.memory)
        if self.memory is None and not isinstance(self.memory_, ExactMemory):
            self.memory = type(self.memory_)(**described["params"])
        super()._restore_artifact(folder, artifact, embeddings)


_KINDS: Mapping[str, type[Memory]] = {
    "ExactMemory": ExactMemory,
    "ApproximateMemory": ApproximateMemory,
}


def _restored(
    described: Mapping[str, Any],
    arrays: Arrays,
    folder: Path,
    given: Memory | None,
) -> Memory:
    """Build a saved memory again; a store cannot be in an artifact and must be given."""
    kind = described["kind"]
    if given is not None and type(given).__name__ != kind:
        msg = f"This was fitted with {kind}, but {type(given).__name__} was given."
        raise ArtifactError(msg)
    if given is None and kind not in _KINDS:
        msg = f"This was fitted with {kind}: pass `memory={kind}(...)` to `load`."
        raise ArtifactError(msg)
    memory = copy(given) if given is not None else _KINDS[kind](**described["params"])
    memory.restore(described, arrays, folder)
    return memory
