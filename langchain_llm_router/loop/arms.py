"""A situation: the arms that a policy may choose from, and what is expected of each. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from langchain_llm_router.live.measurements import ArmStats
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import CHARS_PER_TOKEN, Arm, Candidate, Price, Situation
from langchain_llm_router.types.errors import NoCandidateError
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = [
    "begin",
    "build_arms",
    "expected_cost_usd",
    "not_below",
    "stay_with",
    "switching_cost_usd",
    "with_quality",
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
) -> tuple[Arm, ...]:
    """What is expected of each candidate for this query, before any is asked.

    Args:
        candidates: The arms, endpoints expanded.
        quality: Predicted quality per candidate; NaN where its estimator abstains.
        query: The text to be answered.
        live: What telemetry measured, by name; it replaces what a candidate declares.
        input_tokens: Length of the whole prompt; None: the query's, 4 characters a token.
        output_tokens: Predicted length of each one's answer; None: its mean as measured, or as
            declared.
        cached: How many tokens of the prompt each one's provider has cached: asking those
            candidates costs less.

    The expected cost is the price times these lengths; where no length is predicted and the
    candidate has an `expected_cost_usd`, it is that plus the price of what precedes the query.
    """
    if input_tokens is None:
        input_tokens = len(query) / CHARS_PER_TOKEN
    arms = []
    for i, candidate in enumerate(candidates):
        stats = _UNMEASURED if live is None else live.get(candidate.name, _UNMEASURED)
        length = stats.output_tokens
        if length is None:
            length = candidate.expected_output_tokens
        if output_tokens is not None:
            length = output_tokens[i]
        held = 0 if cached is None else cached.get(candidate.name, 0)
        cost = expected_cost_usd(
            candidate,
            query_tokens=len(query) / CHARS_PER_TOKEN,
            input_tokens=input_tokens,
            output_tokens=length,
            cached_tokens=min(held, input_tokens),
            predicted=output_tokens is not None,
        )
        arms.append(
            Arm(
                candidate=candidate.name,
                quality=None if quality is None or math.isnan(quality[i]) else float(quality[i]),
                cost_usd=cost,
                ttft_s=candidate.ttft_s if stats.ttft_s is None else stats.ttft_s,
                itl_s=candidate.itl_s if stats.itl_s is None else stats.itl_s,
                model=candidate.endpoint_of,
                error_rate=stats.error_rate,
                available=stats.available,
                probe=stats.probe,
            )
        )
    return tuple(arms)


def expected_cost_usd(
    candidate: Candidate,
    *,
    query_tokens: float,
    input_tokens: float,
    output_tokens: float,
    cached_tokens: float,
    predicted: bool,
) -> float | None:
    """Expected cost of a call in a conversation that its provider has partly cached.

    Args:
        candidate: The model that the call is made to.
        query_tokens: Length of the question alone.
        input_tokens: Length of the whole prompt.
        output_tokens: Length of the answer, as predicted or as is usual.
        cached_tokens: How much of the prompt its provider has cached.
        predicted: Whether the length is predicted for this query: then it counts and not the
            measured mean cost.

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
    # The mean is that of questions alone: the conversation before them comes on top, cached or not.
    earlier = max(0.0, input_tokens - query_tokens)
    return (
        mean
        + price.estimate_usd(input_tokens=earlier, output_tokens=0)
        - switching_cost_usd(price, min(cached_tokens, earlier))
    )


def switching_cost_usd(price: Price, prefix_tokens: float) -> float:
    """What leaving a candidate throws away: prefix · (price of a miss - price of a hit).

    It is not charged separately: an arm whose prefix is cached costs that much less, so the one
    utility weighs it against what another arm is better at.
    """
    hit = price.cache_read_usd_per_mtok
    return 0.0 if hit is None else prefix_tokens * (price.input_usd_per_mtok - hit) / 1e6


def begin(
    query: str,
    arms: Sequence[Arm],
    options: RoutingOptions | None = None,
    *,
    unfit: Mapping[str, str] | None = None,
) -> Situation:
    """The situation before any candidate is asked, without the arms that may not be asked.

    Args:
        query: What is asked.
        arms: All of them.
        options: What the request forbids; `force` overrules every other condition.
        unfit: Candidates that cannot do what the request needs, and why.

    Raises:
        ValueError: If the options name an unknown candidate, or there is no arm at all.
        NoCandidateError: If no arm is left; the message says why for each.
    """
    if len(arms) == 0:
        msg = "A situation needs at least one arm: the pool of candidates is empty."
        raise ValueError(msg)
    options = NO_OPTIONS if options is None else options
    free = options.force is None and options.candidates is None and not options.filters
    if free and not unfit:
        return Situation(query, tuple(arms), (), options)
    names = list(dict.fromkeys(arm.model or arm.candidate for arm in arms))
    named = [*(options.candidates or ()), *([] if options.force is None else [options.force])]
    for name in named:
        if name not in names and all(name != arm.candidate for arm in arms):
            msg = f"Unknown candidate {name!r} in the routing options: allowed are {names}."
            raise ValueError(msg)
    if options.force is not None:
        left = tuple(arm for arm in arms if options.force in (arm.candidate, arm.model))
        return Situation(query, left, (), options)
    reasons = {arm.candidate: _why_not(arm, options, unfit or {}) for arm in arms}
    left = tuple(arm for arm in arms if reasons[arm.candidate] is None)
    if len(left) == 0:
        msg = f"No candidate may be asked for this request: {reasons}."
        raise NoCandidateError(msg)
    return Situation(query, left, (), options)


def _why_not(arm: Arm, options: RoutingOptions, unfit: Mapping[str, str]) -> str | None:
    if options.candidates is not None and not {arm.candidate, arm.model} & {*options.candidates}:
        return "the request does not allow it"
    if arm.candidate in unfit:
        return unfit[arm.candidate]
    values = {
        "quality": arm.quality,
        "cost": arm.cost_usd,
        "ttft": arm.ttft_s,
        "itl": arm.itl_s,
    }
    for condition in options.filters:
        value = values[condition.metric]
        if not condition.admits(value):
            return f"its {condition.metric} {value!r} does not meet {condition}"
    return None


def stay_with(situation: Situation, policy: Policy, name: str | None) -> Situation:
    """Make the candidate that holds the conversation the first to ask, if it may be asked.

    A policy that verifies may still escalate from there, but not start over with the cheaper
    candidates that were skipped before.
    """
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    arms = not_below(situation, name).arms if policy.verifies else situation.arms
    return replace(situation, arms=arms, prefer=name)


def not_below(situation: Situation, name: str | None) -> Situation:
    """Only the candidate's model and those declared after it: a thread may climb, not fall."""
    if name is None or name not in situation.names or situation.options.force is not None:
        return situation
    model = situation.arm(name).model or name
    arms = situation.arms
    first = next(i for i, arm in enumerate(arms) if model in (arm.candidate, arm.model))
    return replace(situation, arms=arms[first:])


def with_quality(situation: Situation, quality: Mapping[str, float]) -> Situation:
    """The situation with other predictions, by the models' names; NaN: none."""
    arms = []
    for arm in situation.arms:
        value = quality[arm.model or arm.candidate]
        # NaN, which is not itself, is an estimator's "I do not know".
        arms.append(replace(arm, quality=value if value == value else None))  # noqa: PLR0124
    return replace(situation, arms=tuple(arms))
