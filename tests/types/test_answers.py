"""How an answer ended, whether it says anything, and what of it is text: for every provider."""

import time

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from langchain_llm_router.types.answers import (
    answer_flaw,
    answer_text,
    finish_reason,
    flaw_kind,
    has_output,
    is_thinking,
    refusal_text,
    visible_text,
)

# Provider, key in `response_metadata`, the provider's word, and what it means.
WORDS = [
    ("OpenAI", "finish_reason", "stop", "stop"),
    ("OpenAI", "finish_reason", "length", "length"),
    ("OpenAI", "finish_reason", "tool_calls", "tool_calls"),
    ("OpenAI", "finish_reason", "function_call", "tool_calls"),
    ("OpenAI", "finish_reason", "content_filter", "content_filter"),
    ("OpenAI Responses", "status", "completed", "stop"),
    ("OpenAI Responses", "status", "incomplete", "length"),
    ("OpenAI Responses", "status", "failed", "error"),
    ("OpenAI Responses", "status", "cancelled", "error"),
    ("Anthropic", "stop_reason", "end_turn", "stop"),
    ("Anthropic", "stop_reason", "stop_sequence", "stop"),
    ("Anthropic", "stop_reason", "max_tokens", "length"),
    ("Anthropic", "stop_reason", "tool_use", "tool_calls"),
    ("Anthropic", "stop_reason", "pause_turn", "length"),
    ("Anthropic", "stop_reason", "refusal", "refusal"),
    ("Anthropic", "stop_reason", "model_context_window_exceeded", "length"),
    ("Gemini", "finish_reason", "STOP", "stop"),
    ("Gemini", "finish_reason", "MAX_TOKENS", "length"),
    ("Gemini", "finish_reason", "FinishReason.MAX_TOKENS", "length"),
    ("Gemini", "finish_reason", "SAFETY", "content_filter"),
    ("Gemini", "finish_reason", "RECITATION", "content_filter"),
    ("Gemini", "finish_reason", "BLOCKLIST", "content_filter"),
    ("Gemini", "finish_reason", "PROHIBITED_CONTENT", "content_filter"),
    ("Gemini", "finish_reason", "SPII", "content_filter"),
    ("Gemini", "finish_reason", "LANGUAGE", "content_filter"),
    ("Gemini", "finish_reason", "IMAGE_SAFETY", "content_filter"),
    ("Gemini", "finish_reason", "MALFORMED_FUNCTION_CALL", "error"),
    ("Gemini", "finish_reason", "OTHER", "error"),
    ("Gemini", "finish_reason", "FINISH_REASON_UNSPECIFIED", None),
    ("Bedrock", "stopReason", "end_turn", "stop"),
    ("Bedrock", "stopReason", "max_tokens", "length"),
    ("Bedrock", "stopReason", "tool_use", "tool_calls"),
    ("Bedrock", "stopReason", "guardrail_intervened", "content_filter"),
    ("Bedrock", "stopReason", "content_filtered", "content_filter"),
    ("Bedrock", "stopReason", "malformed_tool_use", "error"),
    ("Bedrock", "amazon-bedrock-guardrailAction", "INTERVENED", "content_filter"),
    ("Bedrock Titan", "completionReason", "FINISH", "stop"),
    ("Bedrock Titan", "completionReason", "LENGTH", "length"),
    ("Bedrock Titan", "completionReason", "CONTENT_FILTERED", "content_filter"),
    ("Ollama", "done_reason", "stop", "stop"),
    ("Ollama", "done_reason", "length", "length"),
    ("Ollama", "done_reason", "load", "error"),
    ("Mistral", "finish_reason", "model_length", "length"),
    ("Mistral", "finish_reason", "error", "error"),
    ("Cohere", "finish_reason", "COMPLETE", "stop"),
    ("Cohere", "finish_reason", "STOP_SEQUENCE", "stop"),
    ("Cohere", "finish_reason", "MAX_TOKENS", "length"),
    ("Cohere", "finish_reason", "TOOL_CALL", "tool_calls"),
    ("Cohere", "finish_reason", "ERROR", "error"),
    ("Cohere", "finish_reason", "ERROR_TOXIC", "content_filter"),
    ("Cohere", "finish_reason", "ERROR_LIMIT", "length"),
    ("Cohere", "finish_reason", "TIMEOUT", "error"),
    ("Cohere", "finish_reason", "USER_CANCEL", "error"),
    ("TGI", "finish_reason", "eos_token", "stop"),
    ("DeepSeek", "finish_reason", "insufficient_system_resource", "error"),
    ("Bedrock Titan", "completionReason", "STOP_CRITERIA_MET", "stop"),
    ("Bedrock", "stopReason", "model_context_window_exceeded", "length"),
    ("Bedrock", "stopReason", "malformed_model_output", "error"),
    ("llama.cpp", "stop_type", "limit", "length"),
    ("llama.cpp", "stop_type", "eos", "stop"),
    ("OpenRouter", "native_finish_reason", "MAX_TOKENS", "length"),
    ("SGLang", "finish_reason", {"type": "length", "length": 64}, "length"),
    ("SGLang", "finish_reason", {"type": "stop", "matched": 2}, "stop"),
    ("SGLang", "finish_reason", {"type": "abort"}, "error"),
    ("Qwen", "finish_reason", "null", None),
    ("Qianfan", "finish_reason", "normal", "stop"),
    ("MiniMax", "finish_reason", "max_output", "length"),
    ("vLLM", "finish_reason", "repetition", "error"),
]


