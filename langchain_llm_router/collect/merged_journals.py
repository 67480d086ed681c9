"""Merging journals: their rows are known by their questions, whatever ids the files gave them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.collect.journal import NUMBERS, Key, Record
from langchain_llm_router.collect.questions import Question

__all__ = ["merge"]


@dataclass(frozen=True)
class _Row:
    """One question of the merged journal, and where it was found first."""

    question: Question
    place: str
    grader: str


def merge(records: Iterable[Record]) -> tuple[Record, int]:
    """Merge journals by their questions.

    Args:
        records: The journals. If two give one id to different questions, the later ones get
            another; a question that was measured more than once has the mean.

    Returns:
        The merged record, and the number of rows that were merged into others.

    Raises:
        ValueError: If one question has different references or graders, or one name is that of
            two models.
    """
    merged = Record()
    rows: dict[tuple[Any, ...], _Row] = {}
    found: dict[str, dict[Key, list[Mapping[str, Any]]]] = {
        kind: defaultdict(list) for kind in ("answers", "evaluations", "grades", "battles")
    }
    compared: dict[tuple[str, str], set[int]] = defaultdict(set)
    for i, record in enumerate(records):
        merged.add({"kind": "run", "settings": record.settings})
        new_ids = {
            id: _place_row(rows, merged, record, question)
            for id, question in record.questions.items()
        }
        for kind, lines in found.items():
            for key, line in getattr(record, kind).items():
                if key[0] in new_ids:
                    lines[new_ids[key[0]], *key[1:]].append(line)
                    if "answer_group" in line:
                        compared[new_ids[key[0]], key[2]].add(i)
        for (id, name), error in record.failures.items():
            merged.failures[new_ids.get(id, id), name] = error
    for lines in found.values():
        for key, same in lines.items():
            # Groups of two journals were not compared with each other.
            if "answer_group" in same[0] and len(compared[key[0], key[2]]) > 1:
                continue
            merged.add(_mean(same) | {"id": key[0]})
    return merged, _count_repeated(found["answers"])


def _place_row(
    rows: dict[tuple[Any, ...], _Row], merged: Record, record: Record, question: Question
) -> str:
    """Return the id that a question of a journal has in the merged one."""
    place = record.places.get(question.id, f"question {question.id!r}")
    row = _Row(question, place, _grader(record))
    key = (question.query, question.context)
    if key not in rows:
        id, n = question.id, 1
        while id in merged.questions:
            n += 1
            id = f"{question.id} ({n})"
        row = replace(row, question=replace(question, id=id))
        rows[key], merged.questions[id], merged.places[id] = row, row.question, place
        return id
    known = rows[key]
    for name, a, b in (
        ("reference", known.question.reference, question.reference),
        ("grader", known.grader, row.grader),
    ):
        if a != b:
            msg = (
                f"{known.place} and {place} have the same question, {question.query[:60]!r}, with "
                f"different values of `{name}`, {a!r} and {b!r}: remove one of the two."
            )
            raise ValueError(msg)
    return known.question.id


def _grader(record: Record) -> str:
    """Return the grader of a journal, with the model that judges."""
    judges = [name for name in record.settings.get("models", {}) if name.startswith("judge ")]
    return ", ".join([str(record.settings.get("grader")), *judges])


def _mean(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first of several measurements with the means of their known numbers."""
    line = dict(lines[0])
    if len(lines) == 1:
        return line
    for name in NUMBERS:
        line[name] = _mean_of(other.get(name) for other in lines)
    if line.get("verdicts"):
        # One share per verdict, so that their mean is that of the scores.
        columns = zip(*(other.get("verdicts") or () for other in lines), strict=False)
        line["verdicts"] = [_mean_of(column) for column in columns]
    return line


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _count_repeated(answers: Mapping[Key, Sequence[object]]) -> int:
    most: Counter[str] = Counter()
    for (id, _), lines in answers.items():
        most[id] = max(most[id], len(lines) - 1)
    return most.total()
