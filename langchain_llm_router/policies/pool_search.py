"""The best next step in every state of a pool, solved exactly for a set of beliefs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.policies.answer_partitions import NOT_ASKED, UNREADABLE, answer_partitions
from langchain_llm_router.policies.difficulty_classes import ClassModel
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["STOP", "PoolPlan", "PoolTables"]

STOP = -1
_TIE = 1e-12


class PoolPlan(NamedTuple):
    """What to do in every state under every belief, at one λ.

    Attributes:
        action: Number of the candidate to ask, or `STOP`, of shape (n_states, n_beliefs).
        value: P(state) × (P(the accepted answer is right) - λ·further cost), of shape
            (n_states + 1, n_beliefs); the last row is 0.
        lambda_: λ in quality per USD.
        cost_usd: Mean cost of each candidate, of shape (n_candidates,).
    """

    action: NDArray[np.int8]
    value: Floats
    lambda_: float
    cost_usd: Floats


@dataclass(frozen=True, eq=False)
class PoolTables:
    """All that does not depend on λ; with S states, B beliefs, M candidates and K classes.

    Attributes:
        joint: P(state, which group is right | class), of shape (S, M + 1, K).
        mass: P(state) under each belief, of shape (S, B).
        keep: P(state, the best answer is right), same shape.
        answer: Number of the candidate whose answer is best, same shape; -1 where none answered.
        cost: P(state) × expected cost of asking a candidate there over its mean, of shape
            (M, S, B).
        right_unread: P(right | unreadable), of shape (K, M).
        order: Numbers of the candidates from cheap to dear.
    """

    joint: Floats
    mass: Floats
    keep: Floats
    answer: NDArray[np.int8]
    cost: Floats
    right_unread: Floats
    order: Indices

    @classmethod
    def build(
        cls, model: ClassModel, beliefs: Floats, relative_cost: Floats, order: Indices
    ) -> PoolTables:
        """Tabulate a pool.

        Args:
            model: How its candidates answer.
            beliefs: P(class), of shape (n_beliefs, n_classes).
            relative_cost: Expected cost of each candidate's answer over its mean, of shape
                (n_classes, n_candidates).
            order: Numbers of the candidates from cheap to dear: of equal answers the first is kept.
        """
        n = model.rates.shape[1]
        partitions = answer_partitions(n)
        joint = model.likelihoods(partitions)
        total = joint.sum(axis=1)
        groups = partitions.states[:, None, :] == np.arange(n)[:, None]
        member = np.where(groups.any(axis=2), order[groups[:, :, order].argmax(axis=2)], -1)
        keep = np.zeros((len(partitions), len(beliefs)))
        answer = np.full(keep.shape, -1, dtype=np.int8)
        for g in range(n):
            _take_better(keep, answer, joint[:, g] @ beliefs.T, member[:, g])
        for j in order:
            unread = partitions.states[:, j] == UNREADABLE
            right = (total * model.right_unread[:, j]) @ beliefs.T
            _take_better(keep, answer, right, np.where(unread, j, -1))
        cost = np.stack([(total * relative_cost[:, j]) @ beliefs.T for j in range(n)])
        return cls(joint, total @ beliefs.T, keep, answer, cost, model.right_unread, order)

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return len(self.cost)

    def solve(self, lambda_: float, cost_usd: Floats, available: tuple[bool, ...]) -> PoolPlan:
        """Find the best next step in every state by exact backward induction.

        Args:
            lambda_: λ in quality per USD.
            cost_usd: Mean cost of each candidate's answer and of comparing it.
            available: Which candidates can be asked; the others may have answered before.
        """
        partitions, price = answer_partitions(self.n_candidates), lambda_ * cost_usd
        value = np.vstack([self.keep, np.zeros((1, self.keep.shape[1]))])
        action = np.full(self.keep.shape, STOP, dtype=np.int8)
        for n_asked in range(self.n_candidates - 1, -1, -1):
            level = np.flatnonzero(partitions.n_asked == n_asked)
            for j in np.flatnonzero(available):
                states = level[partitions.states[level, j] == NOT_ASKED]
                children = partitions.children[states, j, : n_asked + 2]
                asking = value[children].sum(axis=1) - price[j] * self.cost[j, states]
                best = value[states]
                better = asking > best + _TIE * self.mass[states]
                if n_asked == 0:
                    # Without an answer there is nothing to keep: one candidate is asked.
                    better |= action[states] == STOP
                value[states] = np.where(better, asking, best)
                action[states] = np.where(better, j, action[states])
        return PoolPlan(action, value, lambda_, cost_usd)

    def values_of_asking(self, plan: PoolPlan, state: int, belief: int) -> Floats:
        """Return the value of asking each candidate in a state, NaN where it was asked already."""
        partitions = answer_partitions(self.n_candidates)
        after = plan.value[partitions.children[state], belief].sum(axis=1)
        asking = after - plan.lambda_ * plan.cost_usd * self.cost[:, state, belief]
        asked = partitions.states[state] != NOT_ASKED
        values: Floats = np.where(asked, np.nan, asking / self.mass[state, belief])
        return values

    def chances(self, state: int, belief: Floats) -> Floats:
        """Return P(the answer is right) of each candidate's answer, NaN where there is none.

        Args:
            state: Number of the state.
            belief: P(class), not necessarily normalized.
        """
        groups = answer_partitions(self.n_candidates).states[state]
        joint = self.joint[state] @ belief
        unread = self.right_unread.T @ (self.joint[state].sum(axis=0) * belief)
        found = np.where(groups >= 0, joint[groups], np.where(groups == UNREADABLE, unread, np.nan))
        chances: Floats = found / joint.sum()
        return chances


def _take_better(keep: Floats, answer: NDArray[np.int8], right: Floats, candidate: Indices) -> None:
    """Replace the answers that are less likely right than this candidate's of each state."""
    better = (candidate >= 0)[:, None] & ((right > keep) | (answer < 0))
    np.copyto(keep, right, where=better)
    np.copyto(answer, candidate[:, None].astype(np.int8), where=better)
