"""The stage in which a person approves or declines an escalation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.types import interrupt

from langchain_llm_router.calls.ask import NodeOperation
from langchain_llm_router.policies.policy import accept
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.types.errors import NoCandidateError

__all__ = ["approve", "proposal"]


def proposal(request: Request) -> dict[str, Any] | None:
    """Return the escalation that a person is to approve; None unless the last step escalates."""
    step, attempts = request.loop.steps[-1], request.loop.situation.attempts
    if step.action != "ask" or len(attempts) == 0:
        return None
    messages = [request.answers[attempt["candidate"]].message for attempt in reversed(attempts)]
    draft = next((message for message in messages if message is not None), None)
    return {
        "candidate": step.candidate,
        "reason": step.reason,
        "confidence": step.confidence,
        "expected_cost_usd": request.loop.situation.arm(step.candidate).cost_usd,
        "draft": None if draft is None else str(draft.text),
    }


def approve(request: Request) -> Stage:
    """Ask a person, then continue with refreshed numbers, or keep the draft."""
    if request.user_node is None:
        reply = interrupt(proposal(request))
    else:
        reply = yield NodeOperation(request.user_node, request.config)
        request.user_node = None
    approved = reply.get("approve") if isinstance(reply, Mapping) else reply
    if not isinstance(approved, bool):
        msg = f"Resume the graph with True, False or {{'approve': True}}, got {reply!r}."
        raise TypeError(msg)
    if approved:
        yield from request.prepare()
        return
    answers = request.answers
    kept = [a for a in request.loop.situation.attempts if answers[a["candidate"]].message]
    if len(kept) == 0:
        name = request.loop.steps[-1].candidate
        msg = f"Asking {name!r} was declined, and there is no answer to keep."
        raise NoCandidateError(msg)
    request.declined = True
    step = accept(request.parts.policy, kept[-1], "a person declined the escalation")
    request.loop.steps[-1] = step
    yield from request.end(step)
