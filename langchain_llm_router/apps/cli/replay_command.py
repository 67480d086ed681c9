"""`llm-router replay`: makes the decisions of a log again, and estimates their cost and quality."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import JsonOption
from langchain_llm_router.apps.cli.terminal import write_json, write_text
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.figures import format_share, format_usd
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.evaluation import OffPolicy
    from langchain_llm_router.policies import Policy

__all__ = ["replay"]

_SMALL_BYTES = 32 << 20
_FIGURES = {
    "logged": "as logged",
    "ips": "replayed, inverse propensity",
    "snips": "replayed, self-normalized",
    "dr": "replayed, doubly robust",
}


def replay(  # noqa: PLR0913 - each option is a parameter
    log: Annotated[list[Path], "Decision logs, as `ChatLLMRouter(log=...)` writes them."],
    *,
    router: Annotated[Path, "Folder of a saved router, as `fit` writes it."],
    quality_per_usd: Annotated[float | None, "λ to use for every request."] = None,
    threshold: Annotated[float | None, "Threshold to use for every request."] = None,
    predict: Annotated[bool, "Predict again with the router's estimator."] = False,
    key: Annotated[str | None, "Feedback key to use; without it, the mean of all."] = None,
    workers: Annotated[
        int | None, "Processes; by default as many as processors, for a small log one."
    ] = None,
    ray: Annotated[bool, "Use a Ray cluster; if there is none, start a local one."] = False,
    json: JsonOption = False,
) -> None:
    """Make every decision of a log again, and estimate the cost and the quality of the answers.

    No model is called. The router that wrote the log reproduces every decision, to the last bit.
    Quality is estimated from the feedback in the log, if there is enough of it. A log may be larger
    than the memory; the figures are the same for any number of workers.

    Example: llm-router replay decisions.jsonl --router router

    Example: llm-router replay decisions.jsonl --router router --quality-per-usd 50
    """
    from langchain_llm_router.evaluation import (  # noqa: PLC0415 - imports what only it needs
        off_policy_of_logs,
    )
    from langchain_llm_router.history import Changes  # noqa: PLC0415 - the same
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    saved = SavedRouter.load(router)
    if predict and saved.estimator is None:
        msg = f"The router {str(router)!r} has no estimator to predict with: omit `--predict`."
        raise ValueError(msg)
    if ray and workers is not None:
        msg = f"`--workers {workers}` is of this machine alone: omit it, or `--ray`."
        raise ValueError(msg)
    changes = Changes(
        saved.estimator if predict else None, lambda_=quality_per_usd, threshold=threshold
    )
    with Bar("deciding again") as bar:
        estimate = off_policy_of_logs(
            log,
            saved.policy,
            changes=changes,
            key=key,
            n_workers=_n_workers(log) if workers is None else workers,
            ray=ray,
            watch=bar,
        )
    figures = _figures(estimate, saved.policy)
    write_text(*_sentences(figures), _table(estimate), str(estimate.overlap))
    if json:
        write_json(figures)


def _n_workers(log: list[Path]) -> int:
    """Return how many processes are worth their start."""
    if sum(path.stat().st_size for path in log) < _SMALL_BYTES:
        return 1
    # Not on every system can a process be kept from some processors.
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _figures(estimate: OffPolicy, policy: Policy) -> dict[str, Any]:
    again = estimate.replay
    has_answers = again.n_answered > 0
    return {
        "n_requests": len(again),
        "n_answered": again.n_answered,
        "n_failed": again.n_failed,
        "n_abandoned": again.n_abandoned,
        "n_undecided": again.n_undecided,
        "n_torn": again.n_torn,
        "n_identical": again.n_identical,
        "policy": type(policy).__name__,
        "share_agreeing": again.share_agreeing if has_answers else None,
        "share_cost_on_record": again.share_on_record if has_answers else None,
        "recorded_cost_usd": again.recorded_cost_usd,
        "cost_usd": again.cost_usd,
        "shares": {n: list(pair) for n, pair in again.shares().items()} if has_answers else {},
        "n_scored": estimate.overlap.n,
        "n_unsupported": estimate.overlap.n_unsupported,
        "effective_n": estimate.overlap.effective_n,
        "overlap_enough": estimate.overlap.enough,
        "quality": {
            name: None if (interval := getattr(estimate, name)) is None else interval.as_list()
            for name in _FIGURES
        },
        "quality_bounds": None if estimate.bounds is None else list(estimate.bounds),
    }


def _sentences(figures: dict[str, Any]) -> list[str]:
    n, same = figures["n_requests"], figures["n_identical"]
    lines = [f"{n:,} requests, of which {same:,} were decided identically, to the last bit."]
    if figures["n_failed"] or figures["n_abandoned"]:
        lines.append(
            f"{figures['n_answered']:,} were answered, {figures['n_failed']:,} failed, "
            f"{figures['n_abandoned']:,} were abandoned by their callers: costs and shares are of "
            "those that were answered."
        )
    if figures["n_undecided"] or figures["n_torn"]:
        lines.append(
            f"Left out: {figures['n_undecided']} requests without a decision, "
            f"{figures['n_torn']} lines that cannot be read."
        )
    was, now = figures["recorded_cost_usd"], figures["cost_usd"]
    if was is not None and now is not None:
        change = f" ({format_share(now / was - 1, 1, sign=True)})" if was > 0 else ""
        lines.append(
            f"1,000 answered requests cost {format_usd(1000 * was)} as logged, "
            f"{format_usd(1000 * now)} replayed{change}; "
            f"{format_share(figures['share_cost_on_record'])} of them have every "
            "replayed cost on record, the others include an expected cost."
        )
    for name, (before, after) in figures["shares"].items():
        told = (
            f"{format_share(before, 1)} of the answers as logged, {format_share(after, 1)} replayed"
        )
        lines.append(f"  {name}: {told}")
    return lines


def _table(estimate: OffPolicy) -> Any:
    table = import_extra("rich.table", "cli").Table(box=import_extra("rich.box", "cli").SIMPLE)
    table.add_column("quality by feedback")
    table.add_column("%", justify="right")
    for name, text in _FIGURES.items():
        interval = getattr(estimate, name)
        if interval is not None:
            value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
            table.add_row(text, f"{value:.1f} ({low:.1f} to {high:.1f})")
    if estimate.bounds is not None and estimate.overlap.n_unsupported > 0:
        low, high = (100 * bound for bound in estimate.bounds)
        table.add_row("replayed, bounds", f"{low:.1f} to {high:.1f}")
    return table
