"""The narrow waist: one step of routing after another, without I/O.

`routing` is a generator that yields what should happen next (ask this candidate, verify this
answer) and is sent what happened. `ChatLLMRouter` drives it with model calls, sync or async, and
`evaluation.replay` with recorded tables; the LangGraph state machine calls `next_decision` and
`observe` from its nodes. So what is evaluated is what runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.budgets.affording import affordable, spent_usd
from langchain_llm_router.conversation import expected_cost_usd
from langchain_llm_router.endpoints import ByModel, pick_endpoint
from langchain_llm_router.errors import LlmRouterError, NoCandidateError
from langchain_llm_router.options import NO_OPTIONS
from langchain_llm_router.policies.policy import Policy, accept
from langchain_llm_router.telemetry.measured import ArmStats
from langchain_llm_router.types import (
    CHARS_PER_TOKEN,
    Arm,
    Attempt,
    Candidate,
    Decision,
    RoutingOptions,
    Situation,
)
from langchain_llm_router.verification import Evaluation, evaluated

__all__ = [
    "Routed",
    "begin",
    "build_arms",
    "check_policy",
    "decision_record",
    "hand_on",
    "next_decision",
    "observe",
    "routing",
    "spent_usd",
    "stay_with",
    "step_after",
]

_UNMEASURED = ArmStats()


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
    candidates: Sequence[Candidate],
    quality: Sequence[float] | None,
    query: str,
    *,
    live: Mapping[str, ArmStats] | None = None,
    input_tokens: float | None = None,
    output_tokens: Sequence[float] | None = None,
    cached: Mapping[str, float] | None = None,
) -> tuple[Arm, ...]:
    """What is expected of each candidate for this query, before anybody is asked.

    Args:
        candidates: The arms, endpoints expanded.
        quality: Predicted quality per candidate; NaN where its estimator abstains.
        query: The text to be answered.
        live: What telemetry measured, by name; it replaces what a candidate declares.
        input_tokens: Length of the whole prompt; None: the query's, 4 characters a token.
        output_tokens: Predicted length of each one's answer; None: its mean as measured, or as
            declared.
        cached: How many of its tokens each one has in its prompt cache: asking those costs less.

    The expected cost is the price times these lengths; where no length is predicted and the
    candidate has an `expected_cost_usd`, it is that and the price of what stands before the query.
    """
    if input_tokens is None:
        input_tokens = len(query) / CHARS_PER_TOKEN
    arms = []
    for i, candidate in enumerate(candidates):
        stats = _UNMEASURED if live is None else live.get(candidate.name, _UNMEASURED)
        length = stats.output_tokens
        if length is None:
            length = candidate.expected_output_tokens
        if output_tokens is not None:
            length = output_tokens[i]
        held = 0 if cached is None else cached.get(candidate.name, 0)
        cost = expected_cost_usd(
            candidate,
            query_tokens=len(query) / CHARS_PER_TOKEN,
            input_tokens=input_tokens,
            output_tokens=length,
            cached_tokens=min(held, input_tokens),
            predicted=output_tokens is not None,
        )
        arms.append(
            Arm(
                candidate=candidate.name,
                quality=None if quality is None or math.isnan(quality[i]) else float(quality[i]),
                cost_usd=cost,
                ttft_s=candidate.ttft_s if stats.ttft_s is None else stats.ttft_s,
                itl_s=candidate.itl_s if stats.itl_s is None else stats.itl_s,
                model=candidate.of,
                error_rate=stats.error_rate,
                available=stats.available,
                probe=stats.probe,
            )
        )
    return tuple(arms)


def begin(
    query: str,
    arms: Sequence[Arm],
    options: RoutingOptions | None = None,
    *,
    unfit: Mapping[str, str] | None = None,
) -> Situation:
    """The situation before anybody is asked, less the arms that may not be asked.

    Args:
        query: What is asked.
        arms: Everybody.
        options: Whom the request forbids; `force` overrules every other condition.
        unfit: Who cannot do what the request needs, and why.

    Raises:
        ValueError: If the options name an unknown candidate.
        NoCandidateError: If nobody is left; the message says why for each.
    """
    options = NO_OPTIONS if options is None else options
    free = options.force is None and options.candidates is None and not options.filters
    if free and not unfit:
        return Situation(query, tuple(arms), (), options)
    names = list(dict.fromkeys(arm.model or arm.candidate for arm in arms))
    named = [*(options.candidates or ()), *([] if options.force is None else [options.force])]
    for name in named:
        if name not in names and all(name != arm.candidate for arm in arms):
            msg = f"Unknown candidate {name!r} in the routing options: allowed are {names}."
            raise ValueError(msg)
    if options.force is not None:
        left = tuple(arm for arm in arms if options.force in (arm.candidate, arm.model))
        return Situation(query, left, (), options)
    reasons = {arm.candidate: _why_not(arm, options, unfit or {}) for arm in arms}
    left = tuple(arm for arm in arms if reasons[arm.candidate] is None)
    if len(left) == 0:
        msg = f"Nobody may be asked for this request: {reasons}."
        raise NoCandidateError(msg)
    return Situation(query, left, (), options)


def _why_not(arm: Arm, options: RoutingOptions, unfit: Mapping[str, str]) -> str | None:
    if options.candidates is not None and not {arm.candidate, arm.model} & {*options.candidates}:
        return "the request does not allow it"
    if arm.candidate in unfit:
        return unfit[arm.candidate]
    values = {
        "quality": arm.quality,
        "cost": arm.cost_usd,
        "ttft": arm.ttft_s,
        "itl": arm.itl_s,
    }
    for condition in options.filters:
        value = values[condition.metric]
        if not condition.admits(value):
            return f"its {condition.metric} {value!r} does not meet {condition}"
    return None


def stay_with(situation: Situation, policy: Policy, name: str | None) -> Situation:
    """Have the candidate that holds the thread asked first, if it may be asked at all.

    A policy that verifies may still escalate from there, but not start over with the cheaper
    candidates that were passed over before.
    """
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    arms = not_below(situation, name).arms if policy.verifies else situation.arms
    return replace(situation, arms=arms, prefer=name)


def not_below(situation: Situation, name: str | None) -> Situation:
    """Only the candidate's model and those declared after it: a thread may climb, not fall."""
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    model = situation.arm(name).model or name
    arms = situation.arms
    first = next(i for i, arm in enumerate(arms) if model in (arm.candidate, arm.model))
    return replace(situation, arms=arms[first:])


