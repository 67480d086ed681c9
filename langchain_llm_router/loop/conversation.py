"""The facts of a conversation that routing needs: query, prompt length, who answered.

Everything is read from the messages: the decision record of an answer names its candidate, and its
usage has the length of the prompt that the provider has cached. As no state is kept between calls,
this works across processes, threads and checkpoints.

A caller may have written records and usage. They are hints: what is malformed in them is ignored,
and limits on costs are compared with a cost that owes nothing to them (`text_tokens`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_llm_router.types import CHARS_PER_TOKEN
from langchain_llm_router.types.tokens import estimate_tokens
from langchain_llm_router.types.usage import usage_of

__all__ = [
    "Conversation",
    "cached_prefixes",
    "candidate_of",
    "is_count",
    "message_text",
    "prompt_tokens",
    "read_conversation",
    "record_of",
    "routing_text",
    "strongest_candidate",
]

_MAX_TURN_CHARS = 4000
# How long providers keep a prefix in their prompt cache.
_PREFIX_LIVES_S = 300.0
# Beyond all tokens of a prompt, and all times.
_LARGEST = 1e12


class Conversation(NamedTuple):
    """The facts of a conversation that routing needs."""

    query: str
    """The text that candidates are chosen by."""

    prompt_tokens: float
    """Estimated length of the prompt."""

    text_tokens: float | None
    """Estimated length of the prompt by its text alone; None if `prompt_tokens` is that too, and
    nothing is cached."""

    cached_tokens: Mapping[str, int]
    """Number of prompt tokens in the prompt cache of the provider, by candidate."""

    holder: str | None
    """Name of the candidate that gave the last answer; None if no router recorded it."""

    strongest: str | None
    """Name of the strongest candidate that has answered; None if none has."""

    in_tool_loop: bool
    """Whether the last message is the result of a model's tool call."""


def read_conversation(
    messages: Sequence[BaseMessage], order: Sequence[str], turns: int = 3
) -> Conversation:
    """Read the facts that routing needs from a conversation.

    Args:
        messages: The conversation, with the decision records of its answers.
        order: Names of the candidates from weak to strong.
        turns: Maximum number of human turns in the query.

    Raises:
        ValueError: If there is no message.
    """
    if len(messages) == 0:
        msg = "The list of messages is empty: give at least one message."
        raise ValueError(msg)
    query = routing_text(messages, turns)
    is_human = isinstance(messages[-1], HumanMessage)
    if len(messages) == 1 and (is_human or not isinstance(messages[0], AIMessage | ToolMessage)):
        # The first message of a conversation, the most frequent case.
        text = message_text(messages[0])
        # A call costs time, and most texts are ASCII.
        tokens = len(text) / CHARS_PER_TOKEN if text.isascii() else estimate_tokens(text)
        return Conversation(query, tokens, None, {}, None, None, in_tool_loop=False)
    return Conversation(
        query=query,
        prompt_tokens=prompt_tokens(messages),
        text_tokens=sum(estimate_tokens(message_text(message)) for message in messages),
        cached_tokens=cached_prefixes(messages),
        holder=_holder(messages),
        strongest=strongest_candidate(messages, order),
        in_tool_loop=isinstance(messages[-1], ToolMessage),
    )


def routing_text(messages: Sequence[BaseMessage], turns: int = 3) -> str:
    """Return the text that candidates are chosen by: the last human turns in order.

    Earlier turns count because "And in French?" has too little context. A single turn is returned
    unchanged, as in training data.

    Args:
        messages: The conversation.
        turns: Maximum number of human turns.
    """
    human = [message for message in messages if isinstance(message, HumanMessage)]
    if len(human) == 0:
        return "\n".join(map(message_text, messages))
    earlier = (
        [message_text(turn)[:_MAX_TURN_CHARS] for turn in human[-turns:-1]] if turns > 1 else []
    )
    return "\n".join([*earlier, message_text(human[-1])])


def message_text(message: BaseMessage) -> str:
    """Return a message's text."""
    # `message.text` builds a new object, which takes longer than the rest of this module.
    return message.content if isinstance(message.content, str) else str(message.text)


def record_of(message: BaseMessage) -> Mapping[str, Any] | None:
    """Return the decision record of a model's answer; records on other messages are ignored."""
    if not isinstance(message, AIMessage):
        return None
    record = message.response_metadata.get("llm_router")
    return record if isinstance(record, Mapping) else None


def candidate_of(message: BaseMessage) -> str | None:
    """Return the candidate that gave an answer; None if no record of a router names one."""
    name = (record_of(message) or {}).get("candidate")
    return name if isinstance(name, str) else None


def cached_prefixes(messages: Sequence[BaseMessage]) -> dict[str, int]:
    """Estimate the tokens of a conversation that each candidate's provider has cached.

    The provider of an answer has cached the prompt and the answer, the provider of a discarded
    draft the prompt. An older turn counts up to the conversation's length at that time.

    Args:
        messages: The conversation, with the decision records of its answers.

    Returns:
        Tokens by candidate; for a candidate that is not in it, no cached prefix is known.
    """
    oldest = time.time() - _PREFIX_LIVES_S
    cached: dict[str, int] = {}
    for message in reversed(messages):
        record = record_of(message)
        if record is None or not isinstance(record.get("attempts"), list):
            continue
        fresh = [a for a in record["attempts"] if _finished_at_s(a) >= oldest]
        if len(fresh) == 0:
            break
        for attempt in fresh:
            name = attempt.get("answered_by") or attempt.get("candidate")
            tokens = attempt.get("input_tokens")
            usage = usage_of(message)
            if attempt.get("candidate") == record.get("candidate") and usage is not None:
                tokens = usage.input_tokens + usage.output_tokens
            if isinstance(name, str) and name not in cached and is_count(tokens):
                cached[name] = int(tokens)
    return cached


def _finished_at_s(attempt: Any) -> float:
    """Return when an attempt ended; minus infinity if it does not say."""
    time_s = attempt.get("finished_at_s") if isinstance(attempt, Mapping) else None
    return float(time_s) if is_count(time_s) else -math.inf


def is_count(value: Any) -> TypeGuard[float]:
    """Return whether a value of a record is a number that a router may have written."""
    return isinstance(value, int | float) and 0 <= value <= _LARGEST


def prompt_tokens(messages: Sequence[BaseMessage]) -> float:
    """Estimate the length of the prompt from reported usage and, after it, its text.

    Tokenizers differ, but the estimate is good enough for an expected cost.
    """
    tokens = 0.0
    for message in reversed(messages):
        usage = usage_of(message)
        if usage is not None and usage.input_tokens > 0:
            return tokens + usage.input_tokens + usage.output_tokens
        tokens += estimate_tokens(message_text(message))
    return tokens


def _holder(messages: Sequence[BaseMessage]) -> str | None:
    """Return the candidate that gave the last answer; None if no router recorded it."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return candidate_of(message)
    return None


def strongest_candidate(messages: Sequence[BaseMessage], order: Sequence[str]) -> str | None:
    """Return the strongest candidate that has answered in a conversation; None if none has.

    Args:
        messages: The conversation, with the decision records of its answers.
        order: Names of the candidates from weak to strong.
    """
    answered = {candidate_of(message) for message in messages}
    return next((name for name in reversed(order) if name in answered), None)
