"""The journal of `collect`: one JSON line per fact, synced to disk before the next call is made.

A run that is killed loses no answer that it has received: the file is append-only, each line is
synced, and a last line that was cut off is dropped. The field `kind` of a line is `run` (settings),
`question`, `answer`, `evaluation`, `grade` or `battle`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np

from langchain_llm_router.collect.model_names import describe_model, same_model
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
from langchain_llm_router.data.row_files import bounded_lines, json_lines
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.files import check_regular, private_opener

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

_Key = tuple[str, ...]


_KEYS = {
    "answer": ("id", "candidate"),
    "evaluation": ("id", "candidate", "verifier"),
    "grade": ("id", "candidate"),
    "battle": ("id", "a", "b"),
}


_NUMBERS = (
    "quality",
    "confidence",
    "score_a",
    "cost_usd",
    "latency_s",
    "ttft_s",
    "itl_s",
    "input_tokens",
    "output_tokens",
    "mean_logprob",
)
_MOST = 1e18


@dataclass
class Record:
    """The contents of a journal, by question, candidate and verifier."""

    settings: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    answers: dict[_Key, dict[str, Any]] = field(default_factory=dict)
    failures: dict[_Key, str] = field(default_factory=dict)
    evaluations: dict[_Key, dict[str, Any]] = field(default_factory=dict)
    grades: dict[_Key, dict[str, Any]] = field(default_factory=dict)
    battles: dict[_Key, dict[str, Any]] = field(default_factory=dict)
    spent_usd: float = 0.0
    """Sum of all known costs."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line; if a fact is repeated, the first version is kept, of a failure the last."""
        kind = line["kind"]
        if kind == "run":
            earlier = self.settings
            merged = {**line["settings"], **earlier}
            # Journals of different candidates over the same questions add up to one table.
            both = [*self.settings.get("candidates", ()), *line["settings"].get("candidates", ())]
            self.settings = {**merged, "candidates": list(dict.fromkeys(both))}
            for name in ("models", "prompts"):
                self._merge(name, line["settings"].get(name) or {}, earlier)
        elif kind == "question":
            fields = ("id", "query", "reference", "group")
            question = Question(*(line.get(name) for name in fields))  # type: ignore[arg-type]
            self.questions.setdefault(question.id, question)
        elif kind == "answer" and line.get("error") is not None:
            self.failures[line["id"], line["candidate"]] = line["error"]
        elif kind in _KEYS:
            key = tuple(line[name] for name in _KEYS[kind])
            table: dict[_Key, dict[str, Any]] = getattr(self, f"{kind}s")
            # A grade that could not be read is replaced by a later one.
            if key not in table or (kind == "grade" and table[key].get("quality") is None):
                table[key] = dict(line)
                self.spent_usd += line.get("cost_usd") or 0.0
        else:
            msg = f"`kind` of a line must be 'run', 'question', 'answer' or 'grade', got {kind!r}."
            raise ValueError(msg)

    def _merge(self, name: str, new: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
        """Add models or prompts by their names; another model under an old name is refused."""
        known = earlier.get(name) or {}
        for key in known.keys() & new.keys() if name == "models" else ():
            if not same_model(known[key], new[key]):
                msg = (
                    f"{key!r} was {describe_model(known[key])} in one run and is "
                    f"{describe_model(new[key])} in another: give one of them another name."
                )
                raise ValueError(msg)
        if known or new:
            self.settings[name] = {**new, **known}

    def is_graded(self, key: _Key) -> bool:
        """Return whether an answer has a grade that could be read."""
        return self.grades.get(key, {}).get("quality") is not None

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Return whether the record already has a fact with the kind and the key of this line."""
        kind = line["kind"]
        if kind not in _KEYS:
            return False
        if kind == "grade" and not self.is_graded((line["id"], line["candidate"])):
            return line.get("quality") is None and (line["id"], line["candidate"]) in self.grades
        return tuple(line[name] for name in _KEYS[kind]) in getattr(self, f"{kind}s")

    def part(self, ids: Collection[str]) -> Record:
        """Return the answers, evaluations, grades and battles of some of the questions."""
        part = Record()
        for table in (self.answers, self.evaluations, self.grades, self.battles):
            for line in table.values():
                if line["id"] in ids:
                    part.add(line)
        return part


class Log(Protocol):
    """Protocol for the object that a run reads existing facts from and writes new ones to."""

    record: Record

    def write(self, kind: str, **fields: Any) -> None:
        """Store one fact, which is on disk when this returns."""


class Journal(CheckedArguments):
    """An append-only file of facts, which only one run at a time can open.

    Args:
        path: Path of the file (`.jsonl`).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record = Record()
        self._file: Any = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            check_regular(self.path)
        self._file = open(self.path, "ab+", opener=private_opener)
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                msg = f"Another run is writing to {self.path.name}: wait until it has ended."
                raise ValueError(msg) from error
        self._file.seek(0)
        try:
            end = _read_into(self.record, self._file, self.path.name)
        except BaseException:
            self._file.close()
            raise
        # A line without an end was cut off by a crash: its call will be made again.
        self._file.truncate(end)
        if end > 0:
            self._file.seek(end - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one fact, which is on disk when this returns."""
        line = {"kind": kind, **fields}
        self.record.add(line)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        self._file.write(text.encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _read_into(record: Record, file: BinaryIO, name: str) -> int:
    """Add all lines except a last one that was cut off, and return where that one begins."""
    end = 0

    def whole_lines() -> Iterator[bytes]:
        nonlocal end
        for line in bounded_lines(file):
            # A part of a fact is no JSON; an editor may have dropped the end of a whole one.
            if line.endswith(b"\n") or _is_whole(line):
                end += len(line)
                yield line

    for number, text, line in json_lines(whole_lines()):
        if line is None or "kind" not in line:
            msg = f"{name} line {number} must be a journal's JSON line, got {text[:60]!r}."
            raise ValueError(msg)
        try:
            _check_line(line)
            record.add(line)
        except (KeyError, TypeError, AttributeError) as error:
            msg = (
                f"{name} line {number} is damaged ({type(error).__name__}: {error}): remove it, "
                "and its call is made again."
            )
            raise ValueError(msg) from error
        except ValueError as error:
            msg = f"{name} line {number}: {error}"
            raise ValueError(msg) from error
    return end


def _is_whole(line: bytes) -> bool:
    return next(json_lines([line]), (0, b"", None))[2] is not None


def _check_line(line: Mapping[str, Any]) -> None:
    """Refuse numbers and texts that no run has written."""
    for name in _NUMBERS:
        value = line.get(name)
        if value is not None and not (isinstance(value, int | float) and abs(value) < _MOST):
            msg = f"`{name}` must be a finite number or null, got {_shown(value)}"
            raise ValueError(msg)
        if value is not None and value < 0 and name != "mean_logprob":
            msg = f"`{name}` must be >= 0, got {value!r}"
            raise ValueError(msg)
    for name in ("quality", "confidence", "score_a"):
        if line.get(name) is not None and not 0 <= line[name] <= 1:
            msg = f"`{name}` must be in [0, 1], got {line[name]!r}"
            raise ValueError(msg)
    if line["kind"] == "run":
        _check_settings(line["settings"])
    if line["kind"] == "answer" and line.get("error") is None and not isinstance(line["text"], str):
        msg = f"`text` must be a text, got {str(line['text'])[:60]!r}"
        raise ValueError(msg)


def _check_settings(settings: Mapping[str, Any]) -> None:
    candidates = settings.get("candidates", [])
    if not isinstance(candidates, list) or not all(isinstance(name, str) for name in candidates):
        msg = f"`candidates` must be a list of names, got {_shown(candidates)}"
        raise ValueError(msg)
    for name, kind in (("models", dict), ("prompts", str)):
        values = settings.get(name, {})
        if not isinstance(values, dict) or not all(isinstance(v, kind) for v in values.values()):
            msg = f"`{name}` must map names to {kind.__name__}, got {_shown(values)}"
            raise ValueError(msg)


def _shown(value: object) -> str:
    return repr(str(value)[:60])


@dataclass(frozen=True, eq=False)
class Collected:
    """The tables of a journal; rows are the questions whose answers by all candidates are graded.

    Attributes:
        ids: Question id of each of the n rows.
        outcomes: Quality and cost, of shape (n, n_candidates).
        evaluations: Evaluations by verifier name, with the same rows and columns. The entry
            `answer_logprob` is the geometric mean of the answers' token probabilities, if the
            candidates returned `logprobs`.
        answers: Text of each answer, per row by candidate.
        latency_s: Seconds per answer, of shape (n, n_candidates), NaN if unknown.
        ttft_s: Seconds to the first token, same shape.
        itl_s: Mean seconds between two tokens, same shape.
        input_tokens: Number of input tokens, same shape.
        output_tokens: Number of output tokens, same shape.
        battles: Pairwise preferences, or None if there are none.
        incomplete: The reason why a question is left out, by question id.
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
    """Load journals of `collect` as tables.

    Args:
        paths: One journal, or several that are merged because they have other questions or other
            candidates.

    Raises:
        ValueError: If a line cannot be read, or if no question has a graded answer from every
            candidate.
    """
    record = Record()
    for path in map(Path, paths):
        check_regular(path)
        with path.open("rb") as file:
            _read_into(record, file, path.name)
    return tabulate(record, " + ".join(Path(path).name for path in paths))


def tabulate(record: Record, name: str) -> Collected:
    """Turn a journal's record into tables."""
    candidates: list[str] = list(record.settings.get("candidates", ()))
    missing = {id: _first_missing(record, id, candidates) for id in record.questions}
    ids = [id for id, reason in missing.items() if reason is None]
    incomplete = {id: reason for id, reason in missing.items() if reason is not None}
    if len(ids) == 0:
        id, reason = next(iter(incomplete.items()), ("", "nothing was asked"))
        msg = f"{name} has no complete row: e.g. question {id!r}: {reason}."
        raise ValueError(msg)

    def table(lines: Mapping[_Key, Mapping[str, Any]], fact: str, *tail: str) -> Any:
        cells = [[lines.get((id, c, *tail), {}).get(fact) for c in candidates] for id in ids]
        return np.array(cells, dtype=np.float64)

    groups = [record.questions[id].group for id in ids]
    outcomes = Outcomes(
        [record.questions[id].query for id in ids],
        candidates,
        table(record.grades, "quality"),
        _none_if_unknown(table(record.answers, "cost_usd")),
        None if not any(groups) else [group or "" for group in groups],
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


def _first_missing(record: Record, id: str, candidates: Sequence[str]) -> str | None:
    for name in candidates:
        if (id, name) not in record.answers:
            return record.failures.get((id, name), f"{name!r} has not answered")
        if not record.is_graded((id, name)):
            why = record.grades.get((id, name), {}).get("rationale")
            return f"the answer of {name!r} has no grade" + (f": {why}" if why else "")
    return None


def _none_if_unknown(costs: Any) -> Any:
    return None if np.isnan(costs).all() else costs


def _evaluations(
    record: Record, ids: Sequence[str], candidates: Sequence[str], table: Any
) -> dict[str, SelfEvaluations]:
    evaluations: dict[str, SelfEvaluations] = {}
    for verifier in dict.fromkeys(key[2] for key in record.evaluations):
        samples = [
            [
                record.evaluations.get((id, c, verifier), {}).get("verdicts") or []
                for c in candidates
            ]
            for id in ids
        ]
        n_verdicts = max(len(cell) for row in samples for cell in row)
        verdicts = np.full((len(ids), len(candidates), n_verdicts), np.nan)
        for i, row in enumerate(samples):
            for j, cell in enumerate(row):
                verdicts[i, j, : len(cell)] = [np.nan if v is None else float(v) for v in cell]
        evaluations[verifier] = SelfEvaluations(
            candidates,
            table(record.evaluations, "confidence", verifier),
            _none_if_unknown(table(record.evaluations, "cost_usd", verifier)),
            verdicts if n_verdicts > 0 else None,
        )
    logprob = table(record.answers, "mean_logprob")
    if not np.isnan(logprob).all():
        no_cost = np.where(np.isnan(logprob), np.nan, 0.0)
        probability = np.exp(np.minimum(logprob, 0.0))
        evaluations["answer_logprob"] = SelfEvaluations(candidates, probability, no_cost)
    return evaluations


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
