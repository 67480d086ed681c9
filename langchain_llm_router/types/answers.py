"""How an answer ended, whether it says anything, and its visible text, for every provider.

All rooms read answers through this module, so that a provider's word, a reasoning block or an empty
chunk means the same to failover, flaw checks, verifiers, graders, telemetry and the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

__all__ = [
    "FinishReason",
    "FlawKind",
    "answer_flaw",
    "answer_text",
    "finish_reason",
    "flaw_kind",
    "has_output",
    "is_thinking",
    "is_unfinished",
    "message_of",
    "refusal_text",
    "visible_text",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "error"]
"""Why an answer ended: `stop` (it is whole), `length` (it is cut off), `tool_calls`,
`content_filter`, `refusal` (the model declined), `error` (the provider failed)."""

FlawKind = Literal[
    "refusal",
    "content_filter",
    "provider_error",
    "empty_answer",
    "cut_off",
    "no_finish_reason",
    "failed_parse",
    "invalid_tool_call",
]
"""The kinds of flaws: what makes an answer useless or only half of one."""

# Words of a chunk before the last one.
_NOT_ENDED = ("null", "none", "unspecified", "finish_reason_unspecified", "in_progress", "queued")
# What providers call it, without case and separators.
_WORDS: dict[FinishReason, str] = {
    "stop": (
        "stop stopped end_turn stop_sequence stop_criteria_met complete completed finish finished "
        "eos eos_token end end_of_text end_of_sequence endoftext normal"
    ),
    "length": (
        "length max_tokens max_tokens_reached max_output_tokens max_output max_output_reached "
        "max_new_tokens max_length max_context_length limit token_limit model_length error_limit "
        "model_context_window_exceeded context_length_exceeded exceed_context_window "
        "time_limit not_finished incomplete pause_turn"
    ),
    "tool_calls": "tool_calls tool_call tool_use tool function_call function_calls",
    "content_filter": (
        "content_filter content_filtered filtered moderation guardrail_intervened intervened "
        "error_toxic safety recitation language blocklist prohibited_content spii image_safety "
        "model_armor sensitive image_prohibited_content image_recitation jailbreak"
    ),
    "refusal": "refusal",
    "error": (
        "error failed cancelled user_cancel abort timeout other load unload network_error "
        "malformed_function_call malformed_response malformed_model_output malformed_tool_use "
        "unexpected_tool_call too_many_tool_calls missing_thought_signature image_other no_image "
        "insufficient_system_resource repetition"
    ),
}
_SEPARATORS = re.compile(r"[\s_-]")
_MEANINGS = {
    _SEPARATORS.sub("", word): meaning
    for meaning, words in _WORDS.items()
    for word in words.split()
}
_LONGEST_FIRST = sorted(
    (*_MEANINGS, *(_SEPARATORS.sub("", word) for word in _NOT_ENDED)), key=len, reverse=True
)
_MAX_WORD = 60
_MAX_JOINED = 100_000
"""Number of characters up to which the joined words of a stream are read."""

_KEYS = (
    "amazon-bedrock-guardrailAction",
    "finish_reason",
    "stop_reason",
    "stopReason",
    "done_reason",
    "finishReason",
    "completion_reason",
    "completionReason",
    "stop_type",
    "native_finish_reason",
    "status",
)
# Providers whose streams end with a reason, by the name that LangChain gives them.
_REPORTING = frozenset(
    {
        "amazon_bedrock", "anthropic", "anthropic-bedrock", "anthropic_vertex", "azure",
        "azure_openai", "bedrock", "bedrock_converse", "cohere", "deepseek", "fireworks",
        "google_anthropic_vertex", "google_genai", "google_vertexai", "groq", "mistralai", "ollama",
        "openai", "openrouter", "perplexity", "together", "xai",
    }
)  # fmt: skip
_NOT_BLOCKED = (None, 0, "", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")
# Types of content blocks that are no part of what the caller reads.
_REASONING_BLOCKS = frozenset(
    {"reasoning", "reasoning_content", "redacted_thinking", "thinking", "refusal"}
)
# Values of a block that say nothing by themselves.
_BOOKKEEPING = frozenset(
    {
        "type", "id", "index", "output_index", "content_index", "sequence_number", "status",
        "signature", "thought_signature", "role", "phase", "annotations", "extras",
    }
)  # fmt: skip
_REASONING_KEYS = (
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking",
    "thinking_blocks",
)
_OUTPUT_KEYS = ("tool_calls", "function_call", "audio")


def finish_reason(message: BaseMessage) -> FinishReason | None:
    """Return why an answer, or its last chunk, ended; None if it does not say, or in new words.

    Args:
        message: An answer of any provider that LangChain knows.
    """
    metadata = message.response_metadata
    if len(metadata) == 0:
        return None
    feedback, details = metadata.get("prompt_feedback"), metadata.get("incomplete_details")
    blocked = feedback.get("block_reason") if isinstance(feedback, Mapping) else None
    if metadata.get("is_blocked") is True or blocked not in _NOT_BLOCKED:
        return "content_filter"
    if isinstance(details, Mapping) and (meaning := _meaning(details.get("reason"))) is not None:
        return meaning
    if isinstance(metadata.get("error"), Mapping):
        return "error"
    for key in _KEYS:
        if key in metadata and (meaning := _meaning(metadata[key])) is not None:
            return meaning
    return "stop" if metadata.get("done") is True else None


def _meaning(word: Any) -> FinishReason | None:
    if isinstance(word, Mapping):
        # SGLang gives details beside it.
        word = word.get("type")
    word = getattr(word, "name", word)
    if not isinstance(word, str):
        return None
    plain = _SEPARATORS.sub("", word.rpartition(".")[2]).casefold()
    if plain in _MEANINGS:
        return _MEANINGS[plain]
    meanings = [_MEANINGS[one] for one in _joined_words(plain) or () if one in _MEANINGS]
    if len(meanings) == 0:
        return None
    # Calls of tools stay calls where `stop` follows.
    calls = meanings[-1] == "stop" and "tool_calls" in meanings
    return "tool_calls" if calls else meanings[-1]


def _joined_words(plain: str) -> list[str] | None:
    """The words that merging the chunks of a stream has joined; None if there are new ones."""
    found, at = [], 0
    while at < len(plain) <= _MAX_JOINED:
        word = next((one for one in _LONGEST_FIRST if plain.startswith(one, at)), None)
        if word is None:
            return None
        found.append(word)
        at += len(word)
    return found


def _has_ended(word: Any) -> bool:
    """Return whether a finish reason is more than the placeholder of a chunk before the last."""
    if not isinstance(word, str):
        return True
    words = _joined_words(_SEPARATORS.sub("", word).casefold())
    return not words or any(one in _MEANINGS for one in words)


def answer_flaw(message: AIMessage) -> str | None:
    """Return what makes an answer useless, or only half of one; None if nothing does.

    Args:
        message: A complete answer.

    Returns:
        The flaw, whose kind `flaw_kind` returns.
    """
    reason = finish_reason(message)
    if reason == "refusal" or refusal_text(message) is not None:
        return "refusal"
    if reason == "content_filter":
        return "content filter"
    if reason == "error":
        return f"provider error: {_word(message)}"
    if _is_empty(message):
        return "empty answer: it was cut off" if reason == "length" else "empty answer"
    if reason == "length":
        return f"cut off: {_word(message)}"
    unfinished = reason is None and is_unfinished(message)
    return "no finish reason: the stream ended early" if unfinished else None


def flaw_kind(flaw: str) -> FlawKind | None:
    """Return the kind of a flaw; None if it is none of them."""
    kind = flaw.partition(":")[0].replace(" ", "_")
    return next((known for known in get_args(FlawKind) if known == kind), None)


def _word(message: AIMessage) -> str:
    metadata = message.response_metadata
    details = metadata.get("incomplete_details")
    detail = details.get("reason") if isinstance(details, Mapping) else None
    word = str(detail or next((metadata[key] for key in _KEYS if metadata.get(key)), "unknown"))
    return word[-_MAX_WORD:]


def is_unfinished(message: AIMessage) -> bool:
    """Return whether the provider reports finish reasons, and this answer has none."""
    metadata = message.response_metadata
    status = metadata.get("status")
    if status is not None:
        return status in ("in_progress", "queued")
    if metadata.get("done") is False:
        return True
    if metadata.get("model_provider") not in _REPORTING:
        return False
    return not any(_has_ended(metadata[key]) for key in _KEYS if key in metadata)


def _is_empty(message: AIMessage) -> bool:
    """Return whether there is no text, tool call or medium for the caller."""
    if answer_text(message).strip() or message.tool_calls or message.invalid_tool_calls:
        return False
    if any(message.additional_kwargs.get(key) for key in _OUTPUT_KEYS):
        return False
    return isinstance(message.content, str) or not any(
        isinstance(block, Mapping)
        and block.get("type") not in ("text", *_REASONING_BLOCKS)
        and _says_something(block)
        for block in message.content
    )


def message_of(output: Any) -> AIMessage | None:
    """Return the message in a runnable's output, which is a dict for structured output."""
    raw = output.get("raw") if isinstance(output, Mapping) else output
    return raw if isinstance(raw, AIMessage) else None


