"""The first situation of a request, made from its messages, its options and the router's parts.

It says which candidates may be asked and are capable of answering, what is expected of each, and
which of them the conversation stays with. It is made once per request; making it performs no I/O
beyond reading live numbers and budgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_llm_router.calls.bindings import schema_method, wants_schema
from langchain_llm_router.calls.efforts import EFFORT_KEYS, other_effort
from langchain_llm_router.calls.tools import foreign_tool
from langchain_llm_router.loop.arms import begin, build_arms, drop_earlier_arms, prefer_candidate
from langchain_llm_router.loop.capabilities import needs_of, shortfall
from langchain_llm_router.loop.climbs import (
    ToolLoop,
    models_by_strength,
    price_prompts,
    read_tool_loop,
)
from langchain_llm_router.loop.conversation import Conversation, read_conversation
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.types import Situation
from langchain_llm_router.types.errors import NoCandidateError
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = ["align_quality", "earlier_quality", "left_out", "make_situation"]


def make_situation(
    parts: Parts,
    messages: Sequence[BaseMessage],
    quality: Sequence[float] | None,
    config: Mapping[str, Any] | None,
    kwargs: dict[str, Any],
    sensitive: str | None = None,
) -> Situation:
    """Make the first situation of a request.

    Args:
        parts: The router's parts.
        messages: The conversation.
        quality: Predicted quality per candidate, NaN if there is no prediction.
        config: The config of the call; `configurable["llm_router"]` has the request's options.
        kwargs: Keyword arguments of the call, including bound tools and schema; `model` is removed
            because it is an option of the router.
        sensitive: Why only some candidates may see the request; None if all may.

    Raises:
        NoCandidateError: If no candidate may be asked or is capable of answering.
        ValueError: If there is no message, or an option is invalid.
    """
    fields = parts.fields
    options = _options_of(parts, config, kwargs)
    conversation = read_conversation(messages, parts.names, fields.turns)
    arms = build_arms(
        parts.candidates,
        quality,
        conversation.query,
        output_tokens=_output_tokens(parts, conversation.query, sensitive),
        live=None if parts.live is None else parts.live.stats(parts.candidates),
        input_tokens=conversation.prompt_tokens,
        cached=conversation.cached_tokens,
        text_tokens=conversation.text_tokens,
    )
    if fields.budgets is not None:
        from langchain_llm_router.budgets.token_bounds import (  # noqa: PLC0415 - slow to load
            bounded_in_units,
        )

        arms = bounded_in_units(
            arms,
            parts.by_name,
            messages,
            kwargs,
            in_tokens=fields.budgets.in_tokens,
            settings=parts.settings,
            verifier=fields.verifier if parts.policy.verifies else None,
            live=parts.live,
            price_of=parts.price_of,
        )
    needs_fit = parts.profiles or kwargs.keys() & {"tools", *EFFORT_KEYS}
    unfit = _unfit(parts, messages, kwargs) if needs_fit else None
    closed = None if parts.confinement is None else parts.confinement.closed(sensitive)
    situation = begin(conversation.query, arms, options, unfit=unfit, closed=closed)
    if sensitive is not None:
        situation = replace(situation, sensitive=sensitive)
    if conversation.in_tool_loop and parts.stuck is not None and options.force is None:
        order = models_by_strength(parts.candidates, arms, declared=parts.policy.verifies)
        loop = read_tool_loop(messages, parts.model_of, order)
        if loop is not None:
            return _stay_in_loop(situation, parts, conversation, loop, order)
    return _apply_sticky(situation, parts, conversation)


def left_out(parts: Parts, sensitive: str | None, part: object) -> NoCandidateError | None:
    """Return why a part is not used for a sensitive request; None if it may be used.

    Args:
        parts: The router's parts.
        sensitive: Why the request is sensitive; None if it is not.
        part: The estimator, verifier or other part; None if the router has none.
    """
    if sensitive is None or part is None or parts.confinement is None:
        return None
    return parts.confinement.leaves_out(part)


def align_quality(parts: Parts, predicted: Sequence[float] | Mapping[str, float] | None) -> Any:
    """Return the predicted qualities in the order of the candidates."""
    if predicted is None:
        return None
    if isinstance(predicted, Mapping):
        models = [candidate.model_name for candidate in parts.candidates]
        return [predicted.get(model, math.nan) for model in models]
    return [predicted[column] for column in parts.columns]


def earlier_quality(parts: Parts, first: Situation) -> list[float] | None:
    """Return the predictions of a request's first situation, if it covers every candidate."""
    arms = {arm.candidate: arm.quality for arm in first.arms}
    if not arms.keys() >= set(parts.names):
        return None
    earlier = [arms[name] for name in parts.names]
    return [math.nan if quality is None else quality for quality in earlier]


