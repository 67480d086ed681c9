"""Situations: the arms that a policy may choose from, with their expected outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from langchain_llm_router.live.measurements import ArmStats, throughput
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import CHARS_PER_TOKEN, Arm, Candidate, Price, Situation
from langchain_llm_router.types.errors import NoCandidateError
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions
from langchain_llm_router.types.tokens import estimate_tokens

__all__ = [
    "begin",
    "build_arms",
    "drop_earlier_arms",
    "expected_cost_usd",
    "prefer_candidate",
    "replace_quality",
    "switching_cost_usd",
]

_UNMEASURED = ArmStats()


def build_arms(
    candidates: Sequence[Candidate],
    quality: Sequence[float] | None,
    query: str,
    *,
    live: Mapping[str, ArmStats] | None = None,
    input_tokens: float | None = None,
    output_tokens: Sequence[float] | None = None,
    cached: Mapping[str, float] | None = None,
    text_tokens: float | None = None,
) -> tuple[Arm, ...]:
    """Build the arms for a query: what a call to each candidate is expected to bring.

    The expected cost is the price times the lengths below. Where no answer length is predicted and
    the candidate has an `expected_cost_usd`, it is that plus the price of the earlier messages.

    Args:
        candidates: The candidates, with endpoints expanded.
        quality: Predicted quality per candidate; NaN where the estimator abstains.
        query: The text to be answered.
        live: Statistics measured by telemetry, by name; they replace what a candidate declares.
        input_tokens: Length of the prompt; if None, the estimated one of the query.
        output_tokens: Predicted answer length per candidate; if None, the measured or else the
            declared mean.
        cached: Number of prompt tokens in the prompt cache of the provider, by candidate.
        text_tokens: Length of the prompt by its text alone, where `input_tokens` and `cached` are
            from records, which a caller may have written.
    """
    query_tokens = len(query) / CHARS_PER_TOKEN if query.isascii() else estimate_tokens(query)
    input_tokens = query_tokens if input_tokens is None else input_tokens
    arms = []
    for i, candidate in enumerate(candidates):
        stats = _UNMEASURED if live is None else live.get(candidate.name, _UNMEASURED)
        length = stats.output_tokens
        if length is None:
            length = candidate.expected_output_tokens
        if output_tokens is not None:
            length = output_tokens[i]
        n_cached = 0 if cached is None else cached.get(candidate.name, 0)
        cost = expected_cost_usd(
            candidate,
            query_tokens=query_tokens,
            input_tokens=input_tokens,
            output_tokens=length,
            cached_tokens=min(n_cached, input_tokens),
            predicted=output_tokens is not None,
        )
        capped = None
        if text_tokens is not None:
            capped = expected_cost_usd(
                candidate,
                query_tokens=query_tokens,
                input_tokens=max(input_tokens, text_tokens),
                output_tokens=length,
                cached_tokens=0,
                predicted=output_tokens is not None,
            )
        ttft_s = candidate.ttft_s if stats.ttft_s is None else stats.ttft_s
        itl_s = candidate.itl_s if stats.itl_s is None else stats.itl_s
        arms.append(
            Arm(
                candidate=candidate.name,
                quality=None if quality is None or math.isnan(quality[i]) else float(quality[i]),
                cost_usd=cost,
                capped_usd=capped,
                ttft_s=ttft_s,
                itl_s=itl_s,
                tokens_per_s=None if ttft_s is None else throughput(ttft_s, itl_s, length),
                price_age_s=stats.price_age_s,
                price_from_feed=stats.price_from_feed,
                model=candidate.endpoint_of,
                error_rate=stats.error_rate,
                available=stats.available,
                max_input_tokens=_window(candidate),
                probe=stats.probe,
            )
        )
    return tuple(arms)


def _window(candidate: Candidate) -> int | None:
    profile = getattr(candidate.model, "profile", None)
    if profile is None:
        return None
    return profile.get("max_input_tokens") if isinstance(profile, Mapping) else None


def expected_cost_usd(
    candidate: Candidate,
    *,
    query_tokens: float,
    input_tokens: float,
    output_tokens: float,
    cached_tokens: float,
    predicted: bool,
) -> float | None:
    """Compute the expected cost of a call whose prompt the provider has partly cached.

    Args:
        candidate: The candidate that is called.
        query_tokens: Length of the query alone.
        input_tokens: Length of the prompt.
        output_tokens: Expected length of the answer.
        cached_tokens: Number of prompt tokens in the provider's prompt cache.
        predicted: Whether the answer length was predicted for this query; if so, it is used
            instead of the measured mean cost.

    Returns:
        None if neither a price nor a mean cost is known.
    """
    price, mean = candidate.price, candidate.expected_cost_usd
    if price is None:
        return mean
    if mean is None or predicted:
        return price.estimate_usd(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cached_tokens,
        )
    # The mean cost is that of queries alone: earlier messages are added, cached or not.
    earlier = max(0.0, input_tokens - query_tokens)
    return (
        mean
        + price.estimate_usd(input_tokens=earlier, output_tokens=0)
        - switching_cost_usd(price, min(cached_tokens, earlier))
    )


def switching_cost_usd(price: Price, prefix_tokens: float) -> float:
    """Compute the cost of losing a cached prefix: prefix · (price of a miss - price of a hit).

    It is no separate charge: an arm whose prefix is cached costs that much less, so the utility
    already weighs it.
    """
    hit = price.cache_read_usd_per_mtok
    return 0.0 if hit is None else prefix_tokens * (price.input_usd_per_mtok - hit) / 1e6


def begin(
    query: str,
    arms: Sequence[Arm],
    options: RoutingOptions | None = None,
    *,
    unfit: Mapping[str, str] | None = None,
    closed: Mapping[str, str] | None = None,
) -> Situation:
    """Build the situation before the first step, with only the arms that may be asked.

    Args:
        query: The text to be answered.
        arms: The arms of all candidates.
        options: The request's options; `force` overrides every other condition.
        unfit: Reasons why candidates cannot serve the request, by name.
        closed: Reasons why candidates must not see the request, by name; `force` does not override
            them.

    Raises:
        ValueError: If the options name an unknown candidate, or there is no arm at all.
        NoCandidateError: If no arm is left; the message has the reason for each.
    """
    if len(arms) == 0:
        msg = "A situation needs at least one arm, but there are no candidates: add one."
        raise ValueError(msg)
    options = NO_OPTIONS if options is None else options
    unrestricted = options.force is None and options.candidates is None and not options.filters
    if unrestricted and not unfit and not closed:
        return Situation(query, tuple(arms), (), options)
    names = list(dict.fromkeys(arm.model_name for arm in arms))
    named = [*(options.candidates or ()), *([] if options.force is None else [options.force])]
    for name in named:
        if name not in names and all(name != arm.candidate for arm in arms):
            msg = f"Unknown candidate {name!r} in the routing options: it must be one of {names}."
            raise ValueError(msg)
    if options.force is not None:
        forced = [arm for arm in arms if options.force in (arm.candidate, arm.model)]
        reasons = {arm.candidate: (closed or {}).get(arm.candidate) for arm in forced}
    else:
        excluded = {**(unfit or {}), **(closed or {})}
        reasons = {arm.candidate: _exclusion_reason(arm, options, excluded) for arm in arms}
    left = tuple(arm for arm in arms if reasons.get(arm.candidate, "") is None)
    if len(left) == 0:
        msg = f"No candidate may be asked for this request: {reasons}."
        raise NoCandidateError(msg)
    return Situation(query, left, (), options)


def _exclusion_reason(arm: Arm, options: RoutingOptions, excluded: Mapping[str, str]) -> str | None:
    if options.candidates is not None and not {arm.candidate, arm.model} & {*options.candidates}:
        return "the request does not allow it"
    if arm.candidate in excluded:
        return excluded[arm.candidate]
    values = {
        "quality": arm.quality,
        "cost": arm.limited_usd,
        "ttft": arm.ttft_s,
        "itl": arm.itl_s,
        "throughput": arm.tokens_per_s,
    }
    for condition in options.filters:
        value = values[condition.metric]
        if not condition.admits(value):
            return f"its {condition.metric} {value!r} does not meet {condition}"
    return None


def prefer_candidate(situation: Situation, policy: Policy, name: str | None) -> Situation:
    """Return the situation with a candidate to ask first, if it may be asked.

    A policy that verifies may escalate from it, but not ask the candidates declared before it.
    """
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    arms = drop_earlier_arms(situation, name).arms if policy.verifies else situation.arms
    return replace(situation, arms=arms, prefer=name)


def drop_earlier_arms(situation: Situation, name: str | None) -> Situation:
    """Return the situation with only a candidate's model and those declared after it."""
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    model = situation.arm(name).model_name
    arms = situation.arms
    first = next(i for i, arm in enumerate(arms) if model in (arm.candidate, arm.model))
    return replace(situation, arms=arms[first:])


def replace_quality(situation: Situation, quality: Mapping[str, float]) -> Situation:
    """Return the situation with other predictions, by model name; NaN means no prediction."""
    arms = []
    for arm in situation.arms:
        value = quality[arm.model_name]
        # An estimator abstains with NaN, which is the only value that differs from itself.
        arms.append(replace(arm, quality=value if value == value else None))  # noqa: PLR0124
    return replace(situation, arms=tuple(arms))
