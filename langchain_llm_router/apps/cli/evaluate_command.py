"""`llm-router evaluate`: measures a saved router on rows that it was not fitted on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    RouterArgument,
    load_exam,
)
from langchain_llm_router.apps.cli.terminal import EXIT_CODES, write_json, write_text
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.figures import format_share, format_usd
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.evaluation import Interval, RouterReport

__all__ = ["evaluate"]


def evaluate(
    router: RouterArgument,
    *,
    data: DataOption = [],  # noqa: B006
    seen: Annotated[
        bool, "Include rows that the router was fitted on, which makes the figures too good."
    ] = False,
    target: Annotated[
        str | None, "Targets to keep, as for `fit`. By default those that it was fitted for."
    ] = None,
    confidence: Annotated[
        float | None, "Confidence with which they must be kept. By default as it was fitted."
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say whether a saved router keeps its target on recorded rows, and what it saves.

    The first line is the verdict: the target is kept (exit code 0), it is not kept (3), or it
    cannot be said yet (4). Rows that the router was fitted or calibrated on are left out.

    Example: llm-router evaluate router --data run.jsonl

    Example: llm-router evaluate router --data run.jsonl --target "quality >= best - 1 point"
    """
    from langchain_llm_router.evaluation.saved_goals import (  # noqa: PLC0415 - imports NumPy
        goal_of,
    )

    with Bar("predicting") as bar:
        exam, notes, left_out = load_exam(router, data, seen=seen)
        report = exam.report(bar, goal_of(exam.saved, target=target, confidence=confidence))
    heads = [report.sentence, _title(router, report), *filter(None, [notes])]
    write_text(*heads, _table(report), *_sentences(report))
    if json:
        write_json({**report.as_dict(), **left_out})
    sys.exit(EXIT_CODES[report.verdict.outcome])


def _title(router: Path, report: RouterReport) -> str:
    title = f"{router} on {report.n_rows:,} questions"
    if report.n_left_out:
        title += f"; {report.n_left_out:,} others that it was fitted on are left out"
    return title


def _table(report: RouterReport) -> Any:
    table = import_extra("rich.table", "cli").Table(box=import_extra("rich.box", "cli").SIMPLE)
    table.add_column("strategy")
    for heading in ("quality %", "cost per 1,000"):
        table.add_column(heading, justify="right")
    for name, (alone, cost_alone) in report.alone.items():
        cells = _points(alone), _per_1000(cost_alone)
        table.add_row(f"{name} alone", *cells)
    table.add_section()
    table.add_row(
        "this router",
        _points(report.quality),
        _per_1000(report.cost_usd),
        style="bold",
    )
    oracles = {"oracle (perfect routing)": report.oracle}
    if report.repeated is not None:
        oracles = {
            "oracle by the runs that count": report.repeated.naive,
            "oracle, tested on other runs": report.repeated.honest,
        }
    for name, (quality, cost_usd) in oracles.items():
        cost = format_usd(None if cost_usd is None else 1000 * cost_usd)
        table.add_row(name, f"{100 * quality:.1f}", cost)
    return table


def _points(quality: Interval) -> str:
    return f"{100 * quality.value:.1f} ({100 * quality.low:.1f} to {100 * quality.high:.1f})"


def _signed_points(gap: Interval) -> str:
    return f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def _per_1000(cost_usd: Interval | None) -> str:
    if cost_usd is None:
        return format_usd(None)
    value, low, high = (format_usd(1000 * x) for x in (cost_usd.value, cost_usd.low, cost_usd.high))
    return f"{value} ({low.removeprefix('$')} to {high.removeprefix('$')})"


def _sentences(report: RouterReport) -> list[str]:
    asked = ", ".join(f"{name} {format_share(share)}" for name, share in report.asked.items())
    lines = [f"Asked: {asked} of the questions."]
    if len(report.asked) == 1:
        only = next(iter(report.asked))
        lines = [f"This router always asks {only}: it is compared with the best single model."]
    if report.lift is None:
        lines.append("Some costs are unknown, so what it saves is too: give every model a price.")
    else:
        lift = _signed_points(report.lift)
        lines.append(
            "Compared with sending as many questions to each model at random, for the same money: "
            f"quality {lift} points."
        )
    if report.repeated is not None:
        lines.append(report.repeated.sentence)
    if report.estimator is not None:
        lines.append(f"Its estimator: {report.estimator.sentence}")
    return lines
