"""The attempts of a request with their answers, and which of these can still be kept.

An agent changes more than the conversation, so an attempt whose effects were undone cannot be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage
from pydantic_core import to_json

from langchain_llm_router.calls.ask import Answer, AskOperation
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.errors import LlmRouterError, is_pause

__all__ = [
    "Earlier",
    "add_end",
    "earlier_attempts",
    "is_lost",
    "keep_standing",
    "read_answers",
]


class Earlier(NamedTuple):
    """An earlier attempt of the request."""

    attempt: Attempt
    message: AIMessage | None
    run: Mapping[str, Any] | None
    """Of an agent's run: its final `state`, and what `prepare` returned as `prepared`."""


def earlier_attempts(situation: Situation, answers: Mapping[str, Answer]) -> list[Earlier]:
    """Return the attempts so far with their answers."""
    found = [(attempt, answers[attempt["candidate"]]) for attempt in situation.attempts]
    return [Earlier(attempt, answer.message, answer.run) for attempt, answer in found]


def add_end(loop: Loop, asking: AskOperation, error: BaseException) -> None:
    """Add the attempt whose end ends the request; a call that pauses has not ended."""
    attempt = None if is_pause(error) else asking.cut_off(error)
    if attempt is not None:
        loop.saw(attempt)


def is_lost(loop: Loop, step: Decision) -> bool:
    """Return whether a step keeps an answer whose effects were undone, and no other stands."""
    return _keeps_answer(step) and _is_undone(loop, step) and not loop.situation.standing


def keep_standing(loop: Loop, step: Decision) -> Decision:
    """Return the step, or one that keeps the last answer whose effects were not undone.

    Args:
        loop: The loop, whose last step is replaced then.
        step: The step, which ends the request.

    Raises:
        LlmRouterError: If an answer is to be kept, and none stands.
    """
    if not _is_undone(loop, step) or step.ending == "refuse":
        return step
    left, last = loop.situation.standing, loop.situation.attempts[-1]
    why = f"the effects of {step.candidate} were undone, so its answer cannot be kept"
    if not left and _keeps_answer(step):
        msg = f"No answer is left: {why}, and {last['candidate']} failed: {last.get('error')}."
        raise LlmRouterError(msg)
    if left:
        p = loop.policy.p_good(loop.situation, left[-1])
        kept = left[-1]["candidate"]
        loop.steps[-1] = replace(step, candidate=kept, reason=why, confidence=p)
    return loop.steps[-1]


def _keeps_answer(step: Decision) -> bool:
    return step.action == "accept" or step.ending in ("flag", "hold")


def _is_undone(loop: Loop, step: Decision) -> bool:
    attempts = loop.situation.attempts
    return any(one["candidate"] == step.candidate and "restored" in one for one in attempts)


def read_answers(
    attempts: Sequence[Attempt], answers: Mapping[str, Answer]
) -> tuple[AIMessage, tuple[tuple[int, AIMessage], ...]]:
    """Return the last answer, and those before it that have a group with it, as a `Case` has them.

    Args:
        attempts: The attempts; the last one is verified.
        answers: The answers by candidate.
    """
    *before, last = attempts
    grouped = []
    for attempt in before:
        group, answer = attempt.get("answer_group"), answers[attempt["candidate"]]
        if group is not None and answer.message is not None:
            grouped.append((group, _read_message(attempt, answer)))
    return _read_message(last, answers[last["candidate"]]), tuple(grouped)


def _read_message(attempt: Attempt, answer: Answer) -> AIMessage:
    """Return the message that the verifier reads; where it compares objects, with one as its text.

    Providers write objects in different places, and a schema may fill in fields, so that text is
    the JSON of the parsed object, without spaces around its texts.
    """
    message = answer.message
    assert message is not None, "only an answer is read"
    if not attempt.get("comparable", False):
        return message
    try:
        value = json.loads(to_json(answer.output["parsed"], fallback=str))
        text = json.dumps(_trim_texts(value), ensure_ascii=False)
    except (ValueError, RecursionError):
        # Without JSON, e.g. because it is too deep, it is compared by what the model wrote.
        return message
    return message.model_copy(update={"content": text})


def _trim_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        return {name: _trim_texts(one) for name, one in value.items()}
    return [_trim_texts(one) for one in value] if isinstance(value, list) else value
