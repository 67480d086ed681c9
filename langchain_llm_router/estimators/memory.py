"""Where past queries are kept, and which of them are most similar to a new one.

`ExactMemory` compares with every vector and is right for up to about 100,000 of them.
`ApproximateMemory` searches a graph (extra `ann`) and reads vectors from a memory-mapped file, so a
million fit into less than 1 GB. `StoreMemory`, in a file of its own, asks any LangChain
`VectorStore`, such as pgvector.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Arrays, Indices, Vectors
from langchain_llm_router.types.errors import import_extra

__all__ = ["ApproximateMemory", "ExactMemory", "Memory"]


_VECTORS, _INDEX = "memory_vectors.npy", "memory_index.usearch"


class Memory(CheckedArguments, ABC):
    """Unit vectors of past queries, numbered from 0.

    Attributes:
        n_rows_: How many are kept.
        width_: How many numbers a vector has.
    """

    n_rows_: int
    width_: int

    def fit(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """Keep these queries and forget any earlier ones.

        Args:
            vectors: Unit vectors, of shape (n_rows, width).
            texts: The same queries as texts.
        """
        self.n_rows_, self.width_ = vectors.shape
        self._fit(vectors, texts)
        return self

    def refitted(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """A fitted copy; the memory that the user configured stays as it is."""
        return copy(self).fit(vectors, texts)

    def grown(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """A fitted copy that keeps these queries too, numbered after the ones it has.

        Raises:
            ValueError: If this kind of memory cannot grow.
        """
        msg = f"{type(self).__name__} cannot grow: fit it again on all rows."
        raise ValueError(msg)

    def forget(self) -> None:
        """Remove from outside this process what `fit` put there."""

    @abstractmethod
    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the most similar kept queries.

        Args:
            vectors: Unit vectors of new queries, of shape (n_queries, width).
            texts: The same queries as texts.
            k: How many to find; at most all.

        Returns:
            Row numbers and cosines, both of shape (n_queries, min(k, n_rows_)), in any order. A
            place that an index could not fill has row 0 and cosine -inf.
        """

    @abstractmethod
    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None: ...

    def describe(self) -> dict[str, Any]:
        """What an artifact must remember to build it again."""
        size = {"n_rows": self.n_rows_, "width": self.width_}
        return {"kind": type(self).__name__, "params": {}, **size}

    def arrays(self) -> Arrays:
        """Arrays for the artifact."""
        return {}

    def write_files(self, folder: Path) -> Sequence[str]:
        """Write what must not go through RAM; returns the names."""
        return ()

    def restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        """Take over what was saved."""
        self.n_rows_, self.width_ = int(described["n_rows"]), int(described["width"])
        self._restore(described, arrays, folder)

    @abstractmethod
    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None: ...

    def _check_shape(self, vectors: NDArray[Any]) -> None:
        if vectors.shape != (self.n_rows_, self.width_):
            expected = (self.n_rows_, self.width_)
            msg = f"the memory's vectors have shape {vectors.shape}, expected {expected}"
            raise ValueError(msg)


