"""Files of rows: JSONL, CSV, or Parquet with a column per number (extra `data`)."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from langchain_llm_router.types.errors import import_extra

__all__ = ["check_suffix", "json_lines", "read_rows", "read_shipped", "write_rows"]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSONL or Parquet, depending on the suffix."""
    check_suffix(path, (".jsonl", ".parquet"))
    if path.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
        return path
    pyarrow = import_extra("pyarrow", "data")
    parquet = import_extra("pyarrow.parquet", "data")
    parquet.write_table(
        pyarrow.Table.from_pylist([_flat(row) for row in rows]), path, compression="zstd"
    )
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file, depending on the suffix; in CSV every value is a text.

    Raises:
        ValueError: If a line of a `.jsonl` file is not a JSON object; the message has its number.
    """
    check_suffix(path, (".jsonl", ".csv", ".parquet"))
    if path.suffix == ".jsonl":
        return [_row(path.name, *line) for line in json_lines(path)]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    parquet = import_extra("pyarrow.parquet", "data")
    return [_nested(row) for row in parquet.read_table(path).to_pylist()]


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
        with source.open("rb") as file:
            yield from json_lines(file)
        return
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        yield number, line, data if isinstance(data, dict) else None


def read_shipped(name: str) -> dict[str, Any]:
    """Read a table that is part of the package, by the name of its file."""
    packed = files("langchain_llm_router.data").joinpath(f"{name}.json.gz").read_bytes()
    table: dict[str, Any] = json.loads(gzip.decompress(packed))
    return table


def check_suffix(path: Path, known: tuple[str, ...], *, others: str = "") -> None:
    """Check the suffix of a file.

    Args:
        path: The file.
        known: The allowed suffixes, with their dots.
        others: Further alternatives, for the error.

    Raises:
        ValueError: If the file has another suffix.
    """
    if path.suffix not in known:
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
