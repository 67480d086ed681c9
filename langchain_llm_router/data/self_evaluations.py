"""The table of a verifier's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data.row_checks import (
    check_groups,
    check_matrix,
    check_names,
    column_indices,
    row_indices,
)
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["SelfEvaluations"]


@dataclass(frozen=True, eq=False)
class SelfEvaluations(CheckedArguments):
    """A verifier's scores of every candidate's answer to every query.

    Args:
        candidates: Names of the candidates, in the order of the columns.
        confidence: Raw scores in [0, 1], of shape (n_queries, n_candidates), NaN without a verdict.
        cost_usd: Cost of each verification in USD, same shape, NaN where unknown. If None, all
            costs are unknown.
        verdicts: The verdicts behind the scores, of shape (n_queries, n_candidates, n_samples):
            1 for correct, 0 for incorrect, NaN for unreadable. None if they were not recorded.
        verifier: Description of the verifier, which a router fitted on the scores is saved with;
            None if unknown.
        latency_s: Seconds that each verification takes, of shape (n_queries, n_candidates), NaN
            where unknown. If None, all are unknown.
        answer_groups: Groups of equal answers, of shape (n_queries, n_candidates): equal answers
            to a query have equal numbers >= 0; -1 for an answer that cannot be compared. None if
            answers were not compared.
    """

    candidates: Sequence[str]
    confidence: Floats
    cost_usd: Floats | None = None
    verdicts: Floats | None = None
    verifier: Mapping[str, Any] | None = None
    latency_s: Floats | None = None
    answer_groups: Indices | None = None

    def __init__(
        self,
        candidates: Sequence[str],
        confidence: ArrayLike,
        cost_usd: ArrayLike | None = None,
        verdicts: ArrayLike | None = None,
        verifier: Mapping[str, Any] | None = None,
        latency_s: ArrayLike | None = None,
        answer_groups: ArrayLike | None = None,
    ) -> None:
        names = check_names(candidates)
        shape = (len(np.asarray(confidence)), len(names))
        scores = check_matrix("confidence", confidence, shape, unit=True, unknown=True)
        costs, samples, latency, groups = None, None, None, None
        if cost_usd is not None:
            costs = check_matrix("cost_usd", cost_usd, shape, unit=False, unknown=True)
        if latency_s is not None:
            latency = check_matrix("latency_s", latency_s, shape, unit=False, unknown=True)
        if verdicts is not None:
            deep = (*shape, np.asarray(verdicts).shape[-1])
            samples = check_matrix("verdicts", verdicts, deep, unit=True, unknown=True)
        if answer_groups is not None:
            groups = check_groups("answer_groups", answer_groups, shape)
        object.__setattr__(self, "candidates", names)
        object.__setattr__(self, "confidence", scores)
        object.__setattr__(self, "cost_usd", costs)
        object.__setattr__(self, "verdicts", samples)
        object.__setattr__(self, "verifier", verifier)
        object.__setattr__(self, "latency_s", latency)
        object.__setattr__(self, "answer_groups", groups)

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def has_scores(self) -> bool:
        """Whether there is any score; a verifier that only groups answers gives none."""
        return not bool(np.isnan(self.confidence).all())

    def take(self, rows: ArrayLike) -> SelfEvaluations:
        """Select rows by index or by mask."""
        index = row_indices(rows, len(self))
        return SelfEvaluations(
            self.candidates,
            self.confidence[index],
            None if self.cost_usd is None else self.cost_usd[index],
            None if self.verdicts is None else self.verdicts[index],
            self.verifier,
            None if self.latency_s is None else self.latency_s[index],
            None if self.answer_groups is None else self.answer_groups[index],
        )

    def select(self, candidates: Sequence[str]) -> SelfEvaluations:
        """Select columns by name, in this order.

        Raises:
            ValueError: If a name is not a column.
        """
        columns = column_indices(candidates, self.candidates)
        return SelfEvaluations(
            candidates,
            self.confidence[:, columns],
            None if self.cost_usd is None else self.cost_usd[:, columns],
            None if self.verdicts is None else self.verdicts[:, columns],
            self.verifier,
            None if self.latency_s is None else self.latency_s[:, columns],
            None if self.answer_groups is None else self.answer_groups[:, columns],
        )
