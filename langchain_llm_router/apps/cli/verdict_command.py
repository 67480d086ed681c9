"""`llm-router verdict`: says from a decision log whether a router in use keeps its target."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from langchain_llm_router.apps.cli.parameters import JsonOption
from langchain_llm_router.apps.cli.terminal import EXIT_CODES, unread_lines, write_json, write_text

__all__ = ["verdict"]

_ENOUGH_TO_BEGIN = 100


def verdict(
    log: Annotated[list[Path], "Decision logs with feedback in them."],
    *,
    baseline: Annotated[
        str | None, "Candidate to compare with; by default the dearest by expected cost."
    ] = None,
    target: Annotated[str | None, "Targets to keep, as for `fit`."] = None,
    confidence: Annotated[float, "Confidence with which they must be kept."] = 0.95,
    key: Annotated[str | None, "Feedback key to use; without it, the mean of all."] = None,
    json: JsonOption = False,
) -> None:
    """Say from scored requests whether a router keeps its target, or how many scores it needs.

    Draw requests at random, and score both the returned answer and the one that the baseline gives
    to the same request: `log.feedback(id, score)` and `log.feedback(id, score,
    candidate="large")`. The target is kept (exit code 0), it is not kept (3), or it cannot be said
    yet (4).

    Example: llm-router verdict decisions.jsonl

    Example: llm-router verdict decisions.jsonl --baseline large --target "quality >= 0.95 * best"
    """
    from langchain_llm_router.evaluation import Goal, logged_scores  # noqa: PLC0415 - imports NumPy
    from langchain_llm_router.history import stream_log  # noqa: PLC0415 - the same

    goal = Goal.of(target, None, confidence)
    history = stream_log(*log)
    scores = logged_scores(history, baseline=baseline, key=key)
    if len(scores) == 0:
        sentence = (
            f"None of {len(history):,} requests has a score of its answer and one of "
            f"`{scores.baseline}`: it needs about {_ENOUGH_TO_BEGIN} judged questions to "
            f"begin with. Score both: `feedback(id, score)` and `feedback(id, score, "
            f"candidate={scores.baseline!r})`."
        )
        write_text(sentence, *unread_lines(history))
        if json:
            counts = {"n_rows": 0, "n_torn": history.n_torn}
            write_json({"verdict": "unknown", "sentence": sentence, **counts})
        sys.exit(EXIT_CODES["unknown"])
    found = scores.verdict(goal)
    judged = f"{len(scores):,} of {len(history):,} requests were judged."
    write_text(found.sentence, judged, *unread_lines(history))
    if json:
        counts = {"n_requests": len(history), "n_torn": history.n_torn}
        write_json({**found.as_dict(), **counts})
    sys.exit(EXIT_CODES[found.outcome])
