"""Candidates with live models, made from what a user passes."""

from __future__ import annotations

from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.prices import look_up_price
from langchain_llm_router.live.client_retries import without_retries
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.errors import MissingExtraError

__all__ = ["live_model", "resolve_candidate"]


def resolve_candidate(candidate: Candidate | BaseChatModel | str) -> Candidate:
    """Return a candidate with a live model and, if one can be looked up, a price.

    Retries are the router's: its clients do not retry on their own.

    Raises:
        TypeError: If it is neither a candidate, nor a chat model, nor a string.
        ValueError: If the candidate has no model.
        MissingExtraError: If a `"provider:model"` string needs `langchain`, which is missing.
    """
    if isinstance(candidate, str):
        candidate = Candidate(candidate.partition(":")[2] or candidate, candidate)
    elif isinstance(candidate, BaseChatModel):
        name = next(
            (v for k in ("model_name", "model") if (v := getattr(candidate, k, None))), None
        )
        candidate = Candidate(str(name or type(candidate).__name__), candidate)
    elif not isinstance(candidate, Candidate):
        msg = (
            "A candidate must be a `Candidate`, a chat model or a 'provider:model' string, "
            f"got {candidate!r}."
        )
        raise TypeError(msg)
    if candidate.model is None:
        msg = (
            f"Candidate {candidate.name!r} has no `model`, so it can be replayed but not asked: "
            "give it a chat model or a 'provider:model' string."
        )
        raise ValueError(msg)
    model = _init_model(candidate.model) if isinstance(candidate.model, str) else candidate.model
    price = candidate.price if candidate.price is not None else look_up_price(model)
    return replace(candidate, model=without_retries(model), price=price)


def _init_model(spec: str) -> BaseChatModel:
    provider, _, name = spec.partition(":")
    if provider == "openai" and name:
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - takes a second to import

        return ChatOpenAI(model=name, max_retries=0)
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        msg = (
            f"{spec!r} cannot be turned into a model without `langchain`: "
            'run `pip install "langchain-llm-router[agents]"` or pass a chat model.'
        )
        raise MissingExtraError(msg) from error
    return init_chat_model(spec)


def live_model(candidate: Candidate) -> BaseChatModel:
    """Return the chat model of a resolved candidate."""
    if not isinstance(candidate.model, BaseChatModel):
        msg = f"Candidate {candidate.name!r} has no live model: call `resolve_candidate` first."
        raise TypeError(msg)
    return candidate.model