def has_output(chunk: Any) -> bool:
    """Return whether a chunk of a stream carries text, a tool call or reasoning.

    Until one does nothing has been answered: another candidate may still answer, and the time to
    the first token is not over. A chunk with only a role, white space, usage, metadata or a refusal
    has none; of structured output one has it that is neither None nor empty.
    """
    message = message_of(chunk)
    if message is None:
        return _is_output(chunk)
    if isinstance(message, AIMessageChunk):
        # LangChain makes calls of empty pieces too.
        if any(part.get("name") or part.get("args") for part in message.tool_call_chunks):
            return True
    elif message.tool_calls or message.invalid_tool_calls:
        return True
    if any(message.additional_kwargs.get(key) for key in (*_REASONING_KEYS, *_OUTPUT_KEYS)):
        return True
    if isinstance(message.content, str):
        return bool(message.content.strip())
    return any(
        _says_something(block) if isinstance(block, Mapping) else bool(block.strip())
        for block in message.content
    )


def _is_output(parsed: Any) -> bool:
    """Return whether structured output has something; parsers begin with None or an empty dict."""
    if isinstance(parsed, Mapping):
        return any(item is not None for item in parsed.values())
    return parsed is not None


def _says_something(block: Mapping[str, Any]) -> bool:
    """Return whether a block has any value beside its bookkeeping, e.g. text or a tool's name."""
    if "refusal" in block or _is_refusal_block(block):
        return False
    return any(_has_value(item) for key, item in block.items() if key not in _BOOKKEEPING)


