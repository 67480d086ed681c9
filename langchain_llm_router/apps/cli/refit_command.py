"""`llm-router refit`: a router that learns from feedback on its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import Folder, Json, load_tables
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_llm_router.data import Outcomes
    from langchain_llm_router.history import ScoredRows
    from langchain_llm_router.router.saved_router import SavedRouter

__all__ = ["refit"]


def refit(
    router: Folder,
    *,
    log: Annotated[list[Path], "Decision logs with feedback in them."],
    out: Annotated[Path, "Folder for the refitted router."],
    data: Annotated[list[Path], "What it was fitted on, where its estimator keeps no rows."] = [],  # noqa: B006
    key: Annotated[str | None, "Which feedback counts; none: the mean of all."] = None,
    json: Json = False,
) -> None:
    """Let a saved router's estimator learn from the feedback on its answers.

    NearestNeighbors adds the scored requests; any other estimator is fitted again on them and on
    the rows of --data that the router has seen. Rows held out for evaluation stay unseen, so
    `evaluate` tells whether it helped. Start from the router that `fit` wrote: feedback learned
    twice counts twice. A promise of `calibrate` holds for the old estimator only: calibrate again.

    Example: llm-router refit router --log decisions.jsonl --out router2

    Example: llm-router refit router --log decisions.jsonl --data run.jsonl --key thumb
    --out router2
    """
    from langchain_llm_router import history as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    saved = SavedRouter.load(router)
    if saved.estimator is None:
        msg = f"{str(router)!r} has no estimator that could learn: it decides by what is verified."
        raise ValueError(msg)
    history = room.read_log(*log)
    rows = room.scored_rows(history, saved.estimator.fitted_candidates, key=key)
    if len(rows) == 0:
        raise ValueError(_nothing(len(history), key))
    training = _training(saved, data)
    with Bar(f"learning from {len(rows):,} scores"):
        learned = room.refit(saved.estimator, rows, training)
    folder = replace(saved, estimator=learned).taught_by(rows.queries).save(out)
    figures = _figures(rows, len(history), training)
    scored = ", ".join(
        f"{name} {given['n']:,} (mean {given['mean_score']:.2f})"
        for name, given in figures["candidates"].items()
        if given["n"] > 0
    )
    say(f"{len(rows):,} of {len(history):,} requests have a score: {scored}", f"saved in {folder}")
    if json:
        write_json({"router": str(folder), **figures})


def _nothing(n_requests: int, key: str | None) -> str:
    named = "feedback" if key is None else f"feedback {key!r}"
    return (
        f"None of the {n_requests:,} requests has {named} and its text: score answers with "
        "`DecisionLog.feedback`, or bring scores in with `llm-router feedback`."
    )


def _training(saved: SavedRouter, paths: Sequence[Path]) -> Outcomes | None:
    """The rows that the router has seen; the others must stay unseen to evaluate it."""
    if len(paths) == 0:
        return None
    outcomes, _ = load_tables(paths)
    known = saved.knows(outcomes.queries)
    if not known.any():
        msg = f"None of the {len(outcomes):,} rows of --data had a part in this router."
        raise ValueError(msg)
    return outcomes.take(known)


def _figures(rows: ScoredRows, n_requests: int, training: Outcomes | None) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - imports what only it needs

    columns = dict(zip(rows.candidates, rows.quality.T, strict=True))
    known = {name: column[~np.isnan(column)] for name, column in columns.items()}
    return {
        "n_requests": n_requests,
        "n_scored": len(rows),
        "n_training": None if training is None else len(training),
        "candidates": {
            name: {"n": len(given), "mean_score": float(given.mean()) if len(given) else None}
            for name, given in known.items()
        },
    }
