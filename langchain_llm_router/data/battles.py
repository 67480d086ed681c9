"""The table of pairwise preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import ArrayLike

from langchain_llm_router.data.named_numbers import NamedNumbers
from langchain_llm_router.data.row_checks import check_matrix, row_indices
from langchain_llm_router.data.row_files import placed_rows, write_rows
from langchain_llm_router.data.rows import number_field, text_field
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

__all__ = ["Battles"]


@dataclass(frozen=True, eq=False)
class Battles(CheckedArguments):
    """Pairwise preferences between the answers of two candidates to a query.

    Args:
        queries: Text of the query of each battle; queries may repeat.
        candidate_a: Name of the candidate on side a in each battle.
        candidate_b: Name of the candidate on side b in each battle.
        score_a: 1 where a won, 0 where b won, 0.5 for a tie, of shape (n_battles,).
    """

    queries: Sequence[str]
    candidate_a: Sequence[str]
    candidate_b: Sequence[str]
    score_a: Floats

    def __init__(
        self,
        queries: Sequence[str],
        candidate_a: Sequence[str],
        candidate_b: Sequence[str],
        score_a: ArrayLike,
    ) -> None:
        n = len(queries)
        for name, side in (("candidate_a", candidate_a), ("candidate_b", candidate_b)):
            if len(side) != n:
                msg = f"`{name}` must have one entry for each of the {n} queries, got {len(side)}."
                raise ValueError(msg)
        object.__setattr__(self, "queries", tuple(queries))
        object.__setattr__(self, "candidate_a", tuple(candidate_a))
        object.__setattr__(self, "candidate_b", tuple(candidate_b))
        score = check_matrix("score_a", score_a, (n,), unit=True, unknown=False)
        object.__setattr__(self, "score_a", score)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of all candidates in the battles, in order of first appearance."""
        return tuple(dict.fromkeys([*self.candidate_a, *self.candidate_b]))

    def take(self, rows: ArrayLike) -> Battles:
        """Select battles by index or by mask."""
        index = row_indices(rows, len(self))
        return Battles(
            [self.queries[i] for i in index],
            [self.candidate_a[i] for i in index],
            [self.candidate_b[i] for i in index],
            self.score_a[index],
        )

    def counts(self, side: Literal["a", "b"] | None = None, *, share: bool = False) -> NamedNumbers:
        """Count the battles of each candidate, which shows how sparse the labels are.

        Args:
            side: Count only the battles in which the candidate is on this side. If None, those on
                either side.
            share: Give each candidate's share of all entries that are counted, not their number.

        Returns:
            Numbers by candidate, the most frequent first; they print as a table.

        Raises:
            ValueError: If `side` is another value.
        """
        sides = {"a": self.candidate_a, "b": self.candidate_b}
        if side is not None and side not in sides:
            msg = f"`side` must be 'a', 'b' or None, got {side!r}."
            raise ValueError(msg)
        chosen = chain(*sides.values()) if side is None else sides[side]
        counted = Counter(chosen)
        heading = f"{'share of battles' if share else 'battles'}{f' as {side}' if side else ''}"
        if share:
            total = counted.total()
            shares = {name: n / total for name, n in counted.items()}
            return NamedNumbers(heading, shares, digits=4)
        return NamedNumbers(heading, counted)

    def to_rows(self) -> Iterable[dict[str, Any]]:
        """Convert the table to JSON-ready rows."""
        columns = (self.queries, self.candidate_a, self.candidate_b, self.score_a.tolist())
        for query, a, b, score in zip(*columns, strict=True):
            yield {"query": query, "candidate_a": a, "candidate_b": b, "score_a": score}

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Build a table from rows in the format of `to_rows`.

        Raises:
            ValueError: If a row lacks a field or has another type; the message has its index.
        """
        return cls._from_placed(enumerate(rows))

    def save(self, path: str | Path) -> Path:
        """Write JSONL (`.jsonl`) or Parquet (`.parquet`, extra `data`), depending on the suffix."""
        return write_rows(Path(path), self.to_rows())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file in the format of `save`, or a CSV file with the same columns.

        Raises:
            ValueError: If a row lacks a field or has another type; the message has its line.
        """
        return cls._from_placed(placed_rows(Path(path)))

    @classmethod
    def _from_placed(cls, placed: Iterable[tuple[int | str, Mapping[str, Any]]]) -> Self:
        queries: list[str] = []
        left: list[str] = []
        right: list[str] = []
        score: list[float] = []
        for place, row in placed:
            queries.append(text_field(row, "query", place))
            left.append(text_field(row, "candidate_a", place))
            right.append(text_field(row, "candidate_b", place))
            score.append(number_field(row, "score_a", place, low=0, high=1))
        return cls(queries, left, right, score)
