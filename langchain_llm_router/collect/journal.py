"""The journal of `collect`: one JSON line per fact, synced to disk before the next call is made.

A run that is killed loses no answer that it has received: the file is append-only, each line is
synced, and a last line that was cut off is dropped. The field `kind` of a line is `run` (settings),
`question`, `answer`, `evaluation`, `grade` or `battle`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from langchain_llm_router.collect.model_names import describe_model, same_model
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.data.row_files import bounded_lines, json_lines
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.files import (
    check_regular,
    open_bytes,
    private_opener,
    refuse_compressed,
)
from langchain_llm_router.verification.description import same_verifier, verifier_name

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["NUMBERS", "Journal", "Key", "Log", "Record", "read_journal"]

Key = tuple[str, ...]


_KEYS = {
    "answer": ("id", "candidate"),
    "evaluation": ("id", "candidate", "verifier"),
    "grade": ("id", "candidate"),
    "battle": ("id", "a", "b"),
}


NUMBERS = (
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
"""Fields of a line that are numbers."""

_MOST = 1e18


@dataclass
class Record:
    """The contents of a journal, by question, candidate and verifier."""

    settings: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """File and line of each question that was read from a file, by its id."""

    answers: dict[Key, dict[str, Any]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)
    evaluations: dict[Key, dict[str, Any]] = field(default_factory=dict)
    grades: dict[Key, dict[str, Any]] = field(default_factory=dict)
    battles: dict[Key, dict[str, Any]] = field(default_factory=dict)
    spent_usd: float = 0.0
    """Sum of all known costs, those of recorded answers excepted."""

    n_unpriced: int = 0
    """Number of facts whose cost is unknown, recorded answers excepted."""

    _read_verdicts: set[Key] = field(default_factory=set)
    """Candidates and verifiers of the verdicts that could be read."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line; if a fact is repeated, the first version is kept, of a failure the last."""
        kind = line["kind"]
        if kind == "run":
            earlier = self.settings
            merged = {**line["settings"], **earlier}
            # Journals of different candidates over the same questions add up to one table.
            both = [*self.settings.get("candidates", ()), *line["settings"].get("candidates", ())]
            self.settings = {**merged, "candidates": list(dict.fromkeys(both))}
            for name in ("models", "prompts", "verifiers"):
                self._merge(name, line["settings"].get(name) or {}, earlier)
        elif kind == "question":
            self._add_question(_question_of(line))
        elif kind == "answer" and line.get("error") is not None:
            self.failures[line["id"], line["candidate"]] = line["error"]
        elif kind in _KEYS:
            key = tuple(line[name] for name in _KEYS[kind])
            table: dict[Key, dict[str, Any]] = getattr(self, f"{kind}s")
            # A grade or verdict that could not be read is replaced by a later one.
            if key not in table or not _is_read(table[key]):
                table[key] = dict(line)
                if kind == "evaluation" and _is_read(line):
                    self._read_verdicts.add(key[1:])
                if not line.get("recorded"):
                    self._add_cost(line)
        else:
            msg = f"`kind` of a line must be 'run', 'question', 'answer' or 'grade', got {kind!r}."
            raise ValueError(msg)

    def _add_cost(self, line: Mapping[str, Any]) -> None:
        cost_usd = line.get("cost_usd")
        if cost_usd is not None:
            self.spent_usd += cost_usd
        else:
            self.n_unpriced += 1

    def _add_question(self, question: Question) -> None:
        known = self.questions.setdefault(question.id, question)
        if (known.query, known.context) != (question.query, question.context):
            place = self.places.get(question.id, "an earlier line")
            msg = (
                f"the question {question.id!r} is {question.query[:60]!r} here and "
                f"{known.query[:60]!r} in {place}: keep the two journals in files of their own."
            )
            raise ValueError(msg)

    def _merge(self, name: str, new: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
        """Add facts by their names; another model or verifier under an old name is refused."""
        known = earlier.get(name) or {}
        for key in known.keys() & new.keys():
            if name == "verifiers" and not same_verifier(known[key], new[key]):
                msg = (
                    f"The verifier {key!r} was {verifier_name(known[key], new[key])} in one run "
                    f"and is {verifier_name(new[key], known[key])} in another: fit on one of them."
                )
                raise ValueError(msg)
            if name == "models" and not same_model(known[key], new[key]):
                msg = (
                    f"{key!r} was {describe_model(known[key])} in one run and is "
                    f"{describe_model(new[key])} in another: give one of them another name."
                )
                raise ValueError(msg)
        if known or new:
            self.settings[name] = {**new, **known}

    def is_graded(self, key: Key) -> bool:
        """Return whether an answer has a grade that could be read."""
        return self.grades.get(key, {}).get("quality") is not None

    def is_evaluated(self, key: Key) -> bool:
        """Return whether an answer has an evaluation by a verifier that need not be repeated.

        One without a readable verdict is repeated while none of the candidate's can be read, as
        then the setup is at fault and not the answer.
        """
        if key not in self.evaluations:
            return False
        return _is_read(self.evaluations[key]) or key[1:] in self._read_verdicts

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Return whether the record already has a fact with the kind and the key of this line."""
        kind = line["kind"]
        if kind not in _KEYS:
            return False
        known = getattr(self, f"{kind}s").get(tuple(line[name] for name in _KEYS[kind]))
        return known is not None and (_is_read(known) or not _is_read(line))

    def part(self, ids: Collection[str]) -> Record:
        """Return the answers, evaluations, grades and battles of some of the questions."""
        part = Record()
        for table in (self.answers, self.evaluations, self.grades, self.battles):
            for line in table.values():
                if line["id"] in ids:
                    part.add(line)
        return part


def _question_of(line: Mapping[str, Any]) -> Question:
    """Read the question of a journal's line."""
    return Question(
        line["id"],
        line.get("query"),  # type: ignore[arg-type]
        line.get("reference"),
        line.get("group"),
        tuple((str(role), str(text)) for role, text in line.get("context", ())),
    )


def _is_read(line: Mapping[str, Any]) -> bool:
    """Return whether a fact has what it is for: all but unreadable grades and verdicts do."""
    name = {"grade": "quality", "evaluation": "confidence"}.get(line["kind"])
    if name is None or line.get(name) is not None:
        return True
    # A comparison has no score, and an answer that cannot be compared has no group.
    compared = "answer_group" in line
    return compared and (line["answer_group"] is not None or not line.get("errors"))


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
        refuse_compressed(self.path)
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


def read_journal(path: str | Path) -> Record:
    """Read a journal's record; a last line that was cut off is left out.

    Raises:
        ValueError: If another line cannot be read, with its number.
    """
    record, path = Record(), Path(path)
    with open_bytes(path) as file:
        _read_into(record, file, path.name)
    return record


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
            if line["kind"] == "question":
                record.places.setdefault(line["id"], f"{name} line {number}")
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
    for name in NUMBERS:
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
    for name, kind in (("models", dict), ("prompts", str), ("verifiers", dict)):
        values = settings.get(name, {})
        if not isinstance(values, dict) or not all(isinstance(v, kind) for v in values.values()):
            msg = f"`{name}` must map names to {kind.__name__}, got {_shown(values)}"
            raise ValueError(msg)


def _shown(value: object) -> str:
    return repr(str(value)[:60])
