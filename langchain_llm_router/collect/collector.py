"""One run of `collect`: concurrent workers that ask, verify and grade, and when the run stops."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_llm_router.calls.ask import AskOperation
from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.judge import VerifierCalls, aadvance
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.calls.provider_messages import provider_of, settings_for_provider
from langchain_llm_router.calls.reports import Asking, report_in_text
from langchain_llm_router.calls.several_replies import Draw
from langchain_llm_router.collect.graders import Grader, PairwiseJudge, ReferenceGrader
from langchain_llm_router.collect.journal import Log
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.collect.quote import Quote, Spending, Workload, expected_answer_usd
from langchain_llm_router.collect.readability import Readable
from langchain_llm_router.collect.retries import (
    check_whole,
    is_worth_another_attempt,
    retry_attempts,
)
from langchain_llm_router.live.failure_rules import is_hopeless, is_retryable
from langchain_llm_router.types import Candidate, sum_usd
from langchain_llm_router.types.answers import flaw_kind
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.verification import (
    Case,
    Evaluating,
    Evaluation,
    Reply,
    Report,
    Verifier,
)

__all__ = ["Collector", "Limits", "Watcher"]


class Watcher(CheckedArguments):
    """Base class for objects that confirm the quote and show the progress of a run.

    This class accepts every quote and shows nothing.
    """

    def confirm(self, quote: Quote) -> bool:
        """Return whether the run should begin, given its quote."""
        return True

    def confirm_unreadable(self, poor: Sequence[Readable]) -> bool:
        """Return whether the run should go on although little can be read of its first rows.

        This class goes on unless nothing at all can be read of something.

        Args:
            poor: The verdicts and grades of which less than half can be read.
        """
        return all(each.n_read > 0 for each in poor)

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        """Show the progress; called after each answer.

        Args:
            done: Number of answers that are verified and graded, or have failed.
            total: Number of answers in all.
            spent_usd: Known cost so far.
        """

    def end(self, spending: Spending) -> None:
        """Say what the run spent; called once, also if the run fails or is interrupted."""


@dataclass(frozen=True)
class Limits(CheckedArguments):
    """Limits of a run: concurrency, retries, budget and failures."""

    concurrency: int | Mapping[str, int] = 8
    """Maximum number of concurrent calls to one model; a mapping sets it by candidate name, with 8
    for all others."""

    attempts: int = 6
    """Maximum number of attempts at a call that meets rate limits or lost connections."""

    budget_usd: float | None = None
    """Budget in USD: an answer is not requested if its expected cost would bring the journal's
    total above this. If None, there is no budget."""

    failures: int = 5
    """Number of failures of one kind in a row (such as answers of one candidate) that end the run,
    because the setup is then probably faulty."""

    backoff_s: float = 1.0
    """First wait of the exponential backoff, in seconds; a server's `Retry-After` takes
    precedence."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "failures"):
            value = getattr(self, name)
            if min(value.values() if isinstance(value, Mapping) else (value,), default=1) < 1:
                msg = f"`{name}` must be at least 1, got {value!r}."
                raise ValueError(msg)
        check_range(self, "budget_usd", "backoff_s")

    def concurrency_of(self, model: str) -> int:
        """Return the maximum number of concurrent calls to a model."""
        if isinstance(self.concurrency, Mapping):
            return self.concurrency.get(model, Limits().concurrency_of(model))
        return self.concurrency


