"""What a provider reports about an answer: read in one place, not believed where impossible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from langchain_llm_router import Price
from langchain_llm_router.types.usage import Usage, read_usage, usage_increment, usage_of

PRICE = Price(3.0, 15.0, 0.3, cache_write_usd_per_mtok=3.75, cache_write_1h_usd_per_mtok=6.0)


def record(n_in, n_out, total=None, inputs=None, outputs=None) -> dict:
    return {
        "input_tokens": n_in,
        "output_tokens": n_out,
        "total_tokens": n_in + n_out if total is None else total,
        "input_token_details": inputs or {},
        "output_token_details": outputs or {},
    }


def answer(usage: dict | None, content="fine", **kwargs) -> AIMessage:
    message = AIMessage(content, **kwargs)
    message.usage_metadata = usage
    return message


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        record(0, 0),
        record(10, 0),
        record(10, 0, total=50),
        record(0, 0, total=50, inputs={"cache_creation": 40}),
        record(0, 5),
        record(-10, 5),
        record(10, -5),
        {"input_tokens": math.nan, "output_tokens": 5, "total_tokens": 5},
        {"input_tokens": 10, "output_tokens": math.inf, "total_tokens": 5},
        {"input_tokens": None, "output_tokens": 5, "total_tokens": 5},
        {"input_tokens": "10", "output_tokens": 5, "total_tokens": 15},
        {"input_tokens": True, "output_tokens": 5, "total_tokens": 15},
        record(10, 5, inputs={"cache_read": -3}),
    ],
    ids=repr,
)
def test_a_report_that_cannot_be_true_is_unknown_and_not_free(usage):
    assert usage_of(answer(usage)) is None
    assert PRICE.cost_usd(usage_of(answer(usage))) is None


def test_tool_calls_and_reasoning_count_as_content_and_an_empty_answer_may_have_no_tokens():
    calls = [{"name": "f", "args": {}, "id": "1"}]
    assert usage_of(answer(record(10, 0), "", tool_calls=calls)) is None
    assert usage_of(answer(record(10, 0), "", additional_kwargs={"reasoning_content": "x"})) is None
    assert usage_of(answer(record(10, 0), "")) == Usage(10, 0)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        # inside, as LangChain defines it
        (record(10_000, 100, inputs={"cache_read": 9_000}), 1_000 * 3 + 9_000 * 0.3 + 1_500),
        # outside, which only the sizes tell
        (record(10, 100, inputs={"cache_read": 9_000}), 10 * 3 + 9_000 * 0.3 + 1_500),
        # outside, which only the total tells
        (
            record(10_000, 100, total=19_100, inputs={"cache_read": 9_000}),
            10_000 * 3 + 9_000 * 0.3 + 1_500,
        ),
        (record(5_000, 100, inputs={"cache_creation": 4_000}), 1_000 * 3 + 4_000 * 3.75 + 1_500),
        (
            record(
                5_000,
                100,
                inputs={
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 1_000,
                    "ephemeral_1h_input_tokens": 3_000,
                },
            ),
            1_000 * 3 + 1_000 * 3.75 + 3_000 * 6 + 1_500,
        ),
        # service tiers put their name before the kind
        (record(10_000, 100, inputs={"flex_cache_read": 9_000}), 1_000 * 3 + 9_000 * 0.3 + 1_500),
        # reasoning outside of the output, told by the total, and by the size
        (record(1_000, 100, total=1_600, outputs={"reasoning": 500}), 3_000 + 600 * 15),
        (record(1_000, 100, outputs={"reasoning": 500}), 3_000 + 600 * 15),
        (record(1_000, 600, outputs={"reasoning": 500}), 3_000 + 600 * 15),
        # tokens that the total has and no count explains are billed as the dearer kind
        (record(1_000, 100, total=1_300), 3_000 + 300 * 15),
    ],
    ids=lambda value: str(value)[:60],
)
def test_cached_and_reasoning_tokens_are_paid_for_inside_or_outside_of_the_counts(usage, cost):
    assert PRICE.cost_usd(usage_of(answer(usage))) == pytest.approx(cost / 1e6)
    assert PRICE.cost_usd(usage) == pytest.approx(cost / 1e6)


counts = st.one_of(st.none(), st.integers(-5, 10**6), st.floats(allow_nan=True), st.booleans())
details = st.dictionaries(
    st.sampled_from(["cache_read", "cache_creation", "audio", "reasoning", "flex"]), counts
)
rates = st.one_of(st.none(), st.floats(0, 1e3))


@given(
    st.fixed_dictionaries(
        {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
        optional={"input_token_details": details, "output_token_details": details},
    ),
    st.lists(rates, min_size=7, max_size=7),
)
def test_no_report_at_any_price_makes_a_cost_negative_or_infinite(usage, given_rates):
    price = Price(2.0, 8.0, *given_rates[:6], reasoning_usd_per_mtok=given_rates[6])
    cost = price.cost_usd(usage)
    assert cost is None or 0 <= cost < math.inf


@pytest.mark.parametrize("count", [2e307, 10**400, math.inf, 1e16], ids=lambda it: str(it)[:9])
def test_a_number_of_tokens_that_no_call_has_is_unknown(count):
    usage = {"input_tokens": count, "output_tokens": 5, "total_tokens": 5}
    assert Price(2.0, 8.0).cost_usd(usage) is None


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=6),
    st.integers(1, 1000),
)
def test_usage_that_every_chunk_repeats_is_counted_once(steps, n_in):
    # Of each chunk the whole so far: the same prompt, and an answer that grows.
    so_far, total = [], 0
    for n_out, _ in steps:
        total += n_out
        so_far.append(record(n_in, total))
    last, chunks = None, []
    for usage in so_far:
        chunks.append(AIMessageChunk("x", usage_metadata=usage_increment(last, usage)))
        last = usage
    summed = add_ai_message_chunks(chunks[0], *chunks[1:])
    assert read_usage(summed.usage_metadata) == Usage(n_in, total)


def test_usage_that_comes_in_parts_is_summed():
    parts = [record(100, 0), record(0, 7), record(0, 9)]
    last, chunks = None, []
    for usage in parts:
        chunks.append(AIMessageChunk("x", usage_metadata=usage_increment(last, usage)))
        last = usage
    summed = add_ai_message_chunks(chunks[0], *chunks[1:])
    assert read_usage(summed.usage_metadata) == Usage(100, 16)


def test_an_answer_from_langchains_cache_costs_nothing_even_without_tokens():
    assert PRICE.cost_usd({"total_cost": 0}) == 0.0
    assert PRICE.cost_usd({**record(10, 5), "total_cost": 0}) == 0.0


SEARCHED = [
    {"content": [{"type": "web_search_call", "id": "1"}, {"type": "text", "text": "x"}]},
    {"content": [{"type": "server_tool_use", "name": "web_search", "id": "1"}]},
    {"content": [{"type": "server_tool_call", "name": "web_search", "id": "1"}]},
    {"response_metadata": {"usage": {"server_tool_use": {"web_search_requests": 1}}}},
    {"response_metadata": {"grounding_metadata": {"web_search_queries": ["a"]}}},
    {"additional_kwargs": {"tool_outputs": [{"type": "web_search_call"}]}},
    {"additional_kwargs": {"annotations": [{"type": "url_citation", "url": "u"}]}},
]


@pytest.mark.parametrize("fields", SEARCHED, ids=str)
def test_a_hosted_search_is_seen_in_every_spelling_and_its_fee_is_charged(fields):
    usage = usage_of(answer(record(10, 5), **fields))
    assert dict(usage.tool_uses) == {"web_search": 1}
    tokens = Price(3.0, 15.0).estimate_usd(input_tokens=10, output_tokens=5)
    fee = Price(3.0, 15.0, tool_fees_usd={"web_search": 0.01})
    assert fee.cost_usd(usage) == pytest.approx(tokens + 0.01)
    assert Price(3.0, 15.0).cost_usd(usage) is None, "a fee that is not known is not zero"


def test_tools_that_the_application_runs_are_no_hosted_tools():
    blocks = [
        {"type": "tool_use", "name": "web_search", "id": "1", "input": {}},
        {"type": "function_call", "name": "f"},
        {"type": "mcp_call", "name": "x"},
    ]
    assert dict(usage_of(answer(record(10, 5), blocks)).tool_uses) == {"mcp": 1}
    assert Price(1, 1).cost_usd(usage_of(answer(record(10, 5), blocks))) is not None
