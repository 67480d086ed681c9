"""`collect`: checks the arguments, opens the journal, runs the collector, returns the tables.

Every fact is in the journal (`journal.py`) before the next call is made, so a run that was killed
resumes where it stopped, and repeats only the calls that were in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from operator import eq
from pathlib import Path
from typing import Any, NotRequired, ParamSpec, TypedDict, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_llm_router.calls.chat_models import resolve_candidate
from langchain_llm_router.collect.background_loop import run_in_background
from langchain_llm_router.collect.collector import Collector, Limits, Watcher
from langchain_llm_router.collect.graders import Grader, Judge, PairwiseJudge, make_grader
from langchain_llm_router.collect.identity import model_identity, prompt_versions
from langchain_llm_router.collect.journal import Journal
from langchain_llm_router.collect.model_names import describe_model
from langchain_llm_router.collect.questions import Question, load_questions, parse_questions
from langchain_llm_router.collect.quote import Spending, Workload, make_quote
from langchain_llm_router.collect.readability import split_trial, why_unreadable
from langchain_llm_router.collect.tables import Collected, tabulate
from langchain_llm_router.types import Candidate, candidate_names
from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.errors import CollectionError
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.verification import Verifier
from langchain_llm_router.verification.description import (
    describe_verifier,
    prompt_version,
    same_verifier,
    verifier_name,
)

__all__ = ["Questions", "Setup", "acollect", "collect", "finish", "make_workload", "open_journal"]


Questions = str | Path | Iterable[Question | Mapping[str, Any]]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Setup(TypedDict):
    """The arguments of `collect` that define the work, except the questions."""

    candidates: Sequence[Candidate | BaseChatModel | str]
    grader: NotRequired[Grader | PairwiseJudge | str]
    verifiers: NotRequired[Mapping[str, Verifier] | None]
    preamble: NotRequired[Sequence[BaseMessage]]
    verify_last: NotRequired[bool]
    recorded: NotRequired[Sequence[Mapping[str, Any]]]


async def acollect(  # noqa: PLR0913 - what a run is made of, by keyword
    questions: Questions,
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    journal: str | Path,
    grader: Grader | PairwiseJudge | str = "exact",
    verifiers: Mapping[str, Verifier] | None = None,
    preamble: Sequence[BaseMessage] = (),
    verify_last: bool = False,
    recorded: Sequence[Mapping[str, Any]] = (),
    limits: Limits | None = None,
    watcher: Watcher | None = None,
) -> Collected:
    """Do the same as `collect`, inside a running event loop."""
    setup = Setup(
        candidates=candidates,
        grader=grader,
        verifiers=verifiers,
        preamble=preamble,
        verify_last=verify_last,
        recorded=recorded,
    )
    work = make_workload(questions, setup)
    limits, watcher = limits or Limits(), watcher or Watcher()
    with open_journal(work, journal, limits, watcher) as log:
        collector = Collector(work, log, limits, watcher)
        first, rest = split_trial(work, log.record)
        stopped = await collector.run(first)
        if stopped is None and rest:
            stopped = why_unreadable(work, log.record, first, watcher.confirm_unreadable)
            stopped = stopped or await collector.run(rest)
        return finish(work, log, limits, stopped)


def _with_signature_of(
    function: Callable[_P, Any],
) -> Callable[[Callable[..., _R]], Callable[_P, _R]]:
    """Declare that the decorated function passes all its arguments on to another function."""

    def decorate(caller: Callable[..., _R]) -> Callable[_P, _R]:
        caller.__signature__ = signature(function)  # type: ignore[attr-defined]
        return caller

    return decorate


@_with_signature_of(acollect)
def collect(*args: Any, **kwargs: Any) -> Collected:  # noqa: D417 - those of `acollect`
    """Ask every candidate every question, verify, grade, and return the tables.

    Args:
        questions: A file (see `load_questions`), or rows with `query` and optionally `id`,
            `reference`, `group`.
        candidates: The candidates, ordered from cheap to strong. Set `logprobs=True` on their
            models to record log-probabilities.
        journal: Path of the journal (`.jsonl`); an existing one is resumed.
        grader: `"exact"`, `"number"` or `"choice"` to compare with the references, or a judge.
        verifiers: Verifiers by name; each evaluates every answer, but those of the last of several
            candidates.
        preamble: Messages before each question, e.g. instructions and examples.
        verify_last: Whether the last candidate's answers are verified too. A cascade accepts them
            whatever a verifier says, and they are often the most expensive to verify.
        recorded: Answers from a request log (`RequestLog.answers`), which are not asked for again.
        limits: Limits of concurrency, retries, budget and failures.
        watcher: Object that confirms the quote before the first call, and shows the progress.

    Raises:
        ValueError: If a question, reference or candidate is unsuitable, or the journal
            belongs to another run.
        CollectionError: If a candidate or judge fails permanently, with its name and the question,
            if the budget is used up, or if after the first 20 questions none of the verdicts or
            grades of a candidate can be read (see `Watcher.confirm_unreadable`). Everything so far
            is in the journal, and the same call resumes from there; what could not be read is then
            asked again.
    """
    arguments = signature(acollect).bind(*args, **kwargs).arguments
    limits, watcher = arguments.get("limits") or Limits(), arguments.get("watcher") or Watcher()
    setup = {name: arguments[name] for name in Setup.__annotations__ if name in arguments}
    work = make_workload(arguments["questions"], cast("Setup", setup))
    with open_journal(work, arguments["journal"], limits, watcher) as log:
        collector = Collector(work, log, limits, watcher)
        first, rest = split_trial(work, log.record)
        stopped = run_in_background(collector.run(first))
        if stopped is None and rest:
            # Asked in this thread and not in the loop's, because it may wait for a person.
            stopped = why_unreadable(work, log.record, first, watcher.confirm_unreadable)
            stopped = stopped or run_in_background(collector.run(rest))
        return finish(work, log, limits, stopped)


def make_workload(questions: Questions, setup: Setup) -> Workload:
    """Read the questions and resolve every candidate to a model."""
    refuse_unknown(setup, Setup.__annotations__, "Setup")
    if isinstance(questions, str | Path):
        rows = load_questions(questions)
    else:
        rows = parse_questions(questions)
    pool = tuple(resolve_candidate(candidate) for candidate in setup["candidates"])
    candidate_names(pool)  # Refuses an empty list and duplicates.
    grader = _resolve_judge(make_grader(setup.get("grader", "exact")))
    verifiers = dict(setup.get("verifiers") or {})
    return Workload(
        rows,
        pool,
        grader,
        verifiers,
        setup.get("preamble", ()),
        verify_last=setup.get("verify_last", False),
        recorded=setup.get("recorded", ()),
    )


@contextmanager
def open_journal(
    work: Workload, journal: str | Path, limits: Limits, watcher: Watcher
) -> Iterator[Journal]:
    """Check the work, open its journal, have the quote confirmed, and say what was spent."""
    _check(work, limits)
    with Journal(journal) as log:
        _check_same_run(log, work)
        quote = make_quote(work, log.record)
        if not watcher.confirm(quote):
            msg = f"The quote was not confirmed: no call was made, {log.path.name} is unchanged."
            raise CollectionError(msg)
        _write_header(log, work)
        spent_usd, n_unpriced = log.record.spent_usd, log.record.n_unpriced
        try:
            yield log
        finally:
            watcher.end(
                Spending(
                    quote.cost_usd,
                    log.record.spent_usd - spent_usd,
                    log.record.n_unpriced - n_unpriced,
                )
            )


def finish(work: Workload, log: Journal, limits: Limits, stopped: str | None) -> Collected:
    """Return the tables, or raise the reason why the run stopped early.

    Raises:
        CollectionError: If the run stopped early.
    """
    if stopped is None:
        return tabulate([log.record], log.path.name)
    done, total = len(log.record.answers), len(work.questions) * len(work.candidates)
    msg = f"{stopped} {done} of {total} answers are in {log.path.name}"
    if limits.budget_usd is not None:
        spent = format_usd(log.record.spent_usd)
        msg += f", and {spent} of {format_usd(limits.budget_usd)} are spent"
    msg += "; the same call resumes from there."
    raise CollectionError(msg)


def _resolve_judge(grader: Grader | PairwiseJudge) -> Grader | PairwiseJudge:
    if isinstance(grader, Judge | PairwiseJudge):
        return replace(grader, judge=resolve_candidate(grader.judge))
    return grader


def _check(work: Workload, limits: Limits) -> None:
    """Refuse unsuitable work before the first call."""
    for i, question in enumerate(work.questions):
        try:
            work.grader.check(question)
        except ValueError as error:
            msg = f"Row {i} (id {question.id!r}) cannot be graded: {error}."
            raise ValueError(msg) from error
    if isinstance(work.grader, PairwiseJudge) and len(work.candidates) < 2:
        msg = f"`PairwiseJudge` needs at least two candidates, got {len(work.candidates)}."
        raise ValueError(msg)
    unpriced = [c.name for c in work.candidates if c.price is None]
    if limits.budget_usd is not None and unpriced:
        msg = (
            f"`budget_usd` needs the price of every candidate, but those of {unpriced} are "
            "unknown: set `Candidate.price`."
        )
        raise ValueError(msg)


_BY_NAME = ("models", "prompts", "verifiers")


def _settings(work: Workload) -> dict[str, Any]:
    return {
        "candidates": [candidate.name for candidate in work.candidates],
        "preamble": prompt_version(work.preamble) if work.preamble else None,
        "report": _report_version(work),
        "grader": type(work.grader).__name__,
        "models": {name: model_identity(candidate) for name, candidate in _asked(work).items()},
        "prompts": prompt_versions(work.grader, work.verifiers, work.candidates[0]),
        "verifiers": {
            name: describe_verifier(it, work.candidates[0]) for name, it in work.verifiers.items()
        },
    }


def _report_version(work: Workload) -> str | None:
    """Return the version of what the answers are asked to come with; None if nothing."""
    reports = [work.report_of(candidate.name) for candidate in work.candidates]
    asked = [HumanMessage(report.instruction) for report in reports if report is not None]
    return prompt_version(asked[:1]) if asked else None


def _asked(work: Workload) -> dict[str, Candidate]:
    """Return all models that a run asks, by their names in the journal."""
    asked = {candidate.name: candidate for candidate in work.candidates}
    if isinstance(work.grader, Judge | PairwiseJudge):
        asked[f"judge {work.grader.judge.name}"] = work.grader.judge
    return asked


def _check_same_run(log: Journal, work: Workload) -> None:
    """Refuse to resume a journal that was begun with other models, settings or questions."""
    for name, value in _settings(work).items():
        # Journals that do not say so were not asked for a report.
        unknown = name == "report" and len(log.record.settings) > 0
        before: Any = log.record.settings.get(name, None if unknown else value)
        if isinstance(value, dict):
            # Journals of earlier versions do not say which model was asked.
            same = same_verifier if name == "verifiers" else eq
            changed = [key for key in value if not same(before.get(key, value[key]), value[key])]
            if changed:
                raise ValueError(_changed_message(log, name, changed[0], before, value))
        elif before != value:
            msg = (
                f"{log.path.name} was begun with {name} = {before!r}, got {value!r}: use the same "
                "value or another journal."
            )
            raise ValueError(msg)
    for question in work.questions:
        before = log.record.questions.get(question.id)
        if before is not None and before != question:
            a, b = vars(before), vars(question)
            name = next(name for name in a if a[name] != b[name])
            msg = (
                f"Question {question.id!r} must be the same as in {log.path.name}, where its "
                f"`{name}` is {str(a[name])[:60]!r}, got {str(b[name])[:60]!r}: use another id or "
                "another journal (`--journal`)."
            )
            raise ValueError(msg)


def _changed_message(
    log: Journal, name: str, key: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> str:
    if name == "verifiers":
        return (
            f"The verifier {key!r} was {verifier_name(before[key], now[key])} in {log.path.name}, "
            f"got {verifier_name(now[key], before[key])}: use the same one, another name, or "
            "another journal."
        )
    if name == "prompts":
        return (
            f"{log.path.name} was begun with another prompt of {key!r} (version {before[key]}, now "
            f"{now[key]}): use another journal."
        )
    return (
        f"{key!r} was {describe_model(before[key])} in {log.path.name}, got "
        f"{describe_model(now[key])}: use the same model, another name, or another journal."
    )


def _write_header(log: Journal, work: Workload) -> None:
    settings = _settings(work)
    if any(
        not settings[name].keys() <= log.record.settings.get(name, {}).keys() for name in _BY_NAME
    ):
        log.write("run", version=1, settings=settings)
    for q in work.questions:
        if q.id not in log.record.questions:
            context = {"context": [list(message) for message in q.context]} if q.context else {}
            fields = {"query": q.query, "reference": q.reference, "group": q.group}
            log.write("question", id=q.id, **fields, **context)
    asked = {question.id for question in work.questions}
    for line in work.recorded:
        if line["id"] in asked and (line["id"], line["candidate"]) not in log.record.answers:
            log.write("answer", **line)
