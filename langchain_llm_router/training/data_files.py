"""Reading the files that routers are fitted and evaluated on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from langchain_llm_router.collect import Collected, load_journal
from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.row_files import JSONL, suffix_of
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.files import open_bytes

__all__ = ["load_data", "read_data"]


def load_data(*paths: str | Path) -> Outcomes | Collected:
    """Read the input of `fit_router`: journals of `collect`, or tables that `Outcomes` saved.

    Several files add up: journals as in `load_journal`, tables if they have the same candidates. A
    question that was measured more than once, in one file or in several, has the mean of what was
    measured; in tables, questions of different groups are different.

    Raises:
        ValueError: If a file can be read as neither, if both kinds are mixed, or if the files do
            not add up; the message names the files and rows.
    """
    return read_data(*paths)[0]


def read_data(*paths: str | Path) -> tuple[Outcomes | Collected, int]:
    """Do the same as `load_data`, and count the rows that were averaged with an earlier one."""
    if len(paths) == 0:
        msg = "`paths` is empty: name journals of `collect` or tables of outcomes (`--data`)."
        raise ValueError(msg)
    files = [Path(path) for path in paths]
    journals = [path for path in files if _is_journal(path)]
    if len(journals) == len(files):
        collected = load_journal(*files)
        return collected, collected.repeated
    if journals:
        table = next(path for path in files if path not in journals)
        msg = (
            f"`paths` must be all journals or all tables, but {journals[0].name!r} is a journal "
            f"and {table.name!r} is a table: use one kind."
        )
        raise ValueError(msg)
    added = _add_up([path.name for path in files], [Outcomes.load(path) for path in files])
    averaged = _average(added)
    return averaged, len(added) - len(averaged)


def _is_journal(path: Path) -> bool:
    if suffix_of(path) not in JSONL:
        return False
    with open_bytes(path) as file:
        return b'"kind"' in file.readline(1 << 16)


def _add_up(names: Sequence[str], tables: Sequence[Outcomes]) -> Outcomes:
    first = tables[0]
    for name, table in zip(names, tables, strict=True):
        if set(table.candidates) != set(first.candidates):
            msg = (
                f"Tables must have the same candidates, but {names[0]!r} has "
                f"{list(first.candidates)} and {name!r} has {list(table.candidates)}."
            )
            raise ValueError(msg)
    ordered = [table.select(first.candidates) for table in tables]
    has_group = any(table.groups is not None for table in ordered)
    return Outcomes(
        [query for table in ordered for query in table.queries],
        first.candidates,
        np.concatenate([table.quality for table in ordered]),
        _join(ordered, [table.cost_usd for table in ordered]),
        [group for table in ordered for group in table.groups or [""] * len(table)]
        if has_group
        else None,
        _join(ordered, [table.latency_s for table in ordered]),
        _join(ordered, [table.output_tokens for table in ordered]),
    )


def _average(table: Outcomes) -> Outcomes:
    """Average the rows of equal questions, as journals are averaged."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(table.queries, table.groups or [""] * len(table), strict=True)):
        rows[key].append(i)
    if len(rows) == len(table):
        return table

    def means(values: Floats | None) -> Floats | None:
        if values is None:
            return None
        return np.array([_mean_of_known(values[same]) for same in rows.values()])

    quality = means(table.quality)
    assert quality is not None, "a table has qualities"
    return Outcomes(
        [query for query, _ in rows],
        table.candidates,
        quality,
        means(table.cost_usd),
        None if table.groups is None else [group for _, group in rows],
        means(table.latency_s),
        means(table.output_tokens),
    )


def _mean_of_known(values: Floats) -> Floats:
    """Return the mean of each column without its NaN; NaN where all are."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    unknown = np.full(total.shape, np.nan)
    means: Floats = np.divide(total, count, out=unknown, where=count > 0)
    return means


def _join(tables: Sequence[Outcomes], values: Sequence[Floats | None]) -> Floats | None:
    """Join optional tables of numbers; those of a table that has none are unknown."""
    if all(it is None for it in values):
        return None
    return np.concatenate(
        [
            np.full(table.quality.shape, np.nan) if it is None else it
            for table, it in zip(tables, values, strict=True)
        ]
    )
