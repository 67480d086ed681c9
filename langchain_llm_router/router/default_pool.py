"""The policy and the verifier of a router that was given nothing but candidates with prices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Candidate, Situation

if TYPE_CHECKING:
    from langchain_llm_router.loop.sensitive import Sensitive
    from langchain_llm_router.policies.answer_pool import AnswerPool
    from langchain_llm_router.verification.answer_groups import AnswerGroups

__all__ = ["RECORDED", "PoolParts", "describe_pool", "pool_by_price", "save_pool"]


class PoolParts(TypedDict):
    """Arguments of a router."""

    policy: AnswerPool
    verifier: AnswerGroups


_logger = logging.getLogger(__name__)

RECORDED = (
    "On recorded answers to 2,840 questions on mathematics and code such a pool reached the best "
    "model's accuracy +1.4 points for 65 % of its cost "
    "(`python tests/benchmarks/pooling.py`, no labels). That says little about your questions."
)
"""What is known before the first question."""

_HELP = (
    "pass a `policy`, an `estimator` or a `verifier` to choose by, or at least two candidates with "
    "different prices (`Candidate(price=...)`, or `--price` on the command line), whose answers "
    "are then compared."
)


def pool_by_price(candidates: Sequence[Candidate]) -> PoolParts:
    """Return the policy and the verifier of a router that was given nothing else.

    Short answers and JSON objects that can be compared come from the cheap candidates where enough
    of them agree, valid tool calls from the first that is asked, and all others from the dearest.
    At most six candidates are asked: the dearest, the cheapest, and some between, evenly in order
    of price.

    Raises:
        ValueError: If there is one candidate, a price is unknown, or all are equal.
    """
    from langchain_llm_router.policies.pool_choice import expected_costs  # noqa: PLC0415 - loads SciPy

    # All endpoints of a model give the same answers.
    models = {c.model_name: c for c in reversed(candidates)}
    names = list(dict.fromkeys(c.model_name for c in candidates))
    unpriced = [n for n in names if models[n].expected_cost_usd is None and models[n].price is None]
    costs = {} if unpriced else expected_costs([models[name] for name in names])
    if len(names) < 2:
        problem = f"from {names[0]!r} alone"
    elif unpriced:
        problem = f"without a price of {unpriced}"
    elif len(set(costs.values())) == 1:
        problem = f"by prices, which are all equal: {costs}"
    else:
        return _pooled(costs)
    msg = f"A router cannot choose {problem}: {_HELP}"
    raise ValueError(msg)


def _pooled(costs: Mapping[str, float]) -> PoolParts:
    from langchain_llm_router.policies.answer_partitions import MAX_CANDIDATES  # noqa: PLC0415 - loads SciPy
    from langchain_llm_router.policies.answer_pool import AnswerPool  # noqa: PLC0415 - the same
    from langchain_llm_router.verification.answer_groups import AnswerGroups  # noqa: PLC0415 - the same

    by_cost = sorted(costs, key=costs.__getitem__)
    if len(by_cost) > MAX_CANDIDATES:
        last = len(by_cost) - 1
        by_cost = [by_cost[round(i * last / (MAX_CANDIDATES - 1))] for i in range(MAX_CANDIDATES)]
    policy = AnswerPool.from_prices({name: costs[name] for name in by_cost})
    _logger.info("%s", describe_pool(policy))
    return {"policy": policy, "verifier": AnswerGroups()}


def describe_pool(policy: Policy) -> str:
    """Describe in words what the router with this policy of `pool_by_price` does."""
    *cheap, dearest = policy.named_candidates
    first = policy.decide(Situation("", tuple(map(Arm, policy.named_candidates))))
    if first.candidate == dearest:
        return (
            f"Nothing was measured, so this router assumes that dearer models are abler, and the "
            f"others cost so much less than {dearest} or so nearly as much that it asks {dearest} "
            f"alone: add a candidate with a price between, or fit a router. {RECORDED}"
        )
    return (
        f"Nothing was measured, so this router assumes that dearer models are abler. It compares "
        f"short answers and objects of {', '.join(cheap)} and asks {dearest} where too few agree; "
        f"the first valid tool call is taken; free text comes from {dearest}, because it cannot be "
        "compared without `AnswerGroups(embeddings=...)` or `AnswerGroups(judge=...)`. "
        f"{RECORDED}"
    )


def save_pool(
    candidates: Sequence[Candidate], folder: str | Path, sensitive: Sensitive | None = None
) -> None:
    """Save the router that `pool_by_price` makes, so that it can be served and refitted."""
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - loads NumPy
    from langchain_llm_router.verification.answer_groups import AnswerGroups  # noqa: PLC0415 - the same
    from langchain_llm_router.verification.description import describe_verifier  # noqa: PLC0415 - the same

    SavedRouter(
        tuple(dict.fromkeys(candidate.model_name for candidate in candidates)),
        pool_by_price(candidates)["policy"],
        verifier="answer_groups",
        verifier_description=describe_verifier(AnswerGroups()),
        sensitive=sensitive,
    ).save(folder)
