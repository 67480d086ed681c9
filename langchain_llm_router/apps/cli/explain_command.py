"""`llm-router explain`: explains one decision, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    RouterArgument,
    load_tables,
)
from langchain_llm_router.apps.cli.terminal import write_json, write_text

if TYPE_CHECKING:
    from langchain_llm_router.data import Outcomes
    from langchain_llm_router.router.saved_router import SavedRouter
    from langchain_llm_router.types import Attempt

__all__ = ["explain"]


def explain(
    router: RouterArgument,
    query: Annotated[str, "The question."],
    *,
    data: DataOption = [],  # noqa: B006
    options: Annotated[
        str | None, 'Routing options, e.g. "router@c:40|models:small,large".'
    ] = None,
    picture: Annotated[Path | None, "File for a picture of it: .png, .svg or .pdf."] = None,
    json: JsonOption = False,
) -> None:
    """Explain why a saved router decides as it does on a question, and what would change that.

    No model is called. With the data that it was fitted on, the most similar training queries are
    shown. A question that is in the data is replayed to the end with its recorded answers.

    Example: llm-router explain router "prove that pi is irrational" --picture why.png

    Example: llm-router explain router "What is 2 + 2?" --data run.jsonl
    """
    from langchain_llm_router import evaluation  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        msg = f"`--picture` must end in .png, .svg or .pdf, got {str(picture)!r}."
        raise ValueError(msg)
    saved = SavedRouter.load(router)
    recorded = _load_recorded(saved, query, data)
    explained = evaluation.explain(
        saved, query, attempts=recorded.attempts, training=recorded.training, options=options
    )
    write_text(explained.text())
    if picture is not None:
        from langchain_llm_router import plots  # noqa: PLC0415 - the same

        write_text("", f"drawn in {plots.save(plots.explanation(explained), picture)}")
    if json:
        write_json(explained.as_dict())


@dataclass(frozen=True)
class _RecordedData:
    """The training table, and the recorded attempts at one question."""

    training: Outcomes | None = None
    attempts: Sequence[Attempt] = ()


def _load_recorded(saved: SavedRouter, query: str, data: Sequence[Path]) -> _RecordedData:
    from langchain_llm_router.evaluation import recorded_attempts  # noqa: PLC0415 - as above

    if len(data) == 0:
        return _RecordedData()
    outcomes, evaluations = load_tables(data)
    training = outcomes.select(saved.candidates)
    scores = None if saved.verifier is None else evaluations.get(saved.verifier)
    if query not in outcomes.queries or (saved.policy.verifies and scores is None):
        return _RecordedData(training)
    if scores is not None:
        saved.check_scores(scores.verifier)
    attempts = recorded_attempts(training, outcomes.queries.index(query), scores)
    return _RecordedData(training, attempts)
