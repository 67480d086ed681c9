"""Indexes of training queries that are searched by similarity.

`ExactMemory` compares with every vector and suits up to about 100,000 vectors; those of words alone
it keeps without their zeros.
`ApproximateMemory` searches a graph (extra `ann`) and reads vectors from a memory-mapped file, so
that a million vectors need less than 1 GB. `StoreMemory` (`memory_store.py`) searches any
LangChain `VectorStore`, such as pgvector.
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
from scipy.sparse import csr_array, vstack

from langchain_llm_router.data.embeddings import dense
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Arrays, Indices, Vectors
from langchain_llm_router.types.errors import import_extra

__all__ = ["ApproximateMemory", "ExactMemory", "Memory"]


_VECTORS, _INDEX = "memory_vectors.npy", "memory_index.usearch"
_SPARSE_PARTS = ("data", "indices", "indptr")


class Memory(CheckedArguments, ABC):
    """Base class for indexes of the unit vectors of training queries, in rows from 0.

    Attributes:
        n_rows_: Number of rows.
        width_: The embedding dimension.
    """

    n_rows_: int
    width_: int

    def fit(self, vectors: Vectors | csr_array, texts: Sequence[str]) -> Self:
        """Store these queries in place of any earlier ones.

        Args:
            vectors: Unit vectors, of shape (n_rows, embedding dimension), maybe sparse.
            texts: Texts of the same queries.
        """
        self.n_rows_, self.width_ = vectors.shape
        self._fit(dense(vectors), texts)
        return self

    def refitted(self, vectors: Vectors | csr_array, texts: Sequence[str]) -> Self:
        """Fit a copy, because the memory that the user configured must not change."""
        return copy(self).fit(vectors, texts)

    def grown(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """Return a fitted copy with these queries in further rows.

        Raises:
            ValueError: If this kind of memory cannot grow.
        """
        msg = f"{type(self).__name__} cannot grow: fit it again on all rows."
        raise ValueError(msg)

    def forget(self) -> None:
        """Delete what `fit` wrote outside this process, if anything."""

    @abstractmethod
    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the most similar stored queries.

        Args:
            vectors: Unit vectors of new queries, of shape (n_queries, embedding dimension).
            texts: Texts of the same queries.
            k: Number of stored queries to find for each; capped at `n_rows_`.

        Returns:
            Row indices and cosine similarities, both of shape (n_queries, min(k, n_rows_)), in no
            particular order. Where fewer rows were found, the rest have row 0 and cosine -inf.
        """

    @abstractmethod
    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None: ...

    def describe(self) -> dict[str, Any]:
        """Describe the memory for an artifact's manifest, as `restore` needs it."""
        size = {"n_rows": self.n_rows_, "width": self.width_}
        return {"kind": type(self).__name__, "params": {}, **size}

    def arrays(self) -> Arrays:
        """Return the arrays to save in the artifact."""
        return {}

    def write_files(self, folder: Path) -> Sequence[str]:
        """Write the files that must not be loaded into RAM, and return their names."""
        return ()

    def restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        """Restore a saved memory."""
        self.n_rows_, self.width_ = int(described["n_rows"]), int(described["width"])
        self._restore(described, arrays, folder)

    @abstractmethod
    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None: ...

    def _check_shape(self, vectors: NDArray[Any] | csr_array) -> None:
        if vectors.dtype.kind != "f":
            msg = f"the vectors of the memory hold {vectors.dtype}, expected decimal numbers"
            raise ValueError(msg)
        if vectors.shape != (self.n_rows_, self.width_):
            expected = (self.n_rows_, self.width_)
            msg = f"the vectors of the memory have shape {vectors.shape}, expected {expected}"
            raise ValueError(msg)


