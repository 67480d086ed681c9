"""What another setting of the knob would have chosen: every setting at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from langchain_llm_router.loop import next_decision
from langchain_llm_router.options import RoutingOptions
from langchain_llm_router.policies import ConfidenceThreshold, Policy, Threshold, Utility
from langchain_llm_router.types import Action, Situation

__all__ = ["Knob", "Span", "knob_of", "spans"]

_N_GRID = 120
_N_HALVINGS = 48

Choice = tuple[Action, str]


@dataclass(frozen=True)
class Knob:
    """The setting that a policy's choice hangs on."""

    name: Literal["lambda", "threshold"]
    value: float
    """What it is now: λ in quality per USD, or a threshold."""

    exact: bool
    """Whether the values at which the choice changes are computed, not searched for."""


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
        """What is done."""
        return self.action, self.candidate


def knob_of(policy: Policy, situation: Situation) -> Knob | None:
    """The knob that decides in this situation; None for a policy without one."""
    options = situation.options
    if isinstance(policy, Utility):
        return Knob("lambda", policy.weights(situation)["cost"], exact=True)
    if isinstance(policy, Threshold):
        given = options.threshold
        return Knob("threshold", policy.threshold if given is None else given, exact=False)
    lambda_ = options.lambda_
    if lambda_ is None and not (
        isinstance(policy, ConfidenceThreshold) and options.threshold is not None
    ):
        lambda_ = getattr(policy, "lambda_", None)
    if lambda_ is not None:
        return Knob("lambda", lambda_, exact=False)
    if isinstance(policy, ConfidenceThreshold):
        given = options.threshold
        return Knob("threshold", policy.threshold if given is None else given, exact=False)
    return None


def spans(policy: Policy, situation: Situation) -> tuple[Span, ...]:
    """What is done at every setting of the policy's knob, from 0 up; empty without a knob.

    For `Utility` two arms change places where their utilities cross, so all such λ are computed and
    the choice between them is asked for. For other policies the choice is asked for on a grid, and
    where it changes the place is found by halving.
    """
    knob = knob_of(policy, situation)
    if knob is None:
        return ()

    def choice(value: float) -> Choice:
        turned = replace(situation, options=_turned(situation.options, knob.name, value))
        decision = next_decision(policy, turned)
        return ("accept", "nobody") if decision is None else (decision.action, decision.candidate)

    if isinstance(policy, Utility):
        return _between(_crossings(policy, situation), choice)
    return _searched(_grid(knob, situation), choice)


def _turned(options: RoutingOptions, name: str, value: float) -> RoutingOptions:
    weights = {key: weight for key, weight in options.weights.items() if key != "cost"}
    if name == "lambda":
        return replace(options, lambda_=value, threshold=None, weights=weights)
    return replace(options, threshold=value, lambda_=None, weights=weights)


def _crossings(policy: Utility, situation: Situation) -> list[float]:
    """Every λ > 0 at which two arms are worth the same."""
    weights = policy.weights(situation)
    worth = [
        (sum(policy.terms(arm, {**weights, "cost": 0.0}).values()), arm.cost_usd)
        for arm in situation.open_arms
    ]
    found = set()
    for (a, cost_a), (b, cost_b) in combinations(worth, 2):
        if cost_a is not None and cost_b is not None and cost_a != cost_b:
            found.add((a - b) / (cost_a - cost_b))
    return sorted(value for value in found if value > 0)


def _between(levels: Sequence[float], choice: Callable[[float], Choice]) -> tuple[Span, ...]:
    """The choice in the middle of each interval that the levels cut."""
    edges = [0.0, *levels]
    middles = [(low + high) / 2 for low, high in pairwise(edges)] + [2 * edges[-1] + 1]
    found: list[Span] = []
    for i, value in enumerate(middles):
        action, candidate = choice(value)
        high = edges[i + 1] if i + 1 < len(edges) else None
        _add(found, Span(edges[i], high, action, candidate))
    return tuple(found)


def _searched(grid: Sequence[float], choice: Callable[[float], Choice]) -> tuple[Span, ...]:
    """Halve every interval of a grid whose ends lead to different choices."""
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


def _grid(knob: Knob, situation: Situation) -> list[float]:
    if knob.name == "threshold":
        return [*np.linspace(0, 1, _N_GRID + 1).tolist(), float(np.nextafter(1.0, 2.0))]
    costs = [arm.cost_usd for arm in situation.arms if arm.cost_usd]
    # Where λ·cost is between next to nothing and far more than any quality.
    low, high = (1e-4 / max(costs), 1e2 / min(costs)) if costs else (1e-3, 1e6)
    return [0.0, *np.geomspace(low, high, _N_GRID).tolist()]
