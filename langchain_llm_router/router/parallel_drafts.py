"""Two candidates that are asked at the same time, each in its node of a graph.

The node of the candidate that will probably be asked next asks for a draft. It becomes an attempt
only when the loop comes to it, so that the steps and the record are those of one call after the
other, whichever of the two answers first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from langchain_llm_router.calls.ask import Answer
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.types import Attempt
from langchain_llm_router.types.errors import LlmRouterError, blame_candidate

__all__ = ["stage_beside"]


def stage_beside(candidate: str, asked: str) -> Callable[[Request], Stage]:
    """Return the stage of a candidate's node, where the last step asks the candidate `asked`.

    `Request.run_stage` reads off the stage's name which data it changes.
    """

    def ask_draft(request: Request) -> Stage:
        step = replace(request.loop.steps[-1], candidate=candidate)
        attempt = yield from request.ask(step)
        request.saw(step, attempt)
        request.draft = {
            "attempt": attempt,
            "message": request.answers[candidate].message,
            "decision_id": request.decision_id,
        }

    def act(request: Request) -> Stage:
        draft = request.draft
        is_due = draft is not None and draft["decision_id"] == request.decision_id
        if draft is not None and is_due and draft["attempt"]["candidate"] == candidate:
            request.answers[candidate] = _answer_of(draft)
        else:
            request.alongside = request.loop.alongside()
        yield from request.act()
        if request.alongside is not None:
            attempt = request.loop.situation.attempts[-1]
            request.loop.saw({**attempt, "alongside": request.alongside})

    return act if candidate == asked else ask_draft


def _answer_of(draft: Mapping[str, Any]) -> Answer:
    attempt, message = cast("Attempt", dict(draft["attempt"])), draft["message"]
    text = attempt.get("error")
    error = None if text is None else LlmRouterError(text)
    if error is not None:
        blame_candidate(error, attempt["candidate"])
    return Answer(attempt, message, message, error)
