"""Messages as a provider's model can read them, in a conversation of several providers.

Provider-specific blocks that other providers reject are removed: most of them refuse foreign
reasoning blocks and cache settings, and one that is in a checkpoint would fail every later call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from langchain_llm_router.calls.langchain_internals import langsmith_params

__all__ = ["for_provider", "provider_of"]

_REASONING = frozenset(
    {"reasoning", "reasoning_content", "redacted_thinking", "thinking", "non_standard"}
)
_REASONING_KEYS = ("reasoning", "reasoning_content", "thinking_blocks", "thought_signature")
_CACHE_KEYS = ("cache_control", "cachePoint", "cache_point")

# One family, several of LangChain's names for it.
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
    """The family of providers a model belongs to, by its LangSmith parameters."""
    return _family(langsmith_params(model).get("ls_provider"))


def for_provider(messages: Sequence[BaseMessage], provider: str | None) -> Sequence[BaseMessage]:
    """The conversation as a provider's model can read it.

    From answers of *another* provider: reasoning blocks and the signatures on other blocks go,
    what was said and the tool calls stay. Cache settings stay only where they were made for this
    provider, which only Anthropic's and Bedrock's models understand. If nothing has to be removed,
    the same object is returned.
    """
    changed = [_readable(message, provider) for message in messages]
    return messages if all(map(is_, changed, messages)) else changed


def _readable(message: BaseMessage, provider: str | None) -> BaseMessage:
    foreign = isinstance(message, AIMessage) and _is_foreign(message, provider)
    update: dict[str, Any] = {}
    if not isinstance(message.content, str):
        blocks = _blocks(message.content, provider, foreign=foreign)
        if blocks != message.content:
            # A message of reasoning only still needs some content.
            update["content"] = blocks or ""
    if message.additional_kwargs:
        dropped = [*(_REASONING_KEYS if foreign else ()), *_cache_keys(provider)]
        kept = {k: v for k, v in message.additional_kwargs.items() if k not in dropped}
        if len(kept) < len(message.additional_kwargs):
            update["additional_kwargs"] = kept
    return message.model_copy(update=update) if update else message


def _is_foreign(message: AIMessage, provider: str | None) -> bool:
    origin = _family(message.response_metadata.get("model_provider"))
    return origin is not None and provider is not None and origin != provider


def _blocks(
    content: Sequence[str | Mapping[str, Any]], provider: str | None, *, foreign: bool
) -> list[Any]:
    kept: list[Any] = []
    cache_keys = _cache_keys(provider)
    for block in content:
        if isinstance(block, str):
            kept.append(block)
            continue
        if foreign and block.get("type") in _REASONING:
            continue
        dropped = [key for key in cache_keys if key in block]
        if foreign:
            # Signatures and item ids mean something to their own provider only.
            dropped += [k for k in ("signature", "extras") if k in block]
            if block.get("type") in ("text", "refusal") and "id" in block:
                dropped.append("id")
        left = {key: item for key, item in block.items() if key not in dropped}
        if dropped and not left.keys() - {"type"}:
            # It was only a cache mark.
            continue
        kept.append(left if dropped else block)
    return kept


def _cache_keys(provider: str | None) -> tuple[str, ...]:
    if provider is None:
        return ()
    if provider == "anthropic":
        return ("cachePoint", "cache_point")
    if provider == "bedrock":
        return ()
    return _CACHE_KEYS


def _family(provider: Any) -> str | None:
    return None if provider is None else _FAMILIES.get(provider, str(provider))
