"""`llm-router replay`: what would last week have cost and scored?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import Json
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.progress import Bar, track

if TYPE_CHECKING:
    from langchain_llm_router.evaluation import OffPolicy
    from langchain_llm_router.policies import Policy

__all__ = ["replay"]

_FIGURES = {
    "logged": "as it was",
    "ips": "now, inverse propensity",
    "snips": "now, self-normalized",
    "dr": "now, doubly robust",
}


def replay(
    log: Annotated[list[Path], "Decision logs, as `ChatLLMRouter(log=...)` writes them."],
    *,
    router: Annotated[Path, "Folder of a saved router, as `fit` writes it."],
    quality_per_usd: Annotated[float | None, "Another λ, for every request."] = None,
    threshold: Annotated[float | None, "Another threshold, for every request."] = None,
    predict: Annotated[bool, "Predict again with the router's estimator."] = False,
    key: Annotated[str | None, "Which feedback counts; none: the mean of all."] = None,
    json: Json = False,
) -> None:
    """Decide every request of a log again: what would it have cost, and scored?

    No model is called. Under the router that wrote the log every decision comes out the same, to
    the last bit. Scores are estimated from the feedback in the log, and only where it can tell.

    Example: llm-router replay decisions.jsonl --router router

    Example: llm-router replay decisions.jsonl --router router --quality-per-usd 50
    """
    from langchain_llm_router import history as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.evaluation import off_policy  # noqa: PLC0415 - the same
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    saved = SavedRouter.load(router)
    if predict and saved.estimator is None:
        msg = f"{str(router)!r} has no estimator to predict with: leave out --predict."
        raise ValueError(msg)
    changes = room.Changes(
        saved.estimator if predict else None, lambda_=quality_per_usd, threshold=threshold
    )
    history = room.read_log(*log)
    with Bar("deciding again") as bar:
        entries = track(history.entries, "deciding again", bar)
        replayed = room.replay_log(entries, saved.policy, changes=changes)
        found = off_policy(history, saved.policy, key=key, replay=replayed)
    figures = _figures(found, history.n_torn, saved.policy)
    say(*_sentences(figures), _table(found), str(found.overlap))
    if json:
        write_json(figures)


def _figures(found: OffPolicy, n_torn: int, policy: Policy) -> dict[str, Any]:
    again = found.replay
    known = len(again) > 0 and any(row.entry.outcome == "answered" for row in again.rows)
    return {
        "n_requests": len(again),
        "n_undecided": again.n_undecided,
        "n_torn": n_torn,
        "n_identical": again.n_identical,
        "policy": type(policy).__name__,
        "share_agreeing": again.share_agreeing if known else None,
        "share_cost_on_record": again.share_on_record if known else None,
        "recorded_cost_usd": again.recorded_cost_usd,
        "cost_usd": again.cost_usd,
        "shares": {name: list(pair) for name, pair in again.shares().items()} if known else {},
        "n_scored": found.overlap.n,
        "n_unsupported": found.overlap.n_unsupported,
        "effective_n": found.overlap.effective_n,
        "overlap_enough": found.overlap.enough,
        "quality": {
            name: None if (interval := getattr(found, name)) is None else interval.as_list()
            for name in _FIGURES
        },
        "quality_bounds": None if found.bounds is None else list(found.bounds),
    }


def _sentences(figures: dict[str, Any]) -> list[str]:
    n, same = figures["n_requests"], figures["n_identical"]
    lines = [f"{n:,} requests, {same:,} decided again the same to the last bit."]
    if figures["n_undecided"] or figures["n_torn"]:
        lines.append(
            f"Left out: {figures['n_undecided']} that never came to a decision, "
            f"{figures['n_torn']} torn lines."
        )
    was, now = figures["recorded_cost_usd"], figures["cost_usd"]
    if was is not None and now is not None:
        change = f" ({now / was - 1:+.1%})" if was > 0 else ""
        lines.append(
            f"USD per 1,000 requests: {1000 * was:.4g} as it was, {1000 * now:.4g} now{change}; "
            f"{figures['share_cost_on_record']:.0%} of the requests' costs are on record, "
            "the others hold an expected cost."
        )
    for name, (before, after) in figures["shares"].items():
        lines.append(f"  {name}: {before:.1%} of the answers as it was, {after:.1%} now")
    return lines


def _table(found: OffPolicy) -> Any:
    table = import_extra("rich.table", "cli").Table(box=import_extra("rich.box", "cli").SIMPLE)
    table.add_column("quality by feedback")
    table.add_column("%", justify="right")
    for name, text in _FIGURES.items():
        interval = getattr(found, name)
        if interval is not None:
            value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
            table.add_row(text, f"{value:.1f} ({low:.1f} to {high:.1f})")
    if found.bounds is not None and found.overlap.n_unsupported > 0:
        low, high = (100 * bound for bound in found.bounds)
        table.add_row("now, whatever was not logged", f"{low:.1f} to {high:.1f}")
    return table
