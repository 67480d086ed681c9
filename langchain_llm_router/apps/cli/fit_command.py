"""`llm-router fit`: fits a router on data and saves it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    check_output_folder,
    load_data_option,
)
from langchain_llm_router.apps.cli.terminal import EXIT_CODES, write_json, write_text
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.training import Fitted

__all__ = ["fit"]


def fit(  # noqa: PLR0913 - each option is a parameter
    *,
    data: DataOption = [],  # noqa: B006
    out: Annotated[Path, "Folder for the router and its report."] = Path("router"),
    target: Annotated[
        str | None,
        'Targets to keep, e.g. "quality >= best - 1 point", "at least 99 % of large", '
        '"cost <= half of large"; several with "and". By default "quality >= best - 2 points".',
    ] = None,
    confidence: Annotated[float, "Confidence with which the target must be kept."] = 0.95,
    quality_per_usd: Annotated[
        float | None, "λ instead of a target: beat every model in quality - λ·cost."
    ] = None,
    even_if_worse: Annotated[
        bool, "Save the router even if it does not keep the target, or that cannot be said."
    ] = False,
    force: Annotated[bool, "Overwrite the folder if it exists."] = False,
    seed: Annotated[int, "Seed of the random split."] = 0,
    json: JsonOption = False,
) -> None:
    """Compare all applicable routers on questions they were not fitted on, and save the best.

    The first line is the verdict: the target is kept (exit code 0), it is not kept (3), or it
    cannot be said yet (4). Unless it is kept, the best single model is saved in the router's place.

    Example: llm-router fit --data run.jsonl --out router --target "quality >= best - 1 point"
    """
    from langchain_llm_router.apps.cli.fit_report import (  # noqa: PLC0415 - needs the extra `plot`
        drawn_line,
        latency_line,
        saved_line,
        write_report,
    )
    from langchain_llm_router.training import fit_router  # noqa: PLC0415 - the same

    check_output_folder(out, force=force)
    tables, notes, left_out = load_data_option(data)
    with Bar("comparing all contenders") as bar:
        fitted = fit_router(
            tables,
            target=target,
            lambda_=quality_per_usd,
            confidence=confidence,
            even_if_worse=even_if_worse,
            seed=seed,
            watch=bar,
        )
    fitted.save(out)
    report = write_report(fitted, out, notes=notes)
    lines = [saved_line(fitted), latency_line(fitted), drawn_line(fitted), notes]
    write_text(fitted.verdict.sentence, *filter(None, lines), str(report))
    if json:
        figures = {"router": str(out), "report": str(report), **_figures(fitted)}
        write_json({**figures, **left_out})
    sys.exit(EXIT_CODES[fitted.verdict.outcome])


def _figures(fitted: Fitted) -> dict[str, Any]:
    return {
        **fitted.verdict.as_dict(),
        "n_rows_given": fitted.n_rows,
        "winner": fitted.standings[0].name,
        "saved_candidates": list(fitted.router.candidates),
        "n_competed": len(fitted.standings),
        "n_folds": fitted.n_folds,
        "lambda": fitted.lambda_,
        "worth_it": fitted.worth_it,
        "latency": None if fitted.latency is None else asdict(fitted.latency),
    }
