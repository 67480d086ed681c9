"""Policies that choose once, by an estimator's predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Self

from langchain_llm_router.policies.knob import Knob, append_just_above_one
from langchain_llm_router.policies.policy import OneShot
from langchain_llm_router.types import Arm, Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "Threshold",
    "Utility",
    "require_cost",
    "require_quality",
    "win_rate",
]


def win_rate(weak_quality: float, strong_quality: float) -> float:
    """Return the strong candidate's win rate, with ties counted half: ½(1 + q_s - q_w).

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 3. Deviation: ties count half for
        every estimator (RouteLLM's BERT counts a tie as a win for the weak model).
    """
    return 0.5 * (1 + strong_quality - weak_quality)


def require_quality(arm: Arm, policy: str) -> float:
    """Return the predicted quality of an arm.

    Raises:
        ValueError: If there is no prediction.
    """
    if arm.quality is None:
        msg = (
            f"{policy} needs a predicted quality for {arm.candidate!r}, but there is none: "
            "give the router an `estimator`."
        )
        raise ValueError(msg)
    return arm.quality


def require_cost(arm: Arm, policy: str) -> float:
    """Return the expected cost of an arm.

    Raises:
        ValueError: If it is unknown.
    """
    if arm.cost_usd is None:
        msg = (
            f"{policy} weighs costs, but the price of {arm.candidate!r} is unknown: give its "
            "`Candidate` a `price` or an `expected_cost_usd`."
        )
        raise ValueError(msg)
    return arm.cost_usd


@dataclass(frozen=True)
class Threshold(OneShot):
    """Asks the strong candidate iff its predicted win rate reaches a threshold.

    Args:
        threshold: α in [0, 1]: with 0 the strong candidate is always asked, above 1 never.
        weak: Name of the weak candidate; if None, the first one declared.
        strong: Name of the strong candidate; if None, the last one declared.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 2.
    """

    threshold: float
    weak: str | None = None
    strong: str | None = None

    def __post_init__(self) -> None:
        check_range(self, "threshold")

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The named candidates of the pair."""
        return tuple(name for name in (self.weak, self.strong) if name is not None)

    @property
    def knob(self) -> Knob:
        """The threshold."""
        return Knob("threshold", self.threshold, high=1.0, more="fewer strong calls")

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Return a grid, quantiles of the predicted win rates, and a value just above 1."""
        values = super().knob_values(cost_usd, quality, n=n)
        if quality is not None:
            import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

            predicted = np.asarray(quality, dtype=np.float64)
            rates = 0.5 * (1 + predicted[:, -1] - predicted[:, 0])
            values += np.quantile(rates, np.linspace(0, 1, n)).tolist()
        return append_just_above_one(values)

    def choose(self, situation: Situation) -> Decision:
        """Compare the win rate with the threshold; after a failure ask the other candidate."""
        weak = situation.arm(self.weak or situation.names[0])
        strong = situation.arm(self.strong or situation.names[-1])
        rate = win_rate(require_quality(weak, "Threshold"), require_quality(strong, "Threshold"))
        alpha = self.threshold
        if situation.options.threshold is not None:
            alpha = situation.options.threshold
        first, second = (strong, weak) if rate >= alpha else (weak, strong)
        chosen = first if first in situation.open_arms else second
        sign = "≥" if rate >= alpha else "<"
        return self.ask(
            chosen.candidate,
            f"win rate of {strong.candidate} {rate:.3f} {sign} threshold {alpha:.3f}",
            {a.candidate: {"quality": a.quality, "cost_usd": a.cost_usd} for a in (weak, strong)},
            flip=f"a threshold {'above' if rate >= alpha else 'of at most'} {rate:.3f}",
        )


@dataclass(frozen=True)
class Utility(OneShot):
    """Asks the candidate with the highest utility: quality minus cost and waiting time.

    utility = quality·q - cost·cost_usd - ttft·TTFT_s - itl·ITL_s - errors·P(failure). A term with
    weight 0 needs no data; the last one applies if a failure rate has been measured. Ties go to the
    cheaper arm, then to the one declared first.

    Args:
        cost: λ, the quality that one USD is worth: the higher, the cheaper the answers.
        quality: Weight of the predicted quality.
        ttft: Quality that one second to the first token costs.
        itl: Quality that one second between tokens costs.
        errors: Quality that a failed call costs.

    References:
        Unify's router reward (w_q·Quality - w_c·Cost - w_t·TTFT - w_i·ITL); with the last two at
        0 it is the τ = q̂ - λĉ of Dekoninck et al., 2024, arXiv:2410.10347, theorem 1.
    """

    cost: float = 0.0
    quality: float = 1.0
    ttft: float = 0.0
    itl: float = 0.0
    errors: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "cost", "quality", "ttft", "itl", "errors")

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """Return the utility without quality, so that model and endpoint are chosen together."""
        return self._utility(arm, {**self.weights(situation), "quality": 0.0})

    @property
    def knob(self) -> Knob:
        """λ, the weight of the cost."""
        return Knob("lambda", self.cost, more="cheaper answers", exact=True)

    def with_knob(self, value: float) -> Self:
        """Return this policy with another λ."""
        return replace(self, cost=value)

    def with_options(self, options: RoutingOptions) -> Self:
        """Return this policy with the request's weights."""
        return replace(self, **self._weights(options))

    @property
    def maximizes_utility(self) -> bool:
        """Whether quality has weight 1 and latencies have none."""
        return (self.quality, self.ttft, self.itl) == (1.0, 0.0, 0.0)

    def crossings(self, situation: Situation) -> list[float]:
        """Return every λ at which two open arms have the same utility."""
        weights = {**self.weights(situation), "cost": 0.0}
        without_cost = [(self._utility(arm, weights), arm.cost_usd) for arm in situation.open_arms]
        crossings = set()
        for (a, cost_a), (b, cost_b) in combinations(without_cost, 2):
            if cost_a is not None and cost_b is not None and cost_a != cost_b:
                crossings.add((a - b) / (cost_a - cost_b))
        return sorted(crossings)

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """Return the terms of an arm's utility, with both latencies added up."""
        terms = self.terms(arm, self._weights(NO_OPTIONS))
        latency = terms.pop("ttft", 0.0) + terms.pop("itl", 0.0)
        return {**terms, "latency": latency} if latency else terms

    def choose(self, situation: Situation) -> Decision:
        """Choose the arm with the highest utility that was not asked yet."""
        weights = self.weights(situation)
        ranked = sorted(
            ((self._utility(arm, weights), arm) for arm in situation.open_arms),
            key=lambda pair: (-pair[0], pair[1].cost_usd is None, pair[1].cost_usd or 0.0),
        )
        utility, best = ranked[0]
        scores = {
            arm.candidate: {"quality": arm.quality, "cost_usd": arm.cost_usd, "utility": value}
            for value, arm in ranked
        }
        reason = f"highest utility {utility:.4g}"
        if len(ranked) > 1:
            reason += f", {utility - ranked[1][0]:.4g} above {ranked[1][1].candidate}"
        return self.ask(best.candidate, reason, scores, flip=_flip(ranked, weights["cost"]))

    def weights(self, situation: Situation) -> dict[str, float]:
        """Return the weight of each term, replaced by those of the request."""
        return self._weights(situation.options)

    def _weights(self, options: RoutingOptions) -> dict[str, float]:
        weights = {"quality": self.quality, "cost": self.cost, "ttft": self.ttft, "itl": self.itl}
        if options.lambda_ is not None:
            weights["cost"] = options.lambda_
        return {**weights, **options.weights}

    def terms(self, arm: Arm, weights: Mapping[str, float]) -> dict[str, float]:
        """Return the terms whose sum is an arm's utility, without those of weight 0.

        Raises:
            ValueError: If a value with a weight is unknown.
        """
        terms = {}
        if weights["quality"] != 0:
            terms["quality"] = weights["quality"] * require_quality(arm, "Utility")
        if weights["cost"] != 0:
            terms["cost"] = -weights["cost"] * require_cost(arm, "Utility")
        for name, seconds in (("ttft", arm.ttft_s), ("itl", arm.itl_s)):
            if weights[name] != 0:
                if seconds is None:
                    msg = (
                        f"Utility weighs {name}, but `{name}_s` of {arm.candidate!r} is unknown: "
                        f"give its `Candidate` one, or set the weight {name!r} to 0."
                    )
                    raise ValueError(msg)
                terms[name] = -weights[name] * seconds
        if arm.error_rate is not None:
            terms["errors"] = -self.errors * arm.error_rate
        return terms

    def _utility(self, arm: Arm, weights: Mapping[str, float]) -> float:
        return sum(self.terms(arm, weights).values(), 0.0)


def _flip(ranked: list[tuple[float, Arm]], lambda_: float) -> str | None:
    """Describe the λ nearest to the current one at which another arm would be chosen."""
    utility, best = ranked[0]
    nearest: tuple[float, str] | None = None
    for value, arm in ranked[1:]:
        if best.cost_usd is None or arm.cost_usd is None or arm.cost_usd == best.cost_usd:
            continue
        switch = lambda_ + (utility - value) / (best.cost_usd - arm.cost_usd)
        if switch >= 0 and (nearest is None or abs(switch - lambda_) < abs(nearest[0] - lambda_)):
            nearest = (switch, arm.candidate)
    if nearest is None:
        return None
    return f"λ = {nearest[0]:.4g} per USD (now {lambda_:.4g}) would choose {nearest[1]}"
