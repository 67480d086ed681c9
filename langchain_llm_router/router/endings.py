"""The answer that a request ends with, also where no answer is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage

from langchain_llm_router.calls.ask import Answer
from langchain_llm_router.calls.bindings import wants_schema
from langchain_llm_router.policies.exits import ExitTerms
from langchain_llm_router.types import Attempt, Decision

__all__ = ["Done", "find_answer"]


class Done(NamedTuple):
    """A finished request."""

    answer: Answer
    """The accepted answer, or what stands in its place."""

    output: Any
    """The caller's output: the message with its record, or a parsed object."""

    record: dict[str, Any]
    shown: bool = False
    """Whether the answer has already been streamed to the caller."""


def find_answer(
    step: Decision,
    answers: Mapping[str, Answer],
    terms: ExitTerms | None,
    kwargs: Mapping[str, Any],
    reply: AIMessage | None,
) -> Answer:
    """Return what the caller gets where no answer is good enough.

    Args:
        step: The last step, which abstains.
        answers: The candidates' answers.
        terms: How the request ends if no answer is good enough.
        kwargs: Keyword arguments of the call. Where they ask for an object, a refusal is a message
            without one.
        reply: The answer of a person, if one was asked and gave it.
    """
    assert terms is not None, "the loop has checked it"
    if step.ending == "hold":
        return answers[step.candidate]
    if step.ending == "flag":
        return _flagged(answers[step.candidate])
    message = AIMessage(terms.message) if reply is None else reply
    output: Any = message
    if wants_schema(kwargs):
        output = {"raw": message, "parsed": None, "parsing_error": None}
    return Answer(Attempt(candidate=step.candidate), message, output)


def _flagged(answer: Answer) -> Answer:
    assert answer.message is not None, "only an answer is flagged"
    metadata = {**answer.message.response_metadata, "unsure": True}
    message = answer.message.model_copy(update={"response_metadata": metadata})
    output = answer.output
    if isinstance(output, dict) and "raw" in output:
        output = {**output, "raw": message}
    elif output is answer.message:
        output = message
    return Answer(answer.attempt, message, output, *answer[3:])
