"""From questions to training data: ask every candidate, let it verify itself, grade the answers.

Every fact is in the journal (`journal.py`) before the next call is made, so a run that was killed
resumes where it stopped, and repeats only the calls that were in flight.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, NotRequired, ParamSpec, TypedDict, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_llm_router.calls.chat_models import resolve_candidate
from langchain_llm_router.collect.collector import Collector, Limits, Watcher
from langchain_llm_router.collect.graders import Grader, Judge, PairwiseJudge, make_grader
from langchain_llm_router.collect.journal import Collected, Journal, tabulate
from langchain_llm_router.collect.questions import Question, load_questions, parse_questions
from langchain_llm_router.collect.quote import Workload, make_quote
from langchain_llm_router.types import Candidate, candidate_names
from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.errors import CollectionError
from langchain_llm_router.verification import Verifier

__all__ = ["Questions", "Setup", "acollect", "collect", "finish", "make_workload", "opened"]


Questions = str | Path | Iterable[Question | Mapping[str, Any]]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Setup(TypedDict):
    """What `collect` needs to know besides the questions."""

    candidates: Sequence[Candidate | BaseChatModel | str]
    grader: NotRequired[Grader | PairwiseJudge | str]
    verifiers: NotRequired[Mapping[str, Verifier] | None]
    preamble: NotRequired[Sequence[BaseMessage]]


async def acollect(
    questions: Questions,
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    journal: str | Path,
    grader: Grader | PairwiseJudge | str = "exact",
    verifiers: Mapping[str, Verifier] | None = None,
    preamble: Sequence[BaseMessage] = (),
    limits: Limits | None = None,
    watcher: Watcher | None = None,
) -> Collected:
    """As `collect`, inside a running event loop."""
    setup = Setup(candidates=candidates, grader=grader, verifiers=verifiers, preamble=preamble)
    work = make_workload(questions, setup)
    limits, watcher = limits or Limits(), watcher or Watcher()
    with opened(work, journal, limits, watcher) as log:
        stopped = await Collector(work, log, limits, watcher).everything()
        return finish(work, log, limits, stopped)


def _with_arguments_of(
    function: Callable[_P, Any],
) -> Callable[[Callable[..., _R]], Callable[_P, _R]]:
    """Say that a function hands all its arguments to another one: to readers and type checkers."""

    def mark(passing: Callable[..., _R]) -> Callable[_P, _R]:
        passing.__signature__ = signature(function)  # type: ignore[attr-defined]
        return passing

    return mark


@_with_arguments_of(acollect)
def collect(*args: Any, **kwargs: Any) -> Collected:  # noqa: D417 - those of `acollect`
    """Ask every candidate every question, verify, grade, and return the tables.

    Args:
        questions: A file (`load_questions`), or rows with `query` and optionally `id`,
            `reference`, `group`.
        candidates: From cheap to strong. Bind `logprobs=True` to get their log-probabilities.
        journal: Where every fact is appended (`.jsonl`); an existing one is resumed.
        grader: `"exact"`, `"number"`, `"choice"` against the references, or a judge.
        verifiers: Name → verifier; each evaluates every answer.
        preamble: Messages before each question: instructions, examples.
        limits: Concurrency, retries, budget.
        watcher: Confirms the quote before the first call, and is shown the progress.

    Raises:
        ValueError: If a question, reference or candidate is unsuitable, or the journal
            belongs to another run.
        CollectionError: If a candidate or judge fails permanently, naming it and the question;
            everything so far is in the journal, and the same call resumes from there.
    """
    return asyncio.run(acollect(*args, **kwargs))


def make_workload(questions: Questions, setup: Setup) -> Workload:
    """Read the questions and resolve every candidate to a model."""
    refuse_unknown(setup, Setup.__annotations__, "Setup")
    if isinstance(questions, str | Path):
        asked = load_questions(questions)
    else:
        asked = parse_questions(questions)
    pool = tuple(resolve_candidate(given) for given in setup["candidates"])
    candidate_names(pool)
    grader = _ready(make_grader(setup.get("grader", "exact")))
    verifiers = dict(setup.get("verifiers") or {})
    return Workload(asked, pool, grader, verifiers, setup.get("preamble", ()))


@contextmanager
def opened(
    work: Workload, journal: str | Path, limits: Limits, watcher: Watcher
) -> Iterator[Journal]:
    """The journal, once the work is checked, matches the journal, and is confirmed."""
    _check(work, limits)
    with Journal(journal) as log:
        _agree(log, work)
        if not watcher.confirm(make_quote(work, log.record)):
            msg = f"Not confirmed: no call was made, {log.path.name} is unchanged."
            raise CollectionError(msg)
        _open(log, work)
        yield log


def finish(work: Workload, log: Journal, limits: Limits, stopped: str | None) -> Collected:
    """The tables; if something made the run stop early, that as an error."""
    if stopped is None:
        return tabulate(log.record, log.path.name)
    done, total = len(log.record.answers), len(work.questions) * len(work.candidates)
    msg = f"{stopped} {done} of {total} answers are in {log.path.name}"
    if limits.budget_usd is not None:
        msg += f", ${log.record.spent_usd:.6g} of ${limits.budget_usd:g} are spent"
    msg += "; the same call resumes from there."
    raise CollectionError(msg)


def _ready(grader: Grader | PairwiseJudge) -> Grader | PairwiseJudge:
    if isinstance(grader, Judge | PairwiseJudge):
        return replace(grader, judge=resolve_candidate(grader.judge))
    return grader


def _check(work: Workload, limits: Limits) -> None:
    """Refuse unsuitable work before anything is spent."""
    for i, question in enumerate(work.questions):
        try:
            work.grader.check(question)
        except ValueError as error:
            msg = f"Row {i} (id {question.id!r}) cannot be graded: {error}."
            raise ValueError(msg) from error
    if isinstance(work.grader, PairwiseJudge) and len(work.candidates) < 2:
        msg = "`PairwiseJudge` compares candidates: give at least two."
        raise ValueError(msg)
    unpriced = [c.name for c in work.candidates if c.price is None]
    if limits.budget_usd is not None and unpriced:
        msg = f"A budget needs prices, but those of {unpriced} are unknown: give them a `Price`."
        raise ValueError(msg)


def _settings(work: Workload) -> dict[str, Any]:
    said = repr([(message.type, message.text) for message in work.preamble])
    return {
        "candidates": [candidate.name for candidate in work.candidates],
        "preamble": hashlib.sha256(said.encode()).hexdigest()[:16] if work.preamble else None,
        "grader": type(work.grader).__name__,
    }


def _agree(log: Journal, work: Workload) -> None:
    """A journal is resumed only with the settings and questions that it was begun with."""
    for name, value in _settings(work).items():
        before = log.record.settings.get(name, value)
        if before != value:
            msg = (
                f"{log.path.name} was begun with {name} = {before!r}, now it is {value!r}: "
                "use another journal."
            )
            raise ValueError(msg)
    for question in work.questions:
        before = log.record.questions.get(question.id)
        if before is not None and before != question:
            msg = (
                f"Question {question.id!r} is a different one in {log.path.name}: {before.query!r}."
            )
            raise ValueError(msg)


def _open(log: Journal, work: Workload) -> None:
    if not log.record.settings:
        log.write("run", version=1, settings=_settings(work))
    for q in work.questions:
        if q.id not in log.record.questions:
            log.write("question", id=q.id, query=q.query, reference=q.reference, group=q.group)
