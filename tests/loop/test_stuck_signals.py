"""What the messages of a tool loop say about whether it is stuck."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_llm_router.loop import LoopSignals, read_signals

CALM = LoopSignals(0, 0, 0, 0, 0, 0, None, None)
LONG = "The file has four parts, and in the third of them the parser is defined. " * 4


def turn(args=None, result="fine", *, name="look", status="success", text="", **fields):
    call = {"name": name, "args": {} if args is None else args, "id": "1"}
    return [
        AIMessage(text, tool_calls=[call], **fields),
        ToolMessage(result, tool_call_id="1", status=status),
    ]


def read(*turns, **kwargs):
    return read_signals([message for one in turns for message in one], **kwargs)


def test_a_loop_that_works_gives_no_signal():
    told = read(*[turn({"n": n}, f"{n} {LONG[n:]}"[: 120 + 40 * n]) for n in range(5)])
    assert told == CALM._replace(turns=5)


def test_the_same_call_counts_however_its_arguments_are_written():
    one = turn({"a": 1, "b": [1, {"x": None}]})
    other = turn({"b": [1, {"x": None}], "a": 1})
    assert read(one).repeated_calls == 0
    assert read(one, other).repeated_calls == 2
    assert read(one, turn({"a": 2}), other, one).repeated_calls == 3


@pytest.mark.parametrize(
    "second",
    [turn({"a": 2}), turn({"a": "1"}), turn({"a": 1}, name="other"), turn({"a": 1}, "news")],
)
def test_a_call_that_differs_in_name_arguments_or_result_is_no_repetition(second):
    assert read(turn({"a": 1}), second).repeated_calls == 0


def test_only_the_last_turns_calls_count_as_repeated():
    assert read(turn({"a": 1}), turn({"a": 1}), turn({"a": 2})).repeated_calls == 0


def test_equal_calls_in_one_turn_are_no_repetition():
    calls = [{"name": "look", "args": {}, "id": str(i)} for i in range(3)]
    results = [ToolMessage("fine", tool_call_id=str(i)) for i in range(3)]
    assert read([AIMessage("", tool_calls=calls), *results]).repeated_calls == 0


def test_errors_are_the_same_result_even_if_they_name_another_time():
    told = read(*[turn({"a": 1}, f"Error: timed out at 12:0{i}") for i in range(3)])
    assert (told.repeated_calls, told.errors_in_a_row) == (3, 3)


@pytest.mark.parametrize(
    "text",
    [
        "Error: no such file",
        "error executing tool",
        '{"error": "not found"}',
        "[ValueError: bad]",
        "requests.exceptions.ConnectionError: refused",
        "  Traceback (most recent call last):",
        "fatal: not a git repository",
        "Internal Error: 500",
        "Exception: boom",
    ],
)
def test_the_usual_texts_of_errors_are_read(text):
    assert read(turn(result=text)).errors_in_a_row == 1


@pytest.mark.parametrize(
    "text",
    ["", "fine", "No error: all passed", "Errors fell by 5 %", '{"error": null}', '{"error":""}'],
)
def test_other_texts_are_no_errors(text):
    assert read(turn(result=text)).errors_in_a_row == 0
    assert read(turn(result=text, status="error")).errors_in_a_row == 1


def test_errors_count_by_turns_in_a_row_in_which_nothing_else_came_back():
    failed, worked = turn(result="x", status="error"), turn(result="x")
    assert read(failed, worked, failed, failed).errors_in_a_row == 2
    assert read(failed, worked).errors_in_a_row == 0
    half = [*failed, ToolMessage("fine", tool_call_id="2")]
    assert read(failed, half).errors_in_a_row == 0


def test_calls_with_arguments_that_cannot_be_parsed_are_counted():
    broken = {
        "name": "look",
        "args": '{"a": ',
        "id": "2",
        "error": None,
        "type": "invalid_tool_call",
    }
    answer = AIMessage("", invalid_tool_calls=[broken])
    told = read_signals([answer, *turn(), answer, ToolMessage("no", tool_call_id="2")])
    assert told.invalid_calls == 2


def test_an_observation_that_is_nearly_an_earlier_one_brings_nothing_new():
    first, again = turn({"n": 1}, LONG), turn({"n": 2}, LONG + " At 12:04.")
    assert read(first).stale_observations == 0
    assert read(first, again).stale_observations == 1
    assert read(first, again, again).stale_observations == 2
    assert read(first, again, turn({"n": 3}, LONG[::-1])).stale_observations == 0
    assert read(first, turn({"n": 3}, LONG[: len(LONG) // 2])).stale_observations == 0


def test_short_observations_are_never_stale():
    assert (
        read(*[turn({"n": n}, "The file was written.") for n in range(9)]).stale_observations == 0
    )


@pytest.mark.parametrize(
    "text", ["I give up.", "I\u2019m stuck here", "Ich gebe auf", "我放弃了", "Я сдаюсь"]
)
def test_a_model_that_says_so_gave_up(text):
    assert read(turn(text=text), turn(text="Next.")).gave_up == 1
    assert read(turn(result=text)).gave_up == 0


def test_other_words_of_giving_up_can_be_given():
    assert read(turn(text="Mi rezignas."), giving_up=("mi rezignas",)).gave_up == 1


def test_tokens_and_costs_are_summed_and_unknown_if_one_is():
    usage = {"input_tokens": 100, "output_tokens": 5, "total_tokens": 105}
    record = {"llm_router": {"candidate": "small", "cost_usd": 0.25}}
    known = turn(text="x", usage_metadata=usage, response_metadata=record)
    told = read(known, known)
    assert (told.tokens, told.cost_usd) == (210, 0.5)
    told = read(known, turn())
    assert (told.tokens, told.cost_usd) == (None, None)


JUNK = [None, True, "9", -1, float("nan"), float("inf"), [], {}, 10**400]


@pytest.mark.parametrize("junk", JUNK)
def test_costs_that_no_router_wrote_are_unknown(junk):
    for record in (junk, {"cost_usd": junk}):
        told = read(turn(text="x", response_metadata={"llm_router": record}))
        assert told.cost_usd in (None, 1.0)


def deep(n):
    value = {}
    for _ in range(n):
        value = {"a": value}
    return value


class Odd:
    """No JSON."""


def circular():
    value = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "args",
    [deep(100_000), {"a": Odd()}, circular(), {1: 2, "a": 3}, {"a": "\ud800"}, {"a": float("nan")}],
    ids=["deep", "an object", "circular", "mixed keys", "a surrogate", "nan"],
)
def test_arguments_of_any_kind_are_read(args):
    messages = turn()
    # As a caller may build them, without LangChain's checks.
    messages[0].tool_calls[0]["args"] = args
    assert read(messages, messages, messages).repeated_calls in (0, 3)


def test_an_unpaired_surrogate_and_content_blocks_are_read():
    blocks = [{"type": "text", "text": "Error: \ud800"}, {"type": "odd"}, "more"]
    assert read([turn()[0], ToolMessage(blocks, tool_call_id="1")]).errors_in_a_row == 1
    assert read(turn({"a": "\udfff"}, "\ud800" * 500, text="\udc00")) == CALM._replace(turns=1)


def test_huge_messages_take_linear_time():
    big = "a" * 5_000_000
    started = time.process_time()
    turns = [turn({"text": big}, f"{i}{big}", text=big) for i in range(4)]
    assert read(*turns).stale_observations == 3
    many = [turn({"n": i}, f"{i} {LONG}" * 10) for i in range(500)]
    assert read(*many).turns == 500
    assert time.process_time() - started < 5


texts = st.text(st.characters(codec=None), max_size=200)
arguments = st.dictionaries(texts, st.none() | st.booleans() | st.floats() | texts, max_size=3)


@st.composite
def messages_of_any_kind(draw):
    kind = draw(st.sampled_from(["human", "system", "ai", "tool"]))
    text = draw(texts)
    if kind == "human":
        return HumanMessage(text)
    if kind == "system":
        return SystemMessage(text)
    if kind == "tool":
        status = draw(st.sampled_from(["success", "error"]))
        return ToolMessage(text, tool_call_id=draw(st.sampled_from("123")), status=status)
    ids = draw(st.lists(st.sampled_from(["1", "2", None]), max_size=3))
    calls = [{"name": draw(texts), "args": draw(arguments), "id": i} for i in ids]
    return AIMessage(text, tool_calls=calls)


@given(st.lists(messages_of_any_kind(), max_size=12))
def test_signals_of_any_messages_are_counts_and_the_same_each_time(messages):
    told = read_signals(messages)
    assert told == read_signals(messages)
    assert all(value is None or 0 <= value <= max(1, len(messages)) for value in told[:6])


@pytest.mark.parametrize(
    ("text", "gave_up"),
    [
        ("I GIVE UP.", 1),
        ("It\u2019s no use: I\u2019m stuck.", 1),
        ('The log says "I give up", so I retry.', 0),
        ("The log says 'I give up', so I retry.", 0),
        ("The log says \u201cI give up\u201d, so I retry.", 0),
        ("`i give up` is a test's name.", 0),
        ("```\nI give up\n```\nis its output.", 0),
        ("> I give up\n\nsays the page.", 0),
        ("I don't know, I'm stuck, and 'it' is lost.", 1),
    ],
)
def test_a_model_gives_up_in_its_own_words_and_not_in_those_that_it_quotes(text, gave_up):
    assert read(turn(text=text)).gave_up == gave_up


def test_words_of_your_own_match_in_any_case():
    assert read(turn(text="Genug jetzt!"), giving_up=["GENUG"]).gave_up == 1
