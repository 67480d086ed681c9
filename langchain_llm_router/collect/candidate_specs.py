"""Candidates as they are written on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.types import Candidate, Price

__all__ = ["parse_candidate", "parse_candidates"]

_SPEC = re.compile(r"^(?:(?P<name>[^=@]+)=)?(?P<model>[^@]+?)(?:@(?P<url>https?://\S+))?$")


def parse_candidate(text: str, *, logprobs: bool = False) -> Candidate:
    """Read `[name=]provider:model[@base-url]`; a base URL may be any OpenAI-compatible server's.

    Args:
        text: What was written.
        logprobs: Ask for the answers' log-probabilities, where the model has such a setting.

    Raises:
        ValueError: If it is not written so.

    Example:
        >>> parse_candidate("small=openai:tiny@http://127.0.0.1:8101/v1").name
        'small'
    """
    found = _SPEC.match(text)
    if found is None or ":" not in found["model"]:
        msg = f"A candidate is written [name=]provider:model[@base-url], got {text!r}."
        raise ValueError(msg)
    name = found["name"] or found["model"].partition(":")[2]
    if found["url"] is None:
        candidate = resolve_candidate(Candidate(name, found["model"]))
    else:
        model = _compatible(found["model"].partition(":")[2], found["url"])
        candidate = resolve_candidate(Candidate(name, model))
    if logprobs and "logprobs" in type(live_model(candidate)).model_fields:
        told = live_model(candidate).model_copy(update={"logprobs": True})
        candidate = replace(candidate, model=told)
    return candidate


def _compatible(model: str, base_url: str) -> BaseChatModel:
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - takes a second to import

    # Local servers want no key, but the client insists on one.
    key = os.environ.get("OPENAI_API_KEY", "none")
    return ChatOpenAI(model=model, base_url=base_url, api_key=lambda: key, stream_usage=True)


def parse_candidates(
    texts: Sequence[str], prices: Sequence[str] = (), *, logprobs: bool = False
) -> list[Candidate]:
    """Read candidates and, as `name=input,output` in USD per million tokens, their prices.

    Raises:
        ValueError: If one is not written so, or a price names no candidate.
    """
    pool = {c.name: c for c in (parse_candidate(text, logprobs=logprobs) for text in texts)}
    for text in prices:
        name, _, rates = text.partition("=")
        try:
            given = [float(rate) for rate in rates.split(",")]
            price = Price(*given)
        except (TypeError, ValueError) as error:
            msg = f"A price is written name=input,output in USD per million tokens, got {text!r}."
            raise ValueError(msg) from error
        if name not in pool:
            msg = f"The price {text!r} names no candidate: the candidates are {list(pool)}."
            raise ValueError(msg)
        pool[name] = replace(pool[name], price=price)
    return list(pool.values())
