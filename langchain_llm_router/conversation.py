"""What the earlier turns of a conversation mean for routing the next one.

Everything is read off the messages: the router's own record on an answer says who gave it, the
usage how long the prompt was that its provider has cached by now. Nothing has to be remembered
between calls, so it works across processes, threads and checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_llm_router.types import Price

__all__ = [
    "CachedPrefix",
    "cached_prefix",
    "no_weaker",
    "prompt_tokens",
    "routing_text",
    "switching_cost_usd",
]

_CHARS_PER_TOKEN = 4.0
_LONGEST_TURN = 4000


def routing_text(messages: Sequence[BaseMessage], turns: int = 3) -> str:
    """The text that the choice is made by: the last human turns, the latest at the end.

    "And in French?" says little alone. A single turn is the text itself, as in training data.

    Args:
        messages: The conversation.
        turns: How many human turns count at most.
    """
    said = [str(m.text) for m in messages if isinstance(m, HumanMessage)]
    if len(said) == 0:
        return "\n".join(str(message.text) for message in messages)
    earlier = [text[:_LONGEST_TURN] for text in said[-turns:-1]] if turns > 1 else []
    return "\n".join([*earlier, said[-1]])


@dataclass(frozen=True)
class CachedPrefix:
    """How much of a conversation one candidate's provider has in its prompt cache."""

    candidate: str
    tokens: int


def cached_prefix(
    messages: Sequence[BaseMessage], *, lives_s: float = 300.0, now: float | None = None
) -> CachedPrefix | None:
    """What whoever gave the last answer has cached; None: nothing, or nobody knows.

    Args:
        messages: The conversation, with the router's records on its answers.
        lives_s: How long providers keep a prefix.
        now: Unix time; None: the clock's.
    """
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    if last is None or last.usage_metadata is None:
        return None
    record = last.response_metadata.get("llm_router")
    if not isinstance(record, dict) or not record.get("attempts"):
        return None
    name, attempts = record["candidate"], record["attempts"]
    at = next((a.get("finished_at_s") for a in attempts if a["candidate"] == name), None)
    if at is None or (time.time() if now is None else now) - at > lives_s:
        return None
    usage = last.usage_metadata
    return CachedPrefix(str(name), usage["input_tokens"] + usage["output_tokens"])


def prompt_tokens(messages: Sequence[BaseMessage]) -> float:
    """About how long the prompt is: counted up to the last answer, four characters a token after.

    Other models count other tokens, which is good enough for an expected cost.
    """
    tokens = 0.0
    for message in reversed(messages):
        if isinstance(message, AIMessage) and message.usage_metadata is not None:
            usage = message.usage_metadata
            return tokens + usage["input_tokens"] + usage["output_tokens"]
        tokens += len(str(message.text)) / _CHARS_PER_TOKEN
    return tokens


def switching_cost_usd(price: Price, prefix_tokens: float) -> float:
    """What leaving a candidate throws away: prefix · (price of a miss - price of a hit).

    It need not be charged to anybody: an arm whose prefix is cached costs that much less, so the
    one utility weighs it against what another arm is better at.
    """
    hit = price.cache_read_usd_per_mtok
    return 0.0 if hit is None else prefix_tokens * (price.input_usd_per_mtok - hit) / 1e6


def no_weaker(messages: Sequence[BaseMessage], order: Sequence[str]) -> str | None:
    """The strongest candidate that has answered in this conversation; None: nobody has.

    Args:
        messages: The conversation, with the router's records on its answers.
        order: Candidates from weak to strong.
    """
    ranks = {name: i for i, name in enumerate(order)}
    best: str | None = None
    for message in messages:
        record = message.response_metadata.get("llm_router")
        name = record.get("candidate") if isinstance(record, dict) else None
        if name in ranks and (best is None or ranks[name] > ranks[best]):
            best = name
    return best
