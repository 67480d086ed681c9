"""The questions of `collect`, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from langchain_llm_router.data.row_files import JSONL, check_suffix, read_rows
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import import_extra

__all__ = ["Question", "from_langsmith", "load_questions", "parse_questions"]


@dataclass(frozen=True)
class Question(CheckedArguments):
    """One question, with its reference answer where there is one.

    Example:
        >>> Question("q1", "2 + 2?", reference="4").query
        '2 + 2?'
    """

    id: str
    """Id, unique among the questions, by which the journal identifies the question."""

    query: str
    reference: str | None = None
    """The correct answer, for graders that compare; a judge model needs none."""

    group: str | None = None
    """Data set, subject or tenant, for evaluation within groups."""

    context: tuple[tuple[str, str], ...] = ()
    """Messages before the query, each as its role (`system`, `human` or `ai`) and its text."""

    @property
    def transcript(self) -> str:
        """The query, after the context if there is any."""
        said = [f"{role}: {text}" for role, text in self.context]
        return "\n\n".join([*said, f"human: {self.query}"]) if said else self.query


def load_questions(path: str | Path) -> list[Question]:
    """Load questions from a file with the fields `query` and optionally `id`, `reference`, `group`.

    Args:
        path: A `.jsonl`, `.jsonl.gz`, `.csv` or `.parquet` file (the last needs the extra `data`),
            or `langsmith:` and the name of a LangSmith dataset. Without ids, row indices are used.

    Raises:
        ValueError: If a row has no `query`, an id is repeated, or one question has different
            references; the message names the rows.
    """
    kind, _, name = str(path).partition(":")
    if kind == "langsmith" and name:
        return from_langsmith(name)
    path = Path(path)
    check_suffix(path, (*JSONL, ".csv", ".parquet"), others=", or be `langsmith:NAME`")
    return parse_questions(read_rows(path), source=path.name)


def from_langsmith(dataset: str, client: Any = None) -> list[Question]:
    """Load a LangSmith dataset, with each example's first input as query and output as reference.

    Args:
        dataset: Name of the dataset.
        client: A `langsmith.Client`; if None, one with the key in the environment is made.
    """
    if client is None:
        client = import_extra("langsmith", "agents").Client()
    rows = []
    for example in client.list_examples(dataset_name=dataset):
        outputs = list((example.outputs or {}).values())
        rows.append(
            {
                "id": str(example.id),
                "query": next(iter(example.inputs.values()), None),
                "reference": outputs[0] if outputs else None,
            }
        )
    return parse_questions(rows, source=f"LangSmith dataset {dataset!r}")


def parse_questions(
    rows: Iterable[Question | Mapping[str, Any]], *, source: str = "questions"
) -> list[Question]:
    """Check rows and turn them into questions.

    Raises:
        ValueError: If there are no rows, a row has no `query`, an id is repeated, or one question
            has different references; the message names the rows.
    """
    questions = [_question(row, i, source) for i, row in enumerate(rows)]
    if len(questions) == 0:
        msg = f"{source} must have at least one question, got none."
        raise ValueError(msg)
    _check_ids(questions, source)
    _check_references(questions, source)
    return questions


def _question(row: Question | Mapping[str, Any], i: int, source: str) -> Question:
    if isinstance(row, Question):
        return row
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        msg = (
            f"{source} row {i}: `query` must be a text that is not empty, got {query!r}; "
            f"the row has the fields {sorted(row)}."
        )
        raise ValueError(msg)
    values = {key: row.get(key) for key in ("id", "reference", "group")}
    # NaN is what tables have where a value is missing.
    texts = {
        key: None if value in (None, "") or _is_nan(value) else str(value)
        for key, value in values.items()
    }
    return Question(texts["id"] or str(i), query, texts["reference"], texts["group"])


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and isnan(value)


def _check_ids(questions: Sequence[Question], source: str) -> None:
    rows: dict[str, int] = {}
    for i, question in enumerate(questions):
        if question.id in rows:
            msg = (
                f"{source} row {i}: `id` must be unique, got {question.id!r}, which row "
                f"{rows[question.id]} also has."
            )
            raise ValueError(msg)
        rows[question.id] = i


def _check_references(questions: Sequence[Question], source: str) -> None:
    """Refuse before anything is asked what `merge` would refuse in the journal."""
    rows: dict[tuple[Any, ...], int] = {}
    for i, question in enumerate(questions):
        first = rows.setdefault((question.query, question.context), i)
        known = questions[first].reference
        if question.reference != known:
            msg = (
                f"{source} row {first} and row {i} have the same question, "
                f"{question.query[:60]!r}, with different values of `reference`, {known!r} and "
                f"{question.reference!r}: remove one of the two."
            )
            raise ValueError(msg)
