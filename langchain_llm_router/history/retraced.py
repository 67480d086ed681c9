"""Take a policy's steps again over recorded attempts, through the same loop, without calls.

The record supplies the recorded answers and verdicts. Where a policy wants an answer or a verdict
that was not recorded, it leaves the record, and only the expected values of that step are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.loop.loop import Loop, observe
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Attempt, Decision, Situation, sum_usd
from langchain_llm_router.types.errors import LlmRouterError

__all__ = ["Retraced", "before_each", "retrace", "unjudged"]

_VERDICT = (
    "verdicts",
    "verification_errors",
    "verification_cost_usd",
    "verification_unsure",
)


@dataclass(frozen=True)
class Retraced:
    """The steps that a policy took over one record."""

    steps: tuple[Decision, ...]
    """Its decisions; the last is the one that the record cannot answer, if there is one."""

    situation: Situation
    """What it had seen by its last decision."""

    decision: Decision | None
    """The acceptance; None when every candidate failed, or off the record."""

    on_record: bool
    """Whether the record answered everything it wanted."""

    error: str | None = None
    """Why the policy could not decide at all."""

    @property
    def candidate(self) -> str | None:
        """The candidate accepted; off the record, whose answer or verdict it wanted next."""
        if self.decision is not None:
            return self.decision.candidate
        return self.steps[-1].candidate if self.steps and not self.on_record else None

    @property
    def recorded_cost_usd(self) -> float | None:
        """The cost of its steps as far as they were recorded."""
        return self.situation.spent_usd

    @property
    def expected_cost_usd(self) -> float | None:
        """Expected cost of the call that was never made; 0 on the record.

        It is a lower bound on the rest, as the policy might have taken more steps after it.
        """
        if self.on_record or len(self.steps) == 0:
            return 0.0
        arm = self.situation.arm(self.steps[-1].candidate)
        return arm.verification_cost_usd if self.steps[-1].action == "verify" else arm.cost_usd

    @property
    def cost_usd(self) -> float | None:
        """Recorded and expected cost together."""
        return sum_usd([self.recorded_cost_usd, self.expected_cost_usd])

    @property
    def expected_quality(self) -> float | None:
        """Predicted quality of the candidate it ends with."""
        name = self.candidate
        return None if name is None else self.situation.arm(name).quality

    @property
    def propensity(self) -> float:
        """Probability with which the policy takes these steps."""
        return math.prod(step.propensity for step in self.steps)


def retrace(
    policy: Policy, situations: Sequence[Situation], attempts: Sequence[Attempt]
) -> Retraced:
    """Take a policy's steps over what was recorded of one request.

    Args:
        policy: The policy that decides.
        situations: Before each step, without attempts; the last one serves for all later steps.
        attempts: The recorded attempts, as they stood at the end.
    """
    known = {attempt["candidate"]: attempt for attempt in attempts}
    loop, now = Loop(policy, situations[0]), situations[0]
    try:
        while (step := loop.next()) is not None and step.action != "accept":
            attempt = _recorded(step, known)
            if attempt is None:
                return Retraced(tuple(loop.steps), loop.situation, None, on_record=False)
            loop.saw(attempt)
            following = situations[min(len(loop.steps), len(situations) - 1)]
            if following is not now:
                now = following
                loop.refresh(now)
    except (LlmRouterError, ValueError) as error:
        return Retraced(tuple(loop.steps), loop.situation, None, on_record=False, error=str(error))
    return Retraced(tuple(loop.steps), loop.situation, step, on_record=True)


def before_each(
    situations: Sequence[Situation], steps: Sequence[Decision], attempts: Sequence[Attempt]
) -> list[Situation]:
    """What was known before each recorded step, including the attempts of earlier steps."""
    known = {attempt["candidate"]: attempt for attempt in attempts}
    found: list[Situation] = []
    seen: tuple[Attempt, ...] = ()
    for i, step in enumerate(steps):
        situation = replace(situations[min(i, len(situations) - 1)], attempts=seen)
        found.append(situation)
        attempt = None if step.action == "accept" else _recorded(step, known)
        if attempt is not None:
            seen = observe(situation, attempt).attempts
    return found


def _recorded(step: Decision, known: dict[str, Attempt]) -> Attempt | None:
    """The recorded result of a step; None: it was never taken."""
    attempt = known.get(step.candidate)
    if attempt is None or not attempt.get("verified", False):
        return None if step.action == "verify" else attempt
    if step.action == "verify":
        return attempt
    return unjudged(attempt)


def unjudged(attempt: Attempt) -> Attempt:
    """The attempt as it stood before its answer was judged."""
    before = {name: value for name, value in attempt.items() if name not in _VERDICT}
    return Attempt(**{**before, "verified": False, "confidence": None})  # type: ignore[typeddict-item]
