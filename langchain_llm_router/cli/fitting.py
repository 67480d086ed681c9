"""`llm-router fit`: from data to a saved router."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

__all__ = ["fit"]


def fit(
    *,
    data: Annotated[list[Path], "Journals of `collect`, or one table of outcomes."] = [],  # noqa: B006
    out: Annotated[Path, "Folder for the router and its report."] = Path("router"),
    quality_per_usd: Annotated[float | None, "λ; none: where mixing at random gains 0."] = None,
    seed: Annotated[int, "Another seed, another split."] = 0,
) -> None:
    """Let everything that applies compete on held-out rows; write the winner and a report.

    Example: llm-router fit --data run.jsonl --out router
    """
    from langchain_llm_router.fitting import fit_router, load_data  # noqa: PLC0415 - the same
    from langchain_llm_router.fitting.report import verdict, write_report  # noqa: PLC0415

    fitted = fit_router(load_data(*data), lambda_=quality_per_usd, seed=seed)
    fitted.save(out)
    report = write_report(fitted, out)
    sys.stdout.write(f"{verdict(fitted)}\n{report}\n")
