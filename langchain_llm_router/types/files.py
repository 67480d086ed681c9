"""Opening files that may be hostile, and files that hold prompts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["check_regular", "private_opener", "read_limited"]


def check_regular(path: Path) -> int:
    """Return a file's size in bytes, and refuse what is not a file: a pipe would block for ever.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is a folder, a pipe or a device.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = f"{str(path)!r} must be a file, but is a folder, a pipe or a device."
        raise ValueError(msg)
    return status.st_size


def read_limited(path: Path, most_bytes: int) -> bytes:
    """Read a file whose size is bounded.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a file, or larger.
    """
    size = check_regular(path)
    if size > most_bytes:
        msg = f"{str(path)!r} must have at most {most_bytes:,} bytes, got {size:,}."
        raise ValueError(msg)
    return path.read_bytes()


def private_opener(path: str, flags: int) -> int:
    """Open for `open(..., opener=)` such that a new file can be read by its owner only."""
    return os.open(path, flags, 0o600)
