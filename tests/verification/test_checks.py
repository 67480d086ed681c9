"""Checks: what can be said of an answer without asking a model."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import InjectedToolCallId, tool
from pydantic import BaseModel

from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import (
    CheckResult,
    Checks,
    Command,
    compiles,
    evaluated,
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


@tool
def note(text: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Note a text; LangGraph gives the id of the call."""
    return text + call_id


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
        (valid_tool_calls([note]), calling("note", {"text": "x"}), True),
        (valid_tool_calls([note]), calling("note", {"text": ["x"]}), False),
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


# Checks of what an agent did


def python(code: str, **kwargs) -> Command:
    return Command([sys.executable, "-c", code], **kwargs)


@pytest.mark.parametrize(("code", "passed"), [("print('fine')", True), ("exit('bad')", False)])
def test_a_command_has_passed_if_its_exit_code_is_0_and_its_output_is_kept(code, passed):
    evaluation, _ = run(Checks([python(code)]), case())
    assert evaluation.verdicts == (passed,)
    assert evaluation.confidence == float(passed)
    said = "exit code 0\nfine" if passed else "exit code 1\nbad"
    assert evaluated(Attempt(), evaluation)["check_outputs"] == [said]


def test_only_the_end_of_a_long_output_is_kept(tmp_path):
    found = python("print('é' * 5000, 'end')", keep_chars=10, cwd=tmp_path)(case())
    assert found.output == "exit code 0\nééééé end"


def test_at_the_timeout_a_commands_whole_process_group_is_killed(tmp_path):
    (tmp_path / "child.py").write_text(
        "import subprocess, sys, time\n"
        "wait = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = subprocess.Popen(wait)\n"
        "print('child', child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    command = Command([sys.executable, "child.py"], cwd=tmp_path, timeout_s=1.5)
    evaluation, _ = run(Checks([command, finished]), case())
    assert time.monotonic() - started < 20
    assert evaluation.verdicts == (None, True)
    assert evaluation.confidence is None, "unknown is not passed"
    assert "did not end within 1.5 s" in evaluation.errors[0]
    pid = int(evaluation.errors[0].split("child ")[1])
    for _ in range(100):
        if not is_running(pid):
            break
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, which an init that waits would have removed."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def test_a_command_that_cannot_be_started_is_unknown():
    evaluation, _ = run(Checks([Command(["/no/such/program"])]), case())
    assert evaluation.confidence is None
    assert "FileNotFoundError" in evaluation.errors[0]


def test_a_function_that_hangs_is_unknown_and_a_failed_check_beside_it_still_counts():
    def hangs(about):
        time.sleep(3)
        return True

    evaluation, _ = run(Checks([hangs, lambda about: True], timeout_s=0.05), case())
    assert (evaluation.confidence, evaluation.verdicts) == (None, (None, True))
    assert "'hangs' did not end within 0.05 s" in evaluation.errors[0]
    evaluation, _ = run(Checks([hangs, lambda about: False], timeout_s=0.05), case())
    assert evaluation.confidence == 0.0


def test_an_error_of_a_function_with_a_timeout_is_its_own():
    def late(about):
        raise TimeoutError("of its own")

    evaluation, _ = run(Checks([late], timeout_s=5), case())
    assert evaluation.errors == ("TimeoutError: of its own",)


def test_the_final_state_of_an_agent_is_checked():
    fits = Checks([parses_as(Invoice, key="structured_response")])
    for state, score in [({"structured_response": {"total": 3}}, 1.0), ({}, 0.0), (None, 0.0)]:
        assert run(fits, case(state=state))[0].confidence == score
    looks = Checks([lambda about: CheckResult(about.state["done"], "looked")])
    evaluation, _ = run(looks, case(state={"done": True}))
    assert (evaluation.confidence, evaluation.outputs) == (1.0, ("looked",))


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda: Command("pytest -q"), TypeError, "sequence of strings, got 'pytest -q'"),
        (lambda: Command(["pytest", 3]), TypeError, "sequence of strings"),
        (lambda: Command([]), ValueError, "`args` is empty"),
        (lambda: Command(["x"], timeout_s=0.0), ValueError, "`timeout_s` must be .* got 0.0"),
        (lambda: Checks([finished], timeout_s=-1.0), ValueError, "`timeout_s`"),
    ],
)
def test_a_wrong_argument_of_a_check_is_refused_in_words(wrong, kind, says):
    with pytest.raises(kind, match=says):
        wrong()


def test_checks_that_wait_run_outside_of_the_event_loop():
    assert Checks([python("")]).blocks
    assert Checks([finished], timeout_s=1.0).blocks
    assert not Checks([finished]).blocks


@pytest.mark.parametrize("value", [1, 0.7, "yes", [True]])
def test_a_check_that_returns_another_kind_of_value_is_a_mistake_and_not_unknown(value):
    def looks_good(case):
        return value

    with pytest.raises(TypeError, match=r"The check 'looks_good' must return True, False, None"):
        run(Checks([looks_good]), case("whole"))


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_an_async_check_is_waited_for_and_may_raise(timeout_s):
    async def passes(case):
        await asyncio.sleep(0.01)
        return case.answer.text == "whole"

    async def raises(case):
        raise ConnectionError("no sandbox")

    checks = Checks([passes], timeout_s=timeout_s)
    assert checks.blocks
    assert run(checks, case("whole"))[0].confidence == 1.0
    assert run(checks, case("half"))[0].confidence == 0.0
    failed, _ = run(Checks([passes, raises], timeout_s=timeout_s), case("whole"))
    assert (failed.confidence, failed.errors) == (None, ("ConnectionError: no sandbox",))


async def test_an_async_check_works_inside_a_running_event_loop():
    async def passes(case):
        await asyncio.sleep(0)
        return True

    assert run(Checks([passes]), case("whole"))[0].confidence == 1.0
