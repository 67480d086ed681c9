"""Every way in which the answers of a pool of candidates can agree.

A state says of each candidate that it was not asked, that its answer is unreadable, or which group
of equal answers its answer belongs to. Groups are numbered in the order of the candidates, so that
a state does not depend on the order of asking; nor does it depend on the answers' text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = [
    "MAX_CANDIDATES",
    "NOT_ASKED",
    "UNREADABLE",
    "AnswerPartitions",
    "Members",
    "answer_partitions",
    "canonical",
    "canonical_rows",
    "count_members",
]

NOT_ASKED = -2
UNREADABLE = -1
MAX_CANDIDATES = 6
"""Largest pool: there are 3,263 states of six candidates, and five times as many of seven."""


@dataclass(frozen=True, eq=False)
class AnswerPartitions:
    """All states of a pool, and what follows when one more candidate answers.

    Attributes:
        states: The states, of shape (n_states, n_candidates): `NOT_ASKED`, `UNREADABLE`, or the
            number of the group.
        n_asked: Number of candidates that were asked, of shape (n_states,).
        children: The states after asking a candidate, of shape (n_states, n_candidates,
            n_candidates + 1): first after an unreadable answer, then after one that joins group 0,
            1, …, last after a new answer. `n_states` where there is no such state.
        right: Whether each candidate is in the group that is assumed to be right, of shape
            (n_states, n_candidates + 1, n_candidates); the last assumption is that none is.
        possible: Whether there is such a group, of shape (n_states, n_candidates + 1).
        index: The number of each state.
    """

    states: NDArray[np.int8]
    n_asked: Indices
    children: Indices
    right: Bools
    possible: Bools
    index: dict[tuple[int, ...], int]

    def __len__(self) -> int:
        return len(self.states)

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return int(self.states.shape[1])

    def after(self, patterns: Indices) -> Indices:
        """Return the state of each row after each set of candidates was asked.

        Args:
            patterns: What every candidate answers: canonical rows, see `canonical_rows`.

        Returns:
            Numbers of states, of shape (n_rows, 2 ** n_candidates); bit j of a set is candidate j.
        """
        full, inverse = np.unique(patterns, axis=0, return_inverse=True)
        n = self.n_candidates
        found = np.empty((len(full), 2**n), dtype=np.intp)
        for i, row in enumerate(full.tolist()):
            for asked in range(2**n):
                seen = tuple(g if asked >> j & 1 else NOT_ASKED for j, g in enumerate(row))
                found[i, asked] = self.index[canonical(seen)]
        return found[inverse.reshape(-1)]


@lru_cache(maxsize=MAX_CANDIDATES)
def answer_partitions(n_candidates: int) -> AnswerPartitions:
    """Return all states of a pool.

    Raises:
        ValueError: If there are more candidates than `MAX_CANDIDATES`.
    """
    if not 1 <= n_candidates <= MAX_CANDIDATES:
        msg = (
            f"A pool must have 1 to {MAX_CANDIDATES} candidates, got {n_candidates}: answers agree "
            "in too many ways to tabulate. Choose some of them, e.g. with `choose_pool(outcomes)`, "
            "and select their columns."
        )
        raise ValueError(msg)
    states = list(_states(n_candidates))
    index = {state: i for i, state in enumerate(states)}
    children = np.full((len(states), n_candidates, n_candidates + 1), len(states))
    for i, state in enumerate(states):
        answers = [UNREADABLE, *range(max(*state, -1) + 2)]
        for j in (j for j, group in enumerate(state) if group == NOT_ASKED):
            for k, answer in enumerate(answers):
                children[i, j, k] = index[canonical((*state[:j], answer, *state[j + 1 :]))]
    table = np.array(states, dtype=np.int8)
    # No candidate is in the last group, which stands for none.
    groups = np.arange(n_candidates + 1)
    right: Bools = table[:, None, :] == groups[:, None]
    possible = np.asarray(right.any(axis=2), dtype=np.bool_)
    possible[:, -1] = True
    return AnswerPartitions(
        table, (table != NOT_ASKED).sum(axis=1), children, right, possible, index
    )


def _states(n_candidates: int) -> Iterator[tuple[int, ...]]:
    if n_candidates == 0:
        yield ()
        return
    for state in _states(n_candidates - 1):
        for answer in (NOT_ASKED, UNREADABLE, *range(max(state, default=-1) + 2 or 1)):
            yield (*state, answer)


def canonical(groups: Sequence[int]) -> tuple[int, ...]:
    """Number the groups of a row in the order of the candidates."""
    numbers: dict[int, int] = {}
    return tuple(g if g < 0 else numbers.setdefault(g, len(numbers)) for g in groups)


def canonical_rows(groups: Indices) -> Indices:
    """Number the groups of every row in the order of the candidates.

    Args:
        groups: Group of each answer, of shape (n_rows, n_candidates): equal answers of a row have
            equal numbers >= 0; negative numbers are kept.
    """
    n = groups.shape[1]
    numbered = np.array(groups, dtype=np.intp)
    following = np.zeros(len(groups), dtype=np.intp)
    for j in range(n):
        new = groups[:, j] >= 0
        for i in range(j):
            same = new & (groups[:, i] == groups[:, j])
            numbered[same, j] = numbered[same, i]
            new &= ~same
        numbered[new, j] = following[new]
        following += new
    return numbered


@dataclass(frozen=True, eq=False)
class Members:
    """What the collisions of wrong answers look like, as far as their probability depends on it.

    Attributes:
        n_wrong: Number of wrong answers.
        n_groups: Number of groups that they form.
        log_ways: Σ log (size - 1)! over these groups.
    """

    n_wrong: Floats
    n_groups: Floats
    log_ways: Floats

    def log_probability(self, theta: Floats) -> Floats:
        """Return log P(these groups), of shape (..., n_thetas), as a Chinese-restaurant process.

        Args:
            theta: Concentrations: the larger, the more rarely wrong answers are equal.
        """
        together = gammaln(theta) - gammaln(self.n_wrong[..., None] + theta)
        probability: Floats = (
            self.n_groups[..., None] * np.log(theta) + self.log_ways[..., None] + together
        )
        return probability


def count_members(groups: Indices, wrong: Bools) -> Members:
    """Count the wrong answers of each row by group.

    Args:
        groups: Group of each answer, of shape (..., n_candidates), numbered from 0.
        wrong: Which of them are assumed to be wrong, same shape.
    """
    numbers = np.arange(groups.shape[-1])
    sizes = ((groups[..., None] == numbers) & wrong[..., None]).sum(axis=-2)
    log_ways = np.where(sizes > 0, gammaln(np.maximum(sizes, 1)), 0.0).sum(axis=-1)
    return Members(
        wrong.sum(axis=-1).astype(np.float64), (sizes > 0).sum(axis=-1).astype(np.float64), log_ways
    )
