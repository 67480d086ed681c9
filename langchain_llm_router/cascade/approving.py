"""The node where a person is asked whether an escalation may be paid for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from langchain_llm_router.cascade.deciding import Deciding
from langchain_llm_router.cascade.state import CascadeState, as_data, held
from langchain_llm_router.cascade.turn import Turn
from langchain_llm_router.errors import NoCandidateError
from langchain_llm_router.policies.policy import accept

__all__ = ["APPROVE", "Approving"]

APPROVE = "approve"


class Approving:
    """Stops before a draft is escalated: always, never, or where a function says so."""

    def __init__(
        self,
        turn: Turn,
        deciding: Deciding,
        *,
        approve: bool | Callable[[dict[str, Any]], bool],
    ) -> None:
        self._turn, self._deciding, self._approve = turn, deciding, approve

    def edge_or_approval(self, state: CascadeState, config: RunnableConfig) -> str:
        """Where the last decision leads, by way of a person where one is to be asked."""
        proposal = None if self._approve is False else self._proposal(state, config)
        if proposal is None:
            return self._deciding.edge(state)
        if callable(self._approve) and not self._approve(proposal):
            return self._deciding.edge(state)
        return APPROVE

    def approve(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Ask a person whether the escalation may be paid for; if not, keep the draft."""
        reply = interrupt(self._proposal(state, config))
        approved = reply.get("approve") if isinstance(reply, dict) else reply
        if approved:
            return {}
        kept = held(state)
        if len(kept) == 0:
            step = state.get("steps", [])[-1]
            msg = f"Asking {step['candidate']!r} was declined, and there is no answer to keep."
            error = NoCandidateError(msg)
            self._turn.log(state, config, error=error)
            raise error
        reason = "a person declined the escalation"
        decision = accept(self._turn.engine.policy, kept[-1], reason)
        *earlier, last = state.get("steps", [])
        steps = [*earlier, {**last, **as_data(decision), "declined": True}]
        situation = self._turn.situation(state, config)
        return {"steps": steps, "messages": [self._turn.accepted(state, situation, steps, config)]}

    def _proposal(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any] | None:
        """What a person is asked about; None unless the last step escalates."""
        step, trace = state.get("steps", [])[-1], state.get("trace", [])
        if step["action"] != "ask" or len(trace) == 0:
            return None
        draft = next((e["message"] for e in reversed(trace) if e["message"] is not None), None)
        arm = self._turn.situation(state, config).arm(step["candidate"])
        return {
            "candidate": step["candidate"],
            "reason": step["reason"],
            "confidence": step["confidence"],
            "expected_cost_usd": arm.cost_usd,
            "draft": None if draft is None else str(draft.text),
        }
