"""`llm-router plot`: draws the figures of a saved router."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    RouterArgument,
    load_tables,
)
from langchain_llm_router.apps.cli.terminal import write_json, write_text
from langchain_llm_router.types.progress import Bar, Progress

__all__ = ["plot"]


def plot(
    router: RouterArgument,
    *,
    data: DataOption = [],  # noqa: B006
    out: Annotated[Path, "Folder for the pictures."] = Path("pictures"),
    format: Annotated[str, "png, svg or pdf."] = "png",
    seen: Annotated[
        bool, "Include rows that the router was fitted on, which makes the figures too good."
    ] = False,
    json: JsonOption = False,
) -> None:
    """Draw the cost and quality of a saved router, its predictions, and its verifier's scores.

    If the data have verifiers' scores, the figure `verifiers` shows how well each of them tells
    good answers from poor ones.

    Example: llm-router plot router --data run.jsonl --out pictures
    """
    from langchain_llm_router import plots  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.evaluation import Exam  # noqa: PLC0415 - the same
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    if format not in ("png", "svg", "pdf"):
        msg = f"`--format` must be png, svg or pdf, got {format!r}."
        raise ValueError(msg)
    outcomes, evaluations = load_tables(data)
    exam = Exam.of(SavedRouter.load(router), outcomes, evaluations, seen=seen)
    figures = plots.router_figures(exam)
    scored = {name: scores for name, scores in evaluations.items() if scores.has_scores}
    if scored:
        # The rows of the other figures, so that all of them show the same numbers.
        rows = ~exam.saved.knows(outcomes.queries) | seen
        figures["verifiers"] = partial(
            plots.verifier_grid,
            outcomes.take(rows),
            {name: scores.take(rows) for name, scores in scored.items()},
        )
    written = {}
    with Bar("drawing") as bar:
        progress = Progress(bar, len(figures))
        for name, draw in figures.items():
            progress.begin(f"drawing {name}")
            written[name] = str(plots.save(draw(), out / f"{name}.{format}"))
    write_text(*written.values())
    if json:
        write_json({"router": str(router), "n_rows": len(exam.own), "pictures": written})
