"""`llm-router refit`: refits the estimator of a saved router on feedback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import JsonOption, RouterArgument, load_tables
from langchain_llm_router.apps.cli.terminal import unread_lines, write_json, write_text
from langchain_llm_router.types.figures import format_score
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_llm_router.data import Outcomes
    from langchain_llm_router.history import History, ScoredRows
    from langchain_llm_router.router.saved_router import SavedRouter

__all__ = ["refit"]


def refit(
    router: RouterArgument,
    *,
    log: Annotated[list[Path], "Decision logs with feedback in them."],
    out: Annotated[Path, "Folder for the refitted router."],
    data: Annotated[list[Path], "Its training data, if its estimator keeps no rows."] = [],  # noqa: B006
    key: Annotated[str | None, "Feedback key to use; without it, the mean of all."] = None,
    json: JsonOption = False,
) -> None:
    """Refit the estimator of a saved router on the feedback on its answers.

    NearestNeighbors adds the scored requests; any other estimator is fitted again on them and on
    the rows of --data that the router was fitted on. Rows held out for evaluation stay held out, so
    `evaluate` shows whether it helped. Start from the router that `fit` wrote: refitting twice on
    the same feedback counts it twice. Calibrate again afterwards, because a guarantee of
    `calibrate` holds for the old estimator only. A router made of prices alone (`serve --out`)
    learns which answers are right where others agree with the scored ones.

    Example: llm-router refit router --log decisions.jsonl --out router2

    Example: llm-router refit router --log decisions.jsonl --data run.jsonl --key thumb
    --out router2
    """
    from langchain_llm_router import history as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    saved = SavedRouter.load(router)
    if saved.policy.learns and saved.estimator is None:
        _refit_policy(saved, room.stream_log(*log), out, key, json=json)
        return
    if saved.estimator is None:
        msg = (
            f"The router {str(router)!r} has no estimator to refit: its policy decides by the "
            "verifier's scores."
        )
        raise ValueError(msg)
    history = room.stream_log(*log)
    rows = room.scored_rows(history, saved.estimator.fitted_candidates, key=key)
    if len(rows) == 0:
        raise ValueError(_no_rows_message(len(history), key))
    training = _training(saved, data)
    with Bar(f"refitting on {len(rows):,} scores"):
        refitted = room.refit(saved.estimator, rows, training)
    folder = replace(saved, estimator=refitted).taught_by(rows.queries).save(out)
    figures = _figures(rows, history, training)
    scored = ", ".join(
        f"{name} {figure['n']:,} (mean {format_score(figure['mean_score'])})"
        for name, figure in figures["candidates"].items()
        if figure["n"] > 0
    )
    write_text(
        f"{len(rows):,} of {len(history):,} requests have a score: {scored}",
        *unread_lines(history),
        f"saved in {folder}",
    )
    if json:
        write_json({"router": str(folder), **figures})


def _refit_policy(
    saved: SavedRouter,
    history: History,
    out: Path,
    key: str | None,
    *,
    json: bool,
) -> None:
    """Teach a policy the logged answers that have a score; those without made it worse.

    Raises:
        ValueError: If no answer has a score.
    """
    import numpy as np  # noqa: PLC0415 - imports what only it needs

    from langchain_llm_router import history as room  # noqa: PLC0415 - the same

    pool: Any = saved.policy
    rows = room.compared_rows(history, pool.candidates_, key=key)
    scored = np.flatnonzero(~np.isnan(rows.quality).all(axis=1))
    if len(scored) == 0:
        msg = (
            f"None of the {len(history):,} requests in the log has {_feedback(key)} on an answer "
            f"of {list(pool.candidates_)}: score answers with `DecisionLog.feedback`, or import "
            "scores with `llm-router feedback`."
        )
        raise ValueError(msg)
    taught = pool.learn(
        rows.evaluations.take(scored), rows.quality[scored], asked=rows.asked[scored]
    )
    folder = replace(saved, policy=taught).save(out)
    write_text(
        f"{len(scored):,} of {len(rows):,} requests with compared or scored answers have a score.",
        *unread_lines(history),
        f"saved in {folder}",
    )
    if json:
        figures = {
            "n_requests": len(history),
            "n_torn": history.n_torn,
            "n_compared": len(rows),
            "n_scored": len(scored),
        }
        write_json({"router": str(folder), **figures})


def _no_rows_message(n_requests: int, key: str | None) -> str:
    return (
        f"None of the {n_requests:,} requests in the log has both its text and {_feedback(key)}: "
        "score "
        "answers with `DecisionLog.feedback`, or import scores with `llm-router feedback`."
    )


def _feedback(key: str | None) -> str:
    return "feedback" if key is None else f"feedback with the key {key!r}"


def _training(saved: SavedRouter, paths: Sequence[Path]) -> Outcomes | None:
    """Select the rows that the router was fitted on; the others stay held out."""
    if len(paths) == 0:
        return None
    outcomes, _ = load_tables(paths)
    is_training = saved.knows(outcomes.queries)
    if not is_training.any():
        msg = (
            f"`--data` must be the router's training data, but it was fitted on none of these "
            f"{len(outcomes):,} rows."
        )
        raise ValueError(msg)
    return outcomes.take(is_training)


def _figures(rows: ScoredRows, history: History, training: Outcomes | None) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - imports what only it needs

    columns = dict(zip(rows.candidates, rows.quality.T, strict=True))
    scores = {name: column[~np.isnan(column)] for name, column in columns.items()}
    return {
        "n_requests": len(history),
        "n_torn": history.n_torn,
        "n_scored": len(rows),
        "n_training": None if training is None else len(training),
        "candidates": {
            name: {"n": len(column), "mean_score": float(column.mean()) if len(column) else None}
            for name, column in scores.items()
        },
    }
