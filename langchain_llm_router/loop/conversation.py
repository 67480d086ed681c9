"""What a conversation says to a router: its question, prompt length, and which models answered.

Everything is read off the messages: the router's own record on an answer says which candidate gave
it, the usage how long the prompt was that its provider has cached by now. Nothing has to be
remembered between calls, so it works across processes, threads and checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_llm_router.types import CHARS_PER_TOKEN

__all__ = [
    "Conversation",
    "cached_prefixes",
    "no_weaker",
    "prompt_tokens",
    "read_conversation",
    "routing_text",
]

_LONGEST_TURN = 4000
# How long providers keep a prefix in their prompt cache.
_PREFIX_LIVES_S = 300.0


class Conversation(NamedTuple):
    """What routing needs to know of the messages."""

    query: str
    """The text that the choice is made by."""

    prompt_tokens: float
    """About how long the prompt is."""

    cached_tokens: Mapping[str, int]
    """How much of it each candidate's provider has in its prompt cache."""

    holder: str | None
    """The candidate that gave the last answer, if a router recorded it."""

    strongest: str | None
    """The strongest candidate that has answered."""

    in_tool_loop: bool
    """Whether a model waits for the answers to its own tool calls."""


def read_conversation(
    messages: Sequence[BaseMessage], order: Sequence[str], turns: int = 3
) -> Conversation:
    """Read a conversation once.

    Args:
        messages: With the router's records on its answers.
        order: Candidates from weak to strong.
        turns: How many human turns the choice is made by.

    Raises:
        ValueError: If there is no message.
    """
    if len(messages) == 0:
        msg = "The message list is empty: there is nothing to route."
        raise ValueError(msg)
    query = routing_text(messages, turns)
    if len(messages) == 1 and not isinstance(messages[0], AIMessage | ToolMessage):
        # The first question of a conversation, which is what most requests are.
        tokens = len(_text(messages[0])) / CHARS_PER_TOKEN
        return Conversation(query, tokens, {}, None, None, in_tool_loop=False)
    return Conversation(
        query=query,
        prompt_tokens=prompt_tokens(messages),
        cached_tokens=cached_prefixes(messages),
        holder=_holder(messages),
        strongest=no_weaker(messages, order),
        in_tool_loop=isinstance(messages[-1], ToolMessage),
    )


def routing_text(messages: Sequence[BaseMessage], turns: int = 3) -> str:
    """The text that the choice is made by: the last human turns, the latest at the end.

    "And in French?" says little alone. A single turn is the text itself, as in training data.

    Args:
        messages: The conversation.
        turns: How many human turns count at most.
    """
    human = [message for message in messages if isinstance(message, HumanMessage)]
    if len(human) == 0:
        return "\n".join(map(_text, messages))
    earlier = [_text(turn)[:_LONGEST_TURN] for turn in human[-turns:-1]] if turns > 1 else []
    return "\n".join([*earlier, _text(human[-1])])


def _text(message: BaseMessage) -> str:
    # `message.text` builds an object of its own, which costs more than all the rest here.
    return message.content if isinstance(message.content, str) else str(message.text)


def _record(message: BaseMessage) -> Mapping[str, Any] | None:
    """The decision record on a model's answer; a record on any other message is not trusted."""
    if not isinstance(message, AIMessage):
        return None
    record = message.response_metadata.get("llm_router")
    return record if isinstance(record, Mapping) else None


def cached_prefixes(messages: Sequence[BaseMessage]) -> dict[str, int]:
    """How many tokens of a conversation each candidate's provider has in its prompt cache.

    The provider of an answer has the prompt and the answer cached, the provider of a discarded
    draft has the prompt; an older turn counts as well, up to the conversation's length at that
    time.

    Args:
        messages: The conversation, with the router's records on its answers.

    Returns:
        Tokens by candidate; a candidate that is not named has nothing cached, or it is unknown.
    """
    oldest = time.time() - _PREFIX_LIVES_S
    found: dict[str, int] = {}
    for message in reversed(messages):
        record = _record(message)
        if record is None or not isinstance(record.get("attempts"), list):
            continue
        assert isinstance(message, AIMessage)
        fresh = [a for a in record["attempts"] if (a.get("finished_at_s") or 0.0) >= oldest]
        if len(fresh) == 0:
            break
        for attempt in fresh:
            name = str(attempt.get("answered_by") or attempt["candidate"])
            tokens = attempt.get("input_tokens")
            if (
                attempt["candidate"] == record.get("candidate")
                and message.usage_metadata is not None
            ):
                usage = message.usage_metadata
                tokens = usage["input_tokens"] + usage["output_tokens"]
            if tokens is not None and name not in found:
                found[name] = int(tokens)
    return found


def prompt_tokens(messages: Sequence[BaseMessage]) -> float:
    """About how long the prompt is: counted up to the last answer, four characters a token after.

    Each model tokenizes differently, but this is good enough for an expected cost.
    """
    tokens = 0.0
    for message in reversed(messages):
        if isinstance(message, AIMessage) and message.usage_metadata is not None:
            usage = message.usage_metadata
            return tokens + usage["input_tokens"] + usage["output_tokens"]
        tokens += len(_text(message)) / CHARS_PER_TOKEN
    return tokens


def _holder(messages: Sequence[BaseMessage]) -> str | None:
    """The candidate that gave the last answer in this conversation, if a router recorded it."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            record = _record(message)
            return None if record is None else str(record.get("candidate"))
    return None


def no_weaker(messages: Sequence[BaseMessage], order: Sequence[str]) -> str | None:
    """The strongest candidate that has answered in this conversation; None: none has.

    Args:
        messages: The conversation, with the router's records on its answers.
        order: Candidates from weak to strong.
    """
    ranks = {name: i for i, name in enumerate(order)}
    best: str | None = None
    for message in messages:
        record = _record(message)
        name = None if record is None else record.get("candidate")
        if name in ranks and (best is None or ranks[name] > ranks[best]):
            best = name
    return best
