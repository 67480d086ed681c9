"""Checks of the training tables of fitted cascades."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.types.arrays import Floats

__all__ = ["check_tables", "mean_costs"]


def check_tables(outcomes: Outcomes, evaluations: SelfEvaluations) -> None:
    """Refuse tables of different queries or candidates.

    Raises:
        ValueError: If shapes or names differ; the message has both.
    """
    shape = outcomes.quality.shape
    if evaluations.confidence.shape != shape or shape[1] < 2 or shape[0] == 0:
        msg = (
            "`outcomes` and `evaluations` must have the same rows, at least one, and the same "
            f"candidates, at least two, got shapes {shape} and {evaluations.confidence.shape}."
        )
        raise ValueError(msg)
    if tuple(evaluations.candidates) != tuple(outcomes.candidates):
        msg = (
            "`evaluations` and `outcomes` must have the same candidates, got "
            f"{list(evaluations.candidates)} and {list(outcomes.candidates)}."
        )
        raise ValueError(msg)


def mean_costs(table: str, cost_usd: Floats | None, names: Sequence[str]) -> Floats:
    """Return the mean cost of each candidate over the rows where it is known.

    Raises:
        ValueError: If a candidate has no known cost.
    """
    if cost_usd is None:
        msg = f"`{table}` must have costs, because this policy weighs them (0 where free)."
        raise ValueError(msg)
    known = ~np.isnan(cost_usd)
    for j, name in enumerate(names):
        if not known[:, j].any():
            msg = f"`{table}` has no cost for {name!r}: give one (0 where it is free)."
            raise ValueError(msg)
    return np.array([cost_usd[known[:, j], j].mean() for j in range(len(names))])
