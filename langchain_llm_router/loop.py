"""The narrow waist: one step of routing after another, without I/O.

`routing` is a generator that yields what should happen next (ask this candidate, verify this
answer) and is sent what happened. `ChatLLMRouter` drives it with model calls, sync or async, and
`evaluation.replay` with recorded tables; the LangGraph state machine calls `next_decision` and
`observe` from its nodes. So what is evaluated is what runs.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.errors import LlmRouterError, NoCandidateError
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import (
    Arm,
    Attempt,
    Candidate,
    Decision,
    RoutingOptions,
    Situation,
    sum_usd,
)

__all__ = [
    "Routed",
    "begin",
    "build_arms",
    "check_policy",
    "decision_record",
    "next_decision",
    "observe",
    "routing",
    "spent_usd",
]

_CHARS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class Routed:
    """How a routing ended."""

    decision: Decision | None
    """The acceptance, or the asking that was final; None when everybody failed."""

    situation: Situation
    steps: tuple[Decision, ...]
    """Every decision on the way, in order."""


def check_policy(policy: Policy, names: Sequence[str]) -> None:
    """Refuse a policy that names somebody the router does not have.

    Raises:
        ValueError: With the unknown name and the allowed ones.
    """
    for name in policy.named_candidates:
        if name not in names:
            msg = (
                f"Unknown candidate {name!r}: the policy {type(policy).__name__} names it, "
                f"but the router has {list(names)}."
            )
            raise ValueError(msg)


def build_arms(
    candidates: Sequence[Candidate], quality: Sequence[float] | None, query: str
) -> tuple[Arm, ...]:
    """What is expected of each candidate for this query, before anybody is asked.

    The expected cost is the candidate's `expected_cost_usd`, otherwise its price times the query's
    length (4 characters a token) and its `expected_output_tokens`, otherwise unknown.
    """
    input_tokens = len(query) / _CHARS_PER_TOKEN
    arms = []
    for i, candidate in enumerate(candidates):
        cost = candidate.expected_cost_usd
        if cost is None and candidate.price is not None:
            cost = candidate.price.estimate_usd(
                input_tokens=input_tokens, output_tokens=candidate.expected_output_tokens
            )
        arms.append(
            Arm(
                candidate=candidate.name,
                quality=None if quality is None else float(quality[i]),
                cost_usd=cost,
                ttft_s=candidate.ttft_s,
                itl_s=candidate.itl_s,
            )
        )
    return tuple(arms)


def begin(query: str, arms: Sequence[Arm], options: RoutingOptions | None = None) -> Situation:
    """The situation before anybody is asked, less the arms that the options forbid.

    Raises:
        ValueError: If the options name an unknown candidate.
    """
    options = RoutingOptions() if options is None else options
    names = [arm.candidate for arm in arms]
    named = [*(options.candidates or ()), *([] if options.force is None else [options.force])]
    for name in named:
        if name not in names:
            msg = f"Unknown candidate {name!r} in the routing options: allowed are {names}."
            raise ValueError(msg)
    if options.force is not None:
        allowed = {options.force}
    elif options.candidates is not None:
        allowed = set(options.candidates)
    else:
        return Situation(query, tuple(arms), (), options)
    return Situation(query, tuple(a for a in arms if a.candidate in allowed), (), options)


def spent_usd(situation: Situation) -> float | None:
    """What all attempts and verifications have cost so far; unknown if any of them is."""
    costs: list[float | None] = []
    for attempt in situation.attempts:
        # A call that failed before it was billed has no cost to know.
        if attempt.get("error") is None or attempt.get("cost_usd") is not None:
            costs.append(attempt.get("cost_usd"))
        if attempt.get("verified", False):
            costs.append(attempt.get("verification_cost_usd"))
    return sum_usd(costs)


def next_decision(policy: Policy, situation: Situation) -> Decision | None:
    """The next step, or None when everybody who may be asked has failed.

    Raises:
        NoCandidateError: If nobody may be asked and there is no answer to keep.
    """
    situation = _affordable(situation)
    if len(situation.open_arms) == 0 and len(situation.answered) == 0:
        return None
    force = situation.options.force
    if force is not None:
        action = "accept" if len(situation.answered) > 0 else "ask"
        return Decision(
            action=action,  # type: ignore[arg-type]
            candidate=force,
            policy="forced",
            reason=f"the request forces {force}",
            final=action == "ask",
        )
    decision = policy.decide(situation)
    asked = {attempt["candidate"] for attempt in situation.attempts}
    if decision.action == "ask" and decision.candidate in asked and not situation.answered:
        # The policy knows nobody else than those who failed, e.g. `Always`.
        return None
    return decision


def observe(situation: Situation, attempt: Attempt) -> Situation:
    """Add an attempt, or the verdict on the last one."""
    earlier = situation.attempts
    if len(earlier) > 0 and earlier[-1]["candidate"] == attempt["candidate"]:
        earlier = earlier[:-1]
    return replace(situation, attempts=(*earlier, attempt))


def routing(policy: Policy, situation: Situation) -> Generator[Decision, Attempt, Routed]:
    """Route one query: yields each `ask` and `verify`, is sent the attempt as it now stands.

    Raises:
        LlmRouterError: If the policy does not come to an end.
    """
    steps: list[Decision] = []
    for _ in range(2 * len(situation.arms) + 1):
        decision = next_decision(policy, situation)
        if decision is None:
            return Routed(None, situation, tuple(steps))
        steps.append(decision)
        if decision.action == "accept":
            return Routed(decision, situation, tuple(steps))
        attempt = yield decision
        situation = observe(situation, attempt)
        if decision.final and attempt.get("error") is None:
            return Routed(decision, situation, tuple(steps))
    msg = f"{type(policy).__name__} did not accept within {len(steps)} decisions: it is looping."
    raise LlmRouterError(msg)


def decision_record(routed: Routed, decision_id: str) -> dict[str, Any]:
    """The decision as plain data, as it stands in `response_metadata["llm_router"]`.

    `cost_usd` is everything that was spent: rejected drafts and verification included.
    """
    decision = routed.decision
    assert decision is not None, "a routing without an answer has no record"
    chosen = next((step for step in reversed(routed.steps) if len(step.scores) > 0), decision)
    return {
        "candidate": decision.candidate,
        "policy": decision.policy,
        "reason": decision.reason,
        "confidence": decision.confidence,
        "scores": {name: dict(numbers) for name, numbers in chosen.scores.items()},
        "flip": chosen.flip,
        "propensity": math.prod(step.propensity for step in routed.steps),
        "attempts": [dict(attempt) for attempt in routed.situation.attempts],
        "steps": [
            {"action": step.action, "candidate": step.candidate, "reason": step.reason}
            for step in routed.steps
        ],
        "cost_usd": spent_usd(routed.situation),
        "decision_id": decision_id,
    }


def _affordable(situation: Situation) -> Situation:
    """Drop the arms that could break the request's cost cap."""
    cap = situation.options.max_cost_usd
    if cap is None:
        return situation
    spent = spent_usd(situation)
    open_names = {arm.candidate for arm in situation.open_arms}
    left = tuple(
        arm
        for arm in situation.arms
        if arm.candidate not in open_names
        or (spent is not None and arm.cost_usd is not None and spent + arm.cost_usd <= cap)
    )
    if len(left) == 0:
        costs = {arm.candidate: arm.cost_usd for arm in situation.arms}
        msg = (
            f"Nobody can be asked within `max_cost_usd` {cap!r}: expected costs are {costs} "
            "(None is an unknown price, which no cap can admit)."
        )
        raise NoCandidateError(msg)
    return replace(situation, arms=left)
