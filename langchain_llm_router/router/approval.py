"""The stages that ask a person: to approve an escalation, or for the answer itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.types import interrupt

from langchain_llm_router.calls.ask import NodeOperation
from langchain_llm_router.policies.policy import accept
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.types.errors import NoCandidateError

__all__ = ["approve", "ask_person", "proposal"]


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
        # It stood in for the person alone: `prepare` would call it for the predictions.
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


def ask_person(request: Request) -> Stage:
    """Ask a person for the answer where none is good enough, and end the request with it."""
    step, loop = request.loop.steps[-1], request.loop
    best = request.answers.get(step.candidate)
    question = {
        "question": loop.situation.query,
        "reason": step.reason,
        "candidate": step.candidate,
        "draft": None if best is None or best.message is None else str(best.message.text),
        "confidence": step.confidence,
        "cost_usd": step.ending_cost_usd,
    }
    if request.user_node is not None:
        reply = yield NodeOperation(request.user_node, request.config)
    else:
        reply = _answer_in(interrupt(question))
        while not isinstance(reply, str | AIMessage | None):
            # Raising would keep the reply in the checkpoint, and no other could be given.
            reply = _answer_in(interrupt({**question, "problem": _PROBLEM.format(reply)}))
    request.reply = AIMessage(reply) if isinstance(reply, str) else reply
    yield from request.end(step)


_PROBLEM = (
    "Resume the graph with the answer, a text or an `AIMessage`, or with {{'answer': ...}}, or "
    "with {{'answer': None}} if there is none, got {0!r}."
)


def _answer_in(reply: Any) -> Any:
    """Read a person's reply; None means that the person has no answer either."""
    if isinstance(reply, Mapping) and set(reply) == {"answer"}:
        return reply["answer"]
    return reply