def _has_value(item: Any) -> bool:
    if isinstance(item, Mapping):
        return _says_something(item)
    if isinstance(item, list | tuple):
        return any(map(_has_value, item))
    if isinstance(item, str):
        return bool(item.strip())
    return item is not None and not isinstance(item, bool)


def refusal_text(message: BaseMessage) -> str | None:
    """Return the text with which a model declined; None if there is no refusal block.

    The text is empty where the provider only says that the model declined.
    """
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        return str(refusal)
    if isinstance(message.content, str):
        return None
    for block in message.content:
        if isinstance(block, Mapping) and _is_refusal_block(block):
            inner = block.get("value")
            source = inner if isinstance(inner, Mapping) else block
            return str(source.get("refusal") or source.get("text") or "")
    return None


def _is_refusal_block(block: Mapping[str, Any]) -> bool:
    inner = block.get("value")
    kind = inner.get("type") if isinstance(inner, Mapping) else None
    return "refusal" in (block.get("type"), kind)


def is_thinking(message: AIMessage) -> bool:
    """Return whether an answer ended before its reasoning did, so that it has no visible text."""
    if answer_text(message).strip() or message.tool_calls:
        return False
    usage = message.usage_metadata
    details = {} if usage is None else usage.get("output_token_details", {})
    return (
        finish_reason(message) == "length"
        or bool(str(message.text).strip())
        or bool(details.get("reasoning"))
        or has_output(message)
    )


def answer_text(message: BaseMessage) -> str:
    """Return the visible text of an answer: without reasoning, in blocks or in tags.

    Agreement, graders, judges and parsers of verdicts read this and nothing else.

    Example:
        >>> answer_text(AIMessage("<think>France, so...</think>Paris"))
        'Paris'
    """
    text = message.content if isinstance(message.content, str) else str(message.text)
    return visible_text(text)


