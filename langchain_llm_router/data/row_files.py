"""Files of rows: JSONL, CSV, or Parquet with a column per number (extra `data`)."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.files import (
    check_regular,
    open_bytes,
    refuse_compressed,
    replaced_file,
)

__all__ = [
    "JSONL",
    "bounded_lines",
    "check_suffix",
    "json_lines",
    "placed_rows",
    "read_rows",
    "read_shipped",
    "suffix_of",
    "write_rows",
]


JSONL = (".jsonl", ".jsonl.gz")
"""Suffixes of JSONL files that are read."""

_MOST_PARQUET_BYTES = 4 << 30
_MOST_CSV_BYTES = 1 << 30
_MOST_UNPACKED_BYTES = 4 << 30
_MOST_LINE_BYTES = 32 << 20
# Rows may take so much memory, or four times as much as their file unpacked.
_FREE_BYTES = 1 << 30


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSONL or Parquet, depending on the suffix.

    A file that was there is replaced once the rows are written whole; it may hold prompts, so a new
    one can be read by its owner only.
    """
    check_suffix(path, (".jsonl", ".parquet"))
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with replaced_file(path) as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        return path
    pyarrow = import_extra("pyarrow", "data")
    parquet = import_extra("pyarrow.parquet", "data")
    try:
        table = pyarrow.Table.from_pylist([_flat(row) for row in rows])
    except UnicodeEncodeError as error:
        msg = f"Parquet cannot hold half a character ({error}): save as `.jsonl`."
        raise ValueError(msg) from error
    with replaced_file(path) as file:
        parquet.write_table(table, file, compression="zstd")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file, depending on the suffix; in CSV every value is a text.

    Raises:
        ValueError: If a line of a `.jsonl` file is not a JSON object or one of a `.csv` file has
            another number of fields than the header; the message has its number.
    """
    return [row for _, row in placed_rows(path)]


def placed_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file one by one, each with its place for an error: `data.csv line 7`.

    JSONL may be compressed by gzip (`.jsonl.gz`). A row of CSV that has line breaks is on the line
    where it begins, and one of Parquet has no line but a number, from 1.

    Raises:
        ValueError: As in `read_rows`, on reaching the row.
    """
    check_suffix(path, (*JSONL, ".csv", ".parquet"))
    check_regular(path)
    if suffix_of(path) in JSONL:
        for number, line, data in json_lines(path):
            yield f"{path.name} line {number}", _row(path.name, number, line, data)
        return
    refuse_compressed(path)
    if path.suffix == ".csv":
        for number, row in _csv_rows(path):
            yield f"{path.name} line {number}", row
    else:
        for number, row in enumerate(_parquet_rows(path), start=1):
            yield f"{path.name} row {number}", row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    n_bytes = path.stat().st_size
    if n_bytes > _MOST_CSV_BYTES:
        msg = f"{path.name} must have at most {_MOST_CSV_BYTES:,} bytes, got {n_bytes:,}: split it."
        raise ValueError(msg)
    # A field may be as long as the file; the limit is one of the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), n_bytes + 1))
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                msg = f"{path.name}: the names of the columns must differ, got {repeated} twice."
                raise ValueError(msg)
            begins = reader.line_num + 1
            for row in reader:
                # The reader keeps what is too many under None, and fills up with None.
                if None in row or None in row.values():
                    n = sum(value is not None for value in row.values())
                    n += len(row[None]) - 1 if None in row else 0
                    msg = (
                        f"{path.name} line {begins} has {n} fields, but the header has "
                        f"{len(names)}: put fields with commas or line breaks in double quotes."
                    )
                    raise ValueError(msg)
                yield begins, row
                begins = reader.line_num + 1
        except csv.Error as error:
            msg = f"{path.name} line {reader.line_num} is not CSV: {error}."
            raise ValueError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{path.name} must be encoded as UTF-8 ({error}): save it as UTF-8."
            raise ValueError(msg) from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    parquet = import_extra("pyarrow.parquet", "data")
    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            n_bytes = sum(group.total_byte_size for group in groups)
            cells = file.metadata.num_rows * max(1, file.metadata.num_columns)
            if max(n_bytes, cells) > _MOST_PARQUET_BYTES:
                msg = f"{n_bytes:,} bytes and {cells:,} cells, more than {_MOST_PARQUET_BYTES:,}"
                raise ValueError(msg)
            for row in _read_in_bounds(file, n_bytes):
                yield _nested(row)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = f"{path.name} cannot be read as Parquet: {type(error).__name__}: {error}."
        raise ValueError(msg) from error


