"""The choices of a policy at all settings of its knob."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from langchain_llm_router.loop.loop import next_decision
from langchain_llm_router.policies import Knob, Policy
from langchain_llm_router.types import Action, Situation
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["Knob", "Span", "describe_flip", "knob_of", "spans"]

_N_GRID = 120
_N_HALVINGS = 48

_Choice = tuple[Action, str]


@dataclass(frozen=True)
class Span:
    """An interval of settings of the knob that lead to the same choice."""

    low: float
    high: float | None
    """Upper end of the interval; None if it is unbounded."""

    action: Action
    candidate: str

    @property
    def choice(self) -> _Choice:
        """The action and its candidate."""
        return self.action, self.candidate


def knob_of(policy: Policy, situation: Situation) -> Knob | None:
    """Return the policy's knob with the value that holds for a request; None without a knob."""
    return policy.knob_for(situation)


def describe_flip(knob: Knob, span: Span) -> str:
    """Describe what another setting would have done, e.g. "λ = 2 per USD (now 5) would ask b"."""
    at = span.low if knob.value < span.low else span.high
    assert at is not None, "a span without an end lies above the current setting"
    name, unit = ("λ", " per USD") if knob.name == "lambda" else (f"a {knob.name}", "")
    would = f"{span.action} {span.candidate}"
    return (
        f"{name} {'=' if name == 'λ' else 'of'} {at:.4g}{unit} (now {knob.value:.4g}) would {would}"
    )


def spans(policy: Policy, situation: Situation) -> tuple[Span, ...]:
    """Find the choice at every setting of the policy's knob, in rising order.

    If the policy can compute the settings at which its choice may change, it is evaluated between
    them. Otherwise it is evaluated on a grid, and each change of the choice is located by
    bisection. Without a knob the result is empty.
    """
    configured, knob = policy.with_options(situation.options), policy.knob_for(situation)
    if knob is None:
        return ()
    without_overrides = replace(situation, options=_drop_overrides(situation.options, knob))

    def choice(value: float) -> _Choice:
        decision = next_decision(configured.with_knob(value), without_overrides)
        return ("accept", "nobody") if decision is None else (decision.action, decision.candidate)

    if knob.exact:
        return _spans_between(knob, configured.crossings(without_overrides), choice)
    return _bisect(_grid(configured, knob, situation), choice)


def _drop_overrides(options: RoutingOptions, knob: Knob) -> RoutingOptions:
    """Drop the options that would override the knob."""
    if knob.name not in ("lambda", "threshold"):
        return options
    weights = {key: weight for key, weight in options.weights.items() if key != "cost"}
    return replace(options, lambda_=None, threshold=None, weights=weights)


def _spans_between(
    knob: Knob, levels: Sequence[float], choice: Callable[[float], _Choice]
) -> tuple[Span, ...]:
    """Find the choice in the middle of each interval between the levels."""
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


def _bisect(grid: Sequence[float], choice: Callable[[float], _Choice]) -> tuple[Span, ...]:
    """Bisect every interval of a grid whose ends lead to different choices."""
    choices = [choice(value) for value in grid]
    found: list[Span] = []
    start = float(grid[0])
    for i in range(1, len(grid)):
        if choices[i] == choices[i - 1]:
            continue
        low, high = float(grid[i - 1]), float(grid[i])
        for _ in range(_N_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if choice(middle) == choices[i - 1] else (low, middle)
        _add(found, Span(start, high, *choices[i - 1]))
        start = high
    _add(found, Span(start, None, *choices[-1]))
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
    # The grid covers λ·cost from almost 0 to far above any quality.
    low, high = (1e-4 / max(costs), 1e2 / min(costs)) if costs else (1e-3, 1e6)
    return [0.0, *np.geomspace(low, high, _N_GRID).tolist()]
