"""Embeddings as arrays, and an embedding that needs no model and no network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats, Indices, Vectors
from langchain_llm_router.types.errors import ArtifactError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["LexicalEmbeddings", "dense", "describe_embeddings", "embed", "restore_embeddings"]


# Texts are embedded in parts because vectors as Python lists need ten times the memory.
_PART = 8192

# Version 1 takes a run of letters for a word. Version 2 takes every character of a script without
# spaces for one (Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese), and splits identifiers.
_VERSIONS = (1, 2)
_WORDS = re.compile(r"\w+|[^\w\s]")
_SPACELESS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_TOKENS = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+|[^\w\s]")
_RUN = re.compile(rf"[{_SPACELESS}]{{3,}}")
_IDENTIFIER = re.compile(r"\b(?:\w[^\W_]*+_\w++|[A-Z]*+[a-z]++[A-Z]\w*+)")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class LexicalEmbeddings(CheckedArguments, Embeddings):
    """An embedding by hashed word n-grams, weighted by rarity.

    Every distinct n-gram is hashed to one of `width` buckets with a sign and weighted by
    (1 + ln count) x inverse document frequency; the vector is scaled to length 1. On data sets
    where the wording predicts the difficulty, routing with it is about as good as with small
    neural encoders. Where words have no spaces between them, characters are taken for words;
    identifiers in code are split as well (`sort_list`, `sortList`).

    Args:
        width: Number of buckets, which is the embedding dimension.
        n_words: Maximum number of words of an n-gram.
        version: 2, or 1 to read texts as artifacts without a version were fitted.

    Attributes:
        idf_: Inverse document frequency per bucket, of shape (width,); ones before `fit`.

    References:
        Weinberger et al., 2009, Feature hashing for large scale multitask learning,
        arXiv:0902.2206, section 2 (the signed hash).

    Example:
        >>> len(LexicalEmbeddings(width=64).embed_query("What is 2 + 2?"))
        64
    """

    def __init__(self, width: int = 4096, n_words: int = 2, version: int = 2) -> None:
        if width < 1 or n_words < 1:
            msg = f"`width` and `n_words` must be >= 1, got {width!r} and {n_words!r}."
            raise ValueError(msg)
        if version not in _VERSIONS:
            msg = f"`version` must be one of {list(_VERSIONS)}, got {version!r}."
            raise ValueError(msg)
        self.version = version
        self.width = width
        self.n_words = n_words
        self.idf_: Vectors = np.ones(width, dtype=np.float32)

    def fit(self, texts: Sequence[str]) -> Self:
        """Fit the rarity of each bucket: idf = ln((1 + n) / (1 + df)) + 1."""
        self._fit_rarity(self._summed(texts))
        return self

    def fit_sparse(self, texts: Sequence[str]) -> csr_array:
        """Fit, and embed the same texts as `embed_sparse`, reading each only once."""
        rows = self._summed(texts)
        self._fit_rarity(rows)
        return self._scaled(rows)

    def embed_sparse(self, texts: Sequence[str]) -> csr_array:
        """Embed texts as `embed_array`, without the zeros, of shape (n_texts, width)."""
        return self._scaled(self._summed(texts))

    def embed_array(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as an array of shape (n_texts, width)."""
        out = np.zeros((len(texts), self.width), dtype=np.float32)
        for i, text in enumerate(texts):
            code, count = _counted(text, self.n_words, self.version)
            if len(code) == 0:
                continue
            sign = np.where(code & 0x8000_0000, -1.0, 1.0)
            weights = sign * (1 + np.log(count))
            out[i] = np.bincount(code % self.width, weights, self.width)
        out *= self.idf_
        return _unit(out)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts, as LangChain's interface requires."""
        rows: list[list[float]] = self.embed_array(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Embed one text, as LangChain's interface requires."""
        return self.embed_documents([text])[0]

    def _summed(self, texts: Sequence[str]) -> csr_array:
        """Sum the signed weights of each text's n-grams by bucket, without rarity and length."""
        from scipy.sparse import csr_array, vstack  # noqa: PLC0415 - slow, and a decision needs none

        parts = []
        for start in range(0, max(len(texts), 1), _PART):
            part = texts[start : start + _PART]
            counted = [_counted(text, self.n_words, self.version) for text in part]
            code = np.concatenate([np.empty(0, np.int64), *(code for code, _ in counted)])
            count = np.concatenate([np.empty(0), *(count for _, count in counted)])
            ends = np.cumsum([0, *(len(code) for code, _ in counted)], dtype=np.int32)
            weights = np.where(code & 0x8000_0000, -1.0, 1.0) * (1 + np.log(count))
            buckets = (code % self.width).astype(np.int32)
            rows = csr_array((weights, buckets, ends), shape=(len(part), self.width))
            rows.sum_duplicates()
            parts.append(rows.astype(np.float32))
        return vstack(parts, format="csr")

    def _fit_rarity(self, rows: csr_array) -> None:
        # A bucket whose n-grams cancel out is an entry of its row all the same.
        document_frequency = np.bincount(rows.indices, minlength=self.width)
        idf = np.log((1 + rows.shape[0]) / (1 + document_frequency)) + 1
        self.idf_ = idf.astype(np.float32)

    def _scaled(self, rows: csr_array) -> csr_array:
        rows.data *= self.idf_[rows.indices]
        norms = np.sqrt(rows.power(2).sum(axis=1, dtype=np.float64))
        norms = np.maximum(norms, np.finfo(np.float32).tiny).astype(np.float32)
        rows.data /= np.repeat(norms, np.diff(rows.indptr))
        return rows


@lru_cache(maxsize=16_384)
def _counted(text: str, n_words: int, version: int) -> tuple[Indices, Floats]:
    """Hash the n-grams of a text: the different codes, and how often each occurs.

    Cached, because fitting several estimators in several folds reads every text again and again.
    """
    tokens = (_WORDS if version == 1 else _TOKENS).findall(text.lower())
    words = [token.encode("utf-8", "surrogatepass") for token in tokens]
    hashed = [crc32(word) for word in words]
    grams = Counter(hashed)
    # An n-gram is its words with spaces between them; its hash goes on from that of its beginning.
    spaced = [b" " + word for word in words]
    for n in range(1, min(n_words, len(words))):
        hashed = [crc32(word, begun) for word, begun in zip(spaced[n:], hashed, strict=False)]
        grams.update(hashed)
    if version > 1:
        grams.update(crc32(piece.encode("utf-8", "surrogatepass")) for piece in _pieces(text))
    code = np.fromiter(grams, dtype=np.int64, count=len(grams))
    return code, np.fromiter(grams.values(), dtype=np.float64, count=len(grams))


def _pieces(text: str) -> Iterator[str]:
    """Yield the parts of identifiers, and three characters each of scripts without spaces."""
    for identifier in _IDENTIFIER.finditer(text):
        yield from (piece.lower() for piece in _PIECE.findall(identifier[0]))
    for run in _RUN.finditer(text):
        yield from (run[0][i : i + 3] for i in range(len(run[0]) - 2))


def embed(embeddings: Embeddings, texts: Sequence[str]) -> Vectors:
    """Embed texts as unit vectors, of shape (n_texts, embedding dimension), in float32.

    Raises:
        ValueError: If the model returns the wrong number of vectors, or non-finite numbers.
    """
    if isinstance(embeddings, LexicalEmbeddings):
        return embeddings.embed_array(texts)
    first = _embed_part(embeddings, list(texts[:_PART]))
    if len(texts) <= _PART:
        return first
    vectors = np.empty((len(texts), first.shape[1]), dtype=np.float32)
    vectors[:_PART] = first
    for start in range(_PART, len(texts), _PART):
        vectors[start : start + _PART] = _embed_part(embeddings, list(texts[start : start + _PART]))
    return vectors


def dense(vectors: Vectors | csr_array) -> Vectors:
    """Return vectors with all of their zeros."""
    return vectors if isinstance(vectors, np.ndarray) else vectors.toarray()


def _embed_part(embeddings: Embeddings, texts: list[str]) -> Vectors:
    # Tokenizers refuse half a character, as JSON from other programs may have.
    whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    vectors = np.asarray(embeddings.embed_documents(whole), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        msg = (
            f"{type(embeddings).__name__} returned an array of shape {vectors.shape} for "
            f"{len(texts)} texts; expected one finite vector per text."
        )
        raise ValueError(msg)
    return _unit(vectors)


def describe_embeddings(embeddings: Embeddings, width: int) -> dict[str, Any]:
    """Describe an embedding for an artifact, because loading must refuse another one."""
    model = getattr(embeddings, "model", None) or getattr(embeddings, "model_name", None)
    description: dict[str, Any] = {
        "class": type(embeddings).__name__,
        "model": None if model is None else str(model),
        "width": width,
    }
    if isinstance(embeddings, LexicalEmbeddings):
        description["n_words"] = embeddings.n_words
        if embeddings.version > 1:
            description["version"] = embeddings.version
    return description


def restore_embeddings(
    described: Mapping[str, Any], embeddings: Embeddings | None, idf: Vectors | None
) -> Embeddings:
    """Rebuild a saved `LexicalEmbeddings`, or check that `embeddings` is the one of the fit.

    Raises:
        ArtifactError: If `embeddings` is needed but None, or is not the embedding of the fit.
    """
    if embeddings is None and described["class"] == LexicalEmbeddings.__name__ and idf is not None:
        version = described.get("version", 1)
        if version not in _VERSIONS:
            msg = (
                f"The artifact has version {version!r} of `LexicalEmbeddings`, but this package "
                f"has {list(_VERSIONS)}: update the package, or fit and save it again."
            )
            raise ArtifactError(msg)
        if idf.shape != (described["width"],):
            # Checked first, because a damaged width could be too large for the memory.
            msg = f"The saved idf has shape {idf.shape}, expected ({described['width']},)."
            raise ArtifactError(msg)
        lexical = LexicalEmbeddings(described["width"], described["n_words"], version)
        lexical.idf_ = idf.astype(np.float32)
        return lexical
    if embeddings is None:
        msg = f"The estimator was fitted with {described['class']}: pass `embeddings=` to `load`."
        raise ArtifactError(msg)
    found = describe_embeddings(embeddings, described["width"])
    if (found["class"], found["model"]) != (described["class"], described["model"]):
        msg = (
            f"`embeddings` must be the {described['class']} {described['model']!r} of the fit, "
            f"got {found['class']} {found['model']!r}."
        )
        raise ArtifactError(msg)
    return embeddings


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny))