@pytest.mark.parametrize(("provider", "key", "word", "meaning"), WORDS)
def test_every_providers_word_has_one_meaning(provider, key, word, meaning):
    assert finish_reason(AIMessage("x", response_metadata={key: word})) == meaning


def test_words_in_other_places_are_found_too():
    incomplete = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    assert finish_reason(AIMessage("x", response_metadata=incomplete)) == "content_filter"
    blocked = {"prompt_feedback": {"block_reason": "SAFETY"}, "finish_reason": "STOP"}
    assert finish_reason(AIMessage("", response_metadata=blocked)) == "content_filter"
    allowed = {"prompt_feedback": {"block_reason": 0}, "finish_reason": "STOP"}
    assert finish_reason(AIMessage("", response_metadata=allowed)) == "stop"
    unspecified = {"prompt_feedback": {"block_reason": "BLOCKED_REASON_UNSPECIFIED"}}
    assert finish_reason(AIMessage("x", response_metadata={**unspecified, **allowed})) == "stop"
    assert finish_reason(AIMessage("x", response_metadata={"done": True})) == "stop"
    failed = {"finish_reason": "stop", "error": {"code": 502, "message": "Provider failed"}}
    assert finish_reason(AIMessage("x", response_metadata=failed)) == "error"


def test_a_word_that_a_provider_repeats_in_every_chunk_keeps_its_meaning():
    chunks = [AIMessageChunk("a", response_metadata={"finish_reason": "STOP"})] * 3
    assert finish_reason(add_ai_message_chunks(chunks[0], *chunks[1:])) == "stop"


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (["STOP", "STOP", "MAX_TOKENS"], "length"),
        (["null", "null", "stop"], "stop"),
        (["null", "length"], "length"),
        (["null", "null"], None),
        (["FINISH_REASON_UNSPECIFIED", "STOP"], "stop"),
        (["FINISH_REASON_UNSPECIFIED", "SAFETY"], "content_filter"),
        (["in_progress", "incomplete"], "length"),
        (["tool_calls", "stop"], "tool_calls"),
        (["null", "brand_new"], None),
    ],
)
def test_of_different_words_in_the_chunks_of_a_stream_the_last_counts(words, meaning):
    chunks = [AIMessageChunk("a", response_metadata={"finish_reason": word}) for word in words]
    assert finish_reason(add_ai_message_chunks(chunks[0], *chunks[1:])) == meaning


def test_a_long_word_is_read_in_linear_time():
    started = time.process_time()
    for word in ("stop" * 50_000 + "!", "_" * 200_000, "max" * 60_000):
        assert finish_reason(AIMessage("x", response_metadata={"finish_reason": word})) is None
    assert time.process_time() - started < 1


def test_a_word_of_thousands_of_chunks_does_not_fill_the_record():
    message = AIMessage("x", response_metadata={"finish_reason": "STOP" * 5_000 + "MAX_TOKENS"})
    flaw = answer_flaw(message)
    assert flaw is not None
    assert flaw.endswith("MAX_TOKENS")
    assert len(flaw) < 100


