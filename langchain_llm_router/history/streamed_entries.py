"""Reading decision logs that do not fit in memory."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from langchain_llm_router.data.row_files import bounded_lines
from langchain_llm_router.history.log_columns import last_of_each, to_ids
from langchain_llm_router.history.log_reader import (
    Entry,
    Feedback,
    History,
    LineCounts,
    check_readable,
    readable_items,
)
from langchain_llm_router.types.files import open_bytes, unpacked_bytes

__all__ = ["stream_log"]

_IDS_AT_ONCE = 4096


def stream_log(*paths: str | Path) -> History:
    """Do the same as `read_log`, but keep only the feedback in memory.

    The entries are read from the files whenever they are iterated over; lines that are appended in
    the meantime are left out.

    Raises:
        ValueError: As in `read_log`.
        OSError: If a file cannot be read.
    """
    files = [(path, _bytes_to_read(path)) for path in map(Path, paths)]
    feedback: dict[str, dict[str, Feedback]] = {}
    ids = [to_ids([])]
    unread: list[object] = []
    n_torn = 0
    for path, n_bytes in files:
        counts = LineCounts()
        for read in readable_items(_first_lines(path, n_bytes), counts):
            if isinstance(read, Feedback):
                feedback.setdefault(read.decision_id, {})[read.name] = read
                continue
            unread.append(read.decision_id)
            if len(unread) == _IDS_AT_ONCE:
                ids.append(to_ids(unread))
                unread = []
        check_readable(path, counts)
        n_torn += counts.n_bad
    every = np.concatenate([*ids, to_ids(unread)])
    superseded = np.setdiff1d(np.arange(len(every)), last_of_each(every))
    entries = _Entries(files, len(every), frozenset(superseded.tolist()))
    return History(entries, feedback, n_torn)


class _Entries(Collection[Entry]):
    """The requests of logs, one after another.

    Args:
        files: The logs, and how many bytes of each are read: a live log grows.
        n_lines: Number of lines with a request.
        superseded: Indices of those that a later line of the same request supersedes.
    """

    def __init__(
        self, files: Sequence[tuple[Path, int]], n_lines: int, superseded: frozenset[int]
    ) -> None:
        self._files, self._n_lines, self._superseded = files, n_lines, superseded

    def __len__(self) -> int:
        return self._n_lines - len(self._superseded)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for i, entry in enumerate(_entries(self._files)) if i not in self._superseded)

    def __contains__(self, entry: object) -> bool:
        return any(entry == one for one in self)


def _entries(files: Sequence[tuple[Path, int]]) -> Iterator[Entry]:
    for path, n_bytes in files:
        for read in readable_items(_first_lines(path, n_bytes), LineCounts()):
            if isinstance(read, Entry):
                yield read


def _bytes_to_read(path: Path) -> int:
    """Return how many bytes there are now; no router appends to a compressed log."""
    n_bytes, is_sure = unpacked_bytes(path)
    return n_bytes if is_sure else sys.maxsize


def _first_lines(path: Path, n_bytes: int) -> Iterator[bytes]:
    with open_bytes(path) as file:
        for line in bounded_lines(file):
            yield line[:n_bytes]
            n_bytes -= len(line)
            if n_bytes <= 0:
                return
