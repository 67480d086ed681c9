"""Decision logs in batches of lines, so that a log of any size is read in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_llm_router.data.row_files import bounded_lines
from langchain_llm_router.types.files import open_bytes, unpacked_bytes

__all__ = ["LogBatch", "count_batches", "log_batches"]

_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class LogBatch:
    """Lines of a log that follow each other."""

    file: int
    """Index of the file."""

    lines: Sequence[bytes]


def log_batches(paths: Sequence[Path]) -> Iterator[LogBatch]:
    """Yield the lines of all files in batches of about 4 MiB.

    Raises:
        OSError: If a file cannot be read.
        ValueError: As in `open_bytes`, or if a line is longer than 32 MiB.
    """
    for i, path in enumerate(paths):
        lines: list[bytes] = []
        n_bytes = 0
        # Bytes, because some characters (U+2028) end a line of text but not of JSONL.
        with open_bytes(path) as file:
            for line in bounded_lines(file):
                lines.append(line)
                n_bytes += len(line)
                if n_bytes >= _BATCH_BYTES:
                    yield LogBatch(i, lines)
                    lines, n_bytes = [], 0
        if len(lines) > 0:
            yield LogBatch(i, lines)


def count_batches(paths: Sequence[Path]) -> int:
    """Return about how many batches `log_batches` yields.

    Raises:
        OSError: If a file does not exist.
        ValueError: If it is a folder, a pipe or a device.
    """
    return sum(-(-unpacked_bytes(path)[0] // _BATCH_BYTES) for path in paths)
