"""Exact plans where any answer so far may be accepted, and candidates be asked in any order.

The value of a history of verdicts then depends on what was observed alone, not on who was asked
last, so it is computed from the longest histories to the shortest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from langchain_llm_router.policies.belief import TIE, Beliefs, Option, Plan
from langchain_llm_router.types.arrays import Floats

__all__ = ["PlanState", "RecallPlan", "solve_with_recall"]

_Block = tuple[int | slice, ...]


@dataclass(frozen=True, eq=False)
class RecallPlan:
    """The best action after every history, for one λ.

    Attributes:
        quality: The expected quality of the answer that is finally accepted, times the mass of the
            history, in the shape of `beliefs.mass`; 0 where nothing is observed.
        further_usd: The expected further cost in USD, likewise.
        exit_worth: As in `belief.Plan`.
    """

    beliefs: Beliefs
    lambda_: float
    cost_usd: Floats
    verification_cost_usd: Floats
    available: tuple[bool, ...]
    quality: Floats
    further_usd: Floats
    exit_worth: float = -math.inf

    def options(self, history: tuple[int, ...], answered: Sequence[int]) -> list[Option]:
        """Return the options after these candidates have answered."""
        mass, expected = float(self.beliefs.mass[history]), self.beliefs.expected_quality(history)
        options = []
        for j, is_open in enumerate(self.available):
            if not is_open or j in answered:
                continue
            price = float(self.cost_usd[j])
            options.append(Option.of(j, float(expected[j]), price, self.lambda_, verify=False))
            if j < len(history):
                quality, further = self._after_verdict(history, j, mass)
                price += float(self.verification_cost_usd[j]) + further
                options.append(Option.of(j, quality, price, self.lambda_, verify=True))
        return options

    def best_answer(self, expected: Floats, answered: Sequence[int]) -> int:
        """Return the answer of highest expected quality; of equal ones the later candidate's."""
        return max(answered, key=lambda i: (float(expected[i]), i))

    def worth_verifying(self, history: tuple[int, ...], answered: Sequence[int]) -> bool:
        """Return whether to verify the last answer, to go on or to choose among the answers."""
        j = answered[-1]
        if j >= len(history):
            return False
        mass, expected = float(self.beliefs.mass[history]), self.beliefs.expected_quality(history)
        quality, further = self._after_verdict(history, j, mass)
        value = quality - self.lambda_ * (further + float(self.verification_cost_usd[j]))
        keep = float(expected[self.best_answer(expected, answered)])
        return value > max(keep, self.exit_worth) + TIE

    def _after_verdict(self, history: tuple[int, ...], j: int, mass: float) -> tuple[float, float]:
        """Return the expected quality and further cost after a verdict on candidate j's answer."""
        after: _Block = (*history[:j], slice(0, self.beliefs.unobserved), *history[j + 1 :])
        return float(self.quality[after].sum()) / mass, float(self.further_usd[after].sum()) / mass


class PlanState:
    """A situation in terms of a plan.

    Args:
        plan: The plan.
        history: The observations, as an index into the tables of the plan.
        answered: Candidates that have answered, in the order in which they did.
    """

    __slots__ = ("answered", "expected", "history", "plan")

    def __init__(
        self, plan: Plan | RecallPlan, history: tuple[int, ...], answered: tuple[int, ...]
    ) -> None:
        self.plan, self.history, self.answered = plan, history, answered
        self.expected = plan.beliefs.expected_quality(history)


def solve_with_recall(
    beliefs: Beliefs,
    lambda_: float,
    cost_usd: Floats,
    verification_cost_usd: Floats,
    *,
    available: tuple[bool, ...],
    exit_worth: float = -math.inf,
) -> RecallPlan:
    """Solve the decision problem exactly in one backward pass over the histories.

    After every verdict the policy keeps the answer of highest expected quality, or asks any
    candidate that it has not asked and verifies its answer or not, or ends without an answer,
    which is worth `exit_worth`. The arguments are those of `belief.solve`, but `beliefs` may have
    verdicts on every candidate.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, appendix A.3. Deviations: as in
        `belief.solve`; the order is free and the best answer is kept, as in Dekoninck et al., 2024,
        arXiv:2410.10347.
    """
    n, unobserved = beliefs.mass.ndim, beliefs.unobserved
    plan = RecallPlan(
        beliefs,
        lambda_,
        cost_usd,
        verification_cost_usd,
        available,
        np.zeros_like(beliefs.mass),
        np.zeros_like(beliefs.mass),
        exit_worth,
    )
    for n_observed in range(n, 0, -1):
        for observed in combinations(range(n), n_observed):
            block = tuple(slice(0, unobserved) if j in observed else unobserved for j in range(n))
            plan.quality[block], plan.further_usd[block] = _best(plan, block, observed)
    return plan


def _best(plan: RecallPlan, block: _Block, observed: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return (quality, cost) × mass of the best continuation where these were observed."""
    mass, qualities = plan.beliefs.mass[block], plan.beliefs.quality[block]
    best_quality: Floats = qualities[..., list(observed)].max(axis=-1)
    if plan.exit_worth > 0:
        best_quality = np.maximum(best_quality, plan.exit_worth * mass)
    best_cost, best_utility = np.zeros_like(mass), best_quality
    for j, is_open in enumerate(plan.available):
        if not is_open or j in observed:
            continue
        choices = [(qualities[..., j], plan.cost_usd[j] * mass)]
        if j < len(block):
            after = (*block[:j], slice(0, plan.beliefs.unobserved), *block[j + 1 :])
            axis = sum(i < j for i in observed)
            paid = plan.cost_usd[j] + plan.verification_cost_usd[j]
            choices.append(
                (
                    plan.quality[after].sum(axis=axis),
                    plan.further_usd[after].sum(axis=axis) + paid * mass,
                )
            )
        for quality, cost in choices:
            utility = quality - plan.lambda_ * cost
            better = utility > best_utility + TIE * mass
            best_utility = np.where(better, utility, best_utility)
            best_quality = np.where(better, quality, best_quality)
            best_cost = np.where(better, cost, best_cost)
    return best_quality, best_cost
