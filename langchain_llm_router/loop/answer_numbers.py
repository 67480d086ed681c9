"""The numbers of recorded groups of equal answers, as a request would have given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_llm_router.types import Attempt

__all__ = ["number_group"]


def number_group(
    recorded: Mapping[str, int | None], attempts: Sequence[Attempt], candidate: str
) -> int | None:
    """Return the group of a candidate's answer, numbered in the order of first answers.

    Args:
        recorded: Group of each candidate's answer as it was recorded, where any numbers may stand
            for equal answers; None for an answer without a group.
        attempts: The earlier attempts of the request.
        candidate: The candidate.
    """
    group = recorded.get(candidate)
    if group is None:
        return None
    numbers = {
        recorded[attempt["candidate"]]: attempt["answer_group"]
        for attempt in attempts
        if attempt.get("answer_group") is not None and attempt["candidate"] != candidate
    }
    return numbers.get(group, len(numbers))
