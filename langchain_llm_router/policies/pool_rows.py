"""The tables of a pool's fit, checked and read as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.row_checks import column_indices
from langchain_llm_router.policies.pool_model import PoolRows
from langchain_llm_router.types.arrays import Indices

__all__ = ["read_rows"]


def read_rows(
    outcomes: Outcomes,
    evaluations: SelfEvaluations,
    quality: ArrayLike | None,
    pool: tuple[str, ...],
    unlabelled: SelfEvaluations | None = None,
) -> PoolRows:
    """Check the tables of a fit and return them as arrays, the pool's columns first."""
    shape, predicted = outcomes.quality.shape, None
    columns = column_indices(pool, outcomes.candidates)
    if quality is not None:
        predicted = np.asarray(quality, dtype=np.float64)
        if predicted.shape != shape or np.isnan(predicted).any():
            msg = f"`quality` must have shape {shape}, without NaN, got shape {predicted.shape}."
            raise ValueError(msg)
        predicted = predicted[:, columns]
    if unlabelled is not None and tuple(unlabelled.candidates) != tuple(outcomes.candidates):
        msg = (
            "`unlabelled` and `outcomes` must have the same candidates, got "
            f"{list(unlabelled.candidates)} and {list(outcomes.candidates)}."
        )
        raise ValueError(msg)
    order = [*columns, *(j for j in range(shape[1]) if j not in columns)]
    cost, tokens = outcomes.cost_usd, outcomes.output_tokens
    return PoolRows(
        groups=_groups("evaluations", evaluations)[:, order],
        quality=outcomes.quality[:, order],
        cost_usd=np.full((shape[0], len(pool)), np.nan) if cost is None else cost[:, columns],
        predicted=predicted,
        output_tokens=None if tokens is None else tokens[:, columns],
        unlabelled=None if unlabelled is None else _groups("unlabelled", unlabelled)[:, order],
    )


def _groups(name: str, evaluations: SelfEvaluations) -> Indices:
    groups = evaluations.answer_groups
    if groups is None:
        msg = (
            f"`{name}` has no answer groups, but this policy counts equal answers: evaluate the "
            "answers with `AnswerGroups`, or set `answer_groups`."
        )
        raise ValueError(msg)
    return groups
