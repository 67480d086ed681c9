"""What a thread may carry from one provider to another, and who can read what."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.calls.provider_messages import for_provider
from langchain_llm_router.loop.capabilities import needs_of, shortfall
from langchain_llm_router.policies import Always
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.fakes import CapableModel


def thought(provider: str | None = "anthropic") -> AIMessage:
    return AIMessage(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
            {"type": "reasoning", "reasoning": "So."},
            {"type": "text", "text": "Four.", "cache_control": {"type": "ephemeral"}},
        ],
        response_metadata={} if provider is None else {"model_provider": provider},
        additional_kwargs={"reasoning_content": "Hm."},
    )


def test_foreign_reasoning_and_cache_settings_are_taken_out():
    (message,) = for_provider([thought()], "openai")
    assert message.content == [{"type": "text", "text": "Four."}]
    assert message.additional_kwargs == {}


def test_a_providers_own_thread_stays_untouched():
    thread = [SystemMessage("Be brief."), HumanMessage("2 + 2?"), thought()]
    assert for_provider(thread, "anthropic") is thread
    assert for_provider(thread, None) is thread


def test_names_of_one_family_are_no_change_of_provider():
    thread = [AIMessage([{"type": "reasoning", "id": "rs_1"}], **origin("azure"))]
    assert for_provider(thread, "openai") is thread


def origin(provider):
    return {"response_metadata": {"model_provider": provider}}


def test_a_message_of_nothing_but_foreign_reasoning_is_left_empty():
    thread = [AIMessage([{"type": "reasoning", "reasoning": "Hm."}], **origin("openai"))]
    assert for_provider(thread, "google")[0].content == ""


def test_tool_calls_survive_and_inputs_are_not_mutated():
    call = {"name": "add", "args": {}, "id": "1", "type": "tool_call"}
    message = thought().model_copy(update={"tool_calls": [call]})
    (read,) = for_provider([message], "openai")
    assert read.tool_calls == [call]
    assert len(message.content) == 3


def test_unknown_origins_keep_their_reasoning_but_lose_cache_marks():
    (message,) = for_provider([thought(provider=None)], "openai")
    assert [block["type"] for block in message.content] == ["thinking", "reasoning", "text"]
    assert "cache_control" not in message.content[2]


def test_a_lone_cache_mark_is_dropped_whole():
    system = SystemMessage([{"type": "text", "text": "Hi"}, {"cachePoint": {"type": "default"}}])
    assert for_provider([system], "openai")[0].content == [{"type": "text", "text": "Hi"}]
    assert for_provider([system], "bedrock")[0] is system


def test_the_router_hands_each_candidate_what_it_can_read():
    model = CapableModel(provider="openai")
    router = ChatLLMRouter(candidates=[Candidate("a", model)], policy=Always("a"))
    router.invoke([HumanMessage("2 + 2?"), thought(), HumanMessage("Sure?")], cache_control={})
    seen, kwargs = model.calls[0]
    assert seen[1].content == [{"type": "text", "text": "Four."}]
    assert "cache_control" not in kwargs


IMAGE = HumanMessage([{"type": "image", "base64": "AA==", "mime_type": "image/png"}])


def with_profiles(**profiles) -> ChatLLMRouter:
    candidates = [Candidate(n, CapableModel(model=n, profile=p)) for n, p in profiles.items()]
    return ChatLLMRouter(candidates=candidates, policy=Always(next(iter(profiles))))


def test_who_cannot_do_what_is_needed_is_not_asked():
    router = with_profiles(small={"image_inputs": False}, large={"image_inputs": True})
    assert route_of(router.invoke("hi"))["candidate"] == "small"
    assert route_of(router.invoke([IMAGE]))["candidate"] == "large"
    forced = {"configurable": {"llm_router": {"force": "small"}}}
    assert route_of(router.invoke([IMAGE], forced))["candidate"] == "small"


def test_if_no_candidate_can_the_shortfall_of_each_is_named():
    router = with_profiles(
        small={"image_inputs": False}, large={"max_input_tokens": 100, "image_inputs": True}
    )
    with pytest.raises(NoCandidateError, match=r"small.*no image input.*large.*more than its 100"):
        router.invoke([IMAGE, HumanMessage("word " * 200)])


@pytest.mark.parametrize(
    ("profile", "needs", "says"),
    [
        ({"tool_calling": False}, {"tools": True}, "tools"),
        ({"structured_output": False, "tool_calling": False}, {"structured": True}, "structured"),
        ({"structured_output": False, "tool_calling": True}, {"structured": True}, None),
        (
            {"structured_output": False, "tool_calling": True},
            {"structured": True, "method": "json_schema"},
            "structured",
        ),
        ({}, {"tools": True, "structured": True}, None),
        (None, {"tools": True}, None),
    ],
)
def test_a_profile_speaks_only_of_what_it_knows(profile, needs, says):
    found = shortfall(profile, needs_of([HumanMessage("hi")], **needs))
    assert found is says if says is None else says in found


def test_media_are_recognized_by_their_blocks():
    content = ["text", {"type": "file", "mime_type": "application/pdf"}, {"type": "input_audio"}]
    needs = needs_of([HumanMessage([*content, {"type": "image_url"}, {"type": "video"}])])
    assert needs.media == {"pdf_inputs", "audio_inputs", "image_inputs", "video_inputs"}


def test_an_image_in_the_result_of_a_tool_counts_in_bedrocks_form_too():
    image = {"image": {"format": "png", "source": {"bytes": b"1"}}}
    result = {"toolResult": {"toolUseId": "1", "content": [image]}}
    assert needs_of([HumanMessage([result])]).media == {"image_inputs"}
