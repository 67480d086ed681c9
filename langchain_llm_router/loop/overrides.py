"""Steps that a request, a context window, a breaker or an answer's form imposes on the policy."""

from __future__ import annotations

from dataclasses import replace

from langchain_llm_router.loop.endpoints import pick_endpoint
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Decision, Situation

__all__ = [
    "decide_by_window",
    "decide_forced",
    "is_confined",
    "mark_open_breakers",
    "valid_unread",
]

_VALID = {"tool_calls": "its tool calls are valid", "structured": "its object fits the schema"}


def decide_forced(policy: Policy, situation: Situation, force: str) -> Decision:
    """Ask the candidate that the request forces, and accept its answer."""
    reason = f"the request forces {force}"
    if len(situation.answered) > 0:
        answered = situation.answered[-1]["candidate"]
        return Decision(action="accept", candidate=answered, policy="forced", reason=reason)
    arm, why = pick_endpoint(policy, situation.open_arms, situation)
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy="forced",
        reason=f"{reason}; {why}" if why else reason,
        final=True,
    )


def decide_by_window(policy: Policy, situation: Situation, widest: Arm) -> Decision:
    """Ask the candidate with the largest context window, because the prompt was too long."""
    failed, size = situation.attempts[-1]["candidate"], widest.max_input_tokens
    return Decision(
        action="ask",
        candidate=widest.candidate,
        policy=type(policy).__name__,
        reason=(
            f"the prompt is too long for {failed}; of the known context windows that of "
            f"{widest.candidate} is the largest ({size} tokens)"
        ),
        final=policy.accepts_unverified(len(situation.open_arms)),
    )


def mark_open_breakers(situation: Situation) -> Situation:
    """Count arms with open breakers as failed, as long as another arm is available."""
    unasked = situation.open_arms
    if all(arm.available for arm in unasked) or not any(arm.available for arm in unasked):
        return situation
    failed = tuple(
        Attempt(candidate=arm.candidate, error="CircuitOpen: its recent calls failed")
        for arm in unasked
        if not arm.available
    )
    return replace(situation, attempts=(*failed, *situation.attempts))


def is_confined(policy: Policy, situation: Situation) -> bool:
    """Return whether none of the policy's own candidates may see a sensitive request."""
    named = policy.named_candidates
    left = {name for arm in situation.open_arms for name in (arm.model, arm.candidate)}
    return len(named) > 0 and not any(name in left for name in named)


def valid_unread(attempt: Attempt) -> str | None:
    """Return why an answer is taken that the verifier does not read; None if it reads it.

    It parsed and its arguments are valid; most verifiers read text only.
    """
    is_read = attempt.get("reported", False) or attempt.get("comparable", False)
    return None if is_read else _VALID.get(attempt.get("form", "text"))
