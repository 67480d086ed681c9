"""What every verifier is: a generator of model calls that ends in an evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from langchain_llm_router.types import Attempt, Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.messages import question_of
from langchain_llm_router.verification.prompt_fence import speaks_to_its_judge

__all__ = [
    "ByCandidate",
    "Call",
    "Case",
    "Evaluating",
    "Evaluation",
    "Reply",
    "Verifier",
    "evaluated",
    "steered",
]


@dataclass(frozen=True)
class Evaluation:
    """What a verifier found."""

    confidence: float | None
    """Raw score in [0, 1]; None: there is no verdict, which does not mean "wrong"."""

    verdicts: tuple[bool | None, ...] = ()
    rationale: str | None = None
    errors: tuple[str, ...] = ()
    """Why there is no verdict, apart from calls that failed."""


@dataclass(frozen=True)
class Case:
    """What a verifier looks at: a conversation and the answer that a candidate gave."""

    messages: Sequence[BaseMessage]
    answer: AIMessage
    candidate: Candidate
    next_step: Callable[[Evaluation], Hashable] | None = None
    """What the router would do next with this evaluation; equal values mean equal steps. A
    verifier may stop as soon as no further result can change that. None: unknown."""

    @property
    def question(self) -> str:
        """The text of the question that was answered."""
        return question_of(self.messages)


def steered(case: Case) -> Evaluation | None:
    """An evaluation without a verdict if the answer tells its judge what to say; otherwise None.

    A missing verdict never helps an answer more than being judged.
    """
    found = speaks_to_its_judge(str(case.answer.text))
    if found is None:
        return None
    return Evaluation(None, errors=(f"The answer tells its judge what to say: {found!r}.",))


@dataclass(frozen=True)
class Call:
    """A model call that a verifier asks for."""

    messages: Sequence[BaseMessage]
    candidate: Candidate
    schema: type[BaseModel] | None = None
    """Structured output to ask for; None: plain text."""

    method: str | None = None
    """How: `json_schema`, `function_calling`, `json_mode`; None: the provider's own default."""

    temperature: float | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed on to the model, e.g. `{"logprobs": True}`."""

    n_samples: int = 1
    """How many replies to ask for in one request, for plain text; more than 1 needs a model that
    takes `n`."""


@dataclass(frozen=True)
class Reply:
    """The result of a call."""

    message: AIMessage | None = None
    parsed: Any = None
    error: str | None = None
    cost_usd: float | None = None
    samples: tuple[AIMessage, ...] = ()
    """All replies of a plain call, the first one included."""

    exception: Exception | None = None
    """The exception behind `error`."""

    earlier_errors: tuple[str, ...] = ()
    """The errors of earlier tries."""

    unsure: bool = False
    """Whether one of the failed tries may still have been billed."""


Evaluating = Generator[Sequence[Call], Sequence[Reply], Evaluation]


class Verifier(CheckedArguments, ABC):
    """Looks at an answer and says how far to trust it."""

    @abstractmethod
    def evaluate(self, case: Case) -> Evaluating:
        """Yield the calls to make at once, receive their replies, return the evaluation."""

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """Keywords that a candidate must be called with so that its answer can be verified."""
        return {}

    @property
    def reads_along(self) -> bool:
        """Whether it can score an answer that is still being written."""
        return type(self).score_so_far is not Verifier.score_so_far

    def score_so_far(self, answer: AIMessage) -> float | None:
        """The score, in [0, 1], of a partial answer, without a call; None: no verdict."""
        return None

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Every call that judging one answer of a candidate can make, for its worst-case cost.

        Returns:
            The candidate that each call goes to, and how many tokens its reply may have (None:
            the model's own limit). Empty for a verifier that calls no model.
        """
        return [(candidate, None)]


@dataclass(frozen=True)
class ByCandidate(Verifier):
    """Another verifier for each candidate: scorers are fitted per candidate, and models differ.

    Args:
        verifiers: By candidate name.
        default: For the candidates that are not named; None: their answers get no verdict.
    """

    verifiers: Mapping[str, Verifier]
    default: Verifier | None = None

    def evaluate(self, case: Case) -> Evaluating:
        """Delegate to the candidate's verifier."""
        name = case.candidate.model_name
        verifier = self.verifiers.get(name, self.default)
        if verifier is None:
            missing = f"No verifier for {name!r}: there are {list(self.verifiers)}."
            return Evaluation(None, errors=(missing,))
        return (yield from verifier.evaluate(case))

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """What the candidate's verifier needs."""
        verifier = self.verifiers.get(candidate, self.default)
        return {} if verifier is None else verifier.answer_kwargs(candidate)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """What the candidate's verifier can call."""
        verifier = self.verifiers.get(candidate.model_name, self.default)
        return [] if verifier is None else verifier.most_calls(candidate)


def evaluated(attempt: Attempt, evaluation: Evaluation) -> Attempt:
    """The attempt with the verifier's results added."""
    score, errors = evaluation.confidence, list(evaluation.errors)
    if score is not None and not 0 <= score <= 1:
        score, errors = None, [*errors, f"A score must lie in [0, 1], got {score!r}."]
    return {
        **attempt,
        "verified": True,
        "confidence": None if score is None else float(score),
        "verdicts": list(evaluation.verdicts),
        "verification_errors": errors,
    }
