"""Candidates and prices as written on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.secrets import redact

__all__ = ["parse_candidate", "parse_candidates"]

_SPEC = re.compile(
    r"^(?:(?P<name>[^=@?]+)=)?(?P<model>[^@?]+?)(?:\?(?P<parameters>[^@]*))?"
    r"(?:@(?P<url>https?://\S+))?$"
)
_FORM = "[name=]provider:model[?parameter=value&...][@base-url]"
_EFFORTS = ("reasoning_effort", "thinking_budget")
_PARAMETERS: Mapping[str, Callable[[str], Any]] = {
    "reasoning_effort": str,
    "thinking_budget": int,
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "seed": int,
    "verbosity": str,
}
"""The parameters that may be written behind a model, and their types."""


def parse_candidate(text: str, *, logprobs: bool = False) -> Candidate:
    """Parse a candidate written as `[name=]provider:model[?parameter=value&...][@base-url]`.

    Args:
        text: The candidate; a base URL may be that of any OpenAI-compatible server.
        logprobs: Whether to request the log-probabilities of answers, if the model can return them.

    Raises:
        ValueError: If the text has another form, or names several efforts.

    Example:
        >>> parse_candidate("small=openai:tiny@http://127.0.0.1:8101/v1").name
        'small'
    """
    arms = _parse_arms(text, logprobs=logprobs)
    if len(arms) > 1:
        msg = f"One model is needed here, with one effort, got {redact(text)!r}."
        raise ValueError(msg)
    return arms[0]


def _parse_arms(text: str, *, logprobs: bool) -> list[Candidate]:
    """Parse a candidate into one arm, or into one per effort if several are written."""
    match = _SPEC.match(text)
    if match is None or ":" not in match["model"]:
        msg = f"A candidate must be written as {_FORM}, got {redact(text)!r}."
        raise ValueError(msg)
    if match["model"].endswith(":"):
        msg = f"A candidate must name a model behind its provider, got {redact(text)!r}."
        raise ValueError(msg)
    model = match["model"].partition(":")[2]
    efforts, parameters = _parse_parameters(match["parameters"])
    candidate = Candidate(match["name"] or model, match["model"], parameters=parameters)
    if match["url"] is not None:
        _check_url(match["url"])
        candidate = replace(candidate, model=_openai_compatible_model(model, match["url"]))
    arms = [candidate]
    if efforts:
        levels = [effort for effort in efforts if isinstance(effort, str)]
        budgets = [effort for effort in efforts if isinstance(effort, int)]
        arms = list(candidate.efforts(*levels, thinking_budget=budgets))
        if len(arms) == 1 and match["name"]:
            arms = [replace(arms[0], name=match["name"], effort_of=None)]
    arms = [resolve_candidate(arm) for arm in arms]
    return [_with_logprobs(arm) for arm in arms] if logprobs else arms


def _with_logprobs(candidate: Candidate) -> Candidate:
    model = live_model(candidate)
    if "logprobs" not in type(model).model_fields or "logprobs" in rejected_settings(model):
        return candidate
    return replace(candidate, model=model.model_copy(update={"logprobs": True}))


def _parse_parameters(text: str | None) -> tuple[list[str | int], dict[str, Any]]:
    """Parse what is written behind a model: its efforts, and the parameters of its calls.

    Values that are not understood are not repeated in messages: one may be a key.
    """
    efforts: list[str | int] = []
    parameters: dict[str, Any] = {}
    seen: set[str] = set()
    for part in [] if text is None else text.split("&"):
        name, _, value = part.partition("=")
        if name not in _PARAMETERS or name in seen or not value:
            problem = "is given twice" if name in seen else "has no value"
            problem = problem if name in _PARAMETERS else "is not known"
            msg = (
                f"The parameter {redact(name)[:100]!r} of a candidate {problem}: write "
                f"name=value, joined by &, with names of {list(_PARAMETERS)}; for another, make "
                "the model in Python."
            )
            raise ValueError(msg)
        seen.add(name)
        values = value.split(",") if name in _EFFORTS else [value]
        try:
            converted = [_PARAMETERS[name](one) for one in values]
        except ValueError as error:
            kind = "a whole number" if _PARAMETERS[name] is int else "a number"
            msg = f"The parameter {name!r} of a candidate must be {kind}."
            raise ValueError(msg) from error
        if name in _EFFORTS:
            efforts += converted
        else:
            parameters[name] = converted[0]
    return efforts, parameters


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
        texts: Candidates, each written as `[name=]provider:model[?parameter=value&...][@base-url]`.
            Several efforts, as in `mini=openai:gpt-5-mini?reasoning_effort=low,high`, make one
            candidate each, `mini:low` and `mini:high`.
        prices: Prices in USD per million tokens, each written as `name=input,output`; one of a
            model with several efforts is that of each.
        logprobs: Whether to request the log-probabilities of answers.

    Raises:
        ValueError: If a text has another form, two candidates have one name, or a price has an
            unknown candidate or one that already has a price.
    """
    written: dict[str, str] = {}
    pool: dict[str, Candidate] = {}
    for text in texts:
        for candidate in _parse_arms(text, logprobs=logprobs):
            name = candidate.name
            if name in pool:
                msg = (
                    f"Candidates must have different names, but {redact(written[name])!r} and "
                    f"{redact(text)!r} are both {name!r}: write another name before `=`."
                )
                raise ValueError(msg)
            pool[name], written[name] = candidate, text
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
        priced_arms = [one for one, it in pool.items() if name in (one, it.effort_of)]
        if not priced_arms:
            msg = f"A price must be for one of the candidates {list(pool)}, got {text!r}."
            raise ValueError(msg)
        if priced.setdefault(name, text) is not text:
            msg = f"{name!r} must have one price, got {priced[name]!r} and {text!r}."
            raise ValueError(msg)
        pool |= {one: replace(pool[one], price=price) for one in priced_arms}
    return list(pool.values())
