"""Opening files that may be hostile, and files that hold prompts."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_regular", "private_opener", "read_limited", "replaced_file"]


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


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a private file that takes a path's place once it is written whole.

    If writing fails, what was there stays. A link stays one: what it leads to is replaced.

    Raises:
        OSError: If it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        # A pipe or a device takes what it is given, and cannot be replaced.
        with target.open("wb") as file:
            yield file
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(beside, "wb", opener=private_opener) as file:
            if target.exists():
                beside.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def private_opener(path: str, flags: int) -> int:
    """Open for `open(..., opener=)` such that a new file can be read by its owner only."""
    return os.open(path, flags, 0o600)
