"""Ids and scores of a log as columns, which take little memory for each line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.history.log_reader import Feedback
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["Ids", "ScoreColumns", "last_of_each", "to_ids"]

Ids = NDArray[np.bytes_]
"""Fingerprints of 16 bytes, of shape (n,)."""

_BYTES = 16


def to_ids(values: Sequence[object]) -> Ids:
    """Return the fingerprint of each id; equal ids have equal ones."""
    # An empty buffer is refused.
    joined = b"".join(map(_fingerprint, values)) or b"\0" * _BYTES
    return np.frombuffer(joined, dtype=f"S{_BYTES}")[: len(values)]


def _fingerprint(value: object) -> bytes:
    # An id that is not a text is from another writer, and differs from the text that it looks like.
    text = value if isinstance(value, str) else f"\0{value!r}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()


def last_of_each(ids: NDArray[Any]) -> Indices:
    """Return the index of the last occurrence of each id, in ascending order."""
    return np.sort(len(ids) - 1 - np.unique(ids[::-1], return_index=True)[1])


@dataclass(frozen=True, eq=False)
class ScoreColumns:
    """Scores of answers as columns of shape (n,).

    Attributes:
        request: Id of the request.
        name: Fingerprint of the score's name, see `Feedback.name`.
        score: The score, in [0, 1].
        counts: Whether it is a score of the returned answer under the key that is read.
    """

    request: Ids
    name: Ids
    score: Floats
    counts: Bools

    @classmethod
    def of(cls, items: Sequence[Feedback], key: str | None) -> Self:
        """Tabulate feedback; `key` is the feedback key to read, None for all."""
        counts = [item.candidate is None and key in (None, item.key) for item in items]
        return cls(
            to_ids([item.decision_id for item in items]),
            to_ids([item.name for item in items]),
            np.array([item.score for item in items], dtype=np.float64),
            np.array(counts, dtype=bool),
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the columns of lines that follow each other; there is at least one part."""
        names = ("request", "name", "score", "counts")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def mean_by_request(self, requests: Ids) -> Floats:
        """Return the mean score of each request, NaN without one, as `History.score` does.

        Args:
            requests: Ids of requests, each of them once.
        """
        order = np.argsort(requests, kind="stable")
        last = last_of_each(_pairs(self.request, self.name))
        last = last[self.counts[last]]
        found = np.searchsorted(requests, self.request[last], sorter=order)
        place = order[np.minimum(found, len(order) - 1)] if len(order) > 0 else found
        known = np.zeros(len(last), dtype=bool)
        if len(order) > 0:
            known = requests[place] == self.request[last]
        row, score = place[known], self.score[last[known]]
        n = np.bincount(row, minlength=len(requests))
        total = np.bincount(row, score, minlength=len(requests))
        # Sums of three and more depend on their order, unless they are exact.
        many = n[row] > 2
        by_row: dict[int, list[float]] = {}
        for i, value in zip(row[many].tolist(), score[many].tolist(), strict=True):
            by_row.setdefault(i, []).append(value)
        for i, values in by_row.items():
            total[i] = math.fsum(values)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _pairs(first: Ids, second: Ids) -> NDArray[Any]:
    """Return both ids of each row as one."""
    both = np.stack([first, second], axis=1)
    return np.ascontiguousarray(both).view(f"S{2 * _BYTES}")[:, 0]
