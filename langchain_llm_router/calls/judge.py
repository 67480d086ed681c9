"""The model calls of a verifier, limited and measured like all other calls.

They are measured under a name of their own, `small (judging)`, because verdicts are short: their
latency does not tell how long the same model takes to answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel, ValidationError

from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.provider_messages import for_candidate
from langchain_llm_router.calls.trace_runs import (
    VERIFICATION,
    VerdictRun,
    is_tracer,
    mark_run,
    verification_name,
)
from langchain_llm_router.calls.tracing import is_traced
from langchain_llm_router.live.client_retries import client_retries, without_retries
from langchain_llm_router.types import Attempt, Candidate, sum_usd
from langchain_llm_router.types.answer_lengths import LENGTHS, tell_limit
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.types.errors import NoCandidateError, is_pause
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.types.secrets import describe_error
from langchain_llm_router.types.usage import usage_of
from langchain_llm_router.verification import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Reply,
    Verifier,
    evaluated,
)

if TYPE_CHECKING:
    from langchain_llm_router.calls.ask import Answer
    from langchain_llm_router.live.guarded_calls import Guard, GuardedRunnable

__all__ = ["VerifierCalls", "VerifyOperation", "aadvance", "grouped_answers"]


@dataclass
class _VerdictBooks:
    """What the calls of one evaluation have cost, and how many may be billed without an answer.

    Threads write to it at the same time, and go on where who waits for them is interrupted.
    """

    answers: list[AIMessage] = field(default_factory=list)
    """The answers so far, for their tokens."""

    _begun: list[None] = field(default_factory=list)
    _ended: list[tuple[float, int]] = field(default_factory=list)

    def begin(self) -> None:
        """Note that a call begins."""
        self._begun.append(None)

    def end(self, cost_usd: float | None, n_unsure: int) -> None:
        """Note what a call has cost, and how many of its tries may be billed beside that."""
        self._ended.append((0.0, n_unsure + 1) if cost_usd is None else (cost_usd, n_unsure))

    def most_usd(self, one_usd: float, tries: int) -> float:
        """Return an upper bound on the cost so far.

        Args:
            one_usd: Upper bound on the cost of one try.
            tries: Maximum number of tries of a call that has not ended.
        """
        ended = list(self._ended)
        n_unsure = tries * (len(self._begun) - len(ended)) + sum(n for _, n in ended)
        return math.fsum(cost for cost, _ in ended) + n_unsure * one_usd


@dataclass(frozen=True)
class VerifyOperation(Operation):
    """The operation that drives a verifier: it makes each batch of calls concurrently."""

    verifier: Verifier
    case: Case
    attempt: Attempt
    config: RunnableConfig
    guard: Callable[[Candidate], Guard] | None = None
    """Returns the guard of a call to a candidate; if None, calls are not guarded."""

    traced: bool | None = None
    """Whether any callback handler is attached; if None, this is read from the config."""

    may_see: Collection[str] | None = None
    """Names of the only models that may be asked, for a sensitive request; None for all."""

    each_run: bool = False
    """Whether each verdict is a run of its own in traces, with the calls behind it."""

    refusal: Exception | None = None
    """Why the answer is not verified at all; None if it is."""

    worst_usd: float | None = 0.0
    draft: bool = True
    books: _VerdictBooks = field(default_factory=_VerdictBooks)

    @property
    def unfinished_usd(self) -> float | None:
        """What its calls have cost by now, with the worst case of those that may be billed."""
        if self.worst_usd is None:
            return None
        asked = self._calls
        judge, longest = asked[0] if asked else (None, None)
        if judge is None or any(a is not judge or n != longest for a, n in asked):
            return self.worst_usd
        tries = 1 if self.guard is None else self.guard(judge).rules.retries + 1
        one = self.worst_usd / len(asked) / tries
        return self.books.most_usd(one, tries)

    def on_refusal(self, error: Exception) -> Attempt:
        """Return the attempt with a missing verdict, because the budget does not allow one."""
        unjudged = evaluated(
            self.attempt, Evaluation(None, errors=(f"{type(error).__name__}: {error}",))
        )
        return {**unjudged, "verification_cost_usd": 0.0, "verification_tokens": 0}

    def perform(self) -> Attempt:
        """Verify the answer, and return the attempt with its verdict."""
        if self.refusal is not None:
            return self.on_refusal(self.refusal)
        if not self._is_traced:
            return self._perform(self.attempt, self.config)
        if not self._is_one_run:
            return self._traced_runnable().invoke(self.attempt, self.config)
        with self._verdict_run() as run:
            heard = is_traced(run.config)
            perform = self._traced_runnable().invoke if heard else self._perform
            return run.end(perform(self.attempt, run.config), self.books.answers)

    def _perform(self, attempt: Attempt, config: RunnableConfig) -> Attempt:
        steps, tally = self.verifier.evaluate(self.case), _Tally()
        step = _advance(steps)
        while not isinstance(step, Evaluation):
            step = _advance(steps, tally.add(self._call_runnable().batch(list(step), config)))
        return self._with_bound(tally.verdict(attempt, step))

    async def aperform(self) -> Attempt:
        """Verify the answer, and return the attempt with its verdict."""
        if self.refusal is not None:
            return self.on_refusal(self.refusal)
        if not self._is_traced:
            return await self._aperform(self.attempt, self.config)
        if not self._is_one_run:
            return await self._traced_runnable().ainvoke(self.attempt, self.config)
        with self._verdict_run() as run:
            heard = is_traced(run.config)
            perform = self._traced_runnable().ainvoke if heard else self._aperform
            return run.end(await perform(self.attempt, run.config), self.books.answers)

    async def _aperform(self, attempt: Attempt, config: RunnableConfig) -> Attempt:
        steps, tally = self.verifier.evaluate(self.case), _Tally()
        step = await aadvance(steps, blocks=self.verifier.blocks)
        while not isinstance(step, Evaluation):
            replies = await self._call_runnable().abatch(list(step), config)
            step = await aadvance(steps, tally.add(replies), blocks=self.verifier.blocks)
        return self._with_bound(tally.verdict(attempt, step))

    def _with_bound(self, verdict: Attempt) -> Attempt:
        """Add what a verdict may have cost where that is not known."""
        if "verification_unsure" in verdict or verdict["verification_cost_usd"] is None:
            most = self.unfinished_usd
            if most is not None:
                verdict["verification_most_usd"] = most
        return verdict

    @property
    def _is_traced(self) -> bool:
        return is_traced(self.config) if self.traced is None else self.traced

    @property
    def _is_one_run(self) -> bool:
        """Whether tracers get one run for all verdicts; what a check of its own calls is shown."""
        has_tracer = any(map(is_tracer, getattr(self.config.get("callbacks"), "handlers", ())))
        return has_tracer and not self.each_run and len(self._calls) > 0

    @property
    def _calls(self) -> Sequence[tuple[Candidate, int | None]]:
        return self.verifier.most_calls(self.case.candidate)

    def _verdict_run(self) -> VerdictRun:
        judges = {judge.name: judge for judge, _ in self._calls}
        judge = next(iter(judges.values())) if len(judges) == 1 else None
        messages, verifier = [*self.case.messages, self.case.answer], type(self.verifier).__name__
        return VerdictRun(self.config, messages, judge, verifier)

    def _traced_runnable(self) -> RunnableLambda[Attempt, Attempt]:
        # One run around all samples, so that a trace shows one evaluation.
        def perform(attempt: Attempt, config: RunnableConfig) -> Attempt:
            verdict = self._perform(attempt, config)
            mark_run(config, verification_name(verdict))
            return verdict

        async def aperform(attempt: Attempt, config: RunnableConfig) -> Attempt:
            verdict = await self._aperform(attempt, config)
            mark_run(config, verification_name(verdict))
            return verdict

        return RunnableLambda(perform, aperform, name=VERIFICATION)

    def _call_runnable(self) -> RunnableLambda[Call, Reply]:
        # Not `model.batch`: with a lambda around each call, the trace stays a tree.
        calls = VerifierCalls(self.guard, self.books, self.may_see)
        return RunnableLambda(calls.call, calls.acall, name="verdict")


def grouped_answers(
    attempts: Sequence[Attempt], answers: Mapping[str, Answer]
) -> tuple[tuple[int, AIMessage], ...]:
    """Return group and message of the answers that have a group, as a `Case` has them.

    Args:
        attempts: The attempts before the one that is verified.
        answers: The answers by candidate.
    """
    grouped = []
    for attempt in attempts:
        group, message = attempt.get("answer_group"), answers[attempt["candidate"]].message
        if group is not None and message is not None:
            grouped.append((group, message))
    return tuple(grouped)


def _advance(
    steps: Evaluating, replies: Sequence[Reply] | None = None
) -> Sequence[Call] | Evaluation:
    """Return the calls that a verifier makes next, or its evaluation.

    Args:
        steps: What `evaluate` returned.
        replies: The replies to the calls before; None at the beginning.
    """
    try:
        return next(steps) if replies is None else steps.send(replies)
    except StopIteration as stop:
        evaluation: Evaluation = stop.value
        return evaluation


async def aadvance(
    steps: Evaluating, replies: Sequence[Reply] | None = None, *, blocks: bool
) -> Sequence[Call] | Evaluation:
    """Advance a verifier; one that blocks in a thread, so that the event loop is not blocked."""
    if blocks:
        return await run_in_executor(None, _advance, steps, replies)
    return _advance(steps, replies)


class _Tally:
    """The replies of one evaluation, with their total cost and their errors."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []

    def add(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        self._replies += replies
        return replies

    def verdict(self, attempt: Attempt, evaluation: Evaluation) -> Attempt:
        # The cost of a call that failed outright is unknown.
        billed = [reply.cost_usd for reply in self._replies if reply.message is not None]
        failed = [error for reply in self._replies for error in reply.earlier_errors]
        failed += [reply.error for reply in self._replies if reply.error is not None]
        judged = evaluated(attempt, evaluation)
        judged["verification_errors"] = [*failed, *judged["verification_errors"]]
        judged["verification_cost_usd"] = sum_usd(billed)
        judged["verification_tokens"] = _sum_tokens(self._replies)
        if any(reply.unsure for reply in self._replies):
            judged["verification_unsure"] = True
        return judged


def _sum_tokens(replies: Sequence[Reply]) -> int | None:
    """Return the tokens of all calls that were answered; None if any of them is unknown."""
    total = 0
    for reply in replies:
        if reply.message is not None:
            usage = usage_of(reply.message)
            if usage is None:
                return None
            if not usage.from_cache:
                total += usage.input_tokens + usage.output_tokens
    return total


class VerifierCalls:
    """Calls of a verifier; a call that is repeated or retried reuses its runnable.

    Args:
        guard: Returns the guard of a call to a candidate. If None, calls are not guarded.
        books: Where the costs of the calls are noted.
        may_see: Names of the only models that may be asked; None for all.
    """

    def __init__(
        self,
        guard: Callable[[Candidate], Guard] | None = None,
        books: _VerdictBooks | None = None,
        may_see: Collection[str] | None = None,
    ) -> None:
        self._guard = guard
        self._books, self._may_see = books or _VerdictBooks(), may_see
        self._built: dict[int, Runnable[Any, Any]] = {}
        self._asked: dict[int, BaseChatModel] = {}

    def call(self, call: Call, config: RunnableConfig) -> Reply:
        """Make a call; a failure becomes a reply without a message."""
        guarded: GuardedRunnable | None = None
        self._books.begin()
        try:
            guarded = self._guard_call(call)
            runnable = guarded or self._runnable(call)
            output = runnable.invoke(_adapted_messages(call), config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return self._book_failure(call, error, guarded)
        except BaseException as error:
            self._books.end(0.0, self._n_unsure(call, error, guarded))
            raise
        return self._book_reply(call, output, guarded)

    async def acall(self, call: Call, config: RunnableConfig) -> Reply:
        """Make a call; a failure becomes a reply without a message."""
        guarded: GuardedRunnable | None = None
        self._books.begin()
        try:
            guarded = self._guard_call(call)
            runnable = guarded or self._runnable(call)
            output = await runnable.ainvoke(_adapted_messages(call), config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return self._book_failure(call, error, guarded)
        except BaseException as error:
            self._books.end(0.0, self._n_unsure(call, error, guarded))
            raise
        return self._book_reply(call, output, guarded)

    def _book_failure(self, call: Call, error: Exception, guarded: GuardedRunnable | None) -> Reply:
        n_unsure = self._n_unsure(call, error, guarded)
        self._books.end(0.0, n_unsure)
        return self._failure_reply(call, error, guarded, unsure=n_unsure > 0)

    def _book_reply(self, call: Call, output: Any, guarded: GuardedRunnable | None) -> Reply:
        n_unsure = self._n_unsure(call, None, guarded)
        reply = self._reply(call, output, guarded, unsure=n_unsure > 0)
        self._books.end(reply.cost_usd, n_unsure)
        if reply.message is not None:
            self._books.answers.append(reply.message)
        return reply

    def _n_unsure(
        self, call: Call, error: BaseException | None, guarded: GuardedRunnable | None
    ) -> int:
        """Number of tries that may be billed without an answer."""
        n = 0
        if guarded is not None:
            n = sum(bool(failure["may_be_billed"]) for failure in guarded.notes.failures)
        elif error is not None:
            from langchain_llm_router.live.failure_rules import (  # noqa: PLC0415 - slow to load
                may_be_billed,
            )

            n = int(may_be_billed(error))
        return n or int(self._may_retry(call))

    def _guard_call(self, call: Call) -> GuardedRunnable | None:
        if self._may_see is not None and call.candidate.name not in self._may_see:
            msg = f"{call.candidate.name!r} was not asked: the request is sensitive."
            raise NoCandidateError(msg)
        if self._guard is None:
            return None
        from langchain_llm_router.live.guarded_calls import (  # noqa: PLC0415 - slow to load
            GuardedRunnable,
        )

        return GuardedRunnable(self._runnable(call), self._guard(call.candidate))

    def _failure_reply(
        self, call: Call, error: Exception, guarded: GuardedRunnable | None, *, unsure: bool
    ) -> Reply:
        if is_pause(error):
            raise error
        parsed = _parse_refused(call.schema, error)
        if parsed is not None:
            return Reply(parsed=parsed, unsure=True)
        text = describe_error(error, call.candidate.model)
        failed = () if guarded is None else _failure_texts(guarded)
        earlier = tuple(failure for failure in failed if failure != text)
        return Reply(error=text, exception=error, earlier_errors=earlier, unsure=unsure)

    def _may_retry(self, call: Call) -> bool:
        """Whether the judge's client may have made further calls, which may have been billed."""
        return client_retries(self._asked.get(id(call))) > 0

    def _runnable(self, call: Call) -> Runnable[Any, Any]:
        built = self._built.get(id(call))
        if built is None:
            model = call.candidate.model
            if not isinstance(model, BaseChatModel):
                model = live_model(call.candidate)
            if getattr(model, "max_retries", 0) != 0:
                model = without_retries(model)
            if any(getattr(model, name, 0) is None for name in LENGTHS):
                model = tell_limit(call.candidate, model)
            model = _with_temperature(model, call.temperature)
            self._asked[id(call)] = model
            if call.schema is not None:
                method = {} if call.method is None else {"method": call.method}
                built = model.with_structured_output(
                    call.schema, include_raw=True, **method, **call.kwargs
                )
            elif call.n_samples > 1:
                built = _sampler(model, call)
            else:
                built = model.bind(**call.kwargs) if call.kwargs else model
            self._built[id(call)] = built
        return built

    def _reply(
        self, call: Call, output: Any, guarded: GuardedRunnable | None, *, unsure: bool
    ) -> Reply:
        message, parsed, error = output, None, None
        samples = (output,) if isinstance(output, AIMessage) else ()
        if isinstance(output, list):
            message, samples = output[0], tuple(output)
        if isinstance(output, dict):
            message, parsed = output.get("raw"), output.get("parsed")
            failure = output.get("parsing_error")
            if parsed is None and call.schema is not None and message is not None:
                parsed = _parse_visible(call.schema, message)
            if parsed is None and failure is not None:
                error = describe_error(failure, call.candidate.model)
        price = call.candidate.price
        cost = None if price is None else price.cost_usd(usage_of(message))
        earlier = () if guarded is None else _failure_texts(guarded)
        return Reply(message, parsed, error, cost, samples, earlier_errors=earlier, unsure=unsure)


def _adapted_messages(call: Call) -> Sequence[BaseMessage]:
    """Return the messages of a call without what only other candidates accept."""
    messages = call.messages
    if not any(isinstance(message, AIMessage) for message in messages):
        return messages
    return for_candidate(messages, call.candidate)


def _parse_visible(schema: type[BaseModel], message: AIMessage) -> BaseModel | None:
    """Parse structured output that follows reasoning in tags; None if there is none."""
    text, visible = str(message.text), answer_text(message)
    if visible == text:
        return None
    try:
        return schema.model_validate_json(visible.strip())
    except ValidationError:
        return None


def _parse_refused(schema: type[BaseModel] | None, error: Exception) -> BaseModel | None:
    """Parse the text that OpenAI's client refused, because reasoning in tags comes before it."""
    if schema is None or not isinstance(error, ValidationError):
        return None
    texts = [item["input"] for item in error.errors() if isinstance(item.get("input"), str)]
    return None if len(texts) == 0 else _parse_visible(schema, AIMessage(texts[0]))


def _failure_texts(guarded: GuardedRunnable) -> tuple[str, ...]:
    return tuple(failure["error"] for failure in guarded.notes.failures)


def _sampler(model: BaseChatModel, call: Call) -> Runnable[Any, list[AIMessage]]:
    """A runnable that draws several samples in one request; `invoke` keeps only the first."""
    kwargs = {**call.kwargs, "n": call.n_samples}

    def sample(messages: Any, config: RunnableConfig) -> list[AIMessage]:
        return _samples(model.generate([messages], callbacks=config.get("callbacks"), **kwargs))

    async def asample(messages: Any, config: RunnableConfig) -> list[AIMessage]:
        callbacks = config.get("callbacks")
        return _samples(await model.agenerate([messages], callbacks=callbacks, **kwargs))

    return RunnableLambda(sample, asample, name="samples")


def _samples(result: LLMResult) -> list[AIMessage]:
    generations = [g for g in result.generations[0] if isinstance(g, ChatGeneration)]
    return [g.message for g in generations if isinstance(g.message, AIMessage)]


def _with_temperature(model: BaseChatModel, temperature: float | None) -> BaseChatModel:
    """Return a copy with this temperature, or the model itself if it has no such setting."""
    if temperature is None or "temperature" not in type(model).model_fields:
        return model
    if "temperature" in rejected_settings(model):
        return model
    return model.model_copy(update={"temperature": temperature})
