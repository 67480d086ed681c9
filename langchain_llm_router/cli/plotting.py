"""`llm-router plot`: the figures of a saved router."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from langchain_llm_router.cli.arguments import Data, Folder, Json, load_exam
from langchain_llm_router.cli.terminal import say, steps, write_json

__all__ = ["plot"]


def plot(
    router: Folder,
    *,
    data: Data = [],  # noqa: B006
    out: Annotated[Path, "Folder for the pictures."] = Path("pictures"),
    format: Annotated[str, "png, svg or pdf."] = "png",
    seen: Annotated[bool, "Keep the rows that taught the router: it is then flattered."] = False,
    json: Json = False,
) -> None:
    """Draw what a saved router costs and scores, and how its predictions and verdicts are read.

    Example: llm-router plot router --data run.jsonl --out pictures
    """
    from langchain_llm_router import plots  # noqa: PLC0415 - imports what only it needs

    if format not in ("png", "svg", "pdf"):
        msg = f"`--format` must be png, svg or pdf, got {format!r}."
        raise ValueError(msg)
    exam = load_exam(router, data, seen=seen)
    figures = plots.router_figures(exam)
    written = {}
    with steps("drawing", len(figures)) as bar:
        for name, draw in figures.items():
            bar.begin(f"drawing {name}")
            written[name] = str(plots.save(draw(), out / f"{name}.{format}"))
            bar.done()
    say(*written.values())
    if json:
        write_json({"router": str(router), "n_rows": len(exam.own), "pictures": written})
