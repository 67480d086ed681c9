"""Messages adapted to the candidate that reads them, in a conversation of several candidates.

Most providers reject the reasoning blocks and cache settings of other providers, and the signatures
and ids of another endpoint of the same family. Such a block in a checkpoint would make every later
call fail, so it is left out of the copy that is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import is_
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from langchain_llm_router.calls.langchain_internals import is_router, langsmith_params
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import visible_text

__all__ = [
    "for_candidate",
    "for_provider",
    "foreign_cache_keys",
    "provider_of",
    "settings_for_provider",
]

_CACHE_KEYS = ("cache_control", "cachePoint", "cache_point")

# What every provider can read of another's answer. All else means something to its maker alone:
# reasoning, the uses and results of built-in tools, files, and whatever a later release adds.
_TEXTS = frozenset({"text", "refusal"})
_CALLS = frozenset({"tool_use", "tool_call", "function_call", "toolUse"})
_TEXT_KEYS = frozenset({"type", "text", "refusal", *_CACHE_KEYS})
_EXTRAS = frozenset({"refusal", "tool_calls", "function_call", *_CACHE_KEYS})
"""Keys of `additional_kwargs`."""

_TAKES_CACHE_KEY = (None, "openai", "fireworks", "xai", "openrouter")
"""Providers that may know OpenAI's `prompt_cache_key`."""

# LangChain has several provider names for one family of models.
_FAMILIES = {
    "azure": "openai",
    "azure_openai": "openai",
    "google_genai": "google",
    "google_vertexai": "google",
    "google-vertex": "google",
    "amazon_bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "aws": "bedrock",
}


def provider_of(model: BaseChatModel) -> str | None:
    """Return the provider family of a model, read from its LangSmith parameters.

    A router among the candidates has none: it adapts the conversation for its own candidates.
    """
    provider = langsmith_params(model).get("ls_provider")
    return None if is_router(model) else _family(provider)


def for_provider(
    messages: Sequence[BaseMessage], provider: str | None, candidate: str | None = None
) -> Sequence[BaseMessage]:
    """Return the conversation in a form that a candidate accepts.

    Of the answers of *others*, texts (without reasoning in tags), refusals and tool calls stay,
    without signatures, citations and ids; reasoning, built-in tools' blocks and all other kinds are
    removed. Cache settings are kept only in the form that this provider accepts (Anthropic and
    Bedrock have one). If nothing has to be removed, the same object is returned.

    Args:
        messages: The conversation.
        provider: The provider family of the candidate that reads it; None if unknown.
        candidate: Its name, with which the decision records of answers are compared. If None, or
            without a record, answers of the same family count as its own.
    """
    changed = [_adapt(message, provider, candidate) for message in messages]
    return messages if all(map(is_, changed, messages)) else changed


def for_candidate(messages: Sequence[BaseMessage], candidate: Candidate) -> Sequence[BaseMessage]:
    """Return the conversation in a form that a candidate accepts, as `for_provider` does."""
    if not any(isinstance(message, AIMessage) for message in messages):
        return messages
    model = candidate.model
    provider = provider_of(model) if isinstance(model, BaseChatModel) else None
    return for_provider(messages, provider, candidate.name)


def _adapt(message: BaseMessage, provider: str | None, candidate: str | None) -> BaseMessage:
    foreign = isinstance(message, AIMessage) and _is_foreign(message, provider, candidate)
    update: dict[str, Any] = {}
    if not isinstance(message.content, str):
        blocks = _adapt_blocks(message.content, provider, foreign=foreign)
        if blocks != message.content:
            # A message that had only reasoning still needs some content.
            update["content"] = blocks or ""
    elif foreign and (shown := visible_text(message.content)) != message.content:
        update["content"] = shown
    extras = message.additional_kwargs
    if extras:
        dropped = [*foreign_cache_keys(provider)]
        if foreign and getattr(message, "tool_calls", None):
            # The calls as their provider gave them, beside the parsed ones.
            dropped.append("tool_calls")
        kept = {k: v for k, v in extras.items() if k not in dropped}
        if foreign:
            kept = {k: v for k, v in kept.items() if k in _EXTRAS}
        if len(kept) < len(extras):
            update["additional_kwargs"] = kept
    if foreign:
        # OpenAI continues from a response, and Anthropic in a container, of the same account alone.
        metadata = message.response_metadata
        kept = {k: v for k, v in metadata.items() if k != "container" and not _is_response(k, v)}
        if len(kept) < len(metadata):
            update["response_metadata"] = kept
    return message.model_copy(update=update) if update else message


