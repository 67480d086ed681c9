"""The quote of a run of `collect`: its calls, tokens and cost, computed before the first call."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    convert_to_messages,
)

from langchain_llm_router.calls.reports import with_instruction
from langchain_llm_router.calls.several_replies import draws_several
from langchain_llm_router.collect.graders import Grader, PairwiseJudge
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.types import CHARS_PER_TOKEN, Candidate, sum_usd
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.types.tokens import estimate_tokens
from langchain_llm_router.verification import Call, Case, Evaluating, Report, Verifier

__all__ = [
    "Expected",
    "Part",
    "Quote",
    "Spending",
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
    verify_last: bool = False
    """Whether the answers of the last of several candidates are verified too."""

    recorded: Sequence[Mapping[str, Any]] = ()
    """Answers from request logs, as lines of the journal; they are not asked for again."""

    def messages(self, question: Question) -> list[BaseMessage]:
        """Return the conversation that ends with the question."""
        context = convert_to_messages(question.context)
        return [*self.preamble, *context, HumanMessage(question.query)]

    def verifiers_of(self, candidate: str) -> Mapping[str, Verifier]:
        """Return the verifiers of a candidate's answers.

        A cascade accepts its last candidate's answer whatever a verifier says.
        """
        if len(self.candidates) > 1 and candidate == self.candidates[-1].name:
            return {} if not self.verify_last else self._scoring
        return self._scoring

    @property
    def _scoring(self) -> Mapping[str, Verifier]:
        return {name: it for name, it in self.verifiers.items() if not it.compares}

    @property
    def comparing(self) -> Mapping[str, Verifier]:
        """The verifiers that compare all answers to a question with each other."""
        return {name: it for name, it in self.verifiers.items() if it.compares}

    def report_of(self, candidate: str) -> Report | None:
        """Return what a candidate is asked for beside its answers; None if nothing.

        Raises:
            ValueError: If two verifiers ask for different things in the same answer.
        """
        asked = {v.report_of(candidate) for v in self.verifiers_of(candidate).values()} - {None}
        if len(asked) > 1:
            msg = (
                "One answer can come with one confidence, but several verifiers ask for different "
                "ones: collect them in journals of their own."
            )
            raise ValueError(msg)
        return next(iter(asked), None)

    def is_done(self, question: Question, record: Record) -> bool:
        """Return whether all answers, evaluations and grades of a question are recorded."""
        names = [candidate.name for candidate in self.candidates]
        keys = [(question.id, name) for name in names]
        return (
            all(key in record.answers and key in record.grades for key in keys)
            and all(
                record.is_evaluated((*key, name))
                for key in keys
                for name in (*self.verifiers_of(key[1]), *self.comparing)
            )
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
class Part:
    """What a run pays for: one kind of calls about the answers of one candidate."""

    kind: Literal["answers", "verdicts", "grades", "comparisons"]
    candidate: str | None
    """Whose answers they are or are about; None if about those of all candidates."""

    model: str
    """Name of the model that is called."""

    expected: Expected

    def __str__(self) -> str:
        about = "" if self.candidate is None else f" of {self.candidate}"
        if self.kind == "verdicts":
            about = f" on {self.candidate}"
        by = "" if self.model == self.candidate and self.kind == "answers" else f" by {self.model}"
        e = self.expected
        return (
            f"{self.kind}{about}{by}: {_count_calls(e.calls)}, about {e.input_tokens:,.0f} tokens "
            f"in and {e.output_tokens:,.0f} out, {_dollars(e.cost_usd)}"
        )


@dataclass(frozen=True)
class Quote:
    """The calls that a run is expected to make, by what they are for."""

    parts: Sequence[Part]

    @property
    def models(self) -> Mapping[str, Expected]:
        """The calls by the name of the model."""
        grouped: dict[str, list[Expected]] = {}
        for part in self.parts:
            grouped.setdefault(part.model, []).append(part.expected)
        return {name: _total(parts) for name, parts in grouped.items()}

    @property
    def calls(self) -> int:
        """Number of calls to all models."""
        return sum(part.expected.calls for part in self.parts)

    @property
    def cost_usd(self) -> float | None:
        """Expected cost of all calls in USD; None if any price is unknown."""
        return sum_usd([part.expected.cost_usd for part in self.parts])

    @property
    def unpriced_candidates(self) -> tuple[str, ...]:
        """Names of the candidates whose answers have no known price."""
        unpriced = [p for p in self.parts if p.kind == "answers" and p.expected.cost_usd is None]
        return tuple(dict.fromkeys(part.model for part in unpriced))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Names of the models to be called whose prices are unknown."""
        names = [part.model for part in self.parts if part.expected.cost_usd is None]
        return tuple(dict.fromkeys(names))

    def __str__(self) -> str:
        lines = [str(part) for part in self.parts if part.expected.calls > 0]
        kinds = list(dict.fromkeys(part.kind for part in self.parts if part.expected.calls > 0))
        total = f"In all {_count_calls(self.calls)}, {_known_dollars(self.parts)}"
        if len(kinds) > 1:
            sums = (
                f"{kind} {_known_dollars([part for part in self.parts if part.kind == kind])}"
                for kind in kinds
            )
            total += f": {', '.join(sums)}"
        return "\n".join([*lines, f"{total}."])


