"""The rule on sensitive requests reads all that a candidate would see."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from langchain_llm_router.loop.sensitive import Sensitive, earlier_reason, pattern_reason

RULE = Sensitive(r"\d{3}-\d{2}-\d{4}", candidates=["local"])
SECRET = "123-45-6789"


def call(args):
    return {"name": "look_up", "args": args, "id": "1", "type": "tool_call"}


@tool
def look_up(number: str) -> str:
    """Look up a number such as 123-45-6789."""
    return number


SEEN = [
    [HumanMessage(f"I am {SECRET}.")],
    [SystemMessage(f"The user is {SECRET}."), HumanMessage("hi")],
    [HumanMessage("hi"), AIMessage(f"You are {SECRET}."), HumanMessage("so?")],
    [HumanMessage("hi"), AIMessage("", tool_calls=[call({"n": {"deep": [SECRET]}})])],
    [HumanMessage("hi"), ToolMessage(f"found {SECRET}", tool_call_id="1")],
    [HumanMessage("hi"), ToolMessage([{"type": "text", "text": SECRET}], tool_call_id="1")],
    [HumanMessage([{"type": "text", "text": "123-45"}, {"type": "text", "text": "-6789"}])],
    [HumanMessage([{"toolResult": {"content": [{"json": {"ssn": SECRET}}]}}])],
    [HumanMessage([{"type": "file", "source_type": "text", "mime_type": "text/plain",
                    "text": SECRET}])],
    [HumanMessage("\uff11\uff12\uff13-45-6789")],
    [HumanMessage("123\u200b-45-\u200b6789")],
    [HumanMessage("hi", name=SECRET)],
    [HumanMessage("hi", additional_kwargs={"note": SECRET})],
    [AIMessage("", additional_kwargs={"reasoning_content": f"so it is {SECRET}"})],
]  # fmt: skip


@pytest.mark.parametrize("messages", SEEN, ids=range(len(SEEN)))
def test_an_expression_finds_what_any_message_says(messages):
    reason = pattern_reason(RULE, messages, {})
    assert reason is not None
    assert SECRET not in reason


def test_an_expression_reads_tools_and_other_arguments():
    assert pattern_reason(RULE, [HumanMessage("hi")], {"tools": (look_up,)}) is not None
    assert pattern_reason(RULE, [HumanMessage("hi")], {"user": SECRET}) is not None
    assert pattern_reason(RULE, [HumanMessage("hi")], {"tools": (len,), "n": 3}) is None


IMAGE = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}}])


def test_what_no_expression_can_read_counts_unless_it_is_let_through():
    assert pattern_reason(RULE, [IMAGE], {}) == "message 1 (human) has image content"
    free = Sensitive(r"\d{3}-\d{2}-\d{4}", candidates=["local"], media=False)
    assert pattern_reason(free, [IMAGE], {}) is None
    captioned = HumanMessage([{**IMAGE.content[0], "title": SECRET}])
    assert pattern_reason(free, [captioned], {}) is not None


def test_the_bytes_of_a_medium_are_not_searched():
    free = Sensitive("[0-9]{9}", candidates=["local"], media=False)
    data = {"type": "image", "base64": "123456789" * 1000, "mime_type": "image/png"}
    assert pattern_reason(free, [HumanMessage([data])], {}) is None


def test_an_earlier_record_can_only_narrow():
    said = AIMessage("yes", response_metadata={"llm_router": {"sensitive": "pattern"}})
    assert earlier_reason([HumanMessage("a"), said]) is not None
    unsaid = AIMessage("yes", response_metadata={"llm_router": {"sensitive": None}})
    assert earlier_reason([unsaid, AIMessage("x", response_metadata={"llm_router": "odd"})]) is None


@pytest.mark.parametrize(
    ("rule", "candidates", "said"),
    [
        ("(", ["local"], "must be regular expressions"),
        ("a*", ["local"], "matches every text"),
        ([], ["local"], "`rule` is empty"),
        ("secret", [], "must name at least one candidate"),
        ("secret", "local", "must name at least one candidate"),
    ],
)
def test_a_rule_that_says_nothing_or_everything_is_refused(rule, candidates, said):
    with pytest.raises((TypeError, ValueError), match=r".") as caught:
        Sensitive(rule, candidates=candidates)
    assert said in str(caught.value) or "candidates" in str(caught.value)


def test_an_async_function_is_refused_because_it_would_not_be_awaited():
    async def rule(messages):
        return False

    with pytest.raises(TypeError, match="must not be async"):
        Sensitive(rule, candidates=["local"])
