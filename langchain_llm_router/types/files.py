"""Opening files that may be hostile or compressed, and files that hold prompts."""

from __future__ import annotations

import gzip
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

__all__ = [
    "check_regular",
    "open_bytes",
    "private_opener",
    "read_limited",
    "refuse_compressed",
    "replaced_file",
    "unpacked_bytes",
]

_GZIP = b"\x1f\x8b"
_COMPRESSED = {
    ".gz": (_GZIP, "gunzip"),
    ".zst": (b"\x28\xb5\x2f\xfd", "unzstd"),
    ".bz2": (b"BZh", "bunzip2"),
    ".xz": (b"\xfd7zXZ\x00", "unxz"),
    ".zip": (b"PK\x03\x04", "unzip"),
}
"""First bytes of a compressed file by its suffix, and the program that unpacks it."""


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


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes; one that gzip has compressed is unpacked as it is read.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a folder, a pipe or a device, compressed otherwise, or damaged.
    """
    check_regular(path)
    with path.open("rb") as file:
        begin = file.read(8)
        file.seek(0)
        if not begin.startswith(_GZIP):
            _refuse(path, begin, "")
            yield file
            return
        try:
            with gzip.GzipFile(path, "rb", fileobj=file) as unpacked:
                yield cast("BinaryIO", unpacked)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            msg = (
                f"{path.name!r} is compressed by gzip, and damaged or cut off "
                f"({str(error).rstrip('.')}): `zcat {path.name} > plain.jsonl` keeps what can be "
                "read."
            )
            raise ValueError(msg) from error


def unpacked_bytes(path: Path) -> tuple[int, bool]:
    """Return how many bytes `open_bytes` reads, and whether that is sure.

    A file that gzip has compressed says its unpacked size modulo 4 GiB, of its last part.

    Raises:
        OSError, ValueError: As in `open_bytes`.
    """
    size = check_regular(path)
    with path.open("rb") as file:
        if file.read(2) != _GZIP or size < len(_GZIP) + 4:
            return size, True
        file.seek(-4, os.SEEK_END)
        return max(size, int.from_bytes(file.read(4), "little")), False


def refuse_compressed(path: Path) -> None:
    """Refuse a file that is compressed or named like one, where it must be a plain one.

    Raises:
        ValueError: If it is; the message says how to unpack it.
    """
    begin = b""
    # A file that cannot be read is refused where it is opened.
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                begin = file.read(8)
    _refuse(path, begin, path.suffix)


def _refuse(path: Path, begin: bytes, suffix: str) -> None:
    for kind, (magic, program) in _COMPRESSED.items():
        if suffix == kind or begin.startswith(magic):
            msg = (
                f"{path.name!r} must be a plain file, but is compressed or named so: "
                f"`{program} {path.name}` unpacks it."
            )
            raise ValueError(msg)


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
