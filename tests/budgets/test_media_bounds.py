"""What a prompt's media and tools can cost at most: bounded tightly, or refused with the knob."""

import base64
import io
import wave
import zlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, Field

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets, bounded
from langchain_llm_router.budgets.prompt_bounds import bound_prompt
from langchain_llm_router.policies import Always
from langchain_llm_router.types import Arm
from tests.support.fakes import ScriptedModel

TWO_MB = base64.b64encode(bytes(1_500_000)).decode()
LARGEST = 48_169


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sound(seconds: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000 * seconds))
    return out.getvalue()


def pdf(pages: int, *, packed: bool) -> bytes:
    objects = b"<</Type/Pages/Count %d>>" % pages + b"<</Type /Page /Parent 1 0 R>>" * pages
    if packed:
        body = zlib.compress(objects)
        objects = b"<</Type/ObjStm/N 2/First 9/Filter/FlateDecode/Length %d>>stream\n" % len(body)
        objects += body + b"\nendstream"
    # Contents that do not decode as text, as in any real file.
    return b"%PDF-1.7\n\xff\xfe\xfd\n" + objects + bytes(1_000_000)


IMAGES = [
    {"type": "image_url", "image_url": {"url": "https://x.y/a.png"}},
    {"type": "image_url", "image_url": f"data:image/png;base64,{TWO_MB}"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TWO_MB}"}},
    {"type": "image", "url": "https://x.y/a.png"},
    {"type": "image", "base64": TWO_MB, "mime_type": "image/png"},
    {"type": "image", "source_type": "base64", "data": TWO_MB, "mime_type": "image/png"},
    {"type": "image", "file_id": "file-1"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TWO_MB}},
    {"type": "image", "source": {"type": "url", "url": "https://x.y/a.png"}},
    {"type": "input_image", "image_url": f"data:image/png;base64,{TWO_MB}"},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "media", "mime_type": "image/png", "data": TWO_MB},
    {"type": "media", "mime_type": "image/png", "file_uri": "gs://a/b"},
    {"type": "file", "mime_type": "image/png", "base64": TWO_MB},
    {"inline_data": {"mime_type": "image/png", "data": TWO_MB}},
    {"inlineData": {"mimeType": "image/png", "data": TWO_MB}},
    {"image": {"format": "png", "source": {"bytes": bytes(2_000_000)}}},
]  # fmt: skip


def tokens(*blocks, **fields) -> int | str:
    candidate = Candidate("a", fields.pop("model", None), **fields)
    return bound_prompt([HumanMessage(list(blocks))], {}).tokens(candidate)


@pytest.mark.parametrize("block", IMAGES, ids=lambda block: str(block)[:60])
def test_an_image_of_any_spelling_counts_as_the_largest_of_its_provider(block):
    assert LARGEST <= tokens(block) <= LARGEST + 300
    assert tokens(block, model=ScriptedModel("x", model="claude-sonnet-4-5")) <= 4_784 + 300
    assert tokens(block, model=ScriptedModel("x", model="openai/gpt-4o")) <= 2_489 + 300
    assert tokens(block, media_tokens={"image": 100}) <= 400
    text = {"type": "text", "text": "what is it?"}
    nested = ToolMessage([text, block], tool_call_id="1")
    assert LARGEST <= bound_prompt([nested], {}).tokens() <= LARGEST + 500


def test_each_image_counts_and_low_detail_counts_for_less():
    url = {"type": "image_url", "image_url": {"url": "https://x.y/a.png"}}
    low = {"type": "image_url", "image_url": {"url": "https://x.y/a.png", "detail": "low"}}
    assert tokens(*[url] * 20) >= 20 * LARGEST
    assert tokens(low) < 4_000


@pytest.mark.parametrize("packed", [False, True])
def test_a_pdf_counts_by_its_pages(packed):
    name = {"model": ScriptedModel("x", model="claude-sonnet-4-5")}
    for block in (
        {"type": "file", "mime_type": "application/pdf", "base64": b64(pdf(3, packed=packed))},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                        "data": b64(pdf(3, packed=packed))}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data":
                                  f"data:application/pdf;base64,{b64(pdf(3, packed=packed))}"}},
        {"type": "input_file", "file_data":
         f"data:application/pdf;base64,{b64(pdf(3, packed=packed))}"},
    ):  # fmt: skip
        assert 3 * 4_000 <= tokens(block, **name) <= 3 * (4_000 + 4_784) + 500


