"""The steps that a policy takes over the recorded attempts of a request, without calls.

The loop is that of a live request; answers and verdicts come from the record. If a policy needs an
answer or a verdict that was not recorded, it is off the record, and only the expected values of
that step are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.loop.answer_numbers import number_group
from langchain_llm_router.loop.loop import Loop, observe
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Attempt, Decision, Situation, sum_usd
from langchain_llm_router.types.errors import LlmRouterError

__all__ = ["Retraced", "retrace", "situations_before_steps", "without_verdict"]

_VERDICT = (
    "verdicts",
    "rationales",
    "standard_error",
    "answer_group",
    "verification_errors",
    "verification_cost_usd",
    "verification_unsure",
    "verification_most_usd",
)


@dataclass(frozen=True)
class Retraced:
    """The steps that a policy took over one record."""

    steps: tuple[Decision, ...]
    """The decisions. Off the record, the last one is the step that was not recorded."""

    situation: Situation
    """The situation of the last decision."""

    decision: Decision | None
    """The acceptance or abstention; None if every candidate failed, or off the record."""

    on_record: bool
    """Whether every step was recorded."""

    error: str | None = None
    """Why the policy could not decide, if it failed."""

    @property
    def candidate(self) -> str | None:
        """The accepted candidate; off the record, the candidate of the last step."""
        if self.decision is not None:
            return self.decision.candidate
        return self.steps[-1].candidate if self.steps and not self.on_record else None

    @property
    def recorded_cost_usd(self) -> float | None:
        """Cost of the recorded steps, and of the abstention if there is one."""
        ending = 0.0 if self.decision is None else self.decision.ending_cost_usd or 0.0
        return sum_usd([self.situation.spent_usd, ending])

    @property
    def expected_cost_usd(self) -> float | None:
        """Expected cost of the step that was not recorded; 0 on the record.

        The policy might have taken more steps after it, whose costs are not included.
        """
        if self.on_record or len(self.steps) == 0:
            return 0.0
        arm = self.situation.arm(self.steps[-1].candidate)
        return arm.verification_cost_usd if self.steps[-1].action == "verify" else arm.cost_usd

    @property
    def cost_usd(self) -> float | None:
        """Sum of the recorded and the expected cost."""
        return sum_usd([self.recorded_cost_usd, self.expected_cost_usd])

    @property
    def expected_quality(self) -> float | None:
        """Predicted quality of `candidate`."""
        name = self.candidate
        return None if name is None else self.situation.arm(name).quality

    @property
    def propensity(self) -> float:
        """Probability that the policy takes these steps."""
        return math.prod(step.propensity for step in self.steps)


def retrace(
    policy: Policy, situations: Sequence[Situation], attempts: Sequence[Attempt]
) -> Retraced:
    """Take a policy's steps over the recorded attempts of one request.

    Args:
        policy: The policy that decides.
        situations: The situation before each step, without attempts; the last one is used for all
            later steps.
        attempts: The recorded attempts, in their final state.
    """
    recorded = {attempt["candidate"]: attempt for attempt in attempts}
    # Earlier versions gave a group to answers that were cut off, too.
    groups = {
        name: None if attempt.get("flaw") else attempt.get("answer_group")
        for name, attempt in recorded.items()
    }
    loop, current = Loop(policy, situations[0]), situations[0]
    try:
        while (step := loop.next()) is not None and not step.ends:
            attempt = _recorded_attempt(step, recorded)
            if attempt is not None and attempt.get("answer_group") is not None:
                # Another policy may ask in another order.
                group = number_group(groups, loop.situation.attempts, step.candidate)
                attempt = {**attempt, "answer_group": group}
            if attempt is None:
                return Retraced(tuple(loop.steps), loop.situation, None, on_record=False)
            loop.saw(attempt)
            following = situations[min(len(loop.steps), len(situations) - 1)]
            if following is not current:
                current = following
                loop.refresh(current)
    except (LlmRouterError, ValueError) as error:
        return Retraced(tuple(loop.steps), loop.situation, None, on_record=False, error=str(error))
    return Retraced(tuple(loop.steps), loop.situation, step, on_record=True)


def situations_before_steps(
    situations: Sequence[Situation], steps: Sequence[Decision], attempts: Sequence[Attempt]
) -> list[Situation]:
    """Return the situation before each recorded step, with the attempts of the earlier steps."""
    recorded = {attempt["candidate"]: attempt for attempt in attempts}
    before: list[Situation] = []
    earlier: tuple[Attempt, ...] = ()
    for i, step in enumerate(steps):
        situation = replace(situations[min(i, len(situations) - 1)], attempts=earlier)
        before.append(situation)
        attempt = None if step.ends else _recorded_attempt(step, recorded)
        if attempt is not None:
            earlier = observe(situation, attempt).attempts
    return before


def _recorded_attempt(step: Decision, recorded: dict[str, Attempt]) -> Attempt | None:
    """Return the recorded result of a step, or None if the step was not recorded."""
    attempt = recorded.get(step.candidate)
    if attempt is None or not attempt.get("verified", False):
        return None if step.action == "verify" else attempt
    if step.action == "verify":
        return attempt
    return without_verdict(attempt)


def without_verdict(attempt: Attempt) -> Attempt:
    """Return the attempt as it was before its answer was verified."""
    before = {name: value for name, value in attempt.items() if name not in _VERDICT}
    return Attempt(**{**before, "verified": False, "confidence": None})  # type: ignore[typeddict-item]