def hand_on(policy: Policy, attempt: Attempt) -> Decision:
    """The decision to pass on a flawed answer, where nobody gave a better one."""
    reason = f"every answer is flawed, the last one is handed on: {attempt.get('flaw')}"
    return accept(policy, attempt, reason)


def next_decision(policy: Policy, situation: Situation) -> Decision | None:
    """The next step, or None when everybody who may be asked has failed.

    Raises:
        NoCandidateError: If nobody may be asked and there is no answer to keep.
    """
    situation = affordable(situation)
    fresh = len(situation.attempts) == 0
    if not fresh and len(situation.open_arms) == 0 and len(situation.answered) == 0:
        return None
    if situation.options.force is not None:
        return _forced(policy, situation, situation.options.force)
    if fresh:
        only = _without_policy(policy, situation)
        if only is not None:
            return only
    if all(arm.available for arm in situation.arms):
        return _decide(policy, situation)
    doors = _closed_as_failed(situation)
    decision = _decide(policy, doors)
    if decision is None and doors is not situation:
        # Nobody else than those behind closed doors: better to knock than to give up.
        decision = _decide(policy, situation)
    return decision


def _forced(policy: Policy, situation: Situation, force: str) -> Decision:
    reason = f"the request forces {force}"
    if len(situation.answered) > 0:
        answered = situation.answered[-1]["candidate"]
        return Decision(action="accept", candidate=answered, policy="forced", reason=reason)
    arm, why = pick_endpoint(policy, situation.open_arms, situation)
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy="forced",
        reason=f"{reason}; {why}" if why else reason,
        final=True,
    )


