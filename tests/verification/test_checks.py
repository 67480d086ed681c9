"""Checks: what can be said of an answer without asking a model."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_llm_router.verification import (
    Checks,
    compiles,
    finished,
    parses_as,
    valid_tool_calls,
)
from tests.support.verifying import case, run


class Invoice(BaseModel):
    total: float


@tool
def search(query: str, limit: int = 3) -> str:
    """Search the web."""
    return query * limit


def calling(name, args):
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "1"}])


@pytest.mark.parametrize(
    ("check", "answer", "expected"),
    [
        (parses_as(Invoice), '{"total": 3}', True),
        (parses_as(Invoice), 'Here:\n```json\n{"total": 3}\n```\nDone.', True),
        (parses_as(Invoice), '{"total": "three"}', False),
        (parses_as(list[int]), "[1, 2]", True),
        (compiles, "```python\nx = 1\n```", True),
        (compiles, "```python\nx = = 1\n```", False),
        (compiles, "no code at all", None),
        (finished, "whole", True),
        (finished, " ", False),
        (finished, AIMessage("cut", response_metadata={"finish_reason": "length"}), False),
        (finished, AIMessage("cut", response_metadata={"stop_reason": "max_tokens"}), False),
        (valid_tool_calls([search]), "no call", None),
        (valid_tool_calls([search]), calling("search", {"query": "x"}), True),
        (valid_tool_calls([search]), calling("search", {"query": "x", "limit": "many"}), False),
        (valid_tool_calls([search]), calling("search", {"limit": 2}), False),
        (valid_tool_calls([search]), calling("search", {"query": "x", "page": 2}), False),
        (valid_tool_calls([search]), calling("delete", {}), False),
        (valid_tool_calls([Invoice]), calling("Invoice", {"total": 1.0}), True),
    ],
)
def test_ready_made_checks(check, answer, expected):
    assert check(case(answer)) is expected


def test_the_score_is_the_share_of_checks_that_passed_where_they_apply():
    checks = Checks([finished, compiles, lambda about: "Lyon" in about.answer.text])
    evaluation, batches = run(checks, case("Paris"))
    assert evaluation.confidence == 0.5
    assert evaluation.verdicts == (True, None, False)
    assert batches == []


def test_a_check_that_raises_is_missing_and_named():
    def broken(about):
        raise KeyError("oops")

    evaluation, _ = run(Checks([broken]), case())
    assert evaluation.confidence is None
    assert "oops" in evaluation.errors[0]


def test_checks_without_a_check_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Checks([])
    with pytest.raises(TypeError, match="callable"):
        Checks(["finished"])
