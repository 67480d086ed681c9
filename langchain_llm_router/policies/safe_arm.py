"""A policy that asks a fixed, safe candidate where no quality is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from langchain_llm_router.policies.exits import Exit
from langchain_llm_router.policies.policy import Policy, accept, last_resort
from langchain_llm_router.policies.wrapped_policy import WrappedPolicy
from langchain_llm_router.types import Arm, Decision, Situation

__all__ = ["SafeArm"]


@dataclass(frozen=True)
class SafeArm(WrappedPolicy):
    """Decides as another policy does, but asks a fixed candidate where no quality is predicted.

    Use it with `estimators.Abstaining`, which predicts nothing for queries unlike its training
    data.

    Args:
        policy: The policy that decides where a quality is predicted.
        safe: The candidate to ask otherwise, usually the best single model; its answer is not
            verified.
    """

    policy: Policy
    safe: str

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The safe candidate, and those that the wrapped policy names."""
        return tuple(dict.fromkeys([self.safe, *self.policy.named_candidates]))

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates of the wrapped policy, and the safe one."""
        return tuple(dict.fromkeys([*self.policy.asks(candidates), self.safe]))

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """Return those of the wrapped policy, or none without a predicted quality."""
        return {} if arm.quality is None else self.policy.utility_terms(arm)

    def crossings(self, situation: Situation) -> list[float]:
        """Return that of the wrapped policy where it decides."""
        return [] if self._abstains(situation) else self.policy.crossings(situation)

    def decide(self, situation: Situation) -> Decision:
        """Ask the safe candidate if no arm has a quality, otherwise let the policy decide."""
        if not self._abstains(situation):
            return replace(self.policy.decide(situation), policy=type(self).__name__)
        if len(situation.answered) > 0:
            return accept(self, situation.answered[-1], "it answered")
        if self.safe not in {arm.candidate for arm in situation.open_arms}:
            return last_resort(self, situation)
        return Decision(
            action="ask",
            candidate=self.safe,
            policy=type(self).__name__,
            reason=f"nothing is predicted for this query: {self.safe} is safe to ask",
            final=True,
            scores={
                arm.candidate: {"quality": None, "cost_usd": arm.cost_usd} for arm in situation.arms
            },
        )

    def decide_or_abstain(self, situation: Situation, exit_: Exit) -> Decision:
        """Let the wrapped policy decide where a quality is predicted."""
        if self._abstains(situation):
            return super().decide_or_abstain(situation, exit_)
        step = self.policy.decide_or_abstain(situation, exit_)
        return replace(step, policy=type(self).__name__)

    def chance(self, situation: Situation, step: Decision) -> float:
        """Return that of the wrapped policy where it decides."""
        if self._abstains(situation):
            return super().chance(situation, step)
        return self.policy.chance(situation, step)

    def _abstains(self, situation: Situation) -> bool:
        return all(arm.quality is None for arm in situation.arms)
