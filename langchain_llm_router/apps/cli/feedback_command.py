"""`llm-router feedback`: imports LangSmith's scores into a decision log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from langchain_llm_router.apps.cli.parameters import JsonOption
from langchain_llm_router.apps.cli.terminal import write_json, write_text
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.types.progress import Bar

__all__ = ["feedback"]


def feedback(
    log: Annotated[Path, "A decision log, written while the runs were traced to LangSmith."],
    *,
    key: Annotated[list[str], "Feedback key to import; without it, all are."] = [],  # noqa: B006
    worst: Annotated[float, "The worst possible score."] = 0.0,
    best: Annotated[float, "The best possible score."] = 1.0,
    json: JsonOption = False,
) -> None:
    """Import LangSmith's feedback on the logged runs into the log.

    LANGSMITH_API_KEY and LANGSMITH_ENDPOINT configure the access. Running it again changes nothing,
    so it can run every night. `replay` and `refit` then use the scores.

    Example: llm-router feedback decisions.jsonl

    Example: llm-router feedback decisions.jsonl --key stars --worst 1 --best 5
    """
    from langsmith import Client  # noqa: PLC0415 - takes 0.1 s
    from langsmith.utils import LangSmithError  # noqa: PLC0415 - the same

    from langchain_llm_router import history as room  # noqa: PLC0415 - imports what only it needs

    if not best > worst:
        msg = f"`--best` must be above `--worst` = {worst!r}, got {best!r}."
        raise ValueError(msg)
    history, decision_log = room.stream_log(log), room.DecisionLog(log)
    client = Client(auto_batch_tracing=False)
    try:
        with Bar("asking LangSmith"):
            done = room.import_langsmith(
                decision_log, history, client, keys=key or None, scale=(worst, best)
            )
    except LangSmithError as error:
        msg = f"LangSmith did not return the feedback: {error}"
        raise LlmRouterError(msg) from error
    finally:
        decision_log.flush()
    traced = sum(entry.run_id is not None for entry in history.entries)
    write_text(
        f"{done.n_imported:,} scores for {len(history):,} requests, {traced:,} of them traced."
    )
    if done.n_without_score or done.n_ambiguous:
        write_text(
            f"Left out: {done.n_without_score:,} without a score, {done.n_ambiguous:,} on traces "
            "in which several requests were routed."
        )
    if json:
        counts = {"n_requests": len(history), "n_traced": traced, **asdict(done)}
        write_json({"log": str(log), **counts})
