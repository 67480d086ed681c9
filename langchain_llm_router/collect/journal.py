"""What was collected, one JSON line per fact, safe on disk before the next call is made.

A killed run loses no answer that it received: the file is append-only, each line is synced, and a
last line that was cut off is dropped. The field `kind` says what a line is: `run` (settings),
`question`, `answer`, `evaluation`, `grade`, `battle`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from langchain_llm_router.collect.questions import Question
from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
from langchain_llm_router.data.row_files import json_lines
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Collected",
    "Journal",
    "Log",
    "Record",
    "load_journal",
    "tabulate",
]

Key = tuple[str, ...]


_KEYS = {
    "answer": ("id", "candidate"),
    "evaluation": ("id", "candidate", "verifier"),
    "grade": ("id", "candidate"),
    "battle": ("id", "a", "b"),
}


@dataclass
class Record:
    """Everything a journal holds, by question, candidate and verifier."""

    settings: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    answers: dict[Key, dict[str, Any]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)
    evaluations: dict[Key, dict[str, Any]] = field(default_factory=dict)
    grades: dict[Key, dict[str, Any]] = field(default_factory=dict)
    battles: dict[Key, dict[str, Any]] = field(default_factory=dict)
    spent_usd: float = 0.0
    """What everything in the journal is known to have cost."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line; a repeated fact keeps its first version."""
        kind = line["kind"]
        if kind == "run":
            merged = {**line["settings"], **self.settings}
            # Journals of different candidates over the same questions add up to one table.
            both = [*self.settings.get("candidates", ()), *line["settings"].get("candidates", ())]
            self.settings = {**merged, "candidates": list(dict.fromkeys(both))}
        elif kind == "question":
            fields = ("id", "query", "reference", "group")
            question = Question(*(line.get(name) for name in fields))  # type: ignore[arg-type]
            self.questions.setdefault(question.id, question)
        elif kind == "answer" and line.get("error") is not None:
            self.failures[line["id"], line["candidate"]] = line["error"]
        elif kind in _KEYS:
            key = tuple(line[name] for name in _KEYS[kind])
            table: dict[Key, dict[str, Any]] = getattr(self, f"{kind}s")
            if key not in table:
                table[key] = dict(line)
                self.spent_usd += line.get("cost_usd") or 0.0
        else:
            msg = f"Unknown kind {kind!r}."
            raise ValueError(msg)

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Whether a fact of this kind is already known for the same question and candidate."""
        kind = line["kind"]
        if kind not in _KEYS:
            return False
        return tuple(line[name] for name in _KEYS[kind]) in getattr(self, f"{kind}s")

    def part(self, ids: Collection[str]) -> Record:
        """What is known about some of the questions, and what that cost."""
        known = Record()
        for table in (self.answers, self.evaluations, self.grades, self.battles):
            for line in table.values():
                if line["id"] in ids:
                    known.add(line)
        return known


class Log(Protocol):
    """Where a run looks up what is known, and keeps what it learns."""

    record: Record

    def write(self, kind: str, **fields: Any) -> None:
        """Store one fact; when this returns it is on disk."""


class Journal(CheckedArguments):
    """An append-only file of facts; one run at a time may write to it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record = Record()
        self._file: Any = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab+")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                msg = f"{self.path.name} is being written by another run: wait for it to end."
                raise ValueError(msg) from error
        self._file.seek(0)
        data = self._file.read()
        try:
            for line in _lines(data, self.path.name):
                self.record.add(line)
        except ValueError:
            self._file.close()
            raise
        # A line without an end was cut off by a crash: its call counts as never made.
        self._file.truncate(data.rfind(b"\n") + 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one fact; when this returns it is on disk."""
        line = {"kind": kind, **fields}
        self.record.add(line)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        self._file.write(text.encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _lines(data: bytes, name: str) -> Iterator[dict[str, Any]]:
    """What the lines say, without the last one if it was cut off."""
    for number, text, line in json_lines(data.split(b"\n")[:-1]):
        if line is None or "kind" not in line:
            msg = f"{name} line {number} is not a line of a journal: {text[:60]!r}."
            raise ValueError(msg)
        yield line


@dataclass(frozen=True, eq=False)
class Collected:
    """The tables that a journal adds up to; rows are the questions that every candidate answered.

    Attributes:
        ids: Of the rows, in order.
        outcomes: Quality and cost, of shape (n, n_candidates).
        evaluations: Verifier name → what it said, same rows and columns; `answer_logprob` is the
            answer's own mean token probability where the candidates returned `logprobs`.
        answers: The answers' texts, per row by candidate.
        latency_s: Seconds per answer, of shape (n, n_candidates), NaN where unknown; likewise
            `ttft_s`, `itl_s` and the token counts.
        battles: Pairwise preferences, where they were judged.
        incomplete: Question ids left out, with the first thing each of them lacks.
    """

    ids: tuple[str, ...]
    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    answers: Sequence[Mapping[str, str]]
    latency_s: Floats
    ttft_s: Floats
    itl_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    battles: Battles | None
    incomplete: Mapping[str, str]


def load_journal(*paths: str | Path) -> Collected:
    """Read journals that `collect` wrote as tables to train and replay on.

    Args:
        paths: One journal, or several that add up: other questions, or other candidates.

    Raises:
        ValueError: If a line cannot be read, or no question has been answered and graded for
            every candidate.
    """
    record = Record()
    for path in map(Path, paths):
        for line in _lines(path.read_bytes(), path.name):
            record.add(line)
    return tabulate(record, " + ".join(Path(path).name for path in paths))


def tabulate(record: Record, name: str) -> Collected:
    """Turn a journal's record into tables."""
    candidates: list[str] = list(record.settings.get("candidates", ()))
    lacking = {id: _lacks(record, id, candidates) for id in record.questions}
    ids = [id for id, lack in lacking.items() if lack is None]
    incomplete = {id: lack for id, lack in lacking.items() if lack is not None}
    if len(ids) == 0:
        first = next(iter(incomplete.items()), ("", "nothing was asked"))
        msg = f"{name} has no complete row: e.g. question {first[0]!r}: {first[1]}."
        raise ValueError(msg)

    def table(lines: Mapping[Key, Mapping[str, Any]], fact: str, *tail: str) -> Any:
        cells = [[lines.get((id, c, *tail), {}).get(fact) for c in candidates] for id in ids]
        return np.array(cells, dtype=np.float64)

    groups = [record.questions[id].group for id in ids]
    outcomes = Outcomes(
        [record.questions[id].query for id in ids],
        candidates,
        table(record.grades, "quality"),
        _known(table(record.answers, "cost_usd")),
        None if None in groups else [str(group) for group in groups],
    )
    facts = ("latency_s", "ttft_s", "itl_s", "input_tokens", "output_tokens")
    return Collected(
        ids=tuple(ids),
        outcomes=outcomes,
        evaluations=_evaluations(record, ids, candidates, table),
        answers=[{c: record.answers[id, c]["text"] for c in candidates} for id in ids],
        battles=_battles(record),
        incomplete=incomplete,
        **{fact: table(record.answers, fact) for fact in facts},
    )


def _lacks(record: Record, id: str, candidates: Sequence[str]) -> str | None:
    for name in candidates:
        if (id, name) not in record.answers:
            return record.failures.get((id, name), f"{name!r} has not answered")
        if record.grades.get((id, name), {}).get("quality") is None:
            return f"the answer of {name!r} has no grade"
    return None


def _known(costs: Any) -> Any:
    return None if np.isnan(costs).all() else costs


def _evaluations(
    record: Record, ids: Sequence[str], candidates: Sequence[str], table: Any
) -> dict[str, SelfEvaluations]:
    found: dict[str, SelfEvaluations] = {}
    for verifier in dict.fromkeys(key[2] for key in record.evaluations):
        samples = [
            [
                record.evaluations.get((id, c, verifier), {}).get("verdicts") or []
                for c in candidates
            ]
            for id in ids
        ]
        deepest = max(len(cell) for row in samples for cell in row)
        verdicts = np.full((len(ids), len(candidates), deepest), np.nan)
        for i, row in enumerate(samples):
            for j, cell in enumerate(row):
                verdicts[i, j, : len(cell)] = [np.nan if v is None else float(v) for v in cell]
        found[verifier] = SelfEvaluations(
            candidates,
            table(record.evaluations, "confidence", verifier),
            _known(table(record.evaluations, "cost_usd", verifier)),
            verdicts if deepest > 0 else None,
        )
    logprob = table(record.answers, "mean_logprob")
    if not np.isnan(logprob).all():
        free = np.where(np.isnan(logprob), np.nan, 0.0)
        probability = np.exp(np.minimum(logprob, 0.0))
        found["answer_logprob"] = SelfEvaluations(candidates, probability, free)
    return found


def _battles(record: Record) -> Battles | None:
    lines = [line for line in record.battles.values() if line.get("score_a") is not None]
    if len(lines) == 0:
        return None
    return Battles(
        [record.questions[line["id"]].query for line in lines],
        [line["a"] for line in lines],
        [line["b"] for line in lines],
        [line["score_a"] for line in lines],
    )
