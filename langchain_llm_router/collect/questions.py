"""The questions that candidates are asked when data is collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_llm_router.data.row_files import check_suffix, read_rows
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
    """Unique in its set; identifies the question in the journal."""

    query: str
    reference: str | None = None
    """The right answer, for graders that compare; None where a judge model grades."""

    group: str | None = None
    """Data set, subject or tenant, for evaluation within groups."""


def load_questions(path: str | Path) -> list[Question]:
    """Read questions from a file with the fields `query` and optionally `id`, `reference`, `group`.

    Args:
        path: `.jsonl`, `.csv` or `.parquet` (extra `data`), or `langsmith:` and the name of a
            LangSmith dataset. Without ids the row numbers are used.

    Raises:
        ValueError: If a row has no `query` or an id is repeated; the row is named.
    """
    kind, _, name = str(path).partition(":")
    if kind == "langsmith" and name:
        return from_langsmith(name)
    path = Path(path)
    check_suffix(path, (".jsonl", ".csv", ".parquet"), others=", or be `langsmith:NAME`")
    return parse_questions(read_rows(path), source=path.name)


def from_langsmith(dataset: str, client: Any = None) -> list[Question]:
    """Read a LangSmith dataset: each example's first input is the query, first output the answer.

    Args:
        dataset: Its name.
        client: A `langsmith.Client`; None: one from the environment's key.
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
        ValueError: If there are none, a row has no `query`, or an id is repeated.
    """
    questions = [_question(row, i, source) for i, row in enumerate(rows)]
    if len(questions) == 0:
        msg = f"{source} has no questions."
        raise ValueError(msg)
    _check_ids(questions, source)
    return questions


def _question(row: Question | Mapping[str, Any], i: int, source: str) -> Question:
    if isinstance(row, Question):
        return row
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        msg = f"{source} row {i}: `query` must be text, got {query!r}; it has {sorted(row)}."
        raise ValueError(msg)
    given = {key: row.get(key) for key in ("id", "reference", "group")}
    texts = {key: None if value in (None, "") else str(value) for key, value in given.items()}
    return Question(texts["id"] or str(i), query, texts["reference"], texts["group"])


def _check_ids(questions: Sequence[Question], source: str) -> None:
    rows: dict[str, int] = {}
    for i, question in enumerate(questions):
        if question.id in rows:
            msg = f"{source} row {i}: row {rows[question.id]} already has the id {question.id!r}."
            raise ValueError(msg)
        rows[question.id] = i
