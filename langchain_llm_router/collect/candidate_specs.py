"""Candidates and prices as written on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.secrets import redact

__all__ = ["parse_candidate", "parse_candidates"]

_SPEC = re.compile(r"^(?:(?P<name>[^=@]+)=)?(?P<model>[^@]+?)(?:@(?P<url>https?://\S+))?$")


def parse_candidate(text: str, *, logprobs: bool = False) -> Candidate:
    """Parse a candidate written as `[name=]provider:model[@base-url]`.

    Args:
        text: The candidate; a base URL may be that of any OpenAI-compatible server.
        logprobs: Whether to request the log-probabilities of answers, if the model can return them.

    Raises:
        ValueError: If the text has another form.

    Example:
        >>> parse_candidate("small=openai:tiny@http://127.0.0.1:8101/v1").name
        'small'
    """
    match = _SPEC.match(text)
    if match is None or ":" not in match["model"]:
        msg = (
            "A candidate must be written as [name=]provider:model[@base-url], got "
            f"{redact(text)!r}."
        )
        raise ValueError(msg)
    if match["model"].endswith(":"):
        msg = f"A candidate must name a model behind its provider, got {redact(text)!r}."
        raise ValueError(msg)
    name = match["name"] or match["model"].partition(":")[2]
    if match["url"] is None:
        candidate = resolve_candidate(Candidate(name, match["model"]))
    else:
        _check_url(match["url"])
        model = _openai_compatible_model(match["model"].partition(":")[2], match["url"])
        candidate = resolve_candidate(Candidate(name, model))
    if logprobs and "logprobs" in type(live_model(candidate)).model_fields:
        with_logprobs = live_model(candidate).model_copy(update={"logprobs": True})
        candidate = replace(candidate, model=with_logprobs)
    return candidate


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        msg = (
            "A base URL must have a host, and a port from 1 to 65535 if any, e.g. "
            f"http://127.0.0.1:8080/v1, got {redact(url)!r}."
        )
        raise ValueError(msg)


def _openai_compatible_model(model: str, base_url: str) -> BaseChatModel:
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - takes a second to import

    # Local servers need no key, but the client requires one.
    key = SecretStr(os.environ.get("OPENAI_API_KEY", "none"))
    return ChatOpenAI(model=model, base_url=base_url, api_key=key, stream_usage=True)


def parse_candidates(
    texts: Sequence[str], prices: Sequence[str] = (), *, logprobs: bool = False
) -> list[Candidate]:
    """Parse candidates and their prices.

    Args:
        texts: Candidates, each written as `[name=]provider:model[@base-url]`.
        prices: Prices in USD per million tokens, each written as `name=input,output`.
        logprobs: Whether to request the log-probabilities of answers.

    Raises:
        ValueError: If a text has another form, two candidates have one name, or a price has an
            unknown candidate or one that already has a price.
    """
    written: dict[str, str] = {}
    pool: dict[str, Candidate] = {}
    for text in texts:
        candidate = parse_candidate(text, logprobs=logprobs)
        if candidate.name in pool:
            msg = (
                f"Candidates must have different names, but {redact(written[candidate.name])!r} "
                f"and {redact(text)!r} are both {candidate.name!r}: write another name before `=`."
            )
            raise ValueError(msg)
        pool[candidate.name], written[candidate.name] = candidate, text
    priced: dict[str, str] = {}
    for text in prices:
        name, _, rates = text.partition("=")
        try:
            price = Price(*[float(rate) for rate in rates.split(",", 2)])  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            msg = (
                "A price must be written as name=input,output in USD per million tokens, "
                f"got {text!r}."
            )
            raise ValueError(msg) from error
        if name not in pool:
            msg = f"A price must be for one of the candidates {list(pool)}, got {text!r}."
            raise ValueError(msg)
        if priced.setdefault(name, text) is not text:
            msg = f"{name!r} must have one price, got {priced[name]!r} and {text!r}."
            raise ValueError(msg)
        pool[name] = replace(pool[name], price=price)
    return list(pool.values())
