"""Whether a draft looks good enough, from what has come of it, to be streamed and kept."""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.messages import AIMessage

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Attempt, Situation
from langchain_llm_router.verification import Verifier

__all__ = ["commitment"]


def commitment(
    policy: Policy,
    verifier: Verifier | None,
    situation: Situation,
    candidate: str,
    commit_at: float,
) -> Callable[[AIMessage | None], bool]:
    """The question whether to commit to a draft, asked of what is out so far.

    Args:
        policy: Reads scores as P(good).
        verifier: Scores what has come, if it can.
        situation: In which the candidate is asked.
        candidate: Writes the draft.
        commit_at: P(good) from which on the draft is streamed.

    Returns:
        A function of the answer so far; None, before the first chunk: nothing has come yet.
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
