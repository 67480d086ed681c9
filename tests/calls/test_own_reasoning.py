"""Reasoning blocks, signatures and ids go back only to the candidate that made them."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router.calls.provider_messages import for_provider


def conversation(by, blocks, *, answered_by=None, **metadata):
    attempt = {"candidate": by, "answered_by": answered_by}
    record = {"candidate": by, "attempts": [attempt]}
    metadata = {"model_provider": "openai", "llm_router": record, **metadata}
    return [HumanMessage("q"), AIMessage(blocks, response_metadata=metadata), HumanMessage("next")]


BLOCKS = [
    {"type": "reasoning", "id": "rs_1", "encrypted_content": "ENC", "summary": []},
    {"type": "thinking", "thinking": "hm", "signature": "SIG"},
    {"type": "text", "text": "hi", "id": "msg_1"},
    {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1", "id": "fc_1"},
]


@pytest.mark.parametrize("provider", ["openai", None])
def test_another_endpoint_of_the_family_gets_texts_and_calls_alone(provider):
    given = conversation("a", BLOCKS, id="resp_1")
    sent = for_provider(given, provider, "b")[1]
    assert sent.content == [
        {"type": "text", "text": "hi"},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1"},
    ]
    assert "id" not in sent.response_metadata
    assert given[1].content == BLOCKS


def test_the_candidate_that_made_them_gets_them_back():
    given = conversation("a", BLOCKS, id="resp_1")
    assert for_provider(given, "openai", "a") is given


def test_of_a_hedged_call_the_faster_endpoint_is_the_author():
    given = conversation("a", BLOCKS, answered_by="twin")
    assert for_provider(given, "openai", "twin") is given
    assert for_provider(given, "openai", "a") is not given


def test_without_a_record_the_family_decides():
    given = [AIMessage(BLOCKS, response_metadata={"model_provider": "openai"})]
    assert for_provider(given, "openai", "a") is given
    assert for_provider(given, "anthropic", "a") is not given


TEXT = {"type": "text", "text": "hi"}
SEARCHED = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
]


@pytest.mark.parametrize(
    "blocks",
    [
        SEARCHED,
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}],
        [{"type": "code_interpreter_call", "id": "ci_1"}],
        [{"type": "mcp_call", "id": "mcp_1", "name": "f"}],
        [{"type": "mcp_list_tools", "id": "mcpl_1"}],
        [{"type": "executable_code", "executable_code": "1"}, {"type": "code_execution_result"}],
        [{"type": "server_tool_call", "id": "1", "name": "f"}, {"type": "server_tool_result"}],
        [{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "SIG"}}}],
        [{"type": "compaction", "content": "hm"}],
        [{"type": "text", "text": "<think>hm</think>"}],
    ],
)
def test_what_only_its_provider_understands_goes_to_no_other_candidate(blocks):
    given = conversation("a", [*blocks, TEXT])
    assert for_provider(given, "google", "b")[1].content == [TEXT]
    assert for_provider(given, "openai", "a") is given


@pytest.mark.parametrize(
    "extra",
    [
        {"signature": "SIG"},
        {"thought_signature": "SIG"},
        {"citations": [{"encrypted_index": "ENC"}]},
        {"annotations": [{"type": "file_citation", "file_id": "file-1"}]},
    ],
)
def test_a_text_goes_on_without_what_its_provider_wrote_beside_it(extra):
    assert for_provider(conversation("a", [{**TEXT, **extra}]), "openai", "b")[1].content == [TEXT]


def test_reasoning_in_tags_and_beside_the_text_goes_to_no_other_candidate():
    given = conversation("a", "<think>hm</think>Paris")
    given[1].additional_kwargs = {"reasoning_details": ["hm"], "thinking": "hm", "other": 1}
    sent = for_provider(given, "openai", "b")[1]
    assert (sent.content, sent.additional_kwargs) == ("Paris", {})
    assert for_provider(given, "openai", "a") is given


def test_calls_in_the_words_of_their_provider_are_left_out_where_they_are_parsed():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "SIG"}}}  # fmt: skip
    given = conversation("a", "")
    given[1] = AIMessage("", additional_kwargs={"tool_calls": [call]},
                         response_metadata=given[1].response_metadata)  # fmt: skip
    sent = for_provider(given, "anthropic", "b")[1]
    assert "SIG" not in str(sent.additional_kwargs)
    assert [one["name"] for one in sent.tool_calls] == ["f"]
