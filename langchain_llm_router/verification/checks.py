"""Checks that need no model: whether an answer parses, compiles, calls tools correctly."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import TypeAdapter, ValidationError

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_flaw, answer_text
from langchain_llm_router.types.arguments import check_range, is_bool
from langchain_llm_router.types.decisions import share_true
from langchain_llm_router.types.secrets import describe_error
from langchain_llm_router.verification.verifier import (
    Case,
    CheckResult,
    Evaluating,
    Evaluation,
    Verifier,
)

__all__ = ["Check", "Checks", "compiles", "finished", "parses_as", "valid_tool_calls"]

_Checked = bool | CheckResult | None
Check = Callable[[Case], _Checked | Coroutine[Any, Any, _Checked]]
"""Returns True (passed), False (failed) or None (does not apply), or these in a `CheckResult`. An
async function runs in a thread, in an event loop of its own."""


@dataclass(frozen=True)
class Checks(Verifier):
    """Runs checks on the answer, or on what an agent did; the score is the share that passed.

    No model is called. `ConfidenceThreshold()` keeps what passed. A check may be wrong: then fit an
    observation model to its scores, for a single check `BetaBinomial(n_samples=1)`, whose prior
    keeps a few rows from being taken for certainty. Whether a check that raises or hangs would have
    passed is unknown: then there is no score if all others passed, and otherwise it counts as one
    that did not pass.

    Args:
        checks: Functions from a case to True (passed), False (failed), or None (does not apply):
            `finished`, `compiles`, `parses_as(Invoice)`, `valid_tool_calls([search])`,
            `Command(["pytest"])`, or your own. An agent's final state is `case.state`.
        timeout_s: Seconds after which a function is no longer waited for; its thread keeps running.
            A `Command` has a timeout of its own.

    Example:
        >>> Checks([finished, lambda case: len(case.answer.text) < 500]).checks[0] is finished
        True
    """

    checks: Sequence[Check]
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "timeout_s", above=True)
        if len(self.checks) == 0:
            msg = "`checks` is empty: give at least one callable that takes a `Case`."
            raise ValueError(msg)
        for check in self.checks:
            if not callable(check):
                msg = f"Each of `checks` must be a callable that takes a `Case`, got {check!r}."
                raise TypeError(msg)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return no calls: checks call no model."""
        return []

    @property
    def blocks(self) -> bool:
        """Whether a check waits for something."""
        waits = (getattr(check, "blocks", False) or _is_async(check) for check in self.checks)
        return self.timeout_s is not None or any(waits)

    def evaluate(self, case: Case) -> Evaluating:
        """Run every check."""
        verdicts: list[bool | None] = []
        outputs: list[str | None] = []
        errors: list[str] = []
        for check in self.checks:
            found: Any = None
            try:
                found = self._run(check, case)
            except Exception as error:  # noqa: BLE001 - a user's check may raise anything
                errors.append(describe_error(error, check))
            result = _read_result(check, found)
            verdicts.append(result.passed)
            outputs.append(result.output)
        score = share_true([*verdicts, *[False] * len(errors)])
        if len(errors) > 0 and False not in verdicts:
            score = None
        return Evaluation(score, tuple(verdicts), errors=tuple(errors), outputs=tuple(outputs))
        yield  # pragma: no cover - makes this a generator like every verifier

    def _run(self, check: Check, case: Case) -> Any:
        if getattr(check, "blocks", False) or (self.timeout_s is None and not _is_async(check)):
            return check(case)
        found: Future[Any] = Future()

        def run() -> None:
            try:
                result: Any = check(case)
                found.set_result(asyncio.run(result) if inspect.iscoroutine(result) else result)
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                found.set_exception(error)

        # Not a pool: at its end Python would wait for a thread that hangs.
        Thread(target=run, daemon=True).start()
        try:
            return found.result(self.timeout_s)
        except TimeoutError:
            if found.done():
                raise
            msg = f"the check {_name_of(check)!r} did not end within {self.timeout_s:g} s"
            raise TimeoutError(msg) from None


