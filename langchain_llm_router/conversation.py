"""What the earlier turns of a conversation mean for routing the next one.

Everything is read off the messages: the router's own record on an answer says who gave it, the
usage how long the prompt was that its provider has cached by now. Nothing has to be remembered
between calls, so it works across processes, threads and checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_llm_router.types import CHARS_PER_TOKEN, Candidate, Price

__all__ = [
    "cached_prefixes",
    "expected_cost_usd",
    "no_weaker",
    "prompt_tokens",
    "routing_text",
    "switching_cost_usd",
]

_LONGEST_TURN = 4000


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


def cached_prefixes(
    messages: Sequence[BaseMessage], *, lives_s: float = 300.0, now: float | None = None
) -> dict[str, int]:
    """How many tokens of a conversation each candidate's provider has in its prompt cache.

    Whoever gave an answer has the prompt and the answer, whoever was asked for a draft that was
    not kept has the prompt; an older turn counts as well, as far as the conversation went then.

    Args:
        messages: The conversation, with the router's records on its answers.
        lives_s: How long providers keep a prefix.
        now: Unix time; None: the clock's.

    Returns:
        Tokens by candidate; who is not named has nothing, or nobody knows.
    """
    oldest = (time.time() if now is None else now) - lives_s
    found: dict[str, int] = {}
    for message in reversed(messages):
        if not isinstance(message, AIMessage):
            continue
        record = message.response_metadata.get("llm_router")
        if not isinstance(record, dict) or not isinstance(record.get("attempts"), list):
            continue
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

    Other models count other tokens, which is good enough for an expected cost.
    """
    tokens = 0.0
    for message in reversed(messages):
        if isinstance(message, AIMessage) and message.usage_metadata is not None:
            usage = message.usage_metadata
            return tokens + usage["input_tokens"] + usage["output_tokens"]
        tokens += len(_text(message)) / CHARS_PER_TOKEN
    return tokens


def switching_cost_usd(price: Price, prefix_tokens: float) -> float:
    """What leaving a candidate throws away: prefix · (price of a miss - price of a hit).

    It need not be charged to anybody: an arm whose prefix is cached costs that much less, so the
    one utility weighs it against what another arm is better at.
    """
    hit = price.cache_read_usd_per_mtok
    return 0.0 if hit is None else prefix_tokens * (price.input_usd_per_mtok - hit) / 1e6


def expected_cost_usd(
    candidate: Candidate,
    *,
    query_tokens: float,
    input_tokens: float,
    output_tokens: float,
    cached_tokens: float,
    predicted: bool,
) -> float | None:
    """What a call should cost, in a conversation of which its provider has a part cached.

    Args:
        candidate: Whom the call is made to.
        query_tokens: Length of the question alone.
        input_tokens: Length of the whole prompt.
        output_tokens: Length of the answer, as predicted or as is usual.
        cached_tokens: How much of the prompt its provider has cached.
        predicted: Whether the length is predicted for this query: then it counts and not the
            measured mean cost.

    Returns:
        None if neither a price nor a mean cost is known.
    """
    price, mean = candidate.price, candidate.expected_cost_usd
    if price is None:
        return mean
    if mean is None or predicted:
        return price.estimate_usd(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cached_tokens,
        )
    # The mean is that of questions alone: the conversation before them comes on top, cached or not.
    earlier = max(0.0, input_tokens - query_tokens)
    return (
        mean
        + price.estimate_usd(input_tokens=earlier, output_tokens=0)
        - switching_cost_usd(price, min(cached_tokens, earlier))
    )


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
