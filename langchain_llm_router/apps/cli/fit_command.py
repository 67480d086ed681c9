"""`llm-router fit`: fits a router on data and saves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import DataOption, JsonOption
from langchain_llm_router.apps.cli.terminal import write_json, write_text
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.training import Fitted

__all__ = ["fit"]


def fit(
    *,
    data: DataOption = [],  # noqa: B006
    out: Annotated[Path, "Folder for the router and its report."] = Path("router"),
    target: Annotated[str | None, 'Target to meet, e.g. "quality >= 0.95 * best".'] = None,
    confidence: Annotated[float | None, "Guarantee the target with this probability."] = None,
    quality_per_usd: Annotated[
        float | None, "λ; by default the one at which mixing at random gains 0."
    ] = None,
    seed: Annotated[int, "Seed of the random split."] = 0,
    json: JsonOption = False,
) -> None:
    """Compare all applicable routers on held-out rows, and save the best with a report.

    Training, selection, calibration to the target and the report each use rows of their own.

    Example: llm-router fit --data run.jsonl --out router --target "quality >= 0.95 * best"
    """
    from langchain_llm_router.apps.cli.fit_report import verdict, write_report  # noqa: PLC0415
    from langchain_llm_router.training import fit_router, load_data  # noqa: PLC0415 - the same

    tables = load_data(*data)
    with Bar("comparing all contenders") as bar:
        fitted = fit_router(
            tables,
            lambda_=quality_per_usd,
            target=target,
            confidence=confidence,
            seed=seed,
            watch=bar,
        )
    fitted.save(out)
    report = write_report(fitted, out)
    write_text(verdict(fitted).replace("**", ""), str(report))
    if json:
        write_json({"router": str(out), "report": str(report), **_figures(fitted)})


def _figures(fitted: Fitted) -> dict[str, Any]:
    calibrated = fitted.calibrated
    return {
        "winner": fitted.standings[0].name,
        "n_competed": len(fitted.standings),
        "n_rows": dict(fitted.n_rows),
        "quality": fitted.quality.as_list(),
        "cost_usd": fitted.cost_usd.as_list(),
        "saved": fitted.saved.as_list(),
        "gain": fitted.gain.as_list(),
        "lambda": fitted.lambda_ if calibrated is None else calibrated.knob,
        "target": None if calibrated is None else calibrated.target,
        "confidence": None if calibrated is None else calibrated.confidence,
        "holds": None if calibrated is None else calibrated.holds,
        "worth_it": fitted.worth_it,
    }
