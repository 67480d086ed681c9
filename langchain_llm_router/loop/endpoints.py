"""Models at several endpoints: policies choose the model, this module chooses the endpoint.

A policy is fitted on models, so it gets one arm per model: the best endpoint that was not asked
yet. Its decision is then translated to that endpoint. The best endpoint has the highest utility by
the policy's own weights; as all endpoints of a model have the same quality, the result is the
policy's argmax over model × endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Candidate, Decision, Price, Situation

__all__ = ["ByModel", "arms_by_effort", "at_price", "expand_endpoints", "pick_endpoint"]

# Weights that break ties between endpoints of equal utility: quality per dollar, per second to the
# first token, per second between tokens, per failed call.
_TIE_COST, _TIE_TTFT, _TIE_ITL, _TIE_ERRORS = 10.0, 0.02, 1.0, 0.5
_RESOLUTION = 1e-12


def expand_endpoints(candidates: Sequence[Any]) -> tuple[Any, ...]:
    """Replace every candidate with endpoints by one candidate per endpoint, `model@endpoint`."""
    arms: list[Any] = []
    for candidate in candidates:
        if not isinstance(candidate, Candidate) or len(candidate.endpoints) == 0:
            arms.append(candidate)
            continue
        for endpoint in candidate.endpoints:
            overrides: dict[str, Any] = {
                name: value
                for name in ("model", "price", "ttft_s", "itl_s")
                if (value := getattr(endpoint, name)) is not None
            }
            if endpoint.price is not None:
                overrides["expected_cost_usd"] = _mean_cost_usd(candidate, endpoint.price)
            arms.append(
                replace(
                    candidate,
                    name=f"{candidate.name}@{endpoint.name}",
                    endpoint_of=candidate.name,
                    endpoints=(),
                    parameters={**candidate.parameters, **endpoint.parameters},
                    **overrides,
                )
            )
    return tuple(arms)


def arms_by_effort(candidates: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
    """Return the arms made by `Candidate.efforts`, by the name of the candidate they are made of.

    A candidate that has this name itself is what the name means.
    """
    arms: dict[str, tuple[str, ...]] = {}
    for candidate in candidates:
        if candidate.effort_of is not None:
            known = arms.get(candidate.effort_of, ())
            arms[candidate.effort_of] = (*known, candidate.name)
    own = {name for c in candidates for name in (c.name, c.model_name)}
    return {name: made for name, made in arms.items() if name not in own}


def at_price(candidate: Candidate, price: Price) -> Candidate:
    """Return the candidate with another price; a measured mean cost is scaled to it."""
    return replace(candidate, price=price, expected_cost_usd=_mean_cost_usd(candidate, price))


def _mean_cost_usd(candidate: Candidate, price: Price) -> float | None:
    """Scale the measured mean cost to another price, in proportion for a typical call."""
    if candidate.expected_cost_usd is None or candidate.price is None:
        return None
    tokens = candidate.expected_output_tokens
    new = price.estimate_usd(input_tokens=tokens, output_tokens=tokens)
    old = candidate.price.estimate_usd(input_tokens=tokens, output_tokens=tokens)
    return None if old <= 0 else candidate.expected_cost_usd * new / old


def pick_endpoint(policy: Policy, arms: Sequence[Arm], situation: Situation) -> tuple[Arm, str]:
    """Choose the endpoint to ask and return it with the reason.

    Endpoints with open breakers come last. At the first step of a request an endpoint that is due
    for a probe gets it. Otherwise the policy's utility decides, then price, speed and failures.
    """
    if len(arms) == 1:
        return arms[0], ""
    timed = all(arm.ttft_s is not None and arm.itl_s is not None for arm in arms)

    def rank(arm: Arm) -> tuple[bool, float, float]:
        utility = policy.endpoint_utility(arm, situation)
        rounded = round(utility / _RESOLUTION) * _RESOLUTION
        return arm.available, rounded, _tie_break(arm, timed=timed)

    best = max(arms, key=rank)
    if len(situation.attempts) == 0:
        due = [arm for arm in arms if arm.probe and arm.available]
        # Of several due for a probe, the one most likely to be the best.
        probe = max(due, key=rank, default=None)
        if probe is not None and probe is not best:
            return probe, f"a probe of {probe.candidate}, whose current state is unknown"
    names = [arm.candidate for arm in arms if arm is not best]
    return best, f"{best.candidate} is the best endpoint, ahead of {', '.join(names)}"


def _tie_break(arm: Arm, *, timed: bool) -> float:
    value = -_TIE_ERRORS * (arm.error_rate or 0.0)
    if arm.cost_usd is not None:
        value -= _TIE_COST * arm.cost_usd
    if timed and arm.ttft_s is not None and arm.itl_s is not None:
        value -= _TIE_TTFT * arm.ttft_s + _TIE_ITL * arm.itl_s
    return value


@dataclass(frozen=True)
class ByModel:
    """A situation with one arm per model, as the policy sees it."""

    situation: Situation
    """The situation by models: arms and attempts have the models' names."""

    chosen: dict[str, tuple[Arm, str]]
    """The chosen endpoint of every model, and the reason."""

    by_endpoint: Situation
    """The situation by endpoints: arms and attempts have the endpoints' names."""

    @classmethod
    def of(cls, policy: Policy, by_endpoint: Situation) -> ByModel:
        """Group arms and attempts by model.

        A failed attempt at one endpoint counts as a failure of the model only when no other
        endpoint can be asked.
        """
        groups: dict[str, list[Arm]] = {}
        for arm in by_endpoint.arms:
            groups.setdefault(arm.model_name, []).append(arm)
        attempts, answered = _by_model(by_endpoint, groups)
        open_names = {arm.candidate for arm in by_endpoint.open_arms}
        chosen: dict[str, tuple[Arm, str]] = {}
        for model, arms in groups.items():
            if model in answered:
                answered_by = next(a for a in arms if a.candidate == answered[model])
                chosen[model] = answered_by, ""
            else:
                left = [arm for arm in arms if arm.candidate in open_names]
                chosen[model] = pick_endpoint(policy, left or arms, by_endpoint)
        best = tuple(replace(arm, candidate=model) for model, (arm, _) in chosen.items())
        return cls(replace(by_endpoint, arms=best, attempts=attempts), chosen, by_endpoint)

    def translate(self, decision: Decision) -> Decision:
        """Translate the decision on a model to its endpoint."""
        arm, why = self.chosen[decision.candidate]
        scores: dict[str, dict[str, float | None]] = {}
        for model, numbers in decision.scores.items():
            name = self.chosen[model][0].candidate if model in self.chosen else model
            scores[name] = dict(numbers)
        if len(scores) > 0:
            for other in self.by_endpoint.arms:
                numbers = scores.setdefault(other.candidate, {})
                numbers.setdefault("cost_usd", other.cost_usd)
                numbers |= {
                    "ttft_s": other.ttft_s,
                    "itl_s": other.itl_s,
                    "tokens_per_s": other.tokens_per_s,
                    "error_rate": other.error_rate,
                }
        reason = decision.reason
        if decision.action == "ask" and why:
            reason = f"{reason}; {why}"
        after = decision.likely_next
        if after is not None and after in self.chosen:
            after = self.chosen[after][0].candidate
        return replace(
            decision, candidate=arm.candidate, scores=scores, reason=reason, likely_next=after
        )


def _by_model(
    by_endpoint: Situation, groups: dict[str, list[Arm]]
) -> tuple[tuple[Attempt, ...], dict[str, str]]:
    """Return the attempts with models' names, and the endpoint that answered for each model."""
    model_of = {arm.candidate: model for model, arms in groups.items() for arm in arms}
    still_open = {model_of[arm.candidate] for arm in by_endpoint.open_arms}
    attempts: list[Attempt] = []
    answered: dict[str, str] = {}
    for attempt in by_endpoint.attempts:
        name = attempt["candidate"]
        model = model_of.get(name, name)
        if attempt.get("error") is None:
            answered[model] = name
        elif model in still_open or any(a["candidate"] == model for a in attempts):
            continue
        attempts.append({**attempt, "candidate": model})
    return tuple(attempts), answered
