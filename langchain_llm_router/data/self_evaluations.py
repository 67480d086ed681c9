"""What verifiers said about the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data.row_checks import checked_matrix, distinct_names, row_numbers
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

__all__ = ["SelfEvaluations"]


@dataclass(frozen=True, eq=False)
class SelfEvaluations(CheckedArguments):
    """What verifiers said about each candidate's answer to each query.

    Args:
        candidates: Names of the k candidates: the columns.
        confidence: Raw scores in [0, 1], of shape (n_queries, n_candidates); NaN: no verdict.
        cost_usd: What verifying cost, same shape, NaN where unknown; None: all unknown.
        verdicts: The single samples behind it, of shape (n_queries, n_candidates, n_samples),
            1 correct, 0 incorrect, NaN unreadable; None where they were not kept.
    """

    candidates: Sequence[str]
    confidence: Floats
    cost_usd: Floats | None = None
    verdicts: Floats | None = None

    def __init__(
        self,
        candidates: Sequence[str],
        confidence: ArrayLike,
        cost_usd: ArrayLike | None = None,
        verdicts: ArrayLike | None = None,
    ) -> None:
        names = distinct_names(candidates)
        shape = (len(np.asarray(confidence)), len(names))
        scores = checked_matrix("confidence", confidence, shape, unit=True, unknown=True)
        costs, samples = None, None
        if cost_usd is not None:
            costs = checked_matrix("cost_usd", cost_usd, shape, unit=False, unknown=True)
        if verdicts is not None:
            deep = (*shape, np.asarray(verdicts).shape[-1])
            samples = checked_matrix("verdicts", verdicts, deep, unit=True, unknown=True)
        object.__setattr__(self, "candidates", names)
        object.__setattr__(self, "confidence", scores)
        object.__setattr__(self, "cost_usd", costs)
        object.__setattr__(self, "verdicts", samples)

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, rows: ArrayLike) -> SelfEvaluations:
        """The given rows, by index or by mask."""
        index = row_numbers(rows, len(self))
        return SelfEvaluations(
            self.candidates,
            self.confidence[index],
            None if self.cost_usd is None else self.cost_usd[index],
            None if self.verdicts is None else self.verdicts[index],
        )

    def select(self, candidates: Sequence[str]) -> SelfEvaluations:
        """The given columns, in the given order; each must be there."""
        columns = [self.candidates.index(name) for name in candidates]
        return SelfEvaluations(
            candidates,
            self.confidence[:, columns],
            None if self.cost_usd is None else self.cost_usd[:, columns],
            None if self.verdicts is None else self.verdicts[:, columns],
        )
