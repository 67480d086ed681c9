"""Rows in a file: JSONL, or Parquet with a column per number (extra `data`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from langchain_llm_router.types.errors import import_extra

__all__ = ["read_rows", "write_rows"]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSONL or Parquet, by the suffix."""
    if path.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8")
        return path
    _must_be_parquet(path)
    pyarrow = import_extra("pyarrow", "data")
    parquet = import_extra("pyarrow.parquet", "data")
    parquet.write_table(
        pyarrow.Table.from_pylist([_flat(row) for row in rows]), path, compression="zstd"
    )
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSONL or Parquet file, by the suffix."""
    if path.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                msg = f"{path.name} line {number} is not JSON: {error.msg}."
                raise ValueError(msg) from error
        return rows
    _must_be_parquet(path)
    parquet = import_extra("pyarrow.parquet", "data")
    return [_nested(row) for row in parquet.read_table(path).to_pylist()]


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


def _must_be_parquet(path: Path) -> None:
    if path.suffix != ".parquet":
        msg = f"{path.name!r} must end in `.jsonl` or `.parquet`."
        raise ValueError(msg)
