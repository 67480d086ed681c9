"""Commitment: the check whether a partial draft is good enough to be streamed and kept."""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.messages import AIMessage

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Attempt, Situation
from langchain_llm_router.verification import Verifier

__all__ = ["commit_rule"]


def commit_rule(
    policy: Policy,
    verifier: Verifier | None,
    situation: Situation,
    candidate: str,
    commit_at: float,
) -> Callable[[AIMessage | None], bool]:
    """Return a function that checks whether to commit to a partial draft.

    Args:
        policy: Converts scores to P(good).
        verifier: Scores the partial answer, if it can.
        situation: The situation in which the candidate is asked.
        candidate: The candidate that writes the draft.
        commit_at: Smallest P(good) at which the draft is streamed.

    Returns:
        A function of the answer so far, which is None before the first chunk.
    """

    def commits(message: AIMessage | None) -> bool:
        score = None
        if message is not None:
            score = None if verifier is None else verifier.score_so_far(message)
            if score is None:
                return False
        p = policy.p_good(situation, Attempt(candidate=candidate, confidence=score))
        return p is not None and p >= commit_at

    return commits
