"""Messages adapted to the provider that reads them, in a conversation of several providers.

Most providers reject the reasoning blocks and cache settings of other providers. Such a block in a
checkpoint would make every later call fail, so it is left out of the copy that is sent.
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
    """Return the provider family of a model, read from its LangSmith parameters."""
    return _family(langsmith_params(model).get("ls_provider"))


def for_provider(messages: Sequence[BaseMessage], provider: str | None) -> Sequence[BaseMessage]:
    """Return the conversation in a form that a provider's models accept.

    From the answers of *other* providers, reasoning blocks and the signatures on other blocks are
    removed; texts and tool calls stay. Cache settings are kept only in the form that this provider
    accepts (Anthropic and Bedrock have one). If nothing has to be removed, the same object is
    returned.
    """
    changed = [_adapt(message, provider) for message in messages]
    return messages if all(map(is_, changed, messages)) else changed


def _adapt(message: BaseMessage, provider: str | None) -> BaseMessage:
    foreign = isinstance(message, AIMessage) and _is_foreign(message, provider)
    update: dict[str, Any] = {}
    if not isinstance(message.content, str):
        blocks = _adapt_blocks(message.content, provider, foreign=foreign)
        if blocks != message.content:
            # A message that had only reasoning still needs some content.
            update["content"] = blocks or ""
    if message.additional_kwargs:
        dropped = [*(_REASONING_KEYS if foreign else ()), *_foreign_cache_keys(provider)]
        kept = {k: v for k, v in message.additional_kwargs.items() if k not in dropped}
        if len(kept) < len(message.additional_kwargs):
            update["additional_kwargs"] = kept
    return message.model_copy(update=update) if update else message


def _is_foreign(message: AIMessage, provider: str | None) -> bool:
    origin = _family(message.response_metadata.get("model_provider"))
    return origin is not None and provider is not None and origin != provider


def _adapt_blocks(
    content: Sequence[str | Mapping[str, Any]], provider: str | None, *, foreign: bool
) -> list[Any]:
    kept: list[Any] = []
    cache_keys = _foreign_cache_keys(provider)
    for block in content:
        if isinstance(block, str):
            kept.append(block)
            continue
        if foreign and block.get("type") in _REASONING:
            continue
        dropped = [key for key in cache_keys if key in block]
        if foreign:
            # Signatures (also in `extras`) and item ids mean something only to their provider.
            dropped += [k for k in ("signature", "extras") if k in block]
            if block.get("type") in ("text", "refusal") and "id" in block:
                dropped.append("id")
        rest = {key: item for key, item in block.items() if key not in dropped}
        if dropped and not rest.keys() - {"type"}:
            # Only the type is left, as of a cache marker.
            continue
        kept.append(rest if dropped else block)
    return kept


def _foreign_cache_keys(provider: str | None) -> tuple[str, ...]:
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
