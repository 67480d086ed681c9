"""`llm-router fit`: from data to a saved router."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import Data, Json
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.training import Fitted

__all__ = ["fit"]


def fit(
    *,
    data: Data = [],  # noqa: B006
    out: Annotated[Path, "Folder for the router and its report."] = Path("router"),
    target: Annotated[str | None, 'What to keep, e.g. "quality >= 0.95 * best".'] = None,
    confidence: Annotated[float | None, "Promise the target with this probability."] = None,
    quality_per_usd: Annotated[float | None, "λ; none: where mixing at random gains 0."] = None,
    seed: Annotated[int, "Another seed, another split."] = 0,
    json: Json = False,
) -> None:
    """Let everything that applies compete on held-out rows; write the winner and a report.

    Training, selecting, meeting the target and reporting each have rows of their own.

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
    say(verdict(fitted).replace("**", ""), str(report))
    if json:
        write_json({"router": str(out), "report": str(report), **_figures(fitted)})


def _figures(fitted: Fitted) -> dict[str, Any]:
    found = fitted.calibrated
    return {
        "winner": fitted.standings[0].name,
        "n_competed": len(fitted.standings),
        "n_rows": dict(fitted.n_rows),
        "quality": fitted.quality.as_list(),
        "cost_usd": fitted.cost_usd.as_list(),
        "saved": fitted.saved.as_list(),
        "gain": fitted.gain.as_list(),
        "lambda": fitted.lambda_ if found is None else found.knob,
        "target": None if found is None else found.target,
        "confidence": None if found is None else found.confidence,
        "holds": None if found is None else found.holds,
        "worth_it": fitted.worth_it,
    }
