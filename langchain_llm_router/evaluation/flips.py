"""What every setting of the knob would have chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from langchain_llm_router.loop.loop import next_decision
from langchain_llm_router.policies import Knob, Policy
from langchain_llm_router.types import Action, Situation
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["Knob", "Span", "knob_of", "spans"]

_N_GRID = 120
_N_HALVINGS = 48

Choice = tuple[Action, str]


@dataclass(frozen=True)
class Span:
    """Settings of the knob, from `low` up to `high`, that lead to the same choice."""

    low: float
    high: float | None
    """None: however high."""

    action: Action
    candidate: str

    @property
    def choice(self) -> Choice:
        """The action and its candidate."""
        return self.action, self.candidate


def knob_of(policy: Policy, situation: Situation) -> Knob | None:
    """The knob that decides in this situation; None for a policy without one."""
    return policy.with_options(situation.options).knob


def spans(policy: Policy, situation: Situation) -> tuple[Span, ...]:
    """The choice at every setting of the policy's knob, from the lowest up; empty without a knob.

    Where the policy computes the settings at which its choice may change, it is evaluated between
    them. Otherwise it is evaluated on a grid, and each change of the choice is located by
    bisection.
    """
    settled = policy.with_options(situation.options)
    knob = settled.knob
    if knob is None:
        return ()
    seen = replace(situation, options=_without(situation.options, knob))

    def choice(value: float) -> Choice:
        decision = next_decision(settled.with_knob(value), seen)
        return ("accept", "nobody") if decision is None else (decision.action, decision.candidate)

    if knob.exact:
        return _between(knob, settled.crossings(seen), choice)
    return _searched(_grid(settled, knob, situation), choice)


def _without(options: RoutingOptions, knob: Knob) -> RoutingOptions:
    """The options without those that would override the knob that is being turned."""
    if knob.name not in ("lambda", "threshold"):
        return options
    weights = {key: weight for key, weight in options.weights.items() if key != "cost"}
    return replace(options, lambda_=None, threshold=None, weights=weights)


def _between(
    knob: Knob, levels: Sequence[float], choice: Callable[[float], Choice]
) -> tuple[Span, ...]:
    """The choice in the middle of each interval between the levels."""
    top = np.inf if knob.high is None else knob.high
    edges = [knob.low, *(level for level in levels if knob.low < level < top)]
    last = 2 * edges[-1] + 1 if knob.high is None else (edges[-1] + knob.high) / 2
    middles = [(low + high) / 2 for low, high in pairwise(edges)] + [last]
    found: list[Span] = []
    for i, value in enumerate(middles):
        action, candidate = choice(value)
        high = edges[i + 1] if i + 1 < len(edges) else None
        _add(found, Span(edges[i], high, action, candidate))
    return tuple(found)


def _searched(grid: Sequence[float], choice: Callable[[float], Choice]) -> tuple[Span, ...]:
    """Bisect every interval of a grid whose ends lead to different choices."""
    made = [choice(value) for value in grid]
    found: list[Span] = []
    start = float(grid[0])
    for i in range(1, len(grid)):
        if made[i] == made[i - 1]:
            continue
        low, high = float(grid[i - 1]), float(grid[i])
        for _ in range(_N_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if choice(middle) == made[i - 1] else (low, middle)
        _add(found, Span(start, high, *made[i - 1]))
        start = high
    _add(found, Span(start, None, *made[-1]))
    return tuple(found)


def _add(found: list[Span], span: Span) -> None:
    if found and found[-1].choice == span.choice:
        found[-1] = replace(found[-1], high=span.high)
    else:
        found.append(span)


def _grid(policy: Policy, knob: Knob, situation: Situation) -> list[float]:
    if knob.name != "lambda":
        return policy.knob_values(n=_N_GRID + 1)
    costs = [arm.cost_usd for arm in situation.arms if arm.cost_usd]
    # From λ·cost of almost nothing to far more than any quality.
    low, high = (1e-4 / max(costs), 1e2 / min(costs)) if costs else (1e-3, 1e6)
    return [0.0, *np.geomspace(low, high, _N_GRID).tolist()]
