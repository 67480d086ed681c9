"""The tables everything is learned from and judged on.

`Outcomes` says how good every candidate's answer to every query was, `Battles` which of two answers
was preferred, `SelfEvaluations` what verifiers said about the answers. In these bulk arrays an
unknown number is NaN (an ndarray has no None); sums over it stay unknown.

JSONL holds one row a line: `{"query": ..., "group": ..., "quality": {"small": 1.0}, "cost_usd":
{"small": 1e-4}}`. Parquet holds the same with columns named `quality.small`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_llm_router.errors import import_extra

__all__ = ["Battles", "Outcomes", "SelfEvaluations", "split_indices"]

Floats = NDArray[np.float64]


def _matrix(
    name: str, values: ArrayLike, shape: tuple[int, ...], *, unit: bool, unknown: bool
) -> Floats:
    """Check one table at the door: its shape, its range, and whether NaN may stand in it."""
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != shape:
        msg = f"`{name}` has shape {matrix.shape}, expected {shape}: (queries, candidates)."
        raise ValueError(msg)
    holes = np.isnan(matrix)
    if not unknown and bool(holes.any()):
        row = int(np.argwhere(holes)[0][0])
        msg = f"`{name}` is NaN in row {row}: drop the rows that were not measured."
        raise ValueError(msg)
    known = matrix[~holes]
    top = 1.0 if unit else np.inf
    bad = known[(known < 0) | (known > top) | ~np.isfinite(known)]
    if bad.size > 0:
        allowed = "[0, 1]" if unit else "finite and >= 0"
        msg = f"`{name}` holds {float(bad[0])!r}, allowed is {allowed}."
        raise ValueError(msg)
    matrix.setflags(write=False)
    return matrix


def _names(candidates: Sequence[str]) -> tuple[str, ...]:
    names = tuple(candidates)
    if len(names) == 0 or len(set(names)) < len(names):
        msg = f"`candidates` must be distinct names, at least one, got {list(names)}."
        raise ValueError(msg)
    return names


def _index(rows: ArrayLike, n: int) -> NDArray[np.intp]:
    """Row numbers from an index or a mask; an empty list, which NumPy takes for floats, is none."""
    chosen = np.asarray(rows)
    index: NDArray[np.intp] = np.arange(n)[chosen if chosen.size > 0 else chosen.astype(np.intp)]
    return index


def _column(name: str, values: Sequence[str] | None, n: int) -> tuple[str, ...] | None:
    if values is None:
        return None
    if len(values) != n:
        msg = f"`{name}` has {len(values)} entries for {n} queries."
        raise ValueError(msg)
    return tuple(str(value) for value in values)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How good every candidate's answer to every query was, and what it cost.

    Args:
        queries: The texts, n of them.
        candidates: Names of the k candidates: the columns.
        quality: Measured quality in [0, 1], of shape (n_queries, n_candidates).
        cost_usd: What each answer cost in USD, same shape, NaN where unknown; None: all unknown.
        groups: A label per query (data set, subject, tenant) for within-group evaluation.

    Example:
        >>> Outcomes(["hi"], ("weak", "strong"), [[0.0, 1.0]]).best_candidate
        'strong'
    """

    queries: Sequence[str]
    candidates: Sequence[str]
    quality: Floats
    cost_usd: Floats | None = None
    groups: Sequence[str] | None = None

    def __init__(
        self,
        queries: Sequence[str],
        candidates: Sequence[str],
        quality: ArrayLike,
        cost_usd: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        names = _names(candidates)
        shape = (len(queries), len(names))
        costs = None
        if cost_usd is not None:
            costs = _matrix("cost_usd", cost_usd, shape, unit=False, unknown=True)
        fields: dict[str, object] = {
            "queries": tuple(queries),
            "candidates": names,
            "quality": _matrix("quality", quality, shape, unit=True, unknown=False),
            "cost_usd": costs,
            "groups": _column("groups", groups, len(queries)),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def best_candidate(self) -> str:
        """The candidate with the highest mean quality: the best single model."""
        return self.candidates[int(self.quality.mean(axis=0).argmax())]

    @property
    def mean_cost_usd(self) -> Floats | None:
        """Mean cost of each candidate, of shape (n_candidates,); NaN where one is unknown."""
        return None if self.cost_usd is None else self.cost_usd.mean(axis=0)

    def take(self, rows: ArrayLike) -> Outcomes:
        """The given rows, by index or by mask."""
        index = _index(rows, len(self))
        return Outcomes(
            [self.queries[i] for i in index],
            self.candidates,
            self.quality[index],
            None if self.cost_usd is None else self.cost_usd[index],
            None if self.groups is None else [self.groups[i] for i in index],
        )

    def select(self, candidates: Sequence[str]) -> Outcomes:
        """The given columns, in the given order.

        Raises:
            ValueError: If a name is not a column.
        """
        unknown = [name for name in candidates if name not in self.candidates]
        if unknown:
            msg = f"Unknown candidates {unknown}: this table has {list(self.candidates)}."
            raise ValueError(msg)
        columns = [list(self.candidates).index(name) for name in candidates]
        costs = None if self.cost_usd is None else self.cost_usd[:, columns]
        return Outcomes(self.queries, candidates, self.quality[:, columns], costs, self.groups)

    def to_battles(self) -> Battles:
        """Every pair of candidates on every query as a battle; equal quality is a tie."""
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
        """The table as JSON-ready rows."""
        for i, query in enumerate(self.queries):
            row: dict[str, Any] = {"query": query}
            if self.groups is not None:
                row["group"] = self.groups[i]
            row["quality"] = _named(self.candidates, self.quality[i])
            if self.cost_usd is not None:
                row["cost_usd"] = _named(self.candidates, self.cost_usd[i])
            yield row

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Build a table from rows as `to_rows` gives them.

        Raises:
            ValueError: If a row lacks a field or names other candidates; the row is named.
        """
        rows = list(rows)
        if len(rows) == 0:
            msg = "The table has no rows."
            raise ValueError(msg)
        names = tuple(_by_name(rows[0], "quality", 0))
        has_cost, has_group = "cost_usd" in rows[0], "group" in rows[0]
        return cls(
            [_field(row, "query", i) for i, row in enumerate(rows)],
            names,
            [_ordered(row, "quality", names, i) for i, row in enumerate(rows)],
            [_ordered(row, "cost_usd", names, i) for i, row in enumerate(rows)]
            if has_cost
            else None,
            [_field(row, "group", i) for i, row in enumerate(rows)] if has_group else None,
        )

    def save(self, path: str | Path) -> Path:
        """Write JSONL (`.jsonl`) or Parquet (`.parquet`, extra `data`), chosen by the suffix."""
        return _write(Path(path), self.to_rows())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, or a file of your own in the same format."""
        return cls.from_rows(_read(Path(path)))


@dataclass(frozen=True, eq=False)
class Battles:
    """Pairwise preferences: which of two candidates answered a query better.

    Args:
        queries: The texts, one per battle (repeats are fine).
        candidate_a: Who stood on side a.
        candidate_b: Who stood on side b.
        score_a: 1 a won, 0 b won, 0.5 tie, of shape (n_battles,).
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
                msg = f"`{name}` has {len(side)} entries for {n} queries."
                raise ValueError(msg)
        object.__setattr__(self, "queries", tuple(queries))
        object.__setattr__(self, "candidate_a", tuple(candidate_a))
        object.__setattr__(self, "candidate_b", tuple(candidate_b))
        score = _matrix("score_a", score_a, (n,), unit=True, unknown=False)
        object.__setattr__(self, "score_a", score)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Everybody who fought, in order of first appearance."""
        return tuple(dict.fromkeys([*self.candidate_a, *self.candidate_b]))

    def take(self, rows: ArrayLike) -> Battles:
        """The given battles, by index or by mask."""
        index = _index(rows, len(self))
        return Battles(
            [self.queries[i] for i in index],
            [self.candidate_a[i] for i in index],
            [self.candidate_b[i] for i in index],
            self.score_a[index],
        )


@dataclass(frozen=True, eq=False)
class SelfEvaluations:
    """What verifiers said about each candidate's answer to each query.

    Args:
        candidates: Names of the k candidates: the columns.
        confidence: Raw scores in [0, 1], of shape (n_queries, n_candidates); NaN: no verdict.
        cost_usd: What verifying cost, same shape, NaN where unknown; None: all unknown.
        verdicts: The single samples behind it, of shape (n_queries, n_candidates, n_samples),
            1 correct, 0 incorrect, NaN unreadable; None where they were not kept.
    """

    candidates: Sequence[str]
    confidence: Floats
    cost_usd: Floats | None = None
    verdicts: Floats | None = None

    def __init__(
        self,
        candidates: Sequence[str],
        confidence: ArrayLike,
        cost_usd: ArrayLike | None = None,
        verdicts: ArrayLike | None = None,
    ) -> None:
        names = _names(candidates)
        shape = (len(np.asarray(confidence)), len(names))
        scores = _matrix("confidence", confidence, shape, unit=True, unknown=True)
        costs, samples = None, None
        if cost_usd is not None:
            costs = _matrix("cost_usd", cost_usd, shape, unit=False, unknown=True)
        if verdicts is not None:
            deep = (*shape, np.asarray(verdicts).shape[-1])
            samples = _matrix("verdicts", verdicts, deep, unit=True, unknown=True)
        object.__setattr__(self, "candidates", names)
        object.__setattr__(self, "confidence", scores)
        object.__setattr__(self, "cost_usd", costs)
        object.__setattr__(self, "verdicts", samples)

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, rows: ArrayLike) -> SelfEvaluations:
        """The given rows, by index or by mask."""
        index = _index(rows, len(self))
        return SelfEvaluations(
            self.candidates,
            self.confidence[index],
            None if self.cost_usd is None else self.cost_usd[index],
            None if self.verdicts is None else self.verdicts[index],
        )

    def select(self, candidates: Sequence[str]) -> SelfEvaluations:
        """The given columns, in the given order; each must be there."""
        columns = [self.candidates.index(name) for name in candidates]
        return SelfEvaluations(
            candidates,
            self.confidence[:, columns],
            None if self.cost_usd is None else self.cost_usd[:, columns],
            None if self.verdicts is None else self.verdicts[:, columns],
        )


def split_indices(
    n: int, fractions: Sequence[float], *, seed: int = 0, groups: Sequence[str] | None = None
) -> list[NDArray[np.intp]]:
    """Cut row numbers into disjoint random parts.

    Args:
        n: Number of rows.
        fractions: Share of each part; they must sum to at most 1, the rest is dropped.
        seed: Same seed, same parts.
        groups: Rows with the same label stay on one side (repeated prompts, conversations).

    Raises:
        ValueError: If the fractions are negative or sum to more than 1.
    """
    if min(fractions, default=-1.0) < 0 or sum(fractions) > 1 + 1e-9:
        msg = f"`fractions` must be >= 0 and sum to at most 1, got {list(fractions)}."
        raise ValueError(msg)
    labels = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    order = np.random.default_rng(seed).permutation(int(labels.max(initial=-1)) + 1)
    edges = np.round(np.cumsum([0.0, *fractions]) * len(order)).astype(int)
    part_of = np.full(len(order), -1)
    for part in range(len(fractions)):
        part_of[order[edges[part] : edges[part + 1]]] = part
    return [np.flatnonzero(part_of[labels] == part) for part in range(len(fractions))]


def _named(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def _field(row: Mapping[str, Any], name: str, i: int) -> Any:
    if not isinstance(row, Mapping):
        raise TypeError(f"Row {i} must map fields to values, got {row!r}.")
    if row.get(name) is None:
        msg = f"Row {i} has no `{name}`: it has {sorted(row)}."
        raise ValueError(msg)
    return row[name]


def _by_name(row: Mapping[str, Any], name: str, i: int) -> Mapping[str, Any]:
    values = _field(row, name, i)
    if not isinstance(values, Mapping):
        msg = f"Row {i}: `{name}` must map candidates to numbers, got {values!r}."
        raise TypeError(msg)
    return values


def _ordered(row: Mapping[str, Any], name: str, names: Sequence[str], i: int) -> list[float]:
    values = _by_name(row, name, i)
    if set(values) != set(names):
        msg = f"Row {i}: `{name}` is about {sorted(values)}, the first row about {sorted(names)}."
        raise ValueError(msg)
    return [np.nan if values[key] is None else float(values[key]) for key in names]


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


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
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


def _read(path: Path) -> list[dict[str, Any]]:
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


def _must_be_parquet(path: Path) -> None:
    if path.suffix != ".parquet":
        msg = f"{path.name!r} must end in `.jsonl` or `.parquet`."
        raise ValueError(msg)
