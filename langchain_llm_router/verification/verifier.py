"""The base class of verifiers: generators of model calls that return an evaluation."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel

from langchain_llm_router.types import Attempt, Candidate
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.messages import question_of
from langchain_llm_router.verification.prompt_fence import speaks_to_its_judge

__all__ = [
    "ByCandidate",
    "Call",
    "Case",
    "CheckResult",
    "Evaluating",
    "Evaluation",
    "Reply",
    "Report",
    "Verifier",
    "evaluated",
    "injection_evaluation",
    "standard_error",
]


@dataclass(frozen=True)
class Evaluation:
    """The result of verifying one answer."""

    confidence: float | None
    """Raw score in [0, 1]; None if there is no verdict, which does not mean "incorrect"."""

    verdicts: tuple[bool | None, ...] = ()
    rationale: str | None = None
    """The reason for the score, where there is one for all verdicts."""

    errors: tuple[str, ...] = ()
    """Reasons why a verdict is missing, other than failed calls."""

    answer_group: int | None = None
    """Group of equal answers of the request that the answer belongs to, or the next free number if
    it equals none; None if it was not compared, or cannot be."""

    outputs: tuple[str | None, ...] = ()
    """What each check said, by its place in `verdicts`; empty if none said anything."""

    rationales: tuple[str | None, ...] = ()
    """The reason for each verdict, by its place in `verdicts`; empty if none gave any."""


@dataclass(frozen=True)
class Case:
    """The input of a verifier: a conversation and a candidate's answer."""

    messages: Sequence[BaseMessage]
    answer: AIMessage
    candidate: Candidate
    next_step: Callable[[Evaluation], Hashable] | None = None
    """Returns the router's next step after an evaluation; equal values mean equal steps. A verifier
    may stop as soon as no further result can change it. None if the next step is unknown."""

    earlier: tuple[tuple[int, AIMessage], ...] = ()
    """Group and answer of every earlier attempt of the same request that has a group."""

    state: Mapping[str, Any] | None = None
    """The final state of an agent's run, with its `messages`; None if a model has answered."""

    @property
    def question(self) -> str:
        """The text of the query that was answered."""
        return question_of(self.messages)


def injection_evaluation(case: Case) -> Evaluation | None:
    """Return an evaluation without a verdict if the answer instructs its judge, else None.

    Such an answer is not judged, because the judge might follow the instruction.
    """
    found = speaks_to_its_judge(answer_text(case.answer))
    if found is None:
        return None
    return Evaluation(None, errors=(f"The answer instructs its judge: {found!r}.",))


@dataclass(frozen=True)
class CheckResult:
    """What a check found, with what it has to say about it."""

    passed: bool | None
    """None if the check does not apply."""

    output: str | None = None
    """What it said, for the decision record and the next attempt."""


@dataclass(frozen=True)
class Call:
    """A model call that a verifier requests."""

    messages: Sequence[BaseMessage]
    candidate: Candidate
    schema: type[BaseModel] | None = None
    """Schema of structured output; None means plain text."""

    method: str | None = None
    """`json_schema`, `function_calling` or `json_mode`; if None, the provider's default."""

    temperature: float | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the call, e.g. `{"logprobs": True}`."""

    n_samples: int = 1
    """Number of replies to request in one call of plain text; more than 1 needs a model that takes
    `n`."""


@dataclass(frozen=True)
class Reply:
    """The result of a call."""

    message: AIMessage | None = None
    parsed: Any = None
    error: str | None = None
    cost_usd: float | None = None
    samples: tuple[AIMessage, ...] = ()
    """All replies of a plain-text call, `message` included."""

    exception: Exception | None = None
    """The exception behind `error`."""

    earlier_errors: tuple[str, ...] = ()
    """Errors of earlier tries of this call."""

    unsure: bool = False
    """Whether a failed try may still have been billed. This is a fact about the cost of the call,
    not about the verdict."""


Evaluating = Generator[Sequence[Call], Sequence[Reply], Evaluation]


class Report(ABC):
    """What a candidate is asked for beside its answer, in the same call."""

    KEY: ClassVar[str] = "self_reported"
    """Key of an answer's `response_metadata` under which the `confidence` is, or `why` none is."""

    @property
    @abstractmethod
    def instruction(self) -> str:
        """The text at the end of the prompt that asks for a last line."""

    @property
    @abstractmethod
    def longest_line(self) -> int:
        """Number of characters that the last line may have."""

    @property
    @abstractmethod
    def field(self) -> Mapping[str, Any]:
        """JSON schema of the field that is added to the schema of structured output."""

    def field_instruction(self, name: str) -> str:
        """Return the text at the end of the prompt that asks for the field, without a schema."""
        return f'(In the JSON object, add a field "{name}": {json.dumps(dict(self.field))})'

    @property
    def most_tokens(self) -> int:
        """Upper bound on the tokens that it adds to a prompt; a token has a byte or more."""
        instruction = len(self.instruction.encode()) + 16
        # A provider may send a schema twice, and as text with words of its own around it.
        return max(instruction, 4 * (len(repr(dict(self.field)).encode()) + 64))

    @abstractmethod
    def split(self, text: str, before: str = "") -> tuple[str, float | None] | None:
        """Split a visible text into the answer and its confidence; None if it has no such line.

        Args:
            text: The text.
            before: What comes before it and stays, e.g. because it has been shown.
        """

    def without_lines(self, text: str, before: str = "") -> str | None:
        """Return complete lines of a stream without those that are a confidence.

        Returns:
            None if none of them is one.
        """
        return None

    @abstractmethod
    def read_field(self, value: Any) -> float | None:
        """Return the confidence that the field's value gives; None if it cannot be read."""


