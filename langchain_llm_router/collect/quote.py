"""The quote of a run of `collect`: its calls, tokens and cost, computed before the first call."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_llm_router.collect.graders import Grader, PairwiseJudge
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.types import CHARS_PER_TOKEN, Candidate, sum_usd
from langchain_llm_router.types.tokens import estimate_tokens
from langchain_llm_router.verification import Call, Case, Evaluating, Verifier

__all__ = [
    "Expected",
    "Quote",
    "Workload",
    "expected_answer_usd",
    "make_quote",
]

_VERDICT_TOKENS = 60


@dataclass(frozen=True)
class Workload:
    """The work of a run: questions, candidates, verifiers and grader."""

    questions: Sequence[Question]
    candidates: Sequence[Candidate]
    grader: Grader | PairwiseJudge
    verifiers: Mapping[str, Verifier]
    preamble: Sequence[BaseMessage] = ()

    def messages(self, question: Question) -> list[BaseMessage]:
        """Return the conversation that ends with the question."""
        return [*self.preamble, HumanMessage(question.query)]

    def is_done(self, question: Question, record: Record) -> bool:
        """Return whether all answers, evaluations and grades of a question are recorded."""
        names = [candidate.name for candidate in self.candidates]
        keys = [(question.id, name) for name in names]
        return (
            all(key in record.answers and key in record.grades for key in keys)
            and all((*key, name) in record.evaluations for key in keys for name in self.verifiers)
            and (
                isinstance(self.grader, Grader)
                or all((question.id, *pair) in record.battles for pair in combinations(names, 2))
            )
        )


@dataclass(frozen=True)
class Expected:
    """The expected calls to one model, with their tokens and cost (None if unknown)."""

    calls: int
    input_tokens: float
    output_tokens: float
    cost_usd: float | None


@dataclass(frozen=True)
class Quote:
    """The calls that a run is expected to make, by model."""

    models: Mapping[str, Expected]

    @property
    def calls(self) -> int:
        """Number of calls to all models."""
        return sum(expected.calls for expected in self.models.values())

    @property
    def cost_usd(self) -> float | None:
        """Expected cost of all calls in USD; None if any price is unknown."""
        return sum_usd([expected.cost_usd for expected in self.models.values()])

    def __str__(self) -> str:
        lines = [
            f"{name}: {e.calls:,} calls, about {e.input_tokens:,.0f} tokens in and "
            f"{e.output_tokens:,.0f} out, {_dollars(e.cost_usd)}"
            for name, e in self.models.items()
        ]
        return "\n".join([*lines, f"In all {self.calls:,} calls, {_dollars(self.cost_usd)}."])


def _dollars(amount: float | None) -> str:
    return "price unknown" if amount is None else f"about ${amount:,.4f}"


def expected_answer_usd(work: Workload, candidate: Candidate) -> float | None:
    """Return the expected cost of a candidate's answer to the question of median length."""
    if candidate.expected_cost_usd is not None:
        return candidate.expected_cost_usd
    call = Call(work.messages(_median_question(work.questions)), candidate)
    return _expect(call, candidate.expected_output_tokens).cost_usd


def make_quote(work: Workload, record: Record) -> Quote:
    """Count the calls that are not in the journal yet, and estimate their tokens and cost.

    Every question is counted with the median length, every answer with the candidate's
    `expected_output_tokens`, every verdict and grade with its `max_tokens` or else 60 tokens.
    """
    question = _median_question(work.questions)
    totals: dict[str, list[Expected]] = {}
    ids = [q.id for q in work.questions]
    for candidate in work.candidates:
        missing = sum((id, candidate.name) not in record.answers for id in ids)
        call = Call(work.messages(question), candidate)
        expected = _expect(call, candidate.expected_output_tokens)
        totals.setdefault(candidate.name, []).append(_multiply(expected, missing))
        answer = AIMessage("x" * int(candidate.expected_output_tokens * CHARS_PER_TOKEN))
        case = Case(work.messages(question), answer, candidate)
        for name, verifier in work.verifiers.items():
            missing = sum((id, candidate.name, name) not in record.evaluations for id in ids)
            _add_calls(totals, verifier.evaluate(case), missing)
        if isinstance(work.grader, Grader):
            missing = sum((id, candidate.name) not in record.grades for id in ids)
            _add_calls(totals, work.grader.grade(question, case), missing)
    if isinstance(work.grader, PairwiseJudge):
        pairs = list(combinations([c.name for c in work.candidates], 2))
        missing = sum((id, *pair) not in record.battles for id in ids for pair in pairs)
        text = "x" * int(max(c.expected_output_tokens for c in work.candidates) * CHARS_PER_TOKEN)
        _add_calls(totals, work.grader.compare(question, text, text), missing)
    return Quote({name: _total(parts) for name, parts in totals.items()})


def _median_question(questions: Sequence[Question]) -> Question:
    """Return the question of median length, which represents all questions."""
    middle = statistics.median_low(len(question.query) for question in questions)
    return next(question for question in questions if len(question.query) == middle)


def _add_calls(totals: dict[str, list[Expected]], steps: Evaluating, times: int) -> None:
    """Add the first calls that a verifier or grader yields, without making them."""
    try:
        calls = next(steps)
    except StopIteration:
        return
    steps.close()
    for call in calls:
        output = float(call.kwargs.get("max_tokens") or _VERDICT_TOKENS) * call.n_samples
        expected = _multiply(_expect(call, output), times)
        totals.setdefault(call.candidate.name, []).append(expected)


def _expect(call: Call, output_tokens: float) -> Expected:
    input_tokens = sum(estimate_tokens(str(message.text)) for message in call.messages)
    price = call.candidate.price
    cost = None
    if price is not None:
        cost = price.estimate_usd(input_tokens=input_tokens, output_tokens=output_tokens)
    return Expected(1, input_tokens, output_tokens, cost)


def _multiply(expected: Expected, n: int) -> Expected:
    cost = None if expected.cost_usd is None else n * expected.cost_usd
    if n == 0:
        cost = 0.0
    return Expected(n, n * expected.input_tokens, n * expected.output_tokens, cost)


def _total(parts: Sequence[Expected]) -> Expected:
    return Expected(
        sum(part.calls for part in parts),
        sum(part.input_tokens for part in parts),
        sum(part.output_tokens for part in parts),
        sum_usd([part.cost_usd for part in parts]),
    )