def _stay_in_loop(
    situation: Situation,
    parts: Parts,
    conversation: Conversation,
    loop: ToolLoop,
    order: Sequence[str],
) -> Situation:
    """Stay with the candidate that has the tool loop, and read whether it is stuck."""
    assert parts.stuck is not None
    situation = prefer_candidate(situation, parts.policy, loop.holder)
    if situation.prefer is None:
        return situation
    tokens, cached = conversation.prompt_tokens, conversation.cached_tokens
    situation = price_prompts(situation, parts.by_name, tokens, cached)
    stronger = order[order.index(parts.model_of[loop.holder]) + 1 :]
    may_be_asked = {arm.model_name for arm in situation.arms}
    above = tuple(name for name in stronger if name in may_be_asked & parts.climbs_to)
    return replace(situation, stuck=replace(parts.stuck.read(loop.messages), above=above))


def _apply_sticky(situation: Situation, parts: Parts, conversation: Conversation) -> Situation:
    sticky = situation.options.sticky
    if sticky is None:
        sticky = parts.fields.sticky
    if conversation.in_tool_loop or sticky is True:
        return prefer_candidate(situation, parts.policy, conversation.holder)
    if sticky == "escalate":
        return drop_earlier_arms(situation, conversation.strongest)
    return situation


def _options_of(
    parts: Parts, config: Mapping[str, Any] | None, kwargs: dict[str, Any]
) -> RoutingOptions:
    """Return the request's options; `model` is removed from the keyword arguments."""
    value = ((config or {}).get("configurable") or {}).get("llm_router")
    options = NO_OPTIONS if value is None else RoutingOptions.parse(value)
    model = kwargs.pop("model", None)
    if isinstance(model, str) and model.startswith("router@"):
        options = RoutingOptions.parse(model)
    elif model is not None:
        options = replace(options, force=parts.resolve_name(model))
    if parts.efforts:
        options = _name_efforts(options, parts.efforts)
    budgets = parts.fields.budgets
    pace = None if budgets is None else budgets.lambda_(config or {})
    if pace is not None:
        options = replace(options, lambda_=max(pace, options.lambda_ or 0.0))
    return options


def _name_efforts(
    options: RoutingOptions, efforts: Mapping[str, tuple[str, ...]]
) -> RoutingOptions:
    """Return the options with the arms in place of the candidate that they are efforts of.

    To force a model with several efforts leaves the choice among them to the policy.
    """
    if options.force is not None and options.force in efforts:
        return replace(options, force=None, candidates=efforts[options.force])
    named = [arm for name in options.candidates or () for arm in efforts.get(name, (name,))]
    return replace(options, candidates=tuple(named)) if named else options


def _output_tokens(parts: Parts, query: str, sensitive: str | None) -> list[float] | None:
    lengths = parts.fields.lengths
    if lengths is None or left_out(parts, sensitive, lengths) is not None:
        return None
    row = lengths.predict([query])[0]
    return [float(row[column]) for column in parts.length_columns]


def _unfit(
    parts: Parts, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]
) -> dict[str, str]:
    needs = needs_of(
        messages,
        tools=bool(kwargs.get("tools")),
        structured=wants_schema(kwargs),
        method=schema_method(kwargs),
    )
    reasons = {name: shortfall(profile, needs) for name, profile in parts.profiles.items()}
    for name, provider in parts.providers.items():
        built_in = foreign_tool(kwargs.get("tools") or (), provider)
        if built_in is not None:
            reasons[name] = f"the built-in tool {built_in!r} is another provider's"
    reasons |= {c.name: other_effort(c, kwargs) for c in parts.candidates if c.effort is not None}
    return {name: reason for name, reason in reasons.items() if reason is not None}
