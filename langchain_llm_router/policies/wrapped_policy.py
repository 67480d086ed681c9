"""The base class of policies that decide through another policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from langchain_llm_router.policies.exits import ExitTerms
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.options import RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_llm_router.policies.observation import ObservationModel

__all__ = ["WrappedPolicy"]


class WrappedPolicy(Policy):
    """A policy around another one; what it does not define is that of the other.

    A subclass is a frozen dataclass with a field `policy`.
    """

    policy: Policy

    def __post_init__(self) -> None:
        # Most policies set these on the class; the router reads them from the instance.
        for name in ("verifies", "looks_ahead"):
            object.__setattr__(self, name, getattr(self.policy, name))

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates that the wrapped policy names."""
        return self.policy.named_candidates

    @property
    def reads_query(self) -> bool:
        """Whether the wrapped policy reads the query."""
        return self.policy.reads_query

    @property
    def exit_terms(self) -> ExitTerms | None:
        """Those of the wrapped policy."""
        return self.policy.exit_terms

    @property
    def verifies_last(self) -> bool:
        """Whether the wrapped policy has the last answer verified, too."""
        return self.policy.verifies_last

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates that the wrapped policy may ask."""
        return self.policy.asks(candidates)

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return that of the wrapped policy."""
        return self.policy.p_good(situation, attempt)

    def observation_model(self, candidate: str) -> ObservationModel | None:
        """Return that of the wrapped policy."""
        return self.policy.observation_model(candidate)

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """Return those of the wrapped policy."""
        return self.policy.utility_terms(arm)

    @property
    def knob(self) -> Knob | None:
        """The knob of the wrapped policy."""
        return self.policy.knob

    def knob_for(self, situation: Situation) -> Knob | None:
        """Return that of the wrapped policy."""
        return self.policy.knob_for(situation)

    def with_knob(self, value: float) -> Self:
        """Return this policy with another value of the wrapped policy's knob."""
        return replace(self, policy=self.policy.with_knob(value))  # type: ignore[type-var]

    def with_options(self, options: RoutingOptions) -> Self:
        """Return this policy with the options applied to the wrapped policy."""
        return replace(self, policy=self.policy.with_options(options))  # type: ignore[type-var]

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Return those of the wrapped policy."""
        return self.policy.knob_values(cost_usd, quality, n=n)

    def crossings(self, situation: Situation) -> list[float]:
        """Return those of the wrapped policy."""
        return self.policy.crossings(situation)

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """Return that of the wrapped policy."""
        return self.policy.endpoint_utility(arm, situation)