class Verifier(CheckedArguments, ABC):
    """Base class of verifiers, which score how good an answer is."""

    free_parameters: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ between the data a router was fitted on and its live calls: they
    change how many calls are made, not what a score means."""

    @abstractmethod
    def evaluate(self, case: Case) -> Evaluating:
        """Yield the calls to make at the same time, receive the replies, return the evaluation."""

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """Return keyword arguments that a candidate must be called with to be verified."""
        return {}

    def report_of(self, candidate: str) -> Report | None:
        """Return what a candidate is asked for beside each draft; None if nothing."""
        return None

    @property
    def compares(self) -> bool:
        """Whether it compares an answer with the earlier ones of its request and gives no score."""
        return False

    @property
    def blocks(self) -> bool:
        """Whether evaluating may compute or wait for long: then no event loop must run it."""
        return False

    def example_case(self, candidate: Candidate) -> Case:
        """Return a case from which its prompt is made, to describe it without an answer."""
        return Case([HumanMessage("question")], AIMessage("1"), candidate)

    @property
    def reads_along(self) -> bool:
        """Whether it can score a partial answer."""
        return type(self).score_so_far is not Verifier.score_so_far

    def score_so_far(self, answer: AIMessage) -> float | None:
        """Return the score in [0, 1] of a partial answer, without a call; None if it has none."""
        return None

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return all calls that judging one answer can make, for its worst-case cost.

        Returns:
            For each call the candidate that is called and the maximum length of its reply in
            tokens (None means the model's own limit). Empty for a verifier that calls no model.
        """
        return [(candidate, None)]


@dataclass(frozen=True)
class ByCandidate(Verifier):
    """Uses a verifier of its own for each candidate.

    Args:
        verifiers: Verifiers by candidate name.
        default: Verifier of all other candidates; if None, their answers get no verdict.
    """

    verifiers: Mapping[str, Verifier]
    default: Verifier | None = None

    def evaluate(self, case: Case) -> Evaluating:
        """Delegate to the candidate's verifier."""
        name = case.candidate.model_name
        verifier = self.verifiers.get(name, self.default)
        if verifier is None:
            missing = f"No verifier for {name!r}, only for {list(self.verifiers)}: set `default`."
            return Evaluation(None, errors=(missing,))
        return (yield from verifier.evaluate(case))

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """Return what the candidate's verifier needs."""
        verifier = self.verifiers.get(candidate, self.default)
        return {} if verifier is None else verifier.answer_kwargs(candidate)

    @property
    def blocks(self) -> bool:
        """Whether any of the verifiers does."""
        return any(it.blocks for it in (*self.verifiers.values(), self.default) if it is not None)

    def report_of(self, candidate: str) -> Report | None:
        """Return what the candidate's verifier asks for."""
        verifier = self.verifiers.get(candidate, self.default)
        return None if verifier is None else verifier.report_of(candidate)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return the calls of the candidate's verifier."""
        verifier = self.verifiers.get(candidate.model_name, self.default)
        return [] if verifier is None else verifier.most_calls(candidate)


def standard_error(confidence: float | None, verdicts: Sequence[bool | None]) -> float | None:
    """Return the standard error √(p(1-p)/n) of a score p of n readable verdicts.

    It is 0 at p = 0 and p = 1, and None (unknown) without a score or without a readable verdict.
    """
    n = sum(verdict is not None for verdict in verdicts)
    if confidence is None or n == 0:
        return None
    return math.sqrt(confidence * (1 - confidence) / n)


def evaluated(attempt: Attempt, evaluation: Evaluation) -> Attempt:
    """Return the attempt with the results of its evaluation."""
    score, errors = evaluation.confidence, list(evaluation.errors)
    if score is not None and not 0 <= score <= 1:
        score, errors = None, [*errors, f"A score must lie in [0, 1], got {score!r}."]
    result: Attempt = {
        **attempt,
        "verified": True,
        "confidence": None if score is None else float(score),
        "standard_error": standard_error(score, evaluation.verdicts),
        "verdicts": list(evaluation.verdicts),
        "verification_errors": errors,
    }
    if evaluation.answer_group is not None:
        result["answer_group"] = evaluation.answer_group
    if any(said is not None for said in evaluation.outputs):
        result["check_outputs"] = list(evaluation.outputs)
    rationales = evaluation.rationales or (evaluation.rationale,)
    if any(rationale is not None for rationale in rationales):
        result["rationales"] = list(rationales)
    return result
