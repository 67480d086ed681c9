"""Which candidates to compare the answers of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.policies.training_tables import mean_costs
from langchain_llm_router.types import Candidate

__all__ = ["choose_pool", "expected_costs"]

_MAX_CHOSEN = 5
_MIN_CUT = 4
_LEAST_ADDED = 0.01
_INPUT_TOKENS = 500
"""Length of a prompt, where only the ratios of costs matter."""


def choose_pool(outcomes: Outcomes) -> tuple[str, ...]:
    """Choose the candidates whose answers are worth comparing, by a plain rule.

    These are the best candidate; those that are better than every cheaper one by at least 0.01,
    without the weakest of them if there are at least four; and a second strong candidate, the best
    of those that raise the share of queries which it or the best one answers by at least 0.01. At
    most five are chosen; the weakest are left out first. A search for the pool of highest measured
    value did worse on new questions.

    Args:
        outcomes: Measured quality and cost, of training queries alone.

    Returns:
        Names from cheap to dear.

    Raises:
        ValueError: If a candidate has no known cost.
    """
    names = tuple(outcomes.candidates)
    cost = mean_costs("outcomes", outcomes.cost_usd, names)
    quality = outcomes.quality.mean(axis=0)
    by_cost = sorted(range(len(names)), key=lambda j: (cost[j], -quality[j]))
    front: list[int] = []
    for j in by_cost:
        if len(front) == 0 or quality[j] >= quality[front[-1]] + _LEAST_ADDED:
            front.append(j)
    best = max(by_cost, key=lambda j: quality[j])
    together = np.maximum(outcomes.quality, outcomes.quality[:, [best]]).mean(axis=0)
    others = [j for j in by_cost if j != best and together[j] - quality[best] >= _LEAST_ADDED]
    second = [max(others, key=lambda j: quality[j])] if len(others) > 0 else []
    kept = front[1:] if len(front) >= _MIN_CUT else front
    chosen = sorted({best, *kept, *second}, key=lambda j: quality[j])[-_MAX_CHOSEN:]
    return tuple(names[j] for j in by_cost if j in chosen)


def expected_costs(candidates: Mapping[str, float] | Sequence[Candidate]) -> dict[str, float]:
    """Return the expected cost of a call in USD by name.

    Args:
        candidates: The costs themselves, or candidates with an expected cost or a price, for
            prompts of 500 tokens.

    Raises:
        TypeError: If they are neither.
        ValueError: If a cost is unknown.
    """
    is_table = isinstance(candidates, Mapping)
    values: object = candidates.values() if isinstance(candidates, Mapping) else candidates
    kind = Real if is_table else Candidate
    if not (isinstance(values, Iterable) and all(isinstance(value, kind) for value in values)):
        msg = (
            "`candidates` must be expected costs in USD by name, e.g. {'small': 0.0001, 'large': "
            f"0.003}}, or a sequence of `Candidate`, got {candidates!r}."
        )
        raise TypeError(msg)
    if isinstance(candidates, Mapping):
        return dict(candidates)
    costs: dict[str, float] = {}
    for candidate in candidates:
        known = candidate.expected_cost_usd
        if known is None and candidate.price is not None:
            known = candidate.price.estimate_usd(
                input_tokens=_INPUT_TOKENS, output_tokens=candidate.expected_output_tokens
            )
        if known is None:
            msg = (
                f"The cost of {candidate.name!r} is unknown, but without data prices are all that "
                "is known of the candidates: set its `price` or `expected_cost_usd`."
            )
            raise ValueError(msg)
        costs[candidate.name] = known
    return costs
