"""Candidates with live models, made from what a user passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableBinding

from langchain_llm_router.calls.efforts import tell_effort
from langchain_llm_router.calls.prices import look_up_price
from langchain_llm_router.calls.several_replies import draws_several
from langchain_llm_router.live.client_retries import without_retries
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.candidates import MODEL_PLACEHOLDER
from langchain_llm_router.types.errors import MissingExtraError
from langchain_llm_router.types.secrets import redact

__all__ = ["live_model", "resolve_candidate"]


def resolve_candidate(
    candidate: Candidate | BaseChatModel | str | Any, *, agents: bool = False
) -> Candidate:
    """Return a candidate with a live model and, if one can be looked up, a price.

    Retries are the router's: its clients do not retry on their own. The keyword arguments of a
    model with `bind` become the candidate's parameters.

    Args:
        candidate: What the user passed.
        agents: Whether the model of a `Candidate` may be an agent.

    Raises:
        TypeError: If it is neither a candidate, nor a chat model, nor a string, or if the model is
            wrapped in a way that a router cannot honour.
        ValueError: If the candidate has no model, or cannot draw several replies as declared.
        MissingExtraError: If a `"provider:model"` string needs `langchain`, which is missing.
    """
    if isinstance(candidate, RunnableBinding):
        candidate = _unbound(candidate)
    if isinstance(candidate, str):
        candidate = Candidate(candidate.partition(":")[2] or candidate, candidate)
    elif isinstance(candidate, BaseChatModel):
        name = next(
            (v for k in ("model_name", "model") if (v := getattr(candidate, k, None))), None
        )
        candidate = Candidate(str(name or type(candidate).__name__), candidate)
    elif not isinstance(candidate, Candidate):
        raise _not_a_model(candidate)
    if candidate.model is None:
        msg = (
            f"Candidate {candidate.name!r} has no `model`, so it can be replayed but not asked: "
            "give it a chat model or a 'provider:model' string."
        )
        raise ValueError(msg)
    if agents and _is_agent(candidate.model):
        return candidate
    if candidate.max_cost_usd is not None:
        msg = (
            f"`max_cost_usd` of {candidate.name!r} is for an agent in `create_cascade`: give a "
            "chat model `max_output_tokens` and a `price`, which bound the cost of a call."
        )
        raise ValueError(msg)
    if isinstance(candidate.model, RunnableBinding):
        bound = _unbound(candidate.model)
        parameters = {**bound.parameters, **candidate.parameters}
        candidate = replace(candidate, model=bound.model, parameters=parameters)
    model = _init_model(candidate.model) if isinstance(candidate.model, str) else candidate.model
    if not isinstance(model, BaseChatModel):
        raise _not_a_model(model)
    price = candidate.price if candidate.price is not None else look_up_price(model)
    resolved = tell_effort(replace(candidate, model=without_retries(model), price=price))
    draws_several(resolved)  # refuses a declaration that cannot be honoured
    return resolved


def _is_agent(model: Any) -> bool:
    """Whether it is a runnable that asks models, and not a model that is wrapped."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    if not isinstance(model, Runnable) or isinstance(model, BaseLanguageModel):
        return False
    return _wrapper_of(model) in (None, *_AGENTS)


def _unbound(binding: Any) -> Candidate:
    """Return a model with bound keyword arguments as a candidate with parameters.

    Raises:
        TypeError: If the binding holds more than keyword arguments.
    """
    model = binding.bound
    inner = _unbound(model) if isinstance(model, RunnableBinding) else resolve_candidate(model)
    config = {key: value for key, value in binding.config.items() if value}
    if config or binding.config_factories:
        msg = (
            f"A candidate cannot have a config or listeners of its own, got {config!r}: give tags, "
            "metadata and callbacks to the model itself, and the rest with each call."
        )
        raise TypeError(msg)
    return replace(inner, parameters={**inner.parameters, **binding.kwargs})