class Collector:
    """The work of one run, done by concurrent workers until it is finished or must stop."""

    def __init__(self, work: Workload, log: Log, limits: Limits, watcher: Watcher) -> None:
        self._work, self._log, self._limits, self._watcher = work, log, limits, watcher
        self._done = 0
        self._stop: str | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._judges = JudgeModels()
        self._consecutive_failures: dict[str, int] = {}
        self._reserved_usd = 0.0
        # Evaluations that are made again, because none of their kind could be read.
        evaluated = log.record.evaluations
        self._again = {key for key in evaluated if not log.record.is_evaluated(key)}

    async def run(self, questions: Sequence[Question]) -> str | None:
        """Do what is not in the journal; return why the run stopped early, or None.

        Args:
            questions: Those of the work that are to be done now.
        """
        await self._drain(
            {c.name: [(q, c) for q in questions] for c in self._work.candidates},
            self._process_unit,
        )
        if self._work.comparing:
            await self._drain({"comparisons": list(questions)}, self._group_answers)
        if isinstance(self._work.grader, PairwiseJudge):
            judge = self._work.grader.judge.name
            await self._drain({judge: list(questions)}, self._compare_answers)
        return self._stop

    async def _drain(
        self, queues: Mapping[str, list[Any]], do: Callable[[Any], Awaitable[None]]
    ) -> None:
        async def work(queue: list[Any]) -> None:
            while queue and self._stop is None:
                await do(queue.pop(0))

        try:
            async with asyncio.TaskGroup() as group:
                for name, queue in queues.items():
                    for _ in range(self._limits.concurrency_of(name)):
                        group.create_task(work(queue))
        except BaseExceptionGroup as group_error:
            # A bug in a user's grader or verifier: one error is easier to read than many.
            raise group_error.exceptions[0] from None

    # One question to one candidate

    async def _process_unit(self, unit: tuple[Question, Candidate]) -> None:
        await self._complete(*unit)
        self._done += 1
        total = len(self._work.questions) * len(self._work.candidates)
        self._watcher.advance(self._done, total, self._log.record.spent_usd)

    async def _complete(self, question: Question, candidate: Candidate) -> None:
        key = (question.id, candidate.name)
        if key not in self._log.record.answers and not await self._answer(question, candidate):
            return
        line = self._log.record.answers[key]
        case = Case(self._work.messages(question), _answer_message(line), candidate)
        for name, verifier in self._work.verifiers_of(candidate.name).items():
            if (*key, name) not in self._again and self._log.record.is_evaluated((*key, name)):
                continue
            if self._stop is None:
                await self._verify(question, case, name, verifier)
        grader = self._work.grader
        if isinstance(grader, Grader) and not self._log.record.is_graded(key):
            await self._grade(question, case, grader)

    async def _answer(self, question: Question, candidate: Candidate) -> bool:
        expected = expected_answer_usd(self._work, candidate) or 0.0
        budget = self._limits.budget_usd
        spent = self._log.record.spent_usd + self._reserved_usd
        if budget is not None and spent + expected > budget:
            self._stop = "The next answer would exceed the budget."
            return False
        self._reserved_usd += expected
        try:
            fields = await self._ask(question, candidate)
        except Exception as error:  # noqa: BLE001 - a candidate's failure is data
            text = f"{type(error).__name__}: {error}"
            where = f"Candidate {candidate.name!r}, question {question.id!r}"
            self._log.write("answer", id=question.id, candidate=candidate.name, error=text)
            self._count_failure(f"answers of {candidate.name}", where, text, error)
            return False
        finally:
            self._reserved_usd -= expected
        self._consecutive_failures.pop(f"answers of {candidate.name}", None)
        self._log.write("answer", id=question.id, candidate=candidate.name, **fields)
        return True

    async def _ask(self, question: Question, candidate: Candidate) -> dict[str, Any]:
        kwargs: dict[str, Any] = {}
        for verifier in self._work.verifiers.values():
            kwargs |= verifier.answer_kwargs(candidate.name)
        messages: Sequence[BaseMessage] = self._work.messages(question)
        model, report = live_model(candidate), self._work.report_of(candidate.name)
        kwargs = settings_for_provider(
            {**candidate.parameters, **kwargs},
            provider_of(model),
            rejected_settings(model, candidate),
        )
        read: Asking | None = None
        if report is not None:
            messages, read = report_in_text(messages, model, kwargs, report)
        asking = AskOperation(candidate, model, messages, {}, kwargs, asking=read)
        async for attempt in retry_attempts(self._limits.attempts, self._limits.backoff_s):
            with attempt:
                async with self._slot(candidate):
                    # Streamed, to measure the time to the first token.
                    async for _ in asking.astream():
                        pass
                if asking.answer is not None and asking.answer.error is not None:
                    raise asking.answer.error
                if asking.answer is not None:
                    last = attempt.retry_state.attempt_number >= self._limits.attempts
                    check_whole(asking.answer.attempt, last=last)
        answer = asking.answer
        if answer is None or answer.message is None:
            msg = f"{candidate.name!r} must return an AIMessage, got {answer!r}."
            raise TypeError(msg)
        return _answer_fields(answer.attempt, answer.message)

    async def _verify(self, question: Question, case: Case, name: str, verifier: Verifier) -> None:
        where = f"Verifier {name!r} on candidate {case.candidate.name!r}, question {question.id!r}"
        steps = verifier.evaluate(case)
        done = await self._evaluate(steps, f"verdicts of {name}", where, verifier)
        if done is not None:
            evaluation, cost_usd, errors, latency_s = done
            if verifier.compares:
                errors = [*errors, *evaluation.errors]
            self._log.write(
                "evaluation",
                id=question.id,
                candidate=case.candidate.name,
                verifier=name,
                confidence=evaluation.confidence,
                verdicts=list(evaluation.verdicts),
                cost_usd=cost_usd,
                latency_s=latency_s,
                **({"errors": errors} if errors else {}),
                **({"answer_group": evaluation.answer_group} if verifier.compares else {}),
            )

    async def _grade(self, question: Question, case: Case, grader: Grader) -> None:
        where = f"Grade of candidate {case.candidate.name!r}, question {question.id!r}"
        done = await self._evaluate(grader.grade(question, case), "grades", where)
        if done is None:
            return
        evaluation, cost_usd, *_ = done
        if evaluation.confidence is None and isinstance(grader, ReferenceGrader):
            # The answer is at fault, not the setup; a later run reads it again, which is free.
            if (question.id, case.candidate.name) not in self._log.record.grades:
                self._write_grade(question, case.candidate.name, evaluation, cost_usd)
            return
        if evaluation.confidence is None:
            self._count_failure(
                "grades", where, f"no grade can be read: {evaluation.rationale}", None
            )
            return
        self._consecutive_failures.pop("grades", None)
        self._write_grade(question, case.candidate.name, evaluation, cost_usd)

    def _write_grade(
        self, question: Question, candidate: str, evaluation: Evaluation, cost_usd: float | None
    ) -> None:
        self._log.write(
            "grade",
            id=question.id,
            candidate=candidate,
            quality=evaluation.confidence,
            cost_usd=cost_usd,
            **({} if evaluation.rationale is None else {"rationale": evaluation.rationale}),
        )

    # Groups of equal answers to one question

    async def _group_answers(self, question: Question) -> None:
        """Compare each candidate's answer with those that have a group by then."""
        record = self._log.record
        if any((question.id, it.name) not in record.answers for it in self._work.candidates):
            return
        for name, verifier in self._work.comparing.items():
            for candidate in self._work.candidates:
                key = (question.id, candidate.name)
                if not record.is_evaluated((*key, name)) and self._stop is None:
                    case = Case(
                        self._work.messages(question),
                        _answer_message(record.answers[key]),
                        candidate,
                        earlier=self._grouped(question, name),
                    )
                    await self._verify(question, case, name, verifier)

    def _grouped(self, question: Question, verifier: str) -> tuple[tuple[int, AIMessage], ...]:
        """Return group and answer of the candidates that have a group by then."""
        record, grouped = self._log.record, []
        for candidate in self._work.candidates:
            key = (question.id, candidate.name)
            group = record.evaluations.get((*key, verifier), {}).get("answer_group")
            if group is not None:
                grouped.append((group, _answer_message(record.answers[key])))
        return tuple(grouped)

    # Pairwise comparison of all candidates' answers to one question

    async def _compare_answers(self, question: Question) -> None:
        record, grader = self._log.record, self._work.grader
        assert isinstance(grader, PairwiseJudge)
        names = [c.name for c in self._work.candidates]
        if any((question.id, name) not in record.answers for name in names):
            return
        for a, b in itertools.combinations(names, 2):
            if (question.id, a, b) not in record.battles and self._stop is None:
                await self._compare_pair(question, a, b, grader)
        self._write_win_rates(question, names)

    def _write_win_rates(self, question: Question, names: Sequence[str]) -> None:
        scores: dict[str, list[float]] = {name: [] for name in names}
        for a, b in itertools.combinations(names, 2):
            line = self._log.record.battles.get((question.id, a, b))
            if line is None:
                return
            scores[a].append(line["score_a"])
            scores[b].append(1 - line["score_a"])
        for name, values in scores.items():
            if (question.id, name) not in self._log.record.grades:
                win_rate = Evaluation(math.fsum(values) / len(values))
                self._write_grade(question, name, win_rate, 0.0)

    async def _compare_pair(
        self, question: Question, a: str, b: str, grader: PairwiseJudge
    ) -> None:
        texts = [self._log.record.answers[question.id, name]["text"] for name in (a, b)]
        where = f"Judgement of {a!r} against {b!r}, question {question.id!r}"
        done = await self._evaluate(grader.compare(question, *texts), "judgements", where)
        if done is None:
            return
        evaluation, cost_usd, *_ = done
        if evaluation.confidence is None:
            self._count_failure(
                "judgements",
                where,
                f"the reply has no preference: {evaluation.rationale}",
                None,
            )
            return
        self._consecutive_failures.pop("judgements", None)
        score = evaluation.confidence
        self._log.write("battle", id=question.id, a=a, b=b, score_a=score, cost_usd=cost_usd)

    # Calls

    async def _evaluate(
        self, steps: Evaluating, kind: str, where: str, verifier: Verifier | None = None
    ) -> tuple[Evaluation, float | None, list[str], float] | None:
        """Drive a verifier or grader; return None if a call fails permanently.

        Returns:
            The evaluation, its cost in USD, the errors of its calls, and the seconds that it takes
            where no call has to wait for another.
        """
        replies: list[Reply] = []
        latency_s = 0.0
        blocks = verifier is not None and verifier.blocks
        calls = VerifierCalls(models=self._judges)
        drawing = calls.drawing(steps)
        evaluation = await aadvance(drawing, blocks=blocks)
        while not isinstance(evaluation, Evaluation):
            timed = await asyncio.gather(*(self._draw(calls, draw) for draw in evaluation))
            drawn = [drawn for drawn, _ in timed]
            replies += itertools.chain.from_iterable(drawn)
            latency_s += max((seconds for _, seconds in timed), default=0.0)
            evaluation = await aadvance(drawing, drawn, blocks=blocks)
        first = next((r.exception for r in replies if r.exception is not None), None)
        if first is not None and (is_hopeless(first) or is_retryable(first)):
            self._count_failure(kind, where, f"{type(first).__name__}: {first}", first)
            return None
        errors = [reply.error for reply in replies if reply.error is not None]
        billed = [reply.cost_usd for reply in replies if reply.message is not None]
        return evaluation, sum_usd(billed), errors, latency_s

    async def _draw(self, calls: VerifierCalls, draw: Draw) -> tuple[list[Reply], float]:
        """Make one request; return its replies and the seconds of its last attempt."""
        latency_s = 0.0
        try:
            async for attempt in retry_attempts(self._limits.attempts, self._limits.backoff_s):
                with attempt:
                    async with self._slot(draw.call.candidate):
                        started = time.perf_counter()
                        replies = await calls.adraw(draw, {})
                        latency_s = time.perf_counter() - started
                    error = replies[0].exception if replies else None
                    if error is not None and is_worth_another_attempt(error):
                        raise error
        except Exception as error:  # noqa: BLE001 - a failure after all attempts is a reply
            failure = Reply(error=f"{type(error).__name__}: {error}", exception=error)
            return [failure] * draw.n, latency_s
        return replies, latency_s

    def _slot(self, candidate: Candidate) -> asyncio.Semaphore:
        limit = self._limits.concurrency_of(candidate.name)
        return self._slots.setdefault(candidate.name, asyncio.Semaphore(limit))

    def _count_failure(self, kind: str, where: str, text: str, error: Exception | None) -> None:
        """Count a failure, and stop the run if it would only be repeated."""
        self._consecutive_failures[kind] = self._consecutive_failures.get(kind, 0) + 1
        line = f"{where}: {' '.join(text.split())[:300].rstrip('.')}."
        if error is not None and is_hopeless(error):
            self._stop = self._stop or line
        elif error is not None and is_retryable(error):
            self._stop = self._stop or f"{line} Gave up after {self._limits.attempts} attempts."
        elif self._consecutive_failures[kind] >= self._limits.failures:
            self._stop = (
                self._stop
                or f"{line} That was failure {self._consecutive_failures[kind]} in a row."
            )