def test_an_unknown_word_is_no_flaw():
    message = AIMessage("x", response_metadata={"finish_reason": "brand_new"})
    assert finish_reason(message) is None
    assert answer_flaw(message) is None


OPENAI = {"model_provider": "openai"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (AIMessage("fine", response_metadata={"finish_reason": "stop"}), None),
        (AIMessage("a double without metadata"), None),
        (AIMessage("half", response_metadata={"stop_reason": "max_tokens"}), "cut_off"),
        (AIMessage("", response_metadata={"finish_reason": "length"}), "empty_answer"),
        (AIMessage("  \n", response_metadata={"finish_reason": "stop"}), "empty_answer"),
        (AIMessage("<think>hm", response_metadata={"finish_reason": "length"}), "empty_answer"),
        (AIMessage([{"type": "thinking", "thinking": "hm"}]), "empty_answer"),
        (AIMessage("", additional_kwargs={"reasoning_content": "hm"}), "empty_answer"),
        (AIMessage("par", response_metadata={"finish_reason": "SAFETY"}), "content_filter"),
        (AIMessage("", additional_kwargs={"refusal": "No."}), "refusal"),
        (AIMessage("", response_metadata={"stop_reason": "refusal"}), "refusal"),
        (AIMessage("par", response_metadata={"finish_reason": "error"}), "provider_error"),
        (AIMessage("par", response_metadata=OPENAI), "no_finish_reason"),
        (AIMessage("x", response_metadata={**OPENAI, "finish_reason": None}), None),
        (
            AIMessage("par", response_metadata={**OPENAI, "finish_reason": "nullnull"}),
            "no_finish_reason",
        ),
        (
            AIMessage("par", response_metadata={"done": False, "done_reason": None}),
            "no_finish_reason",
        ),
        (AIMessage([{"type": "image", "url": "https://x/y.png"}]), None),
        (AIMessage("", additional_kwargs={"audio": {"data": "AAAA"}}), None),
        (AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]), None),
    ],
)
def test_a_flaw_is_seen_for_what_it_is(message, kind):
    flaw = answer_flaw(message)
    assert (None if flaw is None else flaw_kind(flaw)) == kind


@pytest.mark.parametrize(
    "chunk",
    [
        AIMessageChunk(""),
        AIMessageChunk([]),
        AIMessageChunk("", response_metadata={"finish_reason": "stop"}),
        AIMessageChunk([{"type": "text", "text": "", "index": 0}]),
        AIMessageChunk([{"type": "thinking", "thinking": "", "signature": "", "index": 0}]),
        AIMessageChunk([{"type": "reasoning", "id": "rs_1", "summary": [], "index": 0}]),
        AIMessageChunk([{"type": "refusal", "refusal": "No."}]),
        AIMessageChunk(
            "", usage_metadata={"input_tokens": 3, "output_tokens": 0, "total_tokens": 3}
        ),
        {"raw": AIMessageChunk("")},
        {"raw": None, "parsed": None, "parsing_error": None},
        {},
        None,
        AIMessageChunk(" \n"),
        AIMessageChunk(["", {"type": "text", "text": "\n"}]),
        AIMessageChunk("", tool_call_chunks=[{"name": None, "args": "", "id": None, "index": 0}]),
        AIMessageChunk([{"type": "text", "text": "", "is_last": False, "output_index": 0}]),
    ],
)
def test_a_chunk_without_text_tool_call_or_reasoning_is_no_answer(chunk):
    assert not has_output(chunk)


