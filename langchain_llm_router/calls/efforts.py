"""The reasoning effort of a model: its setting at each provider, and what such a model rejects.

A candidate's effort is set on its model, under the name that the model's class has for it, so that
everything that asks the model says the same: a router, a verifier, `collect`, an agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.provider_messages import provider_of
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answer_lengths import LENGTHS

__all__ = ["EFFORT_KEYS", "other_effort", "rejected_settings", "tell_effort"]

EFFORT_KEYS = ("reasoning_effort", "thinking_budget")
"""Keyword arguments of a call that say how hard to think: a level, or a number of tokens."""

# The fields of chat models that hold a level, the first that a class has.
_LEVEL_FIELDS = ("reasoning_effort", "effort", "thinking_level")

_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_LOGPROBS = ("logprobs", "top_logprobs", "logit_bias")
# OpenAI's models that always think, and those that think only if an effort is set.
_ALWAYS = re.compile(r"o[1-9]|gpt-5(?!\.[0-9])")
_WITH_EFFORT = re.compile(r"gpt-5\.[0-9]")


def tell_effort(candidate: Candidate) -> Candidate:
    """Return the candidate with a model that tells its provider the candidate's effort.

    What the model would reject, such as a temperature, is removed from it. An effort among the
    candidate's `parameters` is left there: a call may set another.

    Args:
        candidate: A candidate with a chat model.

    Raises:
        ValueError: If the maximum length of an answer leaves nothing beside the thinking.
    """
    model = candidate.model
    assert isinstance(model, BaseChatModel)
    if candidate.effort is not None:
        update, sent = _settings(model, candidate.effort)
        if isinstance(candidate.effort, int) and provider_of(model) == "anthropic":
            _check_length(candidate, model, candidate.effort)
        model = model.model_copy(update=update) if update else model
        candidate = replace(candidate, parameters={**candidate.parameters, **sent})
    fields = type(model).model_fields
    unwanted = {
        name: None
        for name in rejected_settings(model, candidate)
        if name in fields and name not in EFFORT_KEYS and getattr(model, name) is not None
    }
    if unwanted:
        model = model.model_copy(update=unwanted)
    return replace(candidate, model=model)


def _settings(model: BaseChatModel, effort: str | int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a model that say its effort, and else the keywords of its calls."""
    fields, provider = type(model).model_fields, provider_of(model)
    if isinstance(effort, str):
        names = ("reasoning",) if provider == "ollama" else _LEVEL_FIELDS
        name = next((name for name in names if name in fields), None)
        return ({}, {"reasoning_effort": effort}) if name is None else ({name: effort}, {})
    if "thinking_budget" in fields:
        return {"thinking_budget": effort}, {}
    if provider in ("anthropic", "bedrock"):
        kind: dict[str, Any] = {"type": "disabled"}
        if effort > 0:
            kind = {"type": "enabled", "budget_tokens": effort}
        if "thinking" in fields:
            return {"thinking": kind}, {}
        if "additional_model_request_fields" in fields:
            own = getattr(model, "additional_model_request_fields", None) or {}
            return {"additional_model_request_fields": {**own, "thinking": kind}}, {}
    if "extra_body" in fields:
        # OpenAI has no budgets; servers that speak its language read them from the body.
        return {"extra_body": {**(model.extra_body or {}), "thinking_budget": effort}}, {}  # type: ignore[attr-defined]
    return {}, {"thinking_budget": effort}


def _check_length(candidate: Candidate, model: BaseChatModel, budget: int) -> None:
    longest = candidate.max_output_tokens
    if longest is None:
        longest = next((n for name in LENGTHS if (n := getattr(model, name, None))), None)
    if longest is not None and longest <= budget:
        msg = (
            f"Candidate {candidate.name!r} may think for {budget} tokens, which count as part of "
            f"its answer, of at most {longest}: give it a larger `max_output_tokens`."
        )
        raise ValueError(msg)


def other_effort(candidate: Candidate, kwargs: Mapping[str, Any]) -> str | None:
    """Return why a candidate's effort is not the one that a call asks for; None if it is."""
    for key in EFFORT_KEYS:
        asked = kwargs.get(key)
        if asked is not None and asked != candidate.effort:
            return f"its effort is {candidate.effort!r}, and the call asks for {key}={asked!r}"
    return None


def rejected_settings(model: BaseChatModel, candidate: Candidate | None = None) -> frozenset[str]:
    """Return the keyword arguments that a model would reject because it thinks, or does not.

    By its profile where that knows, else by the names of known families.

    Args:
        model: The chat model.
        candidate: The candidate that it is the model of; if that has an effort, a call cannot set
            another.
    """
    profile = model.profile or {}
    rejected: set[str] = set()
    if candidate is not None and candidate.effort is not None:
        rejected |= set(EFFORT_KEYS) - set(candidate.parameters)
    elif profile.get("reasoning_output") is False:
        rejected |= set(EFFORT_KEYS)
    level = None if candidate is None else candidate.parameters.get("reasoning_effort")
    if profile.get("temperature") is False or _openai_thinks(model, level):
        rejected |= {*_SAMPLING, *_LOGPROBS}
    thinking = getattr(model, "thinking", None)
    if isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive"):
        rejected |= {"temperature", "top_p", "top_k"}
    return frozenset(rejected)


def _openai_thinks(model: BaseChatModel, level: Any) -> bool:
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    if not isinstance(name, str) or "chat" in name:
        return False
    name = name.rpartition("/")[2]
    if _ALWAYS.match(name):
        return True
    effort = level or getattr(model, "reasoning_effort", None)
    return bool(_WITH_EFFORT.match(name)) and effort not in (None, "none")
