"""The best next step in every state of a pool, solved exactly for a set of beliefs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.policies.answer_partitions import NOT_ASKED, UNREADABLE, answer_partitions
from langchain_llm_router.policies.difficulty_classes import ClassModel
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = ["STOP", "PoolPlan", "PoolTables", "round_cost"]

STOP = -1
_TIE = 1e-12
_LEAST_WORTH = 1e-3
"""λ × the highest cost below which nothing is dear."""
_N_ROUNDS = 8
_PRICE_STEPS = 4
"""Plans are made for costs that are rounded to this many steps per doubling."""


class PoolPlan(NamedTuple):
    """What to do in every state under every belief, at one λ.

    Attributes:
        action: Number of the candidate to ask, or `STOP`, of shape (n_states, n_beliefs).
        value: P(state) × (P(the accepted answer is right) - λ·further cost), of shape
            (n_states + 1, n_beliefs); the last row is 0.
        lambda_: λ in quality per USD.
        cost_usd: Mean cost of each candidate, of shape (n_candidates,).
        exit_worth: What it is worth to end without an answer; 0 if that is not possible.
    """

    action: NDArray[np.int8]
    value: Floats
    lambda_: float
    cost_usd: Floats
    exit_worth: float = 0.0


@dataclass(frozen=True, eq=False)
class PoolTables:
    """All that does not depend on λ; with S states, B beliefs, M candidates and K classes.

    Attributes:
        right: P(state, the candidate's answer is right | class), also of an answer that is not
            asked for yet, of shape (S, M + 1, K); in the last place P(state | class).
        mass: P(state) under each belief, of shape (S, B).
        keep: P(state, the best answer is right), same shape.
        answer: Number of the candidate whose answer is best, same shape; -1 where none answered.
        cost: P(state) × expected cost of asking a candidate there over its mean, of shape
            (M, S, B).
        order: Numbers of the candidates from cheap to dear.
    """

    right: Floats
    mass: Floats
    keep: Floats
    answer: NDArray[np.int8]
    cost: Floats
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
        partitions = answer_partitions(model.rates.shape[1])
        right = _right_answers(model)
        keep = np.full((len(partitions), len(beliefs)), -1.0)
        answer = np.full(keep.shape, -1, dtype=np.int8)
        for j in order:
            chance = right[:, j] @ beliefs.T
            asked = partitions.states[:, j] != NOT_ASKED
            # Of equal answers the chances differ by rounding alone.
            better = asked[:, None] & (chance > keep * (1 + _TIE))
            np.copyto(keep, chance, where=better)
            answer[better] = j
        total = right[:, -1]
        cost = np.stack([(total * relative) @ beliefs.T for relative in relative_cost.T])
        return cls(right, total @ beliefs.T, np.maximum(keep, 0.0), answer, cost, order)

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return len(self.cost)

    def solve(
        self,
        lambda_: float,
        cost_usd: Floats,
        available: tuple[bool, ...],
        exit_worth: float = 0.0,
    ) -> PoolPlan:
        """Find the best next step in every state by exact backward induction.

        Args:
            lambda_: λ in quality per USD.
            cost_usd: Mean cost of each candidate's answer and of comparing it.
            available: Which candidates can be asked; the others may have answered before.
            exit_worth: What it is worth to end without an answer, in every state with at least
                one answer; 0 if that is not possible.
        """
        value, action = self._induce(lambda_, cost_usd, available, exit_worth)
        return PoolPlan(action, value, lambda_, cost_usd, exit_worth)

    def at(self, belief: int) -> PoolTables:
        """Return the tables of one belief, for which a plan is made much faster."""
        column = slice(belief, belief + 1)
        return PoolTables(
            self.right,
            self.mass[:, column],
            self.keep[:, column],
            self.answer[:, column],
            self.cost[:, :, column],
            self.order,
        )

    def crossings(self, state: int, cost_usd: Floats, available: tuple[bool, ...]) -> list[float]:
        """Find the λ at which the best next step in a state changes, under the first belief.

        Changes between which λ grows by less than a tenth may be missed.

        Args:
            state: Number of the state.
            cost_usd: As in `solve`.
            available: As in `solve`.
        """

        def actions(lambdas: Floats) -> NDArray[np.int8]:
            taken: NDArray[np.int8] = self._induce(lambdas, cost_usd, available)[1][state]
            return taken

        paid = cost_usd[cost_usd > 0]
        if len(paid) == 0:
            return []
        top = 1e2 / paid.min()
        n = math.ceil(math.log(top * paid.max() / _LEAST_WORTH) / math.log(1.1))
        # Below the least of them ties decide.
        grid = np.geomspace(_LEAST_WORTH / paid.max(), top, n)
        chosen = actions(grid)
        found = []
        for i in np.flatnonzero(chosen[1:] != chosen[:-1]):
            low, high = grid[i], grid[i + 1]
            for _ in range(_N_ROUNDS):
                finer = np.linspace(low, high, 65)
                first = int((actions(finer[1:]) != chosen[i]).argmax())
                low, high = finer[first], finer[first + 1]
            found.append(float(high))
        return found

    def _induce(
        self,
        lambda_: float | Floats,
        cost_usd: Floats,
        available: tuple[bool, ...],
        exit_worth: float = 0.0,
    ) -> tuple[Floats, NDArray[np.int8]]:
        """Return value and action of a plan, in the last axis by belief; of one belief by λ."""
        partitions = answer_partitions(self.n_candidates)
        price = np.multiply.outer(cost_usd, lambda_)
        keep = np.broadcast_to(self.keep, np.broadcast_shapes(self.keep.shape, np.shape(lambda_)))
        if exit_worth > 0:
            asked_any = (partitions.n_asked > 0)[:, None]
            keep = np.where(asked_any, np.maximum(keep, exit_worth * self.mass), keep)
        value = np.vstack([keep, np.zeros((1, keep.shape[1]))])
        action = np.full(keep.shape, STOP, dtype=np.int8)
        for n_asked in range(self.n_candidates - 1, -1, -1):
            level = np.flatnonzero(partitions.n_asked == n_asked)
            # Of equal values the dearest counts: after a free candidate it would be asked anyway.
            for j in (j for j in self.order[::-1] if available[j]):
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
        return value, action

    def expected_cost(self, lambda_: float, cost_usd: Floats) -> float:
        """Return what a request costs at a λ in expectation in USD, under the first belief.

        The value of the best plan, P(right) - λ·cost, falls with λ as fast as the plan costs.
        Between two λ at which the plan changes that is exact; at such a λ the cheaper plan counts.
        """
        step = lambda_ * 1e-6
        lambdas = np.array([lambda_, lambda_ + step])
        value = self._induce(lambdas, cost_usd, (True,) * self.n_candidates)[0][0]
        return float(value[0] - value[1]) / step

    def values_of_asking(self, plan: PoolPlan, state: int, belief: int) -> Floats:
        """Return the value of asking each candidate in a state, NaN where it was asked already."""
        partitions = answer_partitions(self.n_candidates)
        after = plan.value[partitions.children[state], belief].sum(axis=1)
        asking = after - plan.lambda_ * plan.cost_usd * self.cost[:, state, belief]
        asked = partitions.states[state] != NOT_ASKED
        values: Floats = np.where(asked, np.nan, asking / self.mass[state, belief])
        return values

    def chances_of_next(self, plan: PoolPlan, state: int, belief: int) -> Floats:
        """Return P(each candidate is asked next) after the one that the plan asks in a state."""
        partitions = answer_partitions(self.n_candidates)
        children = partitions.children[state, plan.action[state, belief]]
        children = children[children < len(partitions)]
        following, mass = plan.action[children, belief], self.mass[children, belief]
        each = np.array([mass[following == j].sum() for j in range(self.n_candidates)])
        chances: Floats = each / self.mass[state, belief]
        return chances

    def accepts_any(self, plan: PoolPlan, state: int, j: int, beliefs: Indices) -> bool:
        """Return whether any readable answer of a candidate would be accepted under these beliefs.

        Instead of it an equal one may be kept.
        """
        partitions = answer_partitions(self.n_candidates)
        children = partitions.children[state, j, 1:]
        children = children[children < len(partitions), None]
        if (plan.action[children, beliefs] != STOP).any():
            return False
        exits = self.keep[children, beliefs] < plan.exit_worth * self.mass[children, beliefs]
        if exits.any():
            return False
        kept = partitions.states[children, self.answer[children, beliefs]]
        return bool((kept == partitions.states[children, j]).all())


def _right_answers(model: ClassModel) -> Floats:
    """Return the table `PoolTables.right`."""
    partitions = answer_partitions(model.rates.shape[1])
    joint = model.likelihoods(partitions)
    total = joint.sum(axis=1)
    unread = model.rates[:, :, 2] * model.right_unread
    right = np.empty_like(joint)
    right[:, -1] = total
    for j, groups in enumerate(partitions.states.T):
        # The group of each state's answer; 0 where there is none, which is not used.
        of_group = joint[np.arange(len(groups)), np.maximum(groups, 0)]
        right[:, j] = np.where(
            (groups >= 0)[:, None],
            of_group,
            total
            * np.where(
                (groups == UNREADABLE)[:, None],
                model.right_unread[:, j],
                model.rates[:, j, 0] + unread[:, j],
            ),
        )
    return right


def round_cost(cost_usd: float, usual_usd: float) -> float:
    """Round the cost of a call relative to the usual one, so that few plans are needed."""
    if cost_usd <= 0 or usual_usd <= 0:
        return cost_usd
    steps = round(math.log2(cost_usd / usual_usd) * _PRICE_STEPS)
    return usual_usd * math.exp2(steps / _PRICE_STEPS)