def _read_result(check: Check, found: Any) -> CheckResult:
    """Return what a check found.

    Raises:
        TypeError: If it is of another kind, which is a mistake in the check, and no failure of it.
    """
    result = found if isinstance(found, CheckResult) else CheckResult(found)
    if result.passed is None:
        return result
    if is_bool(result.passed):
        return replace(result, passed=bool(result.passed))
    msg = (
        f"The check {_name_of(check)!r} must return True, False, None or a `CheckResult`, got "
        f"{found!r:.80}."
    )
    raise TypeError(msg)


def _is_async(check: Check) -> bool:
    call = getattr(check, "__call__", None)  # noqa: B004 - of an object, its method
    return inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(call)


def _name_of(check: Check) -> str:
    name: str = getattr(check, "__name__", type(check).__name__)
    return name


def finished(case: Case) -> bool:
    """Return whether the answer is whole: not empty, refused, filtered, cut off or broken off."""
    return answer_flaw(case.answer) is None


def parses_as(schema: Any, *, key: str | None = None) -> Check:
    """Return a check that the answer is JSON of a type, bare or in a fenced block.

    Args:
        schema: A pydantic model, a dataclass, a `TypedDict`, or any annotation.
        key: Of an agent's final state, e.g. `"structured_response"`: its value is checked in place
            of the answer.
    """
    adapter = TypeAdapter(schema)

    def check(case: Case) -> bool:
        if key is not None:
            return _is_valid(adapter.validate_python, (case.state or {}).get(key))
        text = answer_text(case.answer)
        bodies = [text, *_iter_blocks(text, ("", "json"))]
        return any(_is_valid(adapter.validate_json, body.strip()) for body in bodies)

    return check


def _is_valid(validate: Callable[[Any], Any], value: Any) -> bool:
    try:
        validate(value)
    except ValidationError:
        return False
    return True


def valid_tool_calls(
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
) -> Check:
    """Return a check that every tool call names a known tool and has its required arguments.

    It does not apply to answers without tool calls. Argument names are checked: required ones must
    be present and unknown ones absent; values are validated for tools with a pydantic schema.
    """
    specs = {spec["name"]: spec for spec in (convert_to_openai_tool(t)["function"] for t in tools)}
    schemas = {tool.name: tool for tool in tools if isinstance(tool, BaseTool)}

    def check(case: Case) -> bool | None:
        if case.answer.invalid_tool_calls:
            return False
        if len(case.answer.tool_calls) == 0:
            return None
        return all(_is_valid_call(call, specs, schemas) for call in case.answer.tool_calls)

    return check


def _is_valid_call(call: Any, specs: dict[str, Any], schemas: dict[str, BaseTool]) -> bool:
    spec = specs.get(call["name"])
    if spec is None:
        return False
    parameters = spec.get("parameters", {})
    names = set(call["args"])
    if not set(parameters.get("required", ())) <= names <= set(parameters.get("properties", {})):
        return False
    tool = schemas.get(call["name"])
    if tool is None:
        return True
    try:
        TypeAdapter(tool.get_input_schema()).validate_python(call["args"])
    except ValidationError as error:
        # What a model has to give is there: an argument that is missing is injected at the run.
        return all(one["type"] == "missing" and len(one["loc"]) == 1 for one in error.errors())
    return True


def compiles(case: Case) -> bool | None:
    """Return whether every fenced Python block of the answer parses; None if there is none.

    The code is parsed and not run.
    """
    blocks = list(_iter_blocks(answer_text(case.answer), ("python", "py", "python3")))
    return None if len(blocks) == 0 else all(_parses(block) for block in blocks)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


_FENCE = re.compile(r"^```[ \t]*+(\w*+)[^\n]*+\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _iter_blocks(text: str, languages: Sequence[str]) -> Iterator[str]:
    for language, body in _FENCE.findall(text):
        if language.lower() in languages:
            yield body
