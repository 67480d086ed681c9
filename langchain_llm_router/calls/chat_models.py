"""Turns what a user passes into candidates that can be asked."""

from __future__ import annotations

from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.prices import look_up_price
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.errors import MissingExtraError

__all__ = ["live_model", "resolve_candidate"]


def resolve_candidate(given: Candidate | BaseChatModel | str) -> Candidate:
    """A candidate with a live model and, where it can be looked up, a price.

    Raises:
        ValueError: If there is no model to ask.
        MissingExtraError: If a `"provider:model"` string needs `langchain` and it is missing.
    """
    if isinstance(given, str):
        given = Candidate(given.partition(":")[2] or given, given)
    elif isinstance(given, BaseChatModel):
        name = next((v for k in ("model_name", "model") if (v := getattr(given, k, None))), None)
        given = Candidate(str(name or type(given).__name__), given)
    elif not isinstance(given, Candidate):
        msg = f"A candidate is a `Candidate`, a chat model or 'provider:model', got {given!r}."
        raise TypeError(msg)
    if given.model is None:
        msg = f"Candidate {given.name!r} has no `model`, so it can be replayed but not asked."
        raise ValueError(msg)
    model = _init_model(given.model) if isinstance(given.model, str) else given.model
    price = given.price if given.price is not None else look_up_price(model)
    return replace(given, model=model, price=price)


def _init_model(spec: str) -> BaseChatModel:
    provider, _, name = spec.partition(":")
    if provider == "openai" and name:
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - takes a second to import

        return ChatOpenAI(model=name)
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        msg = (
            f"{spec!r} needs `langchain` to be turned into a model: "
            'run `pip install "langchain-llm-router[agents]"` or pass a chat model.'
        )
        raise MissingExtraError(msg) from error
    return init_chat_model(spec)


def live_model(candidate: Candidate) -> BaseChatModel:
    """The candidate's chat model; the candidate must have been resolved."""
    if not isinstance(candidate.model, BaseChatModel):
        msg = f"Candidate {candidate.name!r} has no live model: `resolve_candidate` it first."
        raise TypeError(msg)
    return candidate.model
