"""The table of measured quality and cost."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data.battles import Battles
from langchain_llm_router.data.row_checks import (
    check_column,
    check_matrix,
    check_names,
    column_indices,
    row_indices,
)
from langchain_llm_router.data.row_files import JSONL, check_suffix, placed_rows, write_rows
from langchain_llm_router.data.rows import (
    by_candidate,
    candidate_field,
    candidate_values,
    label_field,
    optional_values,
    text_field,
)
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

__all__ = ["Outcomes"]

_MEASURED = ("cost_usd", "latency_s", "output_tokens")


@dataclass(frozen=True, eq=False)
class Outcomes(CheckedArguments):
    """The measured quality and cost of every candidate's answer to every query.

    Args:
        queries: The texts of the queries.
        candidates: Names of the candidates, in the order of the columns.
        quality: Measured quality in [0, 1], of shape (n_queries, n_candidates).
        cost_usd: Cost of each answer in USD, same shape, NaN where unknown. If None, all costs are
            unknown.
        groups: Label of each query (data set, subject, tenant) for within-group evaluation.
        latency_s: Seconds until each answer is complete, of shape (n_queries, n_candidates), NaN
            where unknown. If None, all are unknown.
        output_tokens: Tokens of each answer, of shape (n_queries, n_candidates), NaN where unknown.
            If None, all are unknown.

    Example:
        >>> Outcomes(["hi"], ("weak", "strong"), [[0.0, 1.0]]).best_candidate
        'strong'
    """

    queries: Sequence[str]
    candidates: Sequence[str]
    quality: Floats
    cost_usd: Floats | None = None
    groups: Sequence[str] | None = None
    latency_s: Floats | None = None
    output_tokens: Floats | None = None

    def __init__(
        self,
        queries: Sequence[str],
        candidates: Sequence[str],
        quality: ArrayLike,
        cost_usd: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
        latency_s: ArrayLike | None = None,
        output_tokens: ArrayLike | None = None,
    ) -> None:
        names = check_names(candidates)
        shape = (len(queries), len(names))
        measured = {"cost_usd": cost_usd, "latency_s": latency_s, "output_tokens": output_tokens}
        fields: dict[str, object] = {
            "queries": tuple(queries),
            "candidates": names,
            "quality": check_matrix("quality", quality, shape, unit=True, unknown=False),
            "groups": check_column("groups", groups, len(queries)),
        }
        for name, values in measured.items():
            fields[name] = (
                None
                if values is None
                else check_matrix(name, values, shape, unit=False, unknown=True)
            )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def best_candidate(self) -> str:
        """Name of the candidate with the highest mean quality."""
        return self.candidates[int(self.quality.mean(axis=0).argmax())]

    @property
    def mean_cost_usd(self) -> Floats | None:
        """Mean cost of each candidate, of shape (n_candidates,); NaN if one of its costs is."""
        return None if self.cost_usd is None else self.cost_usd.mean(axis=0)

    def take(self, rows: ArrayLike) -> Outcomes:
        """Select rows by index or by mask."""
        index = row_indices(rows, len(self))
        return Outcomes(
            [self.queries[i] for i in index],
            self.candidates,
            self.quality[index],
            None if self.cost_usd is None else self.cost_usd[index],
            None if self.groups is None else [self.groups[i] for i in index],
            None if self.latency_s is None else self.latency_s[index],
            None if self.output_tokens is None else self.output_tokens[index],
        )

    def select(self, candidates: Sequence[str]) -> Outcomes:
        """Select columns by name, in this order.

        Raises:
            ValueError: If a name is not a column.
        """
        columns = column_indices(candidates, self.candidates)
        return Outcomes(
            self.queries,
            candidates,
            self.quality[:, columns],
            None if self.cost_usd is None else self.cost_usd[:, columns],
            self.groups,
            None if self.latency_s is None else self.latency_s[:, columns],
            None if self.output_tokens is None else self.output_tokens[:, columns],
        )

    def to_battles(self) -> Battles:
        """Convert every pair of candidates on every query to a battle; equal quality is a tie."""
        queries: list[str] = []
        left: list[str] = []
        right: list[str] = []
        score: list[float] = []
        for row, query in enumerate(self.queries):
            for i, a in enumerate(self.candidates):
                for j in range(i + 1, len(self.candidates)):
                    queries.append(query)
                    left.append(a)
                    right.append(self.candidates[j])
                    score.append(
                        (1 + float(np.sign(self.quality[row, i] - self.quality[row, j]))) / 2
                    )
        return Battles(queries, left, right, score)

    def to_rows(self) -> Iterable[dict[str, Any]]:
        """Convert the table to JSON-ready rows."""
        for i, query in enumerate(self.queries):
            row: dict[str, Any] = {"query": query}
            if self.groups is not None:
                row["group"] = self.groups[i]
            row["quality"] = by_candidate(self.candidates, self.quality[i])
            for name in _MEASURED:
                values = getattr(self, name)
                if values is not None:
                    row[name] = by_candidate(self.candidates, values[i])
            yield row

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Build a table from rows in the format of `to_rows`.

        Costs, groups, latencies and tokens may be missing in some rows; the group of such a row is
        an empty text.

        Raises:
            ValueError: If a row lacks a field or has other candidates; the message has its index.
        """
        return cls._of_placed(enumerate(rows))

    @classmethod
    def _of_placed(cls, rows: Iterable[tuple[int | str, Mapping[str, Any]]]) -> Self:
        """Build a table from rows with their places for an error: an index, or words."""
        read = _RowReader()
        for place, row in rows:
            read.add(row, place)
        if read.quality is None:
            msg = "A table of outcomes needs at least one row, got none."
            raise ValueError(msg)
        return cls(
            read.queries,
            read.names,
            read.quality.table(),
            groups=read.groups,
            **{name: column.table() for name, column in read.measured.items()},
        )

    def save(self, path: str | Path) -> Path:
        """Write JSONL (`.jsonl`) or Parquet (`.parquet`, extra `data`), depending on the suffix."""
        return write_rows(Path(path), self.to_rows())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file in the format of `save`.

        Raises:
            ValueError: As in `from_rows`; the message has the file and the line.
        """
        path = Path(path)
        check_suffix(path, (*JSONL, ".parquet"))
        return cls._of_placed(placed_rows(path))


class _Column:
    """Numbers of rows, 8 bytes each; as numbers of Python they would take 32."""

    def __init__(self, width: int, n_unknown: int = 0) -> None:
        self._width = width
        self._numbers = array("d", [np.nan]) * (n_unknown * width)

    def add(self, numbers: Sequence[float]) -> None:
        self._numbers.extend(numbers)

    def table(self) -> Floats:
        return np.frombuffer(self._numbers, dtype=np.float64).reshape(-1, self._width)


class _RowReader:
    """The columns of rows that are read one after another."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.names: tuple[str, ...] = ()
        self.quality: _Column | None = None
        self.measured: dict[str, _Column] = {}
        self.groups: list[str] | None = None
        self._first: int | str = 0

    def add(self, row: Mapping[str, Any], place: int | str) -> None:
        """Read the row at a place."""
        i = len(self.queries)
        query = text_field(row, "query", place)
        if self.quality is None:
            self._first = place
            self.names = check_names(tuple(candidate_field(row, "quality", place)))
            self.quality = _Column(len(self.names))
        for name in _MEASURED:
            if name not in self.measured and row.get(name) is not None:
                self.measured[name] = _Column(len(self.names), n_unknown=i)
            if name in self.measured:
                self.measured[name].add(optional_values(row, name, self.names, place))
        if self.groups is None and row.get("group") is not None:
            self.groups = [""] * i
        if self.groups is not None:
            self.groups.append(label_field(row, "group", place))
        self.quality.add(candidate_values(row, "quality", self.names, place, first=self._first))
        self.queries.append(query)