def _read_in_bounds(file: Any, n_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the rows, unless they take more memory than allowed.

    One text that is said to be in a million rows takes little of a file, and a million times that
    of memory.
    """
    # No text is longer than all of them in the file.
    batch_size = max(1, min(1024, _FREE_BYTES // max(1, n_bytes)))
    most = min(_MOST_PARQUET_BYTES, max(_FREE_BYTES, 4 * n_bytes))
    n_read = 0
    for batch in file.iter_batches(batch_size=batch_size):
        rows = batch.to_pylist()
        # A batch may have each text once, in a dictionary, and its rows have it many times.
        texts = (v for row in rows for v in row.values() if isinstance(v, str | bytes))
        n_read += max(batch.nbytes, sum(map(len, texts)))
        if n_read > most:
            msg = f"its rows take more than {most:,} bytes of memory"
            raise ValueError(msg)
        yield from rows


def json_lines(
    source: Path | Iterable[bytes],
) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
    """Yield each line of a JSONL file that is not blank, as its number, its bytes and its object.

    Args:
        source: A file, or its lines.

    Returns:
        Numbers from 1. The object is None if the line is not a JSON object, e.g. after a crash.
    """
    if isinstance(source, Path):
        # Read bytes, because some characters (U+2028) end a line of text but not of JSONL.
        with open_bytes(source) as file:
            lines = bounded_lines(file)
            packed = isinstance(file, gzip.GzipFile)
            yield from json_lines(_bounded_size(lines, source.name) if packed else lines)
        return
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        yield number, line, data if isinstance(data, dict) else None


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, with their ends.

    Raises:
        ValueError: If a line is longer than 32 MiB: the file is damaged.
    """
    number = 0
    while line := file.readline(_MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > _MOST_LINE_BYTES:
            msg = f"{Path(file.name).name} line {number} has more than {_MOST_LINE_BYTES:,} bytes."
            raise ValueError(msg)
        yield line


def _bounded_size(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield the lines of a compressed file, which may unpack to a thousand times its size."""
    n_bytes = 0
    for line in lines:
        n_bytes += len(line)
        if n_bytes > _MOST_UNPACKED_BYTES:
            msg = f"{name} unpacks to more than {_MOST_UNPACKED_BYTES:,} bytes: unpack it first."
            raise ValueError(msg)
        yield line


def read_shipped(name: str) -> dict[str, Any]:
    """Read a table that is part of the package, by the name of its file."""
    packed = files("langchain_llm_router.data").joinpath(f"{name}.json.gz").read_bytes()
    table: dict[str, Any] = json.loads(gzip.decompress(packed))
    return table


def suffix_of(path: Path) -> str:
    """Return the suffix of a file, `.jsonl.gz` of compressed JSONL."""
    return "".join(path.suffixes[-2:]) if path.name.endswith(JSONL[-1]) else path.suffix


def check_suffix(path: Path, known: tuple[str, ...], *, others: str = "") -> None:
    """Check the suffix of a file.

    Args:
        path: The file.
        known: The allowed suffixes, with their dots.
        others: Further alternatives, for the error.

    Raises:
        ValueError: If the file has another suffix; of a compressed one, how to unpack it.
    """
    if suffix_of(path) not in known:
        refuse_compressed(path)
        *first, last = (f"`{suffix}`" for suffix in known)
        msg = f"{path.name!r} must end in {', '.join(first)} or {last}{others}."
        raise ValueError(msg)


def _row(name: str, number: int, line: bytes, data: dict[str, Any] | None) -> dict[str, Any]:
    if data is None:
        shown = line[:60].decode("utf-8", "replace").rstrip()
        msg = f"{name} line {number} is not a JSON object: {shown!r}."
        raise ValueError(msg)
    return data


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": item for name, item in value.items()})
        else:
            flat[key] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in flat.items():
        head, dot, name = key.partition(".")
        if dot:
            row.setdefault(head, {})[name] = value
        else:
            row[key] = value
    return row