def _answer_fields(attempt: Mapping[str, Any], message: AIMessage) -> dict[str, Any]:
    names = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s")
    facts: dict[str, Any] = {name: attempt.get(name) for name in names}
    ttft_s, n_tokens = attempt.get("ttft_s"), attempt.get("output_tokens")
    facts["itl_s"] = None
    if ttft_s is not None and n_tokens is not None and n_tokens > 1:
        facts["itl_s"] = (attempt["latency_s"] - ttft_s) / (n_tokens - 1)
    content = (message.response_metadata.get("logprobs") or {}).get("content") or ()
    # Without the token that ends the answer, which servers do not report in streams.
    tokens = [token for token in content if token["token"] != ""]
    if len(tokens) > 0:
        facts["mean_logprob"] = math.fsum(token["logprob"] for token in tokens) / len(tokens)
        facts["logprobs"] = [[token["token"], token["logprob"]] for token in tokens]
    if "flaw" in attempt:
        facts["flaw"] = attempt["flaw"]
    if Report.KEY in message.response_metadata:
        facts[Report.KEY] = message.response_metadata[Report.KEY]
    return {"text": str(message.text), **facts}


_FLAWED: dict[str, dict[str, Any]] = {
    "cut_off": {"finish_reason": "length"},
    "refusal": {"finish_reason": "refusal"},
    "content_filter": {"finish_reason": "content_filter"},
    "provider_error": {"finish_reason": "error"},
    "no_finish_reason": {"done": False},
}
"""What a provider says of an answer with a flaw, by its kind."""


def _answer_message(line: Mapping[str, Any]) -> AIMessage:
    """Restore an answer from its journal line, with the parts that verifiers read."""
    tokens = [{"token": token, "logprob": value} for token, value in line.get("logprobs", ())]
    metadata: dict[str, Any] = {"logprobs": {"content": tokens}} if tokens else {}
    if Report.KEY in line:
        metadata[Report.KEY] = line[Report.KEY]
    kind = flaw_kind(line.get("flaw") or "")
    if kind is not None:
        metadata |= _FLAWED.get(kind, {})
    return AIMessage(line["text"], response_metadata=metadata)
