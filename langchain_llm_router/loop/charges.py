"""What a request has cost at most, and which candidates it can still afford."""

from __future__ import annotations

import math
from dataclasses import replace

from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.errors import NoCandidateError

__all__ = ["affordable", "charged_usd"]


def charged_usd(situation: Situation) -> float:
    """Upper bound on what was spent: unknown costs count as their worst case."""
    worst = {arm.candidate: arm for arm in situation.arms}
    total = []
    for attempt in situation.attempts:
        arm = worst.get(attempt["candidate"])
        call = 0.0 if arm is None or arm.worst_call_usd is None else arm.worst_call_usd
        cost, failures = attempt.get("cost_usd"), attempt.get("failures", [])
        unsure = sum(bool(failure["may_be_billed"]) for failure in failures)
        if cost is not None:
            total.append(cost)
        elif attempt.get("error") is None or len(failures) == 0:
            unsure += 1
        total.append(unsure * call)
        worst_verdict = 0.0 if arm is None else arm.worst_verification_usd or 0.0
        if attempt.get("verified", False):
            verdict = attempt.get("verification_cost_usd")
            unsure_verdict = verdict is None or attempt.get("verification_unsure", False)
            total.append(worst_verdict if unsure_verdict else verdict or 0.0)
        # Calls under way when an earlier run of the step ended: they may have been billed in full.
        worst_asking = 0.0 if arm is None else arm.worst_asking_usd or 0.0
        total += [
            worst_asking if action == "ask" else worst_verdict
            for action in attempt.get("interrupted", [])
        ]
    return math.fsum(total)


def affordable(situation: Situation) -> Situation:
    """Drop the arms that could exceed the request's cost cap, or what its budget granted."""
    cap, granted = situation.options.max_cost_usd, situation.granted_usd
    if cap is None and granted is None:
        return situation
    spent = 0.0 if cap is None else situation.spent_usd
    charged = 0.0 if granted is None else charged_usd(situation)
    open_names = {arm.candidate for arm in situation.open_arms}

    def fits(arm: Arm) -> bool:
        within_cap = cap is None or (
            spent is not None and arm.cost_usd is not None and spent + arm.cost_usd <= cap
        )
        worst = arm.worst_cost_usd
        # A nano-dollar of slack: amounts were rounded on their way through the ledger.
        return within_cap and (
            granted is None or (worst is not None and charged + worst <= granted + 1e-9)
        )

    left = tuple(arm for arm in situation.arms if arm.candidate not in open_names or fits(arm))
    if len(left) == 0:
        costs = {arm.candidate: arm.cost_usd for arm in situation.arms}
        worst = {arm.candidate: arm.worst_cost_usd for arm in situation.arms}
        msg = (
            f"No candidate can be asked within `max_cost_usd` ({cap!r} USD) and what the budget "
            f"grants ({granted!r} USD; None: no limit): expected costs are {costs}, worst cases "
            f"{worst} "
            "(None is an unknown price or length, which no cap can admit)."
        )
        raise NoCandidateError(msg)
    return replace(situation, arms=left)
