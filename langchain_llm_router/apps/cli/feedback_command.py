"""`llm-router feedback`: LangSmith's scores into a decision log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from langchain_llm_router.apps.cli.parameters import Json
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.types.progress import Bar

__all__ = ["feedback"]


def feedback(
    log: Annotated[Path, "A decision log, written while the runs were traced to LangSmith."],
    *,
    key: Annotated[list[str], "Only feedback of this name; none: all."] = [],  # noqa: B006
    worst: Annotated[float, "The worst possible score."] = 0.0,
    best: Annotated[float, "The best possible score."] = 1.0,
    json: Json = False,
) -> None:
    """Bring the feedback that LangSmith has on the logged runs into the log.

    LANGSMITH_API_KEY and LANGSMITH_ENDPOINT configure the access. Running it again changes nothing,
    so it can run every night. Afterwards `replay` and `refit` count the scores.

    Example: llm-router feedback decisions.jsonl

    Example: llm-router feedback decisions.jsonl --key stars --worst 1 --best 5
    """
    from langsmith import Client  # noqa: PLC0415 - takes 0.1 s
    from langsmith.utils import LangSmithError  # noqa: PLC0415 - the same

    from langchain_llm_router import history as room  # noqa: PLC0415 - imports what only it needs

    if not best > worst:
        msg = f"`--best` must be above `--worst`, got {best!r} and {worst!r}."
        raise ValueError(msg)
    history, kept = room.read_log(log), room.DecisionLog(log)
    client = Client(auto_batch_tracing=False)
    try:
        with Bar("asking LangSmith"):
            done = room.import_langsmith(
                kept, history, client, keys=key or None, scale=(worst, best)
            )
    except LangSmithError as error:
        raise LlmRouterError(f"LangSmith did not answer: {error}") from error
    finally:
        kept.flush()
    traced = sum(entry.run_id is not None for entry in history.entries)
    say(f"{done.n_imported:,} scores for {len(history):,} requests, {traced:,} of them traced.")
    if done.n_without_score or done.n_ambiguous:
        say(
            f"Left out: {done.n_without_score:,} without a score, {done.n_ambiguous:,} on traces "
            "in which several requests were routed."
        )
    if json:
        counts = {"n_requests": len(history), "n_traced": traced, **asdict(done)}
        write_json({"log": str(log), **counts})
