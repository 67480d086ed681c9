"""The check whether a decision can be carried out."""

from __future__ import annotations

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.errors import PolicyError

__all__ = ["check_step"]


def check_step(policy: Policy, situation: Situation, decision: Decision) -> None:
    """Refuse a decision that cannot be carried out.

    A candidate is asked once and its answer verified once, because an attempt has one cost of
    each.

    Raises:
        PolicyError: If the decision is impossible.
    """
    asked = [attempt["candidate"] for attempt in situation.attempts]
    if decision.action == "ask":
        wrong = _check_ask(situation, decision.candidate, asked)
    elif decision.action == "verify":
        wrong = _check_verify(situation, decision.candidate)
    elif decision.action == "abstain":
        wrong = _check_abstain(policy, decision, asked)
    elif decision.action != "accept":
        wrong = "the action must be one of 'ask', 'verify', 'accept', 'abstain'"
    else:
        wrong = None if decision.candidate in asked else "it has given no answer"
    if wrong is not None:
        name = type(policy).__name__
        msg = f"{name} decided to {decision.action} {decision.candidate!r}, but {wrong}."
        raise PolicyError(msg)


def _check_ask(situation: Situation, name: str, asked: list[str]) -> str | None:
    if name in asked:
        return "it has been asked already; a policy that asks again is looping"
    if name not in situation.names:
        return f"this request can ask {list(situation.names)}"
    return None


def _check_verify(situation: Situation, name: str) -> str | None:
    last = situation.attempts[-1] if situation.attempts else Attempt()
    if last.get("candidate") != name or last.get("error") is not None:
        return "its last step did not return an answer"
    if last.get("verified", False):
        return "its answer is verified already; a policy that verifies again is looping"
    return None


def _check_abstain(policy: Policy, decision: Decision, asked: list[str]) -> str | None:
    terms = policy.exit_terms
    if terms is None or decision.ending != terms.do:
        return "only a `policies.Unsure` says how such a request ends"
    if decision.ending in ("flag", "hold") and decision.candidate not in asked:
        return "it has given no answer"
    return None
