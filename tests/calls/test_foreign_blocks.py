"""Of another candidate's answer, texts, refusals and tool calls are sent on, and nothing else."""

import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router.calls.provider_messages import for_provider

TEXT = {"type": "text", "text": "Four."}
BLOCKS = {
    "anthropic": [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "f", "input": {}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "compaction", "content": "So far."},
    ],
    "openai": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"},
        {"type": "image_generation_call", "id": "ig_1", "result": "AAAA"},
        {"type": "mcp_list_tools", "id": "mcpl_1", "tools": []},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "x"},
    ],
    "google": [
        {"type": "executable_code", "executable_code": "print(4)", "id": "code_1"},
        {"type": "code_execution_result", "code_execution_result": "4"},
    ],
    "bedrock": [{"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}}],
    "mistralai": [{"type": "reference", "reference_ids": [1]}],
    "any": [{"type": "server_tool_call", "id": "1"}, {"type": "server_tool_result"}],
    "next": [{"type": "a kind of a later release", "text": "?"}],
}


def answer(content, provider: str, author: str = "small", **fields) -> AIMessage:
    record = {"candidate": author, "attempts": []}
    metadata = {"model_provider": provider, "llm_router": record, **fields.pop("metadata", {})}
    return AIMessage(content, response_metadata=metadata, **fields)


@pytest.mark.parametrize(
    ("maker", "block"), [(maker, block) for maker, found in BLOCKS.items() for block in found]
)
@pytest.mark.parametrize("reader", ["openai", "anthropic", "google", "bedrock", None])
def test_a_block_that_only_its_maker_reads_is_not_sent_to_others(maker, block, reader):
    thread = [answer([block, TEXT], maker)]
    assert for_provider(thread, reader, "large")[0].content == [TEXT]
    assert for_provider(thread, maker, "small") is thread


@pytest.mark.parametrize(
    ("block", "read"),
    [
        ({**TEXT, "citations": [{"encrypted_index": "abc"}]}, TEXT),
        ({**TEXT, "annotations": [], "phase": "final_answer", "id": "msg_1"}, TEXT),
        ({"text": "Four."}, {"text": "Four."}),
        (
            {"type": "refusal", "refusal": "No.", "id": "msg_1"},
            {"type": "refusal", "refusal": "No."},
        ),
        (
            {"type": "tool_use", "id": "1", "name": "f", "input": {}, "caller": {"tool_id": "2"}},
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        ),
        ({"toolUse": {"toolUseId": "1"}}, {"toolUse": {"toolUseId": "1"}}),
    ],
)
def test_texts_and_tool_calls_are_sent_without_what_only_their_maker_reads(block, read):
    assert for_provider([answer([block], "anthropic")], "openai", "large")[0].content == [read]


def test_of_the_extras_and_ids_of_another_only_what_all_can_read_is_sent():
    thread = [
        answer(
            "Four.",
            "openrouter",
            additional_kwargs={"reasoning_details": [{}], "audio": {"id": "1"}, "refusal": "No."},
            metadata={"container": {"id": "container_1"}, "id": "resp_1", "finish_reason": "stop"},
        )
    ]
    (read,) = for_provider(thread, "openai", "large")
    assert read.additional_kwargs == {"refusal": "No."}
    assert {"container", "id"}.isdisjoint(read.response_metadata)
    assert read.response_metadata["finish_reason"] == "stop"
    assert for_provider(thread, "openrouter", "small") is thread
