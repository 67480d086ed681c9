"""The one reader of what a provider reports about an answer: its tokens and its hosted tools.

Providers differ: cached tokens lie inside or outside the input tokens, reasoning inside or outside
the output tokens, an unknown usage is reported as zeros, and some repeat the usage so far in every
chunk of a stream. All that is settled here, for attempts, verdicts, `collect` and the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_llm_router.types.hosted_tools import count_uses

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

__all__ = ["Usage", "read_usage", "usage_increment", "usage_of"]


class Usage(NamedTuple):
    """What one answer used, by kinds that may have prices of their own."""

    input_tokens: int
    """All tokens of the prompt, cached ones included."""

    output_tokens: int
    """All tokens of the answer, reasoning included."""

    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Input tokens written to the prompt cache, those for an hour included."""

    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    reasoning_tokens: int = 0
    tool_uses: Mapping[str, int] = MappingProxyType({})
    """Uses of tools that run at the provider, by kind: `web_search`, `file_search`, ..."""

    from_cache: bool = False
    """Whether the answer comes from LangChain's cache, so that no provider was asked."""


def usage_of(message: Any) -> Usage | None:
    """Return what an answer used; None if its provider reported nothing that can be true.

    A report without input tokens, or without output tokens for an answer that has content, is not
    believed: to count such an answer as free would never use up a budget.

    Args:
        message: The answer, complete; anything but a message is unknown.
    """
    record = getattr(message, "usage_metadata", None)
    usage = read_usage(record)
    if record is None or usage is None or usage.from_cache:
        return usage
    # As reported: what the total has beyond zeros is no reason to believe them.
    if usage.input_tokens == 0 or (record["output_tokens"] == 0 and _has_content(message)):
        return None
    uses = count_uses(message) if _may_name_tools(message) else {}
    # All fields but the last two: it is not from a cache.
    return Usage(*usage[:-2], tool_uses=uses) if uses else usage


_PLAIN_KEYS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
_MOST_TOKENS = 10**15
"""More than any call can have; sums and prices of what is believed stay finite."""


def read_usage(record: UsageMetadata | Mapping[str, Any] | None) -> Usage | None:
    """Return the numbers of a LangChain usage record; None if one of them cannot be true."""
    if record is None:
        return None
    if record.keys() <= _PLAIN_KEYS:
        n_in, n_out = record.get("input_tokens"), record.get("output_tokens")
        total = record.get("total_tokens")
        # The most frequent record; all others are read with more care.
        if (
            type(n_in) is type(n_out) is type(total) is int
            and 0 <= n_in <= _MOST_TOKENS
            and 0 <= n_out <= _MOST_TOKENS
            and total <= _MOST_TOKENS
        ):
            return Usage(n_in, n_out + max(0, total - n_in - n_out))
    # LangChain's cache says so with a cost of zero, even where it knows no tokens.
    cached_answer = record.get("total_cost") == 0
    n_in, n_out = _count(record.get("input_tokens")), _count(record.get("output_tokens"))
    if n_in is None or n_out is None:
        return Usage(n_in or 0, n_out or 0, from_cache=True) if cached_answer else None
    inputs, outputs = (
        _details(record, "input_token_details"),
        _details(record, "output_token_details"),
    )
    if inputs is None or outputs is None:
        return None
    read = _sum(inputs, "cache_read")
    hour = _sum(inputs, "ephemeral_1h_input_tokens")
    write = max(_sum(inputs, "cache_creation"), hour + _sum(inputs, "ephemeral_5m_input_tokens"))
    reasoning = _sum(outputs, "reasoning")
    extra = max(0, (_count(record.get("total_tokens")) or 0) - n_in - n_out)
    # What the total has beyond the two counts tells which kinds of tokens they leave out.
    if read + write > n_in or 0 < read + write <= extra:
        n_in, extra = n_in + read + write, max(0, extra - read - write)
    if reasoning > n_out or 0 < reasoning <= extra:
        n_out, extra = n_out + reasoning, max(0, extra - reasoning)
    return Usage(
        input_tokens=n_in,
        output_tokens=n_out + extra,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=hour,
        input_audio_tokens=min(_sum(inputs, "audio"), n_in - read - write),
        output_audio_tokens=min(_sum(outputs, "audio"), n_out - reasoning),
        reasoning_tokens=reasoning,
        from_cache=cached_answer,
    )


def usage_increment(
    earlier: Mapping[str, Any] | None, record: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return what a chunk's usage adds to the earlier chunks of its stream.

    LangChain sums the usage of chunks. Where a provider repeats the usage so far in every chunk,
    only the difference to the last report is new.

    Args:
        earlier: The last usage that a chunk reported; None if none has.
        record: The usage of this chunk; None if it reports none.
    """
    if record is None or earlier is None or not _continues(earlier, record):
        return None if record is None else dict(record)
    return _minus(record, earlier)


_COUNTS = ("input_tokens", "output_tokens", "total_tokens")


def _continues(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a report repeats an earlier one: the whole prompt again, and nothing less."""
    before = [_count(earlier.get(name)) for name in _COUNTS]
    now = [_count(record.get(name)) for name in _COUNTS]
    if None in before or None in now:
        return False
    repeated = all(a <= b for a, b in zip(before, now, strict=True))  # type: ignore[operator]
    return repeated and before[0] != 0


def _minus(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    for name, value in record.items():
        before = earlier.get(name)
        if isinstance(value, Mapping):
            rest[name] = _minus(value, before if isinstance(before, Mapping) else {})
        else:
            n_now, n_before = _count(value), _count(before)
            rest[name] = value if n_now is None else max(0, n_now - (n_before or 0))
    return rest


def _count(value: Any) -> int | None:
    """A number of tokens; None if it is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(value) if 0 <= value <= _MOST_TOKENS else None


def _details(record: Mapping[str, Any], name: str) -> dict[str, int] | None:
    """The counts of one kind of details; None if one of them cannot be true."""
    given = {key: value for key, value in (record.get(name) or {}).items() if value is not None}
    counts = {key: _count(value) for key, value in given.items()}
    known = {key: count for key, count in counts.items() if count is not None}
    return known if len(known) == len(counts) else None


def _sum(details: Mapping[str, int], name: str) -> int:
    """A count under its name, or with the service tier before it (`flex_cache_read`)."""
    return sum(n for key, n in details.items() if key == name or key.endswith(f"_{name}"))


def _may_name_tools(message: Any) -> bool:
    """Whether there is anything beside plain text that could tell of hosted tools."""
    metadata = message.response_metadata
    return (
        not isinstance(message.content, str)
        or len(message.additional_kwargs) > 0
        or "usage" in metadata
        or "grounding_metadata" in metadata
    )


def _has_content(message: Any) -> bool:
    calls: Sequence[Any] = getattr(message, "tool_calls", None) or ()
    invalid: Sequence[Any] = getattr(message, "invalid_tool_calls", None) or ()
    extras = getattr(message, "additional_kwargs", None) or {}
    return bool(message.content or calls or invalid or extras.get("reasoning_content"))
