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
