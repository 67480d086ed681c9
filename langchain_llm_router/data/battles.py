"""The table of pairwise preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from langchain_llm_router.data.row_checks import check_matrix, row_indices
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

__all__ = ["Battles"]


@dataclass(frozen=True, eq=False)
class Battles(CheckedArguments):
    """Pairwise preferences between the answers of two candidates to a query.

    Args:
        queries: Text of the query of each battle; queries may repeat.
        candidate_a: Name of the candidate on side a in each battle.
        candidate_b: Name of the candidate on side b in each battle.
        score_a: 1 where a won, 0 where b won, 0.5 for a tie, of shape (n_battles,).
    """

    queries: Sequence[str]
    candidate_a: Sequence[str]
    candidate_b: Sequence[str]
    score_a: Floats

    def __init__(
        self,
        queries: Sequence[str],
        candidate_a: Sequence[str],
        candidate_b: Sequence[str],
        score_a: ArrayLike,
    ) -> None:
        n = len(queries)
        for name, side in (("candidate_a", candidate_a), ("candidate_b", candidate_b)):
            if len(side) != n:
                msg = f"`{name}` must have one entry for each of the {n} queries, got {len(side)}."
                raise ValueError(msg)
        object.__setattr__(self, "queries", tuple(queries))
        object.__setattr__(self, "candidate_a", tuple(candidate_a))
        object.__setattr__(self, "candidate_b", tuple(candidate_b))
        score = check_matrix("score_a", score_a, (n,), unit=True, unknown=False)
        object.__setattr__(self, "score_a", score)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of all candidates in the battles, in order of first appearance."""
        return tuple(dict.fromkeys([*self.candidate_a, *self.candidate_b]))

    def take(self, rows: ArrayLike) -> Battles:
        """Select battles by index or by mask."""
        index = row_indices(rows, len(self))
        return Battles(
            [self.queries[i] for i in index],
            [self.candidate_a[i] for i in index],
            [self.candidate_b[i] for i in index],
            self.score_a[index],
        )