_AGENTS = ("Pregel", "RunnableLambda")
_FOR_AGENTS = 'an agent is a candidate of `create_cascade`, as `Candidate("name", agent)`'
_WRAPPERS = {
    "RunnableRetry": "for `with_retry`, pass the model itself and give the router `max_retries`",
    "RunnableWithFallbacks": "for `with_fallbacks`, pass each model as a candidate of its own",
    "RunnableConfigurableFields": (
        "for configurable fields, pass the model itself and its arguments with each call"
    ),
    "RunnableConfigurableAlternatives": (
        "for configurable alternatives, pass each as a candidate and name one with each call, by "
        "`model` or `config['configurable']['llm_router']`"
    ),
    "_ConfigurableModel": (
        "for `init_chat_model` without a model, pass each model as a candidate and name one with "
        "each call, by `model` or `config['configurable']['llm_router']`"
    ),
    "RunnableSequence": "put the prompt before the router and the parser after it",
    "Pregel": _FOR_AGENTS,
    "RunnableLambda": _FOR_AGENTS,
}
"""What to pass instead of a wrapped model, by the wrapper's class."""


def _not_a_model(candidate: Any) -> TypeError:
    wrapper = _wrapper_of(candidate)
    advice = None if wrapper is None else _WRAPPERS[wrapper]
    given = f"a {type(candidate).__name__}" if isinstance(candidate, Runnable) else repr(candidate)
    msg = (
        "A candidate must be a `Candidate`, a chat model or a 'provider:model' string, "
        f"got {given}" + (f": {advice}." if advice else ".")
    )
    return TypeError(msg)


def _wrapper_of(model: Any) -> str | None:
    """The first class of a wrapper, or of an agent, that it is an instance of."""
    return next((c.__name__ for c in type(model).__mro__ if c.__name__ in _WRAPPERS), None)


def _init_model(spec: str) -> BaseChatModel:
    """Make the model of a `"provider:model"` string.

    Raises:
        MissingExtraError: If `langchain` or the provider's package is not installed.
        ValueError: If the provider is unknown, its key is not in the environment, or parameters
            or an address are written behind the model.
    """
    provider, _, name = spec.partition(":")
    if spec == MODEL_PLACEHOLDER:
        msg = f"{spec!r} stands for a model of yours: write e.g. 'openai:gpt-4o-mini' in its place."
        raise ValueError(msg)
    if "?" in spec or "=" in spec or "://" in spec:
        msg = (
            f"A model is written as 'provider:model', got {redact(spec)!r}: use "
            '`Candidate("mini", "openai:gpt-5-mini").efforts("low", "high")` for efforts, or '
            "`parse_candidates([...])` of `langchain_llm_router.collect` for the form of the "
            "command line."
        )
        raise ValueError(msg)
    try:
        if provider == "openai" and name:
            from langchain_openai import ChatOpenAI  # noqa: PLC0415 - takes a second to import

            return ChatOpenAI(model=name, max_retries=0)
        return _init_chat_model()(spec)
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"{spec!r} cannot be turned into a model: {error}.") from error
    except Exception as error:  # each provider's client has an error of its own for this
        variable = _KEY_VARIABLE.search(str(error))
        if variable is None:
            raise
        msg = (
            f"{spec!r} needs a key: set the environment variable {variable[0]}, e.g. "
            f"`export {variable[0]}=...`."
        )
        raise ValueError(msg) from error


_KEY_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN)\b")


def _init_chat_model() -> Callable[[str], BaseChatModel]:
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        msg = (
            "A 'provider:model' string cannot be turned into a model without `langchain`: "
            'run `pip install "langchain-llm-router[agents]"` or pass a chat model.'
        )
        raise MissingExtraError(msg) from error
    return init_chat_model


def live_model(candidate: Candidate) -> BaseChatModel:
    """Return the chat model of a resolved candidate."""
    if not isinstance(candidate.model, BaseChatModel):
        msg = f"Candidate {candidate.name!r} has no live model: call `resolve_candidate` first."
        raise TypeError(msg)
    return candidate.model
