"""Media blocks, in the spelling of every provider, and what a model must accept for them."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_llm_router.loop.capabilities import needs_of, shortfall
from langchain_llm_router.types.media import medium_kind, mime_of

PDF = "data:application/pdf;base64,JVBERi0="

BLOCKS = [
    ({"type": "input_image", "image_url": "data:image/png;base64,AA"}, "image_inputs"),
    ({"type": "image_file", "image_file": {"file_id": "f"}}, "image_inputs"),
    ({"type": "media", "mime_type": "image/png", "data": "AA"}, "image_inputs"),
    ({"type": "file", "mime_type": "image/png", "base64": "AA"}, "image_inputs"),
    ({"image": {"format": "png", "source": {"bytes": b"x"}}}, "image_inputs"),
    ({"inline_data": {"mime_type": "image/png", "data": "AA"}}, "image_inputs"),
    ({"type": "media", "mime_type": "audio/wav", "data": "AA"}, "audio_inputs"),
    ({"type": "audio_url", "audio_url": {"url": "u"}}, "audio_inputs"),
    ({"type": "media", "mime_type": "video/mp4", "file_uri": "gs://x"}, "video_inputs"),
    ({"type": "video_url", "video_url": {"url": "u"}}, "video_inputs"),
    ({"video": {"format": "mp4"}}, "video_inputs"),
    ({"fileData": {"mimeType": "video/mp4", "fileUri": "u"}}, "video_inputs"),
    ({"type": "input_file", "file_data": PDF}, "pdf_inputs"),
    ({"type": "input_file", "file_id": "file-1"}, "pdf_inputs"),
    ({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}, "pdf_inputs"),
    ({"type": "media", "mime_type": "application/pdf", "data": "AA"}, "pdf_inputs"),
    ({"type": "document_url", "document_url": "https://x/y.pdf"}, "pdf_inputs"),
    ({"document": {"format": "pdf", "name": "d", "source": {"bytes": b"x"}}}, "pdf_inputs"),
]


@pytest.mark.parametrize(("block", "flag"), BLOCKS)
def test_a_medium_is_seen_in_every_spelling(block, flag):
    needs = needs_of([HumanMessage(["Look:", block])])
    assert needs.media == {flag}
    assert shortfall({flag: False}, needs) is not None


@pytest.mark.parametrize(
    "block", [BLOCKS[0][0], {"type": "tool_result", "content": [BLOCKS[0][0]]}]
)
def test_a_medium_that_a_tool_answered_counts_too(block):
    assert needs_of([ToolMessage([block], tool_call_id="1")]).media == {"image_inputs"}


TEXT_FILES = [
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
    {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}},
    {"type": "input_file", "filename": "a.csv", "file_id": "file-1"},
    {"document": {"format": "csv", "name": "d", "source": {"bytes": b"x"}}},
    {"type": "text-plain", "text": "hi"},
]


@pytest.mark.parametrize("block", TEXT_FILES)
def test_a_file_of_text_needs_no_model_that_reads_pdf(block):
    assert needs_of([HumanMessage([block])]).media == set()


def test_text_counts_wherever_it_stands():
    text = "a" * 40_000
    plain = {"type": "text", "media_type": "text/plain", "data": text}
    call = {"name": "f", "args": {"x": text}, "id": "1"}
    for message in (
        HumanMessage([{"type": "document", "source": plain}]),
        ToolMessage([{"type": "tool_result", "content": [{"text": text}]}], tool_call_id="1"),
        AIMessage("", tool_calls=[call]),
    ):
        assert 10_000 <= needs_of([message]).input_tokens < 10_500


def test_what_a_file_holds_is_read_from_its_type_its_data_or_its_name():
    assert mime_of({"format": "pdf"}) == "application/pdf"
    assert mime_of({"file_data": PDF}) == "application/pdf"
    assert mime_of({"filename": "a.csv"}) == "text/csv"
    assert mime_of({"file_id": "file-1"}) is None


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AA"}}, "file"),
        ({"type": "image_url", "image_url": "data:video/mp4;base64,AA"}, "video"),
        ({"type": "input_file", "file_data": "data:image/png;base64,AA"}, "image"),
        ({"type": "file", "file": {"file_data": "data:audio/mp3;base64,AA"}}, "audio"),
        ({"type": "media", "file_uri": "gs://bucket/film.mp4"}, "video"),
        ({"type": "image_base64", "image_base64": "AA"}, "image"),
        ({"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"}, "image"),
        ({"type": "document", "source": {"type": "url", "url": "https://a.b/c.pdf"}}, "file"),
    ],
)
def test_the_data_of_a_medium_says_which_one_it_is(block, kind):
    assert medium_kind(block) == kind
