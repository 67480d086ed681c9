"""A policy that asks a fixed, safe candidate where no quality is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.policy import Policy, accept, last_resort
from langchain_llm_router.types import Arm, Attempt, Decision, Situation
from langchain_llm_router.types.options import RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_llm_router.policies.observation import ObservationModel

__all__ = ["SafeArm"]


@dataclass(frozen=True)
class SafeArm(Policy):
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

    def __post_init__(self) -> None:
        # Most policies set it on the class; the router reads it from the instance.
        object.__setattr__(self, "verifies", self.policy.verifies)

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The safe candidate, and those that the wrapped policy names."""
        return tuple(dict.fromkeys([self.safe, *self.policy.named_candidates]))

    @property
    def reads_query(self) -> bool:
        """Whether the wrapped policy reads the query."""
        return self.policy.reads_query

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates of the wrapped policy, and the safe one."""
        return tuple(dict.fromkeys([*self.policy.asks(candidates), self.safe]))

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return that of the wrapped policy."""
        return self.policy.p_good(situation, attempt)

    def observation_model(self, candidate: str) -> ObservationModel | None:
        """Return that of the wrapped policy."""
        return self.policy.observation_model(candidate)

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """Return those of the wrapped policy, or none without a predicted quality."""
        return {} if arm.quality is None else self.policy.utility_terms(arm)

    @property
    def knob(self) -> Knob | None:
        """The knob of the wrapped policy."""
        return self.policy.knob

    def with_knob(self, value: float) -> Self:
        """Return this policy with another value of the wrapped policy's knob."""
        return replace(self, policy=self.policy.with_knob(value))

    def with_options(self, options: RoutingOptions) -> Self:
        """Return this policy with the options applied to the wrapped policy."""
        return replace(self, policy=self.policy.with_options(options))

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Return that of the wrapped policy."""
        return self.policy.knob_values(cost_usd, quality, n=n)

    def crossings(self, situation: Situation) -> list[float]:
        """Return that of the wrapped policy where it decides."""
        return [] if self._abstains(situation) else self.policy.crossings(situation)

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """Return that of the wrapped policy."""
        return self.policy.endpoint_utility(arm, situation)

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

    def chance(self, situation: Situation, step: Decision) -> float:
        """Return that of the wrapped policy where it decides."""
        if self._abstains(situation):
            return super().chance(situation, step)
        return self.policy.chance(situation, step)

    def _abstains(self, situation: Situation) -> bool:
        return all(arm.quality is None for arm in situation.arms)