@dataclass(eq=False)
class ExactMemory(Memory):
    """Compares with every vector.

    Attributes:
        vectors_: Unit vectors, of shape (n_rows, width).
    """

    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.vectors_ = np.ascontiguousarray(vectors, dtype=np.float32)

    def grown(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """A copy with these rows at the end."""
        return copy(self).fit(np.vstack([self.vectors_, vectors]), texts)

    def cosines(self, vectors: Vectors) -> Vectors:
        """Similarity to every kept query, of shape (n_queries, n_rows)."""
        return np.asarray(vectors @ self.vectors_.T)

    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the nearest by comparing with all."""
        k = min(k, self.n_rows_)
        rows = np.empty((len(vectors), k), dtype=np.intp)
        cosine = np.empty((len(vectors), k), dtype=np.float32)
        chunk = max(1, 16_000_000 // max(self.n_rows_, 1))
        for start in range(0, len(vectors), chunk):
            part = slice(start, start + chunk)
            similarity = self.cosines(vectors[part])
            rows[part] = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            cosine[part] = np.take_along_axis(similarity, rows[part], axis=1)
        return rows, cosine

    def arrays(self) -> Arrays:
        """The vectors."""
        return {"vectors": self.vectors_}

    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        self.vectors_ = arrays["vectors"]
        self._check_shape(self.vectors_)


@dataclass(eq=False)
class ApproximateMemory(Memory):
    """Searches a graph of 8-bit vectors, then ranks what it found by memory-mapped 16-bit ones.

    After `load` both the graph and the vectors are mapped from the artifact's folder: processes on
    one machine share them, and pages that are not needed stay on disk. Needs the extra `ann`.

    Args:
        connectivity: Links per vector in the graph; more: better recall, more memory. With 16, a
            million vectors had a recall of 0.87 of their 50 nearest, with 32 of 0.97.
        expansion_add: Breadth of the search while building.
        expansion_search: Breadth of the search for a query; more: better recall, slower.
        oversampling: The graph proposes this many times k, of which the k nearest are kept.
        n_threads: Threads for building; 0: all cores.

    Attributes:
        scale_: Factor from a vector's numbers to 8-bit integers.

    References:
        Malkov and Yashunin, 2016, Hierarchical navigable small world graphs, arXiv:1603.09320; the
        implementation is usearch.
    """

    connectivity: int = 32
    expansion_add: int = 128
    expansion_search: int = 256
    oversampling: float = 2.0
    n_threads: int = 0

    _BATCH: ClassVar[int] = 65_536

    def __post_init__(self) -> None:
        check_range(self, "oversampling", low=1)
        least = {"connectivity": 2, "expansion_add": 1, "expansion_search": 1}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                msg = f"`{name}` must be >= {low}, got {getattr(self, name)!r}."
                raise ValueError(msg)

    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None:
        # 127 stands for a number that one in 10,000 exceeds: coordinates of unit vectors are small
        # (1 / sqrt(width)), and scaling by 127 alone would leave them 4 bits.
        sample = np.abs(vectors[:: max(1, len(vectors) // 10_000)])
        self.scale_ = float(127 / max(float(np.quantile(sample, 0.9999)), 1e-6))
        self.index_ = self._empty_index()
        self.vectors_ = np.asarray(vectors, dtype=np.float16)
        for start in range(0, len(vectors), self._BATCH):
            part = self._to_bytes(vectors[start : start + self._BATCH])
            keys = np.arange(start, start + len(part), dtype=np.uint64)
            self.index_.add(keys, part, threads=self.n_threads)

    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the nearest among what the graph proposes."""
        k = min(k, self.n_rows_)
        wide = min(int(np.ceil(k * self.oversampling)), self.n_rows_)
        rows = np.zeros((len(vectors), k), dtype=np.intp)
        cosine = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for i, (vector, query) in enumerate(zip(vectors, self._to_bytes(vectors), strict=True)):
            found = self.index_.search(query, wide, threads=1).keys.astype(np.intp)
            similarity = self.vectors_[found].astype(np.float32) @ vector
            best = np.argsort(-similarity)[:k]
            rows[i, : len(best)] = found[best]
            cosine[i, : len(best)] = similarity[best]
        _unmap_pages(self.vectors_)
        return rows, cosine

    def describe(self) -> dict[str, Any]:
        """Settings, scale and size."""
        return {**super().describe(), "params": asdict(self), "scale": self.scale_}

    def write_files(self, folder: Path) -> Sequence[str]:
        """Write vectors and graph into the folder, which must not be the one mapped now."""
        folder.mkdir(parents=True, exist_ok=True)
        mapped = getattr(self.vectors_, "filename", None)
        if mapped is not None and Path(mapped).resolve().parent == folder.resolve():
            return _VECTORS, _INDEX
        np.save(folder / _VECTORS, self.vectors_, allow_pickle=False)
        self.index_.save(str(folder / _INDEX))
        return _VECTORS, _INDEX

    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        self.scale_ = float(described["scale"])
        self.vectors_ = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
        self._check_shape(self.vectors_)
        self.index_ = self._empty_index()
        self.index_.view(str(folder / _INDEX))

    def _empty_index(self) -> Any:
        return import_extra("usearch.index", "ann").Index(
            ndim=self.width_,
            # Of unit vectors the inner product is the cosine, without computing two norms again.
            metric="ip",
            dtype="i8",
            connectivity=self.connectivity,
            expansion_add=self.expansion_add,
            expansion_search=self.expansion_search,
            enable_key_lookups=False,
        )

    def _to_bytes(self, vectors: Vectors) -> NDArray[np.int8]:
        scaled = np.rint(vectors * np.float32(self.scale_))
        return np.asarray(np.clip(scaled, -127, 127), dtype=np.int8)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "index_" in state:
            state["index_"] = bytes(self.index_.save())
            state["vectors_"] = np.asarray(self.vectors_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "index_" in state:
            self.index_ = self._empty_index()
            self.index_.load(state["index_"])


def _unmap_pages(vectors: NDArray[Any]) -> None:
    """Give back the pages just read: the kernel maps 16 around each, and all would stay counted."""
    base: Any = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