_NAMES = (
    "think|thinking|thought|thoughts|reasoning|scratchpad|seed:think|mm:think|longcat_think|"
    "antthinking|antml:thinking|inner_thoughts?"
)
_TAG = re.compile(
    rf"<(?P<a>/?)(?P<name>{_NAMES})>|\[(?P<b>/?)think\]|◁(?P<c>/?)think▷", re.IGNORECASE
)
# Special tokens of Cohere, Sky-T1, Apertus and Gemma, with the tag that each stands for.
_TOKENS = {
    "<|START_THINKING|>": "<think>",
    "<|END_THINKING|>": "</think>",
    "<|begin_of_thought|>": "<think>",
    "<|end_of_thought|>": "</think>",
    "<|inner_prefix|>": "<think>",
    "<|inner_suffix|>": "</think>",
    "<unused94>thought": "<think>",
    "<unused95>": "</think>",
    "<|channel>thought": "<think>",
    "<channel|>": "</think>",
}
# What may stand around an answer that follows reasoning.
_WRAPPERS = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<answer>", "</answer>"),
)
# gpt-oss without its special tokens, and Granite: the words before reasoning and before the answer.
_HEADINGS = (
    ("analysis", "assistantfinal"),
    ("Here is my thought process:", "Here is my response:"),
)
# What every kind of reasoning has: a bracket, or a heading of its own.
_MARKED = re.compile(r"[<\[◁]|^\s*+(?:analysis|Here is my thought)")
_CHANNEL, _FINAL, _MESSAGE = "<|channel|>", "<|channel|>final", "<|message|>"
_END_MARKS = ("<|return|>", "<|end|>")


def visible_text(text: str) -> str:
    """Return a text without reasoning in tags, as DeepSeek R1, Qwen, Magistral or Kimi write it.

    Reasoning stands at the beginning of a line and outside of code. A block that is not closed at
    the beginning of the text hides all of it; a closing tag without an opening one, which some
    chat templates put into the prompt, hides everything before it.

    Args:
        text: The text of an answer; it is read once, in linear time.
    """
    if _MARKED.search(text) is None:
        return text
    if _CHANNEL in text:
        return _final_channel(text)
    for heading, end in _HEADINGS:
        if end in text and text.lstrip().startswith(heading):
            return text.partition(end)[2].lstrip()
    if text.startswith("analysis") and text[8:9].isupper():
        # It was cut off before the answer.
        return ""
    for token in filter(text.__contains__, _TOKENS):
        text = text.replace(token, _TOKENS[token])
    shown = _without_tags(text)
    if len(shown) < len(text):
        for begin, end in _WRAPPERS:
            if shown.startswith(begin):
                return shown.removeprefix(begin).rstrip().removesuffix(end)
    return shown


def _final_channel(text: str) -> str:
    """Return what gpt-oss says in its last channel; "" if that is none for the reader."""
    _, final, rest = text.rpartition(_FINAL)
    if final:
        shown = rest.partition(_MESSAGE)[2]
        for mark in _END_MARKS:
            shown = shown.removesuffix(mark)
        return shown
    return "" if text.lstrip().startswith((_CHANNEL, "<|start|>")) else text


def _without_tags(text: str) -> str:
    kept: list[str] = []
    start, fences, opened, seen = 0, 0, None, False
    for tag in _TAG.finditer(text):
        closes = bool(tag["a"] or tag["b"] or tag["c"])
        if opened is not None:
            if closes and _name(tag) == _name(opened):
                start, opened = tag.end(), None
            continue
        before = text[start : tag.start()]
        fences += before.count("```")
        in_code = before.endswith("`") or fences % 2 == 1
        if closes and not seen and not in_code:
            kept, start = [], tag.end()
        else:
            kept.append(before)
            start = tag.start()
            if not closes and not in_code and before.rpartition("\n")[2].strip() == "":
                opened = tag
        seen = True
    before = "".join(kept)
    if opened is not None and before.strip() == "":
        return ""
    shown = before + text[start:]
    return text if len(shown) == len(text) else shown.lstrip()


def _name(tag: re.Match[str]) -> str:
    return (tag["name"] or "").casefold()
