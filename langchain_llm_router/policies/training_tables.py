"""What every fitted cascade requires of its training tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.types.arrays import Floats

__all__ = ["check_tables", "known_means"]


def check_tables(outcomes: Outcomes, evaluations: SelfEvaluations) -> None:
    """Refuse tables that are not about the same queries and candidates.

    Raises:
        ValueError: With both shapes, or both lists of names.
    """
    shape = outcomes.quality.shape
    if evaluations.confidence.shape != shape or shape[1] < 2 or shape[0] == 0:
        msg = (
            f"`outcomes` {shape} and `evaluations` {evaluations.confidence.shape} must have "
            "the same rows, at least one, and the same two or more candidates."
        )
        raise ValueError(msg)
    if tuple(evaluations.candidates) != tuple(outcomes.candidates):
        msg = (
            f"`evaluations` are about {list(evaluations.candidates)}, "
            f"`outcomes` about {list(outcomes.candidates)}."
        )
        raise ValueError(msg)


def known_means(what: str, cost_usd: Floats | None, names: Sequence[str]) -> Floats:
    """Mean cost of each candidate over the rows where it is known.

    Raises:
        ValueError: If a candidate has no known cost.
    """
    if cost_usd is None:
        msg = f"`{what}` has no costs, but this policy weighs them (0 is fine where free)."
        raise ValueError(msg)
    known = ~np.isnan(cost_usd)
    for j, name in enumerate(names):
        if not known[:, j].any():
            msg = f"`{what}` has no cost for {name!r}: give one (0 where it is free)."
            raise ValueError(msg)
    return np.array([cost_usd[known[:, j], j].mean() for j in range(len(names))])