def _closed_as_failed(situation: Situation) -> Situation:
    """Count arms behind an open breaker as failed already, as long as another one is open."""
    waiting = situation.open_arms
    if all(arm.available for arm in waiting) or not any(arm.available for arm in waiting):
        return situation
    failed = tuple(
        Attempt(candidate=arm.candidate, error="CircuitOpen: it kept failing lately")
        for arm in waiting
        if not arm.available
    )
    return replace(situation, attempts=(*failed, *situation.attempts))


def _decide(policy: Policy, situation: Situation) -> Decision | None:
    """The policy's decision; None if it knows nobody else than those who failed, as `Always`."""
    models = None
    if any(arm.model is not None for arm in situation.arms):
        models = ByModel.of(policy, situation)
        situation = models.situation
    decision = policy.decide(situation)
    if decision.action == "verify":
        form = situation.attempts[-1].get("form", "text")
        if form != "text":
            # It parsed and its arguments fit; a verifier of text has nothing to read in it.
            return accept(policy, situation.attempts[-1], f"its {form} are valid")
    asked = {attempt["candidate"] for attempt in situation.attempts}
    if decision.action == "ask" and decision.candidate in asked and not situation.answered:
        return None
    return decision if models is None else models.carried_over(decision)


def _without_policy(policy: Policy, situation: Situation) -> Decision | None:
    """Whom to ask first where the policy has no say: the thread's holder, or the only one left."""
    arms = situation.arms
    if situation.prefer is None and len(arms) > 1 and arms[0].model is None:
        # The first is one model and the next another: it is the policy's choice.
        return None
    models = list(dict.fromkeys(arm.model or arm.candidate for arm in arms))
    holder = [a for a in arms if a.candidate == situation.prefer]
    if len(holder) > 0 and (holder[0].available or not any(a.available for a in arms)):
        arm, reason = holder[0], f"{situation.prefer} has this thread"
    elif len(models) > 1 or all(named in models for named in policy.named_candidates):
        return None
    else:
        arm, _ = pick_endpoint(policy, arms, situation)
        reason = "nobody else may be asked"
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy=type(policy).__name__,
        reason=reason,
        final=not policy.verifies or len(models) == 1,
    )


def step_after(policy: Policy, situation: Situation) -> Callable[[Evaluation], tuple[str, str]]:
    """What would be done next if the last answer were evaluated so: action and candidate.

    With this a verifier can stop as soon as nothing it could still find out changes the step.
    """

    def step(evaluation: Evaluation) -> tuple[str, str]:
        attempt = evaluated(situation.attempts[-1], evaluation)
        # Not known before it is paid; unknown would make everybody unaffordable under a cap.
        attempt["verification_cost_usd"] = 0.0
        decision = next_decision(policy, observe(situation, attempt))
        assert decision is not None, "an answer is at hand"
        return decision.action, decision.candidate

    return step


def observe(situation: Situation, attempt: Attempt) -> Situation:
    """Add an attempt, or the verdict on the last one."""
    earlier = situation.attempts
    if len(earlier) > 0 and earlier[-1]["candidate"] == attempt["candidate"]:
        earlier = earlier[:-1]
    # Not `replace`: this is in the path of every call.
    return Situation(
        situation.query,
        situation.arms,
        (*earlier, attempt),
        situation.options,
        situation.granted_usd,
        situation.prefer,
    )


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
        if attempt.get("committed", False) and not decision.final:
            reason = f"{decision.reason}; it looked good enough to be streamed"
            decision = replace(decision, final=True, reason=reason)
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