def test_sound_counts_by_the_seconds_that_its_bytes_can_hold():
    spoken = {"type": "input_audio", "input_audio": {"data": b64(sound(60)), "format": "wav"}}
    assert 60 * 10 <= tokens(spoken) <= 10_000
    mp3 = {"type": "audio", "base64": b64(b"ID3" + bytes(60_000)), "mime_type": "audio/mp3"}
    assert 60 * 10 <= tokens(mp3) <= 10_000


def test_text_in_a_file_counts_by_its_bytes():
    plain = {"type": "file", "mime_type": "text/plain", "base64": b64(b"word " * 1000)}
    assert 5_000 <= tokens(plain) <= 5_300
    source = {"type": "document", "source": {"type": "text", "media_type": "text/plain",
                                             "data": "word " * 1000}}  # fmt: skip
    assert 5_000 <= tokens(source) <= 5_300
    assert 5_000 <= tokens({"type": "text-plain", "text": "word " * 1000}) <= 5_300


UNKNOWN = [
    ("file", {"type": "file", "file_id": "file-1"}),
    ("file", {"type": "file", "url": "https://x.y/a.pdf", "mime_type": "application/pdf"}),
    ("file", {"type": "input_file", "file_id": "file-1"}),
    ("file", {"type": "document", "source": {"type": "url", "url": "https://x.y/a.pdf"}}),
    ("file", {"type": "container_upload", "file_id": "file-1"}),
    ("audio", {"type": "audio", "url": "https://x.y/a.mp3"}),
    ("audio", {"type": "media", "mime_type": "audio/ogg", "data": b64(b"OggS" + bytes(99))}),
    ("video", {"type": "video", "base64": b64(bytes(99)), "mime_type": "video/mp4"}),
    ("video", {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://a/b"}),
    ("video", {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://a/b"}}),
    ("video", {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://a"}}}}),
]


@pytest.mark.parametrize(("kind", "block"), UNKNOWN, ids=lambda value: str(value)[:50])
def test_what_has_no_bound_is_refused_with_the_reason_and_the_knob(kind, block):
    def router(**fields) -> ChatLLMRouter:
        candidate = Candidate("a", ScriptedModel("x"), Price(1, 1), max_output_tokens=9, **fields)
        budgets = Budgets([Budget(1.0)])
        return ChatLLMRouter(candidates=[candidate], policy=Always("a"), budgets=budgets)

    question = [HumanMessage([{"type": "text", "text": "hi"}, block])]
    with pytest.raises(BudgetExceededError, match=f"'{kind}'.*`max_input_tokens`.*`media_tokens="):
        router().invoke(question)
    assert router(max_input_tokens=100_000).invoke(question).content == "x"
    assert router(media_tokens={kind: 5_000}).invoke(question).content == "x"
    with pytest.raises(BudgetExceededError, match="too little"):
        router(max_input_tokens=10_000_000).invoke(question)


def test_a_word_of_json_is_no_medium():
    call = {"name": "f", "args": {"document": {"type": "file", "video": {}}}, "id": "1"}
    block = {"type": "tool_use", "name": "f", "input": {"image": {"type": "image"}}, "id": "1"}
    messages = [AIMessage([block], tool_calls=[call]), ToolMessage("{}", tool_call_id="1")]
    assert bound_prompt(messages, {}).media == ()


blocks = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.binary(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "source", "data", "url", "file", "content", "mime_type", "a"]),
            st.one_of(inner, st.sampled_from(["image", "file", "media", "audio", "text"])),
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@given(st.lists(st.one_of(st.text(max_size=20), st.dictionaries(st.text(max_size=5), blocks))))
def test_no_content_breaks_the_bound_and_text_is_never_counted_for_less_than_its_bytes(content):
    message = HumanMessage("x").model_copy(update={"content": content})
    spoken = sum(len(part.encode()) for part in content if isinstance(part, str))
    assert bound_prompt([message], {}).text_tokens >= spoken


def test_lone_surrogates_have_a_bound():
    assert bound_prompt([HumanMessage("\ud800 hi")], {}).tokens() > 5


# Tools


class Order(BaseModel):
    """An order with many fields, whose schema a provider reads in full."""

    name: str = Field(description="who orders " * 50)
    address: str = Field(description="where to " * 50)


def bound(candidate: Candidate, **kwargs) -> Arm:
    (arm,) = bounded([Arm("a")], {"a": candidate}, [HumanMessage("hi")], kwargs)
    return arm


PRICED = Candidate("a", ScriptedModel("x"), Price(1.0, 1.0), max_output_tokens=10)


def test_a_tools_schema_counts_and_not_its_class_name():
    length = len(str(Order.model_json_schema()))
    assert length > 1_000
    for kwargs in ({"tools": [Order]}, {"response_format": Order}):
        assert bound(PRICED, **kwargs).worst_call_usd * 1e6 > length


HOSTED = [
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "web_search_preview"},
    {"google_search": {}},
    {"type": "mcp", "server_url": "https://x.y"},
    {"type": "file_search", "vector_store_ids": ["a"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"systemTool": {"name": "nova_grounding"}},
]


@pytest.mark.parametrize("tool", HOSTED, ids=str)
def test_a_hosted_tool_is_refused_until_its_fee_uses_and_length_have_bounds(tool):
    assert "max_uses" in bound(PRICED, tools=[tool]).unbounded
    window = {"max_input_tokens": 1_000}
    long = Candidate("a", ScriptedModel("x"), Price(1, 1), max_output_tokens=10, **window)
    assert "max_tool_calls" in bound(long, tools=[tool]).unbounded
    limited = {"tools": [tool], "max_tool_calls": 3}
    fees = dict.fromkeys(("web_search", "file_search", "code_execution"), 0.01)
    dear = Candidate("a", ScriptedModel("x"), Price(1, 1, tool_fees_usd=fees),
                     max_output_tokens=10, **window)  # fmt: skip
    if tool.get("type") == "mcp":
        assert bound(long, **limited).worst_call_usd == pytest.approx(4 * 1_010e-6)
    else:
        assert "tool_fees_usd" in bound(long, **limited).unbounded
        assert bound(dear, **limited).worst_call_usd == pytest.approx(4 * 1_010e-6 + 0.03)
    used = {**tool, "max_uses": 2}
    assert bound(dear, tools=[used]).worst_call_usd < bound(dear, **limited).worst_call_usd


LOCAL = [
    {"type": "function", "function": {"name": "f", "parameters": {}}},
    {"name": "f", "input_schema": {}},
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "edit"},
    {"title": "f", "type": "object", "properties": {}},
    {"toolSpec": {"name": "f"}},
]


@pytest.mark.parametrize("tool", LOCAL, ids=str)
def test_tools_that_the_application_runs_have_no_fee(tool):
    assert bound(PRICED, tools=[tool]).unbounded is None


def test_what_a_provider_has_stored_is_not_in_the_prompt_and_needs_a_limit():
    for name in ("previous_response_id", "cached_content"):
        assert name in bound(PRICED, **{name: "x"}).unbounded
        long = Candidate("a", ScriptedModel("x"), Price(1, 1), max_output_tokens=10,
                         max_input_tokens=5_000)  # fmt: skip
        assert bound(long, **{name: "x"}).worst_call_usd == pytest.approx(5_010e-6)


@pytest.mark.parametrize(("own", "name"), list(product([2, 5], ["n", "best_of"])))
def test_several_answers_are_all_paid_for(own, name):
    base = bound(PRICED, max_tokens=1000).worst_call_usd
    assert bound(PRICED, max_tokens=1000, **{name: own}).worst_call_usd > base + (own - 1) * 900e-6


@pytest.mark.parametrize("fields", [
    {"max_input_tokens": 0}, {"media_tokens": {"smell": 5}}, {"media_tokens": {"audio": 0}},
])  # fmt: skip
def test_a_limit_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Candidate("a", **fields)
