"""`llm-router evaluate`: what a saved router is worth on rows it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import Data, Folder, Json, load_exam
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.evaluation import Interval, RouterReport

__all__ = ["evaluate"]


def evaluate(
    router: Folder,
    *,
    data: Data = [],  # noqa: B006
    seen: Annotated[
        bool, "Keep the rows that the router has seen: the figures are then too good."
    ] = False,
    json: Json = False,
) -> None:
    """Replay a saved router on recorded rows: quality, cost and savings, with 95 % intervals.

    Rows that the router was fitted or calibrated on are left out.

    Example: llm-router evaluate router --data run.jsonl
    """
    with Bar("predicting") as bar:
        report = load_exam(router, data, seen=seen).report(bar)
    say(_title(router, report), _table(report), *_sentences(report))
    if json:
        write_json(report.as_dict())


def _title(router: Path, report: RouterReport) -> str:
    title = f"{router} on {report.n_rows:,} questions"
    if report.n_left_out:
        title += f"; {report.n_left_out:,} more that it has seen are left out"
    return title


def _table(report: RouterReport) -> Any:
    table = import_extra("rich.table", "cli").Table(box=import_extra("rich.box", "cli").SIMPLE)
    table.add_column("strategy")
    for heading in ("quality %", "USD per 1,000"):
        table.add_column(heading, justify="right")
    for name, (quality, cost) in report.alone.items():
        table.add_row(f"{name} alone", _scaled(quality, 100, ".1f"), _scaled(cost, 1000, ".3g"))
    table.add_section()
    table.add_row(
        "this router",
        _scaled(report.quality, 100, ".1f"),
        _scaled(report.cost_usd, 1000, ".3g"),
        style="bold",
    )
    perfect, spent = report.oracle
    price = "unknown" if spent is None else f"{1000 * spent:.4g}"
    table.add_row("oracle (perfect routing)", f"{100 * perfect:.1f}", price)
    return table


def _scaled(interval: Interval | None, factor: float, spec: str) -> str:
    if interval is None:
        return "unknown"
    low, high = factor * interval.low, factor * interval.high
    return f"{factor * interval.value:{spec}} ({low:{spec}} to {high:{spec}})"


def _sentences(report: RouterReport) -> list[str]:
    asked = ", ".join(f"{name} {share:.0%}" for name, share in report.asked.items())
    lines = [report.sentence, f"Asked: {asked} of the questions."]
    if report.lift is not None:
        lift = _scaled(report.lift, 100, "+.1f")
        lines.append(f"Quality above a random mix at its cost: {lift} points.")
    if report.estimator is not None:
        lines.append(f"Its estimator: {report.estimator.sentence}")
    return lines
