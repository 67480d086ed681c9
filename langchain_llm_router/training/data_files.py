"""Reading the files that routers are fitted and evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from langchain_llm_router.collect import Collected, load_journal
from langchain_llm_router.data import Outcomes
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.files import check_regular

__all__ = ["load_data"]


def load_data(*paths: str | Path) -> Outcomes | Collected:
    """Read the input of `fit_router`: journals of `collect`, or tables that `Outcomes` saved.

    Several files add up: journals as in `load_journal`, tables if they have the same candidates and
    other questions.

    Raises:
        ValueError: If a file can be read as neither, if both kinds are mixed, or if the files do
            not add up; the message names the files and rows.
    """
    if len(paths) == 0:
        msg = "`paths` is empty: name journals of `collect` or tables of outcomes (`--data`)."
        raise ValueError(msg)
    files = [Path(path) for path in paths]
    journals = [path for path in files if _is_journal(path)]
    if len(journals) == len(files):
        return load_journal(*files)
    if journals:
        table = next(path for path in files if path not in journals)
        msg = (
            f"`paths` must be all journals or all tables, but {journals[0].name!r} is a journal "
            f"and {table.name!r} is a table: use one kind."
        )
        raise ValueError(msg)
    return _add_up([path.name for path in files], [Outcomes.load(path) for path in files])


def _is_journal(path: Path) -> bool:
    check_regular(path)
    with path.open("rb") as file:
        return path.suffix == ".jsonl" and b'"kind"' in file.readline(1 << 16)


def _add_up(names: Sequence[str], tables: Sequence[Outcomes]) -> Outcomes:
    first = tables[0]
    if len(tables) == 1:
        return first
    # Equal questions within a table are kept: they are in the same part of every split.
    places: dict[tuple[str, str | None], tuple[int, str]] = {}
    for k, (name, table) in enumerate(zip(names, tables, strict=True)):
        if set(table.candidates) != set(first.candidates):
            msg = (
                f"Tables must have the same candidates, but {names[0]!r} has "
                f"{list(first.candidates)} and {name!r} has {list(table.candidates)}."
            )
            raise ValueError(msg)
        for i, query in enumerate(table.queries):
            group = None if table.groups is None else table.groups[i]
            known, place = places.setdefault((query, group), (k, f"{name!r} row {i}"))
            if known != k:
                msg = (
                    f"{place} and {name!r} row {i} have the same question, {query[:60]!r}: remove "
                    "one of the two."
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
