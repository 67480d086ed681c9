"""What a request's policy is shown first: read off messages, options and the router's parts.

Which candidates may be asked and can do what is needed, what is expected of each, and which one has
the conversation. It is made once per request, and is pure except for the live numbers that it looks
up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_llm_router.calls.bindings import schema_method, wants_schema
from langchain_llm_router.loop.arms import begin, build_arms, drop_earlier_arms, prefer_candidate
from langchain_llm_router.loop.capabilities import needs_of, shortfall
from langchain_llm_router.loop.conversation import Conversation, read_conversation
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.types import Situation
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = ["make_situation"]


def make_situation(
    parts: Parts,
    messages: Sequence[BaseMessage],
    quality: Sequence[float] | None,
    config: Mapping[str, Any] | None,
    kwargs: dict[str, Any],
) -> Situation:
    """What the policy sees first.

    Args:
        parts: Of the router.
        messages: The conversation.
        quality: Predicted quality per candidate; NaN where nothing is predicted.
        config: Holds the request's options in `configurable["llm_router"]`.
        kwargs: Keywords of the call, bound tools and schema among them; `model`, if it is meant
            for the router, is taken out.

    Raises:
        NoCandidateError: If no candidate may be asked or can do what is needed.
        ValueError: If there is no message, or the options make no sense.
    """
    fields = parts.fields
    options = _options_of(parts, config, kwargs)
    said = read_conversation(messages, parts.names, fields.turns)
    arms = build_arms(
        parts.candidates,
        quality,
        said.query,
        output_tokens=_output_tokens(parts, said.query),
        live=None if parts.live is None else parts.live.stats(parts.candidates),
        input_tokens=said.prompt_tokens,
        cached=said.cached_tokens,
    )
    if fields.budgets is not None:
        from langchain_llm_router.budgets.budgets import bounded  # noqa: PLC0415 - slow to load

        arms = bounded(
            arms,
            parts.by_name,
            messages,
            kwargs,
            settings=parts.settings,
            verifier=fields.verifier if parts.policy.verifies else None,
            live=parts.live,
        )
    unfit = _unfit(parts, messages, kwargs) if parts.profiles else None
    situation = begin(said.query, arms, options, unfit=unfit)
    return _in_conversation(situation, parts, said)


def _in_conversation(situation: Situation, parts: Parts, said: Conversation) -> Situation:
    sticky = situation.options.sticky
    if sticky is None:
        sticky = parts.fields.sticky
    if said.in_tool_loop or sticky is True:
        return prefer_candidate(situation, parts.policy, said.holder)
    if sticky == "escalate":
        return drop_earlier_arms(situation, said.strongest)
    return situation


def _options_of(
    parts: Parts, config: Mapping[str, Any] | None, kwargs: dict[str, Any]
) -> RoutingOptions:
    """The request's options; `model` in the keywords, if it is meant for the router, is removed."""
    given = ((config or {}).get("configurable") or {}).get("llm_router")
    options = NO_OPTIONS if given is None else RoutingOptions.parse(given)
    model = kwargs.pop("model", None)
    if isinstance(model, str) and model.startswith("router@"):
        options = RoutingOptions.parse(model)
    elif model is not None:
        options = replace(options, force=parts.candidate_called(model))
    budgets = parts.fields.budgets
    pace = None if budgets is None else budgets.lambda_(config or {})
    if pace is not None:
        options = replace(options, lambda_=max(pace, options.lambda_ or 0.0))
    return options


def _output_tokens(parts: Parts, query: str) -> list[float] | None:
    lengths = parts.fields.lengths
    if lengths is None:
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
    lacks = {name: shortfall(profile, needs) for name, profile in parts.profiles.items()}
    return {name: reason for name, reason in lacks.items() if reason is not None}
