"""`llm-router plot`: the figures of a saved router."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from langchain_llm_router.apps.cli.parameters import Data, Folder, Json, load_tables
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.progress import Bar, Progress

__all__ = ["plot"]


def plot(
    router: Folder,
    *,
    data: Data = [],  # noqa: B006
    out: Annotated[Path, "Folder for the pictures."] = Path("pictures"),
    format: Annotated[str, "png, svg or pdf."] = "png",
    seen: Annotated[
        bool, "Keep the rows that the router has seen: the figures are then too good."
    ] = False,
    json: Json = False,
) -> None:
    """Draw what a saved router costs and scores, and how its predictions and verdicts are read.

    With verifiers' scores in the data also `verifiers`: which of them tell good answers from poor.

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
    if evaluations:
        # What the scores are worth does not depend on the router: all rows count.
        figures["verifiers"] = partial(plots.verifier_grid, outcomes, evaluations)
    written = {}
    with Bar("drawing") as bar:
        progress = Progress(bar, len(figures))
        for name, draw in figures.items():
            progress.begin(f"drawing {name}")
            written[name] = str(plots.save(draw(), out / f"{name}.{format}"))
    say(*written.values())
    if json:
        write_json({"router": str(router), "n_rows": len(exam.own), "pictures": written})
