"""The first step of a request, without asking a candidate or reserving money."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from langchain_llm_router.loop.loop import next_decision
from langchain_llm_router.router.drivers import drive
from langchain_llm_router.router.request import Request
from langchain_llm_router.types import Decision, Situation

__all__ = ["first_decision", "first_situation"]


def first_situation(request: Request) -> Situation:
    """Return the situation before the first step."""
    request.parts = request.parts.at_current_prices()
    situation: Situation = drive(request.situate())
    return situation


def first_decision(request: Request) -> Decision:
    """Return the first decision."""
    situation = first_situation(request)
    decision = next_decision(request.parts.policy, situation)
    assert decision is not None, "no candidate has failed yet"
    reason = decision.reason
    if situation.sensitive is not None:
        reason += f"; sensitive ({situation.sensitive}): only {list(situation.names)} may see it"
    return replace(decision, reason=reason, decision_id=uuid4().hex)
