"""Verdicts of a word or two, also from models that think before they answer."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_text, is_thinking
from langchain_llm_router.verification.verifier import Call, Reply

__all__ = [
    "ask_thinking",
    "check_thinking_tokens",
    "reply_limits",
    "token_logprobs",
    "visible_tokens",
]


def check_thinking_tokens(value: int | None) -> None:
    """Refuse a limit below 1.

    Raises:
        ValueError: If it is neither None nor at least 1.
    """
    if value is not None and value < 1:
        msg = f"`thinking_tokens` must be >= 1 or None, got {value!r}."
        raise ValueError(msg)


def reply_limits(
    judge: Candidate, max_tokens: int | None, thinking_tokens: int | None
) -> list[int | None]:
    """Return the length limits, in tokens, of the calls that one verdict can take.

    Args:
        judge: The candidate that gives the verdict.
        max_tokens: The limit for a verdict alone; None means the model's own.
        thinking_tokens: The limit with reasoning before it; None means that no call has it.
    """
    if max_tokens is None or thinking_tokens is None or max_tokens >= thinking_tokens:
        return [max_tokens]
    thinks = _thinks(judge)
    if thinks is None:
        return [max_tokens, thinking_tokens]
    return [thinking_tokens if thinks else max_tokens]


def _thinks(judge: Candidate) -> bool | None:
    """Return whether a model thinks before it answers; None if its profile does not say."""
    profile = getattr(judge.model, "profile", None)
    thinks = profile.get("reasoning_output") if isinstance(profile, Mapping) else None
    return thinks if isinstance(thinks, bool) else None


def ask_thinking(
    call: Call, thinking_tokens: int | None
) -> Generator[Sequence[Call], Sequence[Reply], Reply]:
    """Make a call with a short reply, and again with a longer one if it was all reasoning."""
    first, *longer = reply_limits(call.candidate, call.kwargs.get("max_tokens"), thinking_tokens)
    if first is not None:
        call = replace(call, kwargs={**call.kwargs, "max_tokens": first})
    (reply,) = yield [call]
    if len(longer) > 0 and len(reply.samples) > 0 and all(map(is_thinking, reply.samples)):
        (reply,) = yield [replace(call, kwargs={**call.kwargs, "max_tokens": longer[0]})]
    return reply


def token_logprobs(message: AIMessage) -> Sequence[Mapping[str, Any]]:
    """Return the tokens of an answer with their log-probabilities; empty if there are none."""
    logprobs = message.response_metadata.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return content if isinstance(content, Sequence) else ()


def visible_tokens(message: AIMessage) -> Sequence[Mapping[str, Any]]:
    """Return the same tokens without those of reasoning before the answer."""
    tokens, visible = token_logprobs(message), answer_text(message).strip()
    texts = [str(token.get("token", "")) for token in tokens]
    start = "".join(texts).rfind(visible)
    if start <= 0:
        # Some servers write tokens in other characters than the text: then all of them count.
        return () if is_thinking(message) else tokens
    end = 0
    for i, text in enumerate(texts):
        end += len(text)
        if end > start:
            return tokens[i:]
    return ()
