"""Upper bounds on what a request has cost, and the candidates that it can still afford."""

from __future__ import annotations

import math
from dataclasses import replace

from langchain_llm_router.types import Arm, Attempt, Situation, sum_usd
from langchain_llm_router.types.errors import BudgetExceededError

__all__ = ["budget_data", "charged_usd", "drop_unaffordable", "in_tokens"]


def charged_usd(situation: Situation) -> float:
    """Return an upper bound on the cost so far: unknown costs count as their worst case."""
    arms = {arm.candidate: arm for arm in situation.arms}
    amounts = []
    for attempt in situation.attempts:
        arm = arms.get(attempt["candidate"])
        call = 0.0 if arm is None or arm.worst_call_usd is None else arm.worst_call_usd
        cost, failures = attempt.get("cost_usd"), attempt.get("failures", [])
        n_unsure = sum(bool(failure["may_be_billed"]) for failure in failures)
        if cost is not None:
            # Retries of a client that the router cannot see are within the worst case of the call.
            unseen = attempt.get("client_retries", False)
            amounts.append(max(cost, call) if unseen else cost)
        elif attempt.get("error") is None or len(failures) == 0:
            n_unsure += attempt.get("may_be_billed", True)
        amounts.append(n_unsure * call)
        worst_verdict = 0.0 if arm is None else arm.worst_verification_usd or 0.0
        if attempt.get("verified", False):
            verdict = attempt.get("verification_cost_usd")
            unsure_verdict = verdict is None or attempt.get("verification_unsure", False)
            most_verdict = attempt.get("verification_most_usd", worst_verdict)
            amounts.append(most_verdict if unsure_verdict else verdict or 0.0)
        # Calls that were interrupted with an earlier run of the step may have been billed in full.
        worst_asking = 0.0 if arm is None else arm.worst_asking_usd or 0.0
        if "unsure_usd" in attempt:
            # An agent's run resumes where it was interrupted, and knows which calls are lost.
            amounts.append(attempt["unsure_usd"])
            worst_asking = 0.0
        amounts += [
            worst_asking if action == "ask" else worst_verdict
            for action in attempt.get("interrupted", [])
        ]
    return math.fsum(amounts)


def in_tokens(situation: Situation) -> Situation:
    """Return a situation with tokens in the place of USD, so that one rule bounds both."""
    arms = tuple(
        replace(
            arm,
            worst_call_usd=arm.worst_call_tokens,
            worst_asking_usd=arm.worst_asking_tokens,
            worst_verification_usd=arm.worst_verification_tokens,
            worst_cost_usd=sum_usd([arm.worst_asking_tokens, arm.worst_verification_tokens]),
        )
        for arm in situation.arms
    )
    attempts = []
    for attempt in situation.attempts:
        used = [attempt.get("input_tokens"), attempt.get("output_tokens")]
        counted: Attempt = {**attempt, "cost_usd": sum_usd(used)}
        counted["verification_cost_usd"] = attempt.get("verification_tokens")
        counted.pop("verification_most_usd", None)
        attempts.append(counted)
    granted = situation.granted_tokens
    return replace(situation, arms=arms, attempts=tuple(attempts), granted_usd=granted)


def budget_data(situation: Situation) -> dict[str, float | None]:
    """Return what a decision record says about the budget, in USD."""
    return {"granted_usd": situation.granted_usd, "charged_usd": charged_usd(situation)}


def drop_unaffordable(situation: Situation) -> Situation:
    """Drop the arms that could exceed the request's cost cap or the granted amounts."""
    cap, granted = situation.options.max_cost_usd, situation.granted_usd
    if cap is None and granted is None and situation.granted_tokens is None:
        return situation
    spent = 0.0 if cap is None else situation.spent_usd
    covered = _covered(situation)
    if situation.granted_tokens is not None:
        covered &= _covered(in_tokens(situation))
    open_names = {arm.candidate for arm in situation.open_arms}

    def fits(arm: Arm) -> bool:
        within_cap = cap is None or (
            spent is not None and arm.limited_usd is not None and spent + arm.limited_usd <= cap
        )
        return within_cap and arm.candidate in covered

    left = tuple(arm for arm in situation.arms if arm.candidate not in open_names or fits(arm))
    if len(left) == 0:
        costs = {arm.candidate: arm.limited_usd for arm in situation.arms}
        worst = {arm.candidate: arm.worst_cost_usd for arm in situation.arms}
        msg = (
            f"No candidate can be asked within `max_cost_usd` ({cap!r} USD) and what the budget "
            f"grants ({granted!r} USD, {situation.granted_tokens!r} tokens; None means no limit): "
            f"expected costs are {costs}, worst cases {worst}. None there is an unknown price or "
            "length, which fits no limit: give the candidate a `price` and `max_output_tokens`, or "
            "raise the limit."
            + "".join(f" {a.candidate}: {a.unbounded}." for a in situation.arms if a.unbounded)
        )
        raise BudgetExceededError(msg)
    return situation if len(left) == len(situation.arms) else replace(situation, arms=left)


def _covered(situation: Situation) -> set[str]:
    """Return the names of the arms whose worst case the granted amount covers."""
    granted = situation.granted_usd
    if granted is None:
        return set(situation.names)
    charged = charged_usd(situation)
    # A nano-dollar of tolerance, because ledgers round amounts.
    return {
        arm.candidate
        for arm in situation.arms
        if arm.worst_cost_usd is not None and charged + arm.worst_cost_usd <= granted + 1e-9
    }