@dataclass(frozen=True)
class Spending:
    """What a run spent, beside what was expected.

    Attributes:
        expected_usd: Expected cost of all calls in USD; None if any price is unknown.
        known_usd: Cost in USD of the calls whose cost is known.
        n_unpriced: Number of answers, verdicts and grades whose cost is unknown.
    """

    expected_usd: float | None
    known_usd: float
    n_unpriced: int

    @property
    def cost_usd(self) -> float | None:
        """Cost of all calls in USD; None if that of any is unknown."""
        return self.known_usd if self.n_unpriced == 0 else None

    def __str__(self) -> str:
        spent = format_usd(self.known_usd)
        if self.n_unpriced > 0:
            spent += f" and the unknown cost of {self.n_unpriced:,} answers, verdicts and grades"
        expected = format_usd(self.expected_usd, unknown="an unknown amount")
        return f"Spent: {spent}. Expected: {expected}."


def _known_dollars(parts: Sequence[Part]) -> str:
    """Return the cost of the parts with known prices, and whose price is unknown."""
    costs = [part.expected.cost_usd for part in parts]
    known = [cost for cost in costs if cost is not None]
    unpriced = ", ".join(Quote(parts).unpriced)
    if not unpriced:
        return _dollars(sum(known))
    if sum(known) == 0:
        return _dollars(None)
    return f"{_dollars(sum(known))} and the unknown price of {unpriced}"


def _count_calls(n: int) -> str:
    return f"{n:,} call{'s' * (n != 1)}"


def _dollars(amount: float | None) -> str:
    return "price unknown" if amount is None else f"about {format_usd(amount)}"


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
    parts: list[Part] = []
    ids = [q.id for q in work.questions]
    recorded = {(line["id"], line["candidate"]) for line in work.recorded}
    for n_earlier, candidate in enumerate(work.candidates):
        name = candidate.name
        known = record.answers.keys() | recorded
        missing = sum((id, name) not in known for id in ids)
        report, messages = work.report_of(name), work.messages(question)
        asking = None if report is None else with_instruction(messages, report.instruction)
        call = Call(asking or messages, candidate)
        expected = _expect(call, candidate.expected_output_tokens)
        parts.append(Part("answers", name, name, _multiply(expected, missing)))
        answer = AIMessage("x" * int(candidate.expected_output_tokens * CHARS_PER_TOKEN))
        case = Case(work.messages(question), answer, candidate)
        for key, verifier in work.verifiers_of(name).items():
            missing = sum(not record.is_evaluated((id, name, key)) for id in ids)
            parts += _calls_of("verdicts", name, verifier.evaluate(case), missing)
        for key, verifier in work.comparing.items():
            missing = sum(not record.is_evaluated((id, name, key)) for id in ids)
            # At most: answers may be the same, and an equal text needs no call.
            others = [AIMessage(f"{i} {answer.text}") for i in range(n_earlier)]
            steps = verifier.evaluate(replace(case, earlier=tuple(enumerate(others))))
            parts += _calls_of("verdicts", name, steps, missing)
        if isinstance(work.grader, Grader):
            missing = sum((id, name) not in record.grades for id in ids)
            parts += _calls_of("grades", name, work.grader.grade(question, case), missing)
    if isinstance(work.grader, PairwiseJudge):
        pairs = list(combinations([c.name for c in work.candidates], 2))
        missing = sum((id, *pair) not in record.battles for id in ids for pair in pairs)
        text = "x" * int(max(c.expected_output_tokens for c in work.candidates) * CHARS_PER_TOKEN)
        compared = work.grader.compare(question, text, text)
        parts += _calls_of("comparisons", None, compared, missing)
    return Quote(parts)


def _median_question(questions: Sequence[Question]) -> Question:
    """Return the question of median length, which represents all questions."""
    middle = statistics.median_low(len(question.query) for question in questions)
    return next(question for question in questions if len(question.query) == middle)


def _calls_of(
    kind: Literal["verdicts", "grades", "comparisons"],
    candidate: str | None,
    steps: Evaluating,
    times: int,
) -> list[Part]:
    """Return the first calls that a verifier or grader yields by model, without making them."""
    try:
        calls = next(steps)
    except StopIteration:
        return []
    steps.close()
    grouped: dict[str, list[Expected]] = {}
    counts = Counter(map(id, calls))
    for call in {id(call): call for call in calls}.values():
        n_equal = counts[id(call)]
        # Equal calls read the prompt once where they are one request.
        n_replies = n_equal if draws_several(call.candidate) else 1
        output = float(call.kwargs.get("max_tokens") or _VERDICT_TOKENS)
        one = _expect(call, output * call.n_samples * n_replies)
        expected = _multiply(one, times * n_equal // n_replies)
        grouped.setdefault(call.candidate.name, []).append(expected)
    return [Part(kind, candidate, model, _total(same)) for model, same in grouped.items()]


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
