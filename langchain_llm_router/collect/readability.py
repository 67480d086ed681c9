"""Whether verdicts and grades can be read, checked before most of a run's money is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_llm_router.collect.graders import Grader
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.collect.quote import Workload
from langchain_llm_router.types.arguments import CheckedArguments

__all__ = ["Readable", "split_trial", "why_unreadable"]

_TRIAL_ROWS = 20


@dataclass(frozen=True)
class Readable(CheckedArguments):
    """How many verdicts or grades of a candidate's answers can be read."""

    what: str
    """What they are, in words."""

    n_read: int
    n_all: int
    advice: str
    """What to do if none can be read."""

    def __str__(self) -> str:
        return f"{self.what} readable: {self.n_read:,} of {self.n_all:,}"


def split_trial(work: Workload, record: Record) -> tuple[Sequence[Question], Sequence[Question]]:
    """Return the first questions, whose results are checked before the others, and the others.

    The others are empty if there is nothing left to do for them.
    """
    first, rest = work.questions[:_TRIAL_ROWS], work.questions[_TRIAL_ROWS:]
    if all(work.is_done(question, record) for question in rest):
        return work.questions, ()
    return first, rest


def why_unreadable(
    work: Workload,
    record: Record,
    questions: Sequence[Question],
    goes_on: Callable[[Sequence[Readable]], bool],
) -> str | None:
    """Return why a run should not go on after its first questions, or None.

    Args:
        work: The work.
        record: What is known, with the results of the first questions.
        questions: The first questions.
        goes_on: Function that is asked whether to go on, if less than half of something can be
            read.
    """
    poor = [each for each in _readable(work, record, questions) if 2 * each.n_read < each.n_all]
    if len(poor) == 0 or goes_on(poor):
        return None
    worst = min(poor, key=lambda each: each.n_read / each.n_all)
    return f"After the first {len(questions)} questions, {worst}: {worst.advice}."


def _readable(work: Workload, record: Record, questions: Sequence[Question]) -> list[Readable]:
    found = []
    for candidate in work.candidates:
        keys = [(question.id, candidate.name) for question in questions]
        for name in work.verifiers_of(candidate.name):
            lines = [record.evaluations.get((*key, name)) for key in keys]
            verdicts = [
                verdict
                for line in lines
                if line is not None
                for verdict in line.get("verdicts") or [line.get("confidence")]
            ]
            errors = [error for line in lines if line for error in line.get("errors", ())]
            advice = (
                f"its model fails with {' '.join(str(errors[0]).split())[:200]!r}"
                if errors
                else "its replies are no verdicts, so look at its server, or collect without "
                "(`--samples 0`)"
            )
            n_read = sum(verdict is not None for verdict in verdicts)
            what = f"verdicts of {name!r} on {candidate.name!r}"
            found.append(Readable(what, n_read, len(verdicts), advice))
        if isinstance(work.grader, Grader):
            answered = [key for key in keys if key in record.answers]
            n_read = sum(record.is_graded(key) for key in answered)
            advice = "use another grader (`--grader`), or say in the questions how to answer"
            what = f"grades of {candidate.name!r}"
            found.append(Readable(what, n_read, len(answered), advice))
    return found
