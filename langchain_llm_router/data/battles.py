"""Which of two answers was preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from langchain_llm_router.data.row_checks import checked_matrix, row_numbers
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats

__all__ = ["Battles"]


@dataclass(frozen=True, eq=False)
class Battles(CheckedArguments):
    """Pairwise preferences: which of two candidates answered a query better.

    Args:
        queries: The texts, one per battle (repeats are fine).
        candidate_a: The candidate on side a.
        candidate_b: The candidate on side b.
        score_a: 1 a won, 0 b won, 0.5 tie, of shape (n_battles,).
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
                msg = f"`{name}` has {len(side)} entries for {n} queries."
                raise ValueError(msg)
        object.__setattr__(self, "queries", tuple(queries))
        object.__setattr__(self, "candidate_a", tuple(candidate_a))
        object.__setattr__(self, "candidate_b", tuple(candidate_b))
        score = checked_matrix("score_a", score_a, (n,), unit=True, unknown=False)
        object.__setattr__(self, "score_a", score)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Every candidate in a battle, in order of first appearance."""
        return tuple(dict.fromkeys([*self.candidate_a, *self.candidate_b]))

    def take(self, rows: ArrayLike) -> Battles:
        """The given battles, by index or by mask."""
        index = row_numbers(rows, len(self))
        return Battles(
            [self.queries[i] for i in index],
            [self.candidate_a[i] for i in index],
            [self.candidate_b[i] for i in index],
            self.score_a[index],
        )
