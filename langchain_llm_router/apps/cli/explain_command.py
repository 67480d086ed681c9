"""`llm-router explain`: one decision as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from langchain_llm_router.apps.cli.parameters import Data, Folder, Json, load_tables
from langchain_llm_router.apps.cli.terminal import say, write_json

if TYPE_CHECKING:
    from langchain_llm_router.data import Outcomes
    from langchain_llm_router.router.saved_router import SavedRouter
    from langchain_llm_router.types import Attempt

__all__ = ["explain"]


def explain(
    router: Folder,
    query: Annotated[str, "The question."],
    *,
    data: Data = [],  # noqa: B006
    options: Annotated[
        str | None, 'Routing options, e.g. "router@c:40|models:small,large".'
    ] = None,
    picture: Annotated[Path | None, "Draw it too: a .png, .svg or .pdf."] = None,
    json: Json = False,
) -> None:
    """Say why a saved router does what it does with a question, and what would flip it.

    No model is called. With data that it was fitted on, the most similar training queries are
    shown; a question in the data is followed to the end, with its recorded answers.

    Example: llm-router explain router "prove that pi is irrational" --picture why.png

    Example: llm-router explain router "What is 2 + 2?" --data run.jsonl
    """
    from langchain_llm_router import evaluation  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        msg = f"--picture must end in .png, .svg or .pdf, got {str(picture)!r}."
        raise ValueError(msg)
    saved = SavedRouter.load(router)
    known = _known(saved, query, data)
    explained = evaluation.explain(
        saved, query, attempts=known.attempts, training=known.training, options=options
    )
    say(explained.text())
    if picture is not None:
        from langchain_llm_router import plots  # noqa: PLC0415 - the same

        say("", f"drawn in {plots.save(plots.explanation(explained), picture)}")
    if json:
        write_json(explained.as_dict())


@dataclass(frozen=True)
class _Known:
    """What data say about a question."""

    training: Outcomes | None = None
    attempts: Sequence[Attempt] = ()


def _known(saved: SavedRouter, query: str, data: Sequence[Path]) -> _Known:
    from langchain_llm_router.evaluation import recorded_attempts  # noqa: PLC0415 - as above

    if len(data) == 0:
        return _Known()
    outcomes, evaluations = load_tables(data)
    training = outcomes.select(saved.candidates)
    said = None if saved.verifier is None else evaluations.get(saved.verifier)
    if query not in outcomes.queries or (saved.policy.verifies and said is None):
        return _Known(training)
    return _Known(training, recorded_attempts(training, outcomes.queries.index(query), said))