@pytest.mark.parametrize(
    "chunk",
    [
        AIMessageChunk("a"),
        AIMessageChunk([{"type": "text", "text": "a", "index": 0}]),
        AIMessageChunk([{"type": "thinking", "thinking": "a", "index": 0}]),
        AIMessageChunk([{"type": "reasoning_content", "reasoning_content": {"text": "a"}}]),
        AIMessageChunk("", additional_kwargs={"reasoning_content": "a"}),
        AIMessageChunk("", tool_call_chunks=[{"name": "f", "args": "", "id": "1", "index": 0}]),
        AIMessageChunk("", additional_kwargs={"reasoning_details": [{"text": "a"}]}),
        AIMessageChunk("", tool_call_chunks=[{"name": None, "args": "{", "id": None, "index": 0}]),
        {"raw": AIMessageChunk("a")},
        {"raw": 1},
        {"city": "Paris"},
    ],
)
def test_a_chunk_with_text_tool_call_or_reasoning_is_one(chunk):
    assert has_output(chunk)


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("Paris", "Paris"),
        ("<think>hm</think>Paris", "Paris"),
        ("<think>\nhm\n</think>\n\nParis", "Paris"),
        ("\n<THINK>hm</THINK> Paris", "Paris"),
        ("<Think>hm</think>Paris", "Paris"),
        ("<think>a</think><think>b</think>Paris", "Paris"),
        ("reasoning without an opening tag</think>\n\nParis", "Paris"),
        ("<think>cut off in the mid", ""),
        ("<thinking>hm</thinking>Paris", "Paris"),
        ("<seed:think>hm</seed:think>Paris", "Paris"),
        ("[THINK]hm[/THINK]Paris", "Paris"),
        ("◁think▷hm◁/think▷Paris", "Paris"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris",
         "Paris"),
        ("<|channel|>analysis<|message|>The user wants", ""),
        ("<|channel|>analysis<|message|>hm<|end|>", ""),
        ("<|channel|>analysis<|message|>hm<|end|><|channel|>final <|constrain|>json<|message|>{}",
         "{}"),
        ("analysisThe user asks for a city.assistantfinalParis", "Paris"),
        ("analysisWe need to", ""),
        ("analysis of the data: none", "analysis of the data: none"),
        ("Here is my thought process:\nhm\nHere is my response:\nParis", "Paris"),
        ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Paris<|END_RESPONSE|>", "Paris"),
        ("<|begin_of_thought|>hm<|end_of_thought|>\nParis", "Paris"),
        ("<|inner_prefix|>hm<|inner_suffix|>Paris", "Paris"),
        ("<unused94>thought\nhm<unused95>Paris", "Paris"),
        ("<think>hm</think>\n<answer>Paris</answer>", "Paris"),
        ("<answer>Paris</answer>", "<answer>Paris</answer>"),
        ("<mm:think>hm</mm:think>Paris", "Paris"),
        ("<antThinking>hm</antThinking>Paris", "Paris"),
        ("Write `<think>` and `</think>` around it.", "Write `<think>` and `</think>` around it."),
        ("Use <think> for it.", "Use <think> for it."),
        ("```xml\n<think>a</think>\n```", "```xml\n<think>a</think>\n```"),
        ("So:\n<think>hm</think>\nParis", "So:\n\nParis"),
    ],
)  # fmt: skip
def test_reasoning_in_tags_is_no_text_of_the_answer(text, visible):
    assert visible_text(text) == visible


def test_reasoning_in_blocks_is_no_text_of_the_answer():
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Paris"}]
    assert answer_text(AIMessage(blocks)) == "Paris"


@pytest.mark.parametrize(
    "hostile",
    [
        "<|channel|>final" * 10_000,
        "<|inner_prefix|>" * 10_000,
        "<think>" * 30_000,
        "</think>" * 30_000,
        "a<think>" * 30_000,
        "```\n<think>" * 20_000,
    ],
)
def test_a_long_text_of_tags_is_read_in_linear_time(hostile):
    started = time.process_time()
    visible_text(hostile)
    assert time.process_time() - started < 2


def test_thinking_that_used_all_tokens_is_told_from_an_answer_of_a_word():
    cut = {"finish_reason": "length"}
    assert is_thinking(AIMessage("<think>\nOkay, the", response_metadata=cut))
    assert is_thinking(AIMessage("", response_metadata=cut))
    assert not is_thinking(AIMessage("Yes", response_metadata=cut))
    assert not is_thinking(AIMessage(""))


def test_the_text_of_a_refusal_is_kept():
    assert refusal_text(AIMessage("", additional_kwargs={"refusal": "No."})) == "No."
    assert refusal_text(AIMessage([{"type": "refusal", "refusal": "No."}])) == "No."
    assert refusal_text(AIMessage("Sure.")) is None
