"""Climbs: a stuck tool loop escalates to a stronger candidate, and never to a weaker one.

Which candidate has a loop is read from the records of its answers, so nothing is kept between
calls. Choosing the next one is pure, like every decision: the reading is in the situation, and
replay decides the same again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_llm_router.loop.conversation import candidate_of
from langchain_llm_router.loop.endpoints import pick_endpoint
from langchain_llm_router.loop.stuck import HandOver
from langchain_llm_router.loop.stuck_signals import since_last_human
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Candidate, Decision, Situation
from langchain_llm_router.types.figures import format_usd

__all__ = [
    "ToolLoop",
    "climb",
    "drop_weaker",
    "hand_over_to",
    "models_by_strength",
    "price_prompts",
    "read_handed_over",
    "read_tool_loop",
    "stay_reason",
]

_TYPICAL_TOKENS = 1000


class ToolLoop(NamedTuple):
    """A tool loop as far as its strongest candidate has come."""

    holder: str
    """Name of the candidate that has the loop."""

    messages: Sequence[BaseMessage]
    """The loop's messages from the holder's first answer on."""


def models_by_strength(
    candidates: Sequence[Candidate], arms: Sequence[Arm], *, declared: bool
) -> tuple[str, ...]:
    """Return the names of the models, the weakest first.

    They are ordered by predicted quality, else by price, else as declared. None of these changes
    within a tool loop, because predictions depend on what the user said.

    Args:
        candidates: All candidates of the router.
        arms: Their arms, in the same order.
        declared: Whether the declared order must be kept, because the policy escalates along it.
    """
    models = list(dict.fromkeys(candidate.model_name for candidate in candidates))
    if declared:
        return tuple(models)
    of_model = {c.model_name: (c, arm) for c, arm in zip(candidates, arms, strict=True)}
    quality = {name: of_model[name][1].quality for name in models}
    if None not in quality.values():
        return tuple(sorted(models, key=quality.__getitem__))  # type: ignore[arg-type]
    costs = {name: _typical_usd(of_model[name][0]) for name in models}
    if None not in costs.values():
        return tuple(sorted(models, key=costs.__getitem__))  # type: ignore[arg-type]
    return tuple(models)


def _typical_usd(candidate: Candidate) -> float | None:
    """Return what a typical call costs, whatever is in the prompt cache."""
    if candidate.price is None:
        return candidate.expected_cost_usd
    return candidate.price.estimate_usd(
        input_tokens=_TYPICAL_TOKENS, output_tokens=candidate.expected_output_tokens
    )


def read_tool_loop(
    messages: Sequence[BaseMessage], model_of: Mapping[str, str], order: Sequence[str]
) -> ToolLoop | None:
    """Find the candidate that has a tool loop: the strongest that has answered in it.

    A weaker one may have answered since, because a call failed. The loop goes back to the stronger
    one then: it only climbs.

    Args:
        messages: The conversation, with the decision records of its answers.
        model_of: The model of each candidate, by the candidate's name.
        order: The models, the weakest first.

    Returns:
        None if no record names one of the candidates.
    """
    loop = since_last_human(messages)
    holder, first, highest = "", 0, -1
    for i, message in enumerate(loop):
        name = candidate_of(message)
        if name is None or name not in model_of:
            continue
        rank = order.index(model_of[name])
        if rank > highest:
            holder, first, highest = name, i, rank
        elif rank == highest:
            holder = name
    return None if highest < 0 else ToolLoop(holder, loop[first:])


def price_prompts(
    situation: Situation,
    candidates: Mapping[str, Candidate],
    input_tokens: float,
    cached: Mapping[str, float],
) -> Situation:
    """Return the situation with the cost of reading the prompt in every arm.

    Args:
        situation: The situation.
        candidates: The candidates by name; where one has no price, the cost stays unknown.
        input_tokens: Length of the prompt.
        cached: Number of prompt tokens in the prompt cache of the provider, by candidate.
    """

    def prompt_usd(name: str) -> float | None:
        price, n_cached = candidates[name].price, cached.get(name, 0)
        if price is None:
            return None
        return price.estimate_usd(
            input_tokens=input_tokens, output_tokens=0, cache_read_tokens=n_cached
        )

    arms = (replace(arm, prompt_usd=prompt_usd(arm.candidate)) for arm in situation.arms)
    return replace(situation, arms=tuple(arms))


def climb(policy: Policy, situation: Situation) -> Decision | None:
    """Return the step to the next stronger candidate; None if the loop stays where it is.

    Candidates that are not available or whose switch costs more than the limit are passed over.
    """
    stuck, holder = situation.stuck, situation.prefer
    if stuck is None or not stuck.stuck or holder is None or holder not in situation.names:
        return None
    open_arms = [arm for arm in situation.open_arms if arm.available]
    for model in stuck.above:
        arms = [arm for arm in open_arms if model in (arm.candidate, arm.model)]
        if len(arms) == 0:
            continue
        arm, why = pick_endpoint(policy, arms, situation)
        switch_usd = _switch_usd(situation.arm(holder), arm)
        limit = stuck.max_switch_usd
        if limit is not None and (switch_usd is None or switch_usd > limit):
            continue
        reason = f"{holder} is stuck: {stuck.detail}; {arm.candidate} goes on, and "
        reason += f"{_price_of_switch(switch_usd)}; {why}" if why else _price_of_switch(switch_usd)
        return Decision(
            action="ask",
            candidate=arm.candidate,
            policy=type(policy).__name__,
            reason=reason,
            final=policy.accepts_unverified(len(open_arms)),
            scores=_scores(situation, holder),
            signal=stuck.signal,
        )
    return None


def _switch_usd(old: Arm, new: Arm) -> float | None:
    """Return how much more the new candidate takes to read the prompt; None if unknown."""
    if old.prompt_usd is None or new.prompt_usd is None:
        return None
    return new.prompt_usd - old.prompt_usd


def _price_of_switch(usd: float | None) -> str:
    if usd is None:
        return "what reading the conversation again costs is unknown"
    more = "more" if usd >= 0 else "less"
    return f"reading the conversation again costs {format_usd(abs(usd))} {more}"


def _scores(situation: Situation, holder: str) -> dict[str, dict[str, float | None]]:
    old = situation.arm(holder)
    return {
        arm.candidate: {
            "quality": arm.quality,
            "cost_usd": arm.cost_usd,
            "prompt_usd": arm.prompt_usd,
            "switch_usd": _switch_usd(old, arm),
        }
        for arm in situation.arms
    }


def hand_over_to(
    model: str, messages: Sequence[BaseMessage], model_of: Mapping[str, str], hand_over: HandOver
) -> Sequence[BaseMessage]:
    """Return what a model reads of a tool loop that another one began.

    Args:
        model: Name of the model that is asked.
        messages: The conversation, with the decision records of its answers.
        model_of: The model of each candidate, by the candidate's name.
        hand_over: Shortens the messages before the model took over.

    Raises:
        TypeError: If `hand_over` returns anything but messages.
    """
    begin = len(messages) - len(since_last_human(messages))
    answered_by: list[tuple[int, str]] = []
    for i, message in enumerate(messages[begin:], begin):
        name = candidate_of(message)
        if name is not None and name in model_of:
            answered_by.append((i, model_of[name]))
    took_over = next((i for i, name in answered_by if name == model), len(messages))
    if all(i >= took_over for i, _ in answered_by):
        return messages
    return [*read_handed_over(hand_over(messages[:took_over])), *messages[took_over:]]


def read_handed_over(given: Any) -> list[BaseMessage]:
    """Return the messages that a user's `hand_over` made for the next candidate.

    Raises:
        TypeError: If it returned anything but messages, or none.
    """
    if (
        not isinstance(given, Sequence)
        or len(given) == 0
        or not all(isinstance(message, BaseMessage) for message in given)
    ):
        msg = f"`hand_over` must return a list of at least one message, got {given!r:.80}."
        raise TypeError(msg)
    return list(given)


def stay_reason(situation: Situation) -> str:
    """Return why the candidate that has the conversation is asked first."""
    stuck, reason = situation.stuck, f"{situation.prefer} has this thread"
    if stuck is None or not stuck.stuck:
        return reason
    if len(stuck.above) == 0:
        return f"{reason}; it is stuck ({stuck.detail}), but it may escalate to no stronger one"
    return f"{reason}; it is stuck ({stuck.detail}), but none of {list(stuck.above)} may be asked"


def drop_weaker(situation: Situation) -> Situation:
    """After the answer of a candidate that the loop climbed to, drop the weaker ones not asked."""
    stuck, answered = situation.stuck, situation.answered
    if stuck is None or not stuck.stuck or len(answered) == 0:
        return situation
    name = answered[-1]["candidate"]
    model = situation.arm(name).model_name if name in situation.names else name
    if model not in stuck.above:
        return situation
    stronger = stuck.above[stuck.above.index(model) :]
    return _keep(situation, stronger)


def _keep(situation: Situation, models: Collection[str]) -> Situation:
    asked = {attempt["candidate"] for attempt in situation.attempts}
    arms = tuple(
        arm for arm in situation.arms if arm.candidate in asked or arm.model_name in models
    )
    return replace(situation, arms=arms)