def _is_response(key: str, value: Any) -> bool:
    return key == "id" and str(value).startswith("resp_")


def _is_foreign(message: AIMessage, provider: str | None, candidate: str | None) -> bool:
    record = message.response_metadata.get("llm_router")
    if candidate is not None and isinstance(record, Mapping) and _author(record) != candidate:
        return True
    origin = _family(message.response_metadata.get("model_provider"))
    return origin is not None and provider is not None and origin != provider


def _author(record: Mapping[str, Any]) -> Any:
    """Return the candidate that wrote an answer, or the endpoint of it that was faster."""
    name = record.get("candidate")
    attempts = record.get("attempts")
    for attempt in attempts if isinstance(attempts, list) else ():
        if isinstance(attempt, Mapping) and attempt.get("candidate") == name:
            return attempt.get("answered_by") or name
    return name


def _adapt_blocks(
    content: Sequence[str | Mapping[str, Any]], provider: str | None, *, foreign: bool
) -> list[Any]:
    kept: list[Any] = []
    cache_keys = foreign_cache_keys(provider)
    for block in content:
        if isinstance(block, str):
            kept.append(block)
            continue
        dropped = {key for key in cache_keys if key in block}
        if foreign:
            more = _foreign_keys(block)
            if more is None:
                continue
            dropped |= more
        rest = {key: item for key, item in block.items() if key not in dropped}
        if foreign and isinstance(rest.get("text"), str):
            shown = visible_text(rest["text"])
            if shown != rest["text"]:
                dropped.add("text")
                rest = {**rest, "text": shown} if shown else {}
        if dropped and not rest.keys() - {"type"}:
            # Only the type is left, as of a cache marker.
            continue
        kept.append(rest if dropped else block)
    return kept


def _foreign_keys(block: Mapping[str, Any]) -> set[str] | None:
    """Return the keys of another's block that no one else can read; None if the block is one."""
    # Bedrock's own blocks have no type, but one key that says what they are.
    kind = block.get("type", next(iter(block), None))
    if kind in _TEXTS:
        return block.keys() - _TEXT_KEYS
    if kind in _CALLS:
        own = {"signature", "extras", "caller", *(("id",) if kind == "function_call" else ())}
        return block.keys() & own
    return set() if kind in _CACHE_KEYS else None


def settings_for_provider(
    settings: Mapping[str, Any], provider: str | None, rejected: Collection[str] = ()
) -> dict[str, Any]:
    """Return a call's keyword arguments without what a provider would reject.

    Args:
        settings: The keyword arguments.
        provider: The provider family, which has cache settings of its own; None if unknown.
        rejected: What the model rejects, from `rejected_settings`.
    """
    dropped = (*foreign_cache_keys(provider), *rejected)
    if provider not in _TAKES_CACHE_KEY:
        dropped += ("prompt_cache_key",)
    return {name: value for name, value in settings.items() if name not in dropped}


def foreign_cache_keys(provider: str | None) -> tuple[str, ...]:
    """Return the keys of cache settings that a provider would reject; Bedrock accepts them all."""
    if provider is None:
        return ()
    if provider == "anthropic":
        return ("cachePoint", "cache_point")
    if provider == "bedrock":
        return ()
    return _CACHE_KEYS


def _family(provider: Any) -> str | None:
    return None if provider is None else _FAMILIES.get(provider, str(provider))