@dataclass(eq=False)
class ExactMemory(Memory):
    """A memory that compares each query with every stored vector.

    Attributes:
        vectors_: Unit vectors, of shape (n_rows, embedding dimension), or a sparse array of them.
    """

    def fit(self, vectors: Vectors | csr_array, texts: Sequence[str]) -> Self:
        """Store these queries in place of any earlier ones; sparse vectors stay so."""
        if not isinstance(vectors, csr_array):
            return super().fit(vectors, texts)
        self.n_rows_, self.width_ = vectors.shape
        self.vectors_: Vectors | csr_array = vectors
        return self

    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.vectors_ = np.ascontiguousarray(vectors, dtype=np.float32)

    def grown(self, vectors: Vectors, texts: Sequence[str]) -> Self:
        """Return a fitted copy with these rows at the end."""
        if isinstance(self.vectors_, csr_array):
            return copy(self).fit(vstack([self.vectors_, csr_array(vectors)], format="csr"), texts)
        return copy(self).fit(np.vstack([self.vectors_, vectors]), texts)

    def cosines(self, vectors: Vectors) -> Vectors:
        """Return the cosine similarity to every stored query, of shape (n_queries, n_rows)."""
        if isinstance(self.vectors_, csr_array):
            return np.ascontiguousarray((self.vectors_ @ vectors.T).T)
        return np.asarray(vectors @ self.vectors_.T)

    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the most similar stored queries, without approximation."""
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
        """Return the vectors, or the parts of a sparse array of them."""
        if isinstance(self.vectors_, csr_array):
            return {f"vectors_{part}": getattr(self.vectors_, part) for part in _SPARSE_PARTS}
        return {"vectors": self.vectors_}

    def _restore(self, described: Mapping[str, Any], arrays: Arrays, folder: Path) -> None:
        if "vectors" in arrays:
            self.vectors_ = arrays["vectors"]
        else:
            parts = tuple(arrays[f"vectors_{part}"] for part in _SPARSE_PARTS)
            self.vectors_ = csr_array(parts, shape=(self.n_rows_, self.width_))
            self.vectors_.check_format()
        self._check_shape(self.vectors_)


@dataclass(eq=False)
class ApproximateMemory(Memory):
    """A memory that searches a graph of 8-bit vectors and ranks the results by 16-bit vectors.

    After `load` the graph and the 16-bit vectors are memory-mapped from the artifact's folder:
    processes on one machine share them, and pages that are not needed stay on disk. Needs the
    extra `ann`.

    Args:
        connectivity: Links per vector in the graph. Higher values improve recall and need more
            memory: for the 50 nearest among a million vectors, recall was 0.87 with 16 links and
            0.97 with 32.
        expansion_add: Breadth of the search while the graph is built.
        expansion_search: Breadth of the search for a query; higher values improve recall and take
            longer.
        oversampling: The graph search proposes `oversampling` * k rows, of which the k nearest
            are returned.
        n_threads: Number of threads that build the graph; 0 uses all cores.

    Attributes:
        scale_: Factor that scales coordinates to 8-bit integers.

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
        minimum = {"connectivity": 2, "expansion_add": 1, "expansion_search": 1}
        for name, low in minimum.items():
            if not getattr(self, name) >= low:
                msg = f"`{name}` must be >= {low}, got {getattr(self, name)!r}."
                raise ValueError(msg)

    def _fit(self, vectors: Vectors, texts: Sequence[str]) -> None:
        # 127 stands for the value that one coordinate in 10,000 exceeds: coordinates of unit
        # vectors are small (1 / sqrt(width)) and would use only 4 bits if 127 stood for 1.
        sample = np.abs(vectors[:: max(1, len(vectors) // 10_000)])
        self.scale_ = float(127 / max(float(np.quantile(sample, 0.9999)), 1e-6))
        self.index_ = self._empty_index()
        self.vectors_ = np.asarray(vectors, dtype=np.float16)
        for start in range(0, len(vectors), self._BATCH):
            part = self._to_bytes(vectors[start : start + self._BATCH])
            keys = np.arange(start, start + len(part), dtype=np.uint64)
            self.index_.add(keys, part, threads=self.n_threads)

    def search(self, vectors: Vectors, texts: Sequence[str], k: int) -> tuple[Indices, Vectors]:
        """Find the most similar rows among those that the graph search proposes."""
        k = min(k, self.n_rows_)
        n_proposed = min(int(np.ceil(k * self.oversampling)), self.n_rows_)
        rows = np.zeros((len(vectors), k), dtype=np.intp)
        cosine = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for i, (vector, query) in enumerate(zip(vectors, self._to_bytes(vectors), strict=True)):
            proposed = self.index_.search(query, n_proposed, threads=1).keys.astype(np.intp)
            similarity = self.vectors_[proposed].astype(np.float32) @ vector
            best = np.argsort(-similarity)[:k]
            rows[i, : len(best)] = proposed[best]
            cosine[i, : len(best)] = similarity[best]
        _unmap_pages(self.vectors_)
        return rows, cosine

    def describe(self) -> dict[str, Any]:
        """Describe the settings, the scale and the size."""
        return {**super().describe(), "params": asdict(self), "scale": self.scale_}

    def write_files(self, folder: Path) -> Sequence[str]:
        """Write the vectors and the graph, except into the folder that they are mapped from."""
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
            # The inner product of unit vectors is their cosine; no norms need to be computed.
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
    """Release the pages just read.

    The kernel maps 16 pages around each, and all of them would count as this process's memory.
    """
    base: Any = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
