"""The model calls of a verifier, limited and measured like all other calls.

They are measured under a name of their own, `small (judging)`, because verdicts are short: their
latency does not tell how long the same model takes to answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from pydantic import ValidationError

from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.calls.provider_messages import for_candidate
from langchain_llm_router.calls.schema_replies import parse_refused, parse_reply, parse_visible
from langchain_llm_router.calls.several_replies import Draw, all_replies, draws_several, with_number
from langchain_llm_router.calls.trace_runs import (
    VERIFICATION,
    VerdictRun,
    is_tracer,
    mark_verification,
)
from langchain_llm_router.calls.tracing import is_traced
from langchain_llm_router.live.client_retries import client_retries, without_retries
from langchain_llm_router.types import Attempt, Candidate, Price, sum_usd
from langchain_llm_router.types.answer_lengths import LENGTHS, tell_limit
from langchain_llm_router.types.errors import LlmRouterError, NoCandidateError, is_pause
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
    from langchain_llm_router.live.guarded_calls import Guard, GuardedRunnable

__all__ = ["VerifierCalls", "VerifyOperation", "aadvance"]

_Asked = TypeVar("_Asked")
_Given = TypeVar("_Given")


@dataclass
class _VerdictBooks:
    """What the calls of one evaluation have cost, and how many may be billed without an answer.

    Threads write to it at the same time, and go on where who waits for them is interrupted.
    """

    answers: list[AIMessage] = field(default_factory=list)
    """The answers so far, for their tokens."""

    _begun: list[None] = field(default_factory=list)
    _ended: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, n: int) -> None:
        """Note that a request for n equal calls begins."""
        self._begun.extend([None] * n)

    def end(self, cost_usd: float | None, n_unsure: int, n: int) -> None:
        """Note what n calls have cost, and how many of their tries may be billed beside that."""
        known = (0.0, n_unsure + n) if cost_usd is None else (cost_usd, n_unsure)
        self._ended.extend([known, *[(0.0, 0)] * (n - 1)])

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

    models: JudgeModels = field(default_factory=JudgeModels)
    """The judges' models, prepared for their calls."""

    price_of: Callable[[Candidate], Price | None] = attrgetter("price")
    """Returns what a judge's or a peer's tokens cost."""

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
        calls, tally = self._verifier_calls(), _Tally()
        steps, requests = calls.drawing(self.verifier.evaluate(self.case)), _as_runnable(calls)
        step = _advance(steps)
        while not isinstance(step, Evaluation):
            # Without a number of its own, LangChain takes that of the processors.
            at_once = config.get("max_concurrency") or len(step)
            drawn = requests.batch(list(step), {**config, "max_concurrency": at_once})
            step = _advance(steps, tally.add(drawn))
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
        calls, tally, blocks = self._verifier_calls(), _Tally(), self.verifier.blocks
        steps, requests = calls.drawing(self.verifier.evaluate(self.case)), _as_runnable(calls)
        step = await aadvance(steps, blocks=blocks)
        while not isinstance(step, Evaluation):
            drawn = await requests.abatch(list(step), config)
            step = await aadvance(steps, tally.add(drawn), blocks=blocks)
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

    @cached_property
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
            return mark_verification(self._perform(attempt, config), config, self.verifier)

        async def aperform(attempt: Attempt, config: RunnableConfig) -> Attempt:
            verdict = await self._aperform(attempt, config)
            return mark_verification(verdict, config, self.verifier)

        return RunnableLambda(perform, aperform, name=VERIFICATION)

    def _verifier_calls(self) -> VerifierCalls:
        return VerifierCalls(self.guard, self.books, self.may_see, self.models, self.price_of)


def _advance(
    steps: Generator[Sequence[_Asked], Sequence[_Given], Evaluation],
    replies: Sequence[_Given] | None = None,
) -> Sequence[_Asked] | Evaluation:
    """Return what a verifier asks for next, or its evaluation.

    Args:
        steps: What `evaluate` or `drawing` returned.
        replies: The replies to what it asked for before; None at the beginning.
    """
    try:
        return next(steps) if replies is None else steps.send(replies)
    except StopIteration as stop:
        evaluation: Evaluation = stop.value
        return evaluation


async def aadvance(
    steps: Generator[Sequence[_Asked], Sequence[_Given], Evaluation],
    replies: Sequence[_Given] | None = None,
    *,
    blocks: bool,
) -> Sequence[_Asked] | Evaluation:
    """Advance a verifier; one that blocks in a thread, so that the event loop is not blocked."""
    if blocks:
        return await run_in_executor(None, _advance, steps, replies)
    return _advance(steps, replies)


class _Tally:
    """The replies of one evaluation, with their total cost and their errors."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []

    def add(self, drawn: Sequence[Sequence[Reply]]) -> Sequence[Sequence[Reply]]:
        for replies in drawn:
            # A request that failed is one reply, to each of its calls.
            self._replies += {id(reply): reply for reply in replies}.values()
        return drawn

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


def _as_runnable(calls: VerifierCalls) -> RunnableLambda[Draw, list[Reply]]:
    # Not `model.batch`: with a lambda around each request, the trace stays a tree.
    return RunnableLambda(calls.draw, calls.adraw, name="verdict")


class VerifierCalls:
    """Calls of a verifier: equal ones at the same time are one request where the judge allows it.

    Args:
        guard: Returns the guard of a call to a candidate. If None, calls are not guarded.
        books: Where the costs of the calls are noted.
        may_see: Names of the only models that may be asked; None for all.
        models: The judges' models; if None, they are prepared anew.
        price_of: Returns what a candidate's tokens cost.
    """

    def __init__(
        self,
        guard: Callable[[Candidate], Guard] | None = None,
        books: _VerdictBooks | None = None,
        may_see: Collection[str] | None = None,
        models: JudgeModels | None = None,
        price_of: Callable[[Candidate], Price | None] = attrgetter("price"),
    ) -> None:
        self._price_of = price_of
        self._guard = guard
        self._books, self._may_see = books or _VerdictBooks(), may_see
        self._models = models or JudgeModels()
        self._refused: set[Hashable] = set()
        """Judges that have refused to draw several replies."""

    def drawing(
        self, steps: Evaluating
    ) -> Generator[Sequence[Draw], Sequence[Sequence[Reply]], Evaluation]:
        """Return an evaluation that yields requests in place of calls, and is sent their replies.

        What a request leaves open is requested again, call by call.

        Args:
            steps: What `evaluate` returned.
        """
        step = _advance(steps)
        while not isinstance(step, Evaluation):
            replies: dict[int, list[Reply]] = {id(call): [] for call in step}
            while draws := self._missing(step, replies):
                for draw, drawn in zip(draws, (yield draws), strict=True):
                    replies[id(draw.call)] += drawn
            step = _advance(steps, [replies[id(call)].pop(0) for call in step])
        return step

    def _missing(self, calls: Sequence[Call], replies: Mapping[int, list[Reply]]) -> list[Draw]:
        draws: list[Draw] = []
        counts = Counter(map(id, calls))
        for call in {id(call): call for call in calls}.values():
            n = counts[id(call)] - len(replies[id(call)])
            at_once = n > 1 and call.n_samples == 1 and self._draws_several(call.candidate)
            draws += [Draw(call, n, n)] if at_once else [Draw(call, 1, call.n_samples)] * n
        return draws

    def _draws_several(self, judge: Candidate) -> bool:
        key = (id(judge.model), judge.draws_several)
        known = self._models.several.get(key)
        if known is None:
            return self._models.several.keep(key, judge.model, draws_several(judge))
        return known[1] and key not in self._refused

    def _draw_singly(self, judge: Candidate, *, always: bool) -> None:
        """Make equal calls one by one, since the provider does nothing else, now or ever."""
        key = (id(judge.model), judge.draws_several)
        self._refused.add(key)
        if always:
            self._models.several.keep(key, judge.model, value=False)

    def draw(self, draw: Draw, config: RunnableConfig) -> list[Reply]:
        """Make a request; a failure becomes a reply without a message to each of its calls.

        Returns:
            As many replies as calls, or fewer: then the judge does not draw several, and those
            that are missing are requested one by one.
        """
        guarded: GuardedRunnable | None = None
        self._books.begin(draw.n)
        try:
            guarded = self._guard_call(draw)
            runnable = guarded or self._prepared(draw)
            output = runnable.invoke(_adapted_messages(draw.call), config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return self._book_failure(draw, error, guarded)
        except BaseException as error:
            self._books.end(0.0, self._n_unsure(draw, error, guarded), draw.n)
            raise
        return self._book_replies(draw, output, guarded)

    async def adraw(self, draw: Draw, config: RunnableConfig) -> list[Reply]:
        """Make a request; a failure becomes a reply without a message to each of its calls."""
        guarded: GuardedRunnable | None = None
        self._books.begin(draw.n)
        try:
            guarded = self._guard_call(draw)
            runnable = guarded or self._prepared(draw)
            output = await runnable.ainvoke(_adapted_messages(draw.call), config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return self._book_failure(draw, error, guarded)
        except BaseException as error:
            self._books.end(0.0, self._n_unsure(draw, error, guarded), draw.n)
            raise
        return self._book_replies(draw, output, guarded)

    def _book_failure(
        self, draw: Draw, error: Exception, guarded: GuardedRunnable | None
    ) -> list[Reply]:
        n_unsure = self._n_unsure(draw, error, guarded)
        self._books.end(0.0, n_unsure, draw.n)
        reply = self._failure_reply(draw, error, guarded, unsure=n_unsure > 0)
        if draw.n == 1:
            return [reply]
        from langchain_llm_router.live.failure_rules import is_retryable  # noqa: PLC0415 - slow to load

        if isinstance(error, LlmRouterError):
            return [reply] * draw.n
        self._draw_singly(draw.call.candidate, always=not is_retryable(error))
        # What cost nothing is worth another way; what may be billed is paid for once.
        return [] if n_unsure == 0 else [reply] * draw.n

    def _book_replies(
        self, draw: Draw, output: Any, guarded: GuardedRunnable | None
    ) -> list[Reply]:
        n_unsure = self._n_unsure(draw, None, guarded)
        schema, outputs = draw.call.schema, output if isinstance(output, list) else [output]
        if isinstance(output, list) and schema is not None:
            outputs = [parse_reply(schema, message) for message in output]
        first = self._reply(draw.call, next(iter(outputs), None), guarded, unsure=n_unsure > 0)
        replies = [first, *(self._reply(draw.call, it, None) for it in outputs[1 : draw.n_replies])]
        self._books.end(first.cost_usd, n_unsure, draw.n)
        messages = [reply.message for reply in replies if reply.message is not None]
        self._books.answers.extend(messages)
        if draw.n == 1:
            return [replace(first, samples=tuple(messages))]
        if len(replies) < draw.n:
            self._draw_singly(draw.call.candidate, always=True)
        return replies

    def _n_unsure(
        self, draw: Draw, error: BaseException | None, guarded: GuardedRunnable | None
    ) -> int:
        """Number of replies that may be billed without having come."""
        n = 0
        if guarded is not None:
            n = sum(bool(failure["may_be_billed"]) for failure in guarded.notes.failures)
        elif error is not None:
            from langchain_llm_router.live.failure_rules import (  # noqa: PLC0415 - slow to load
                may_be_billed,
            )

            n = int(may_be_billed(error))
        return draw.n * (n or int(client_retries(draw.call.candidate.model) > 0))

    def _guard_call(self, draw: Draw) -> GuardedRunnable | None:
        judge = draw.call.candidate
        if self._may_see is not None and judge.name not in self._may_see:
            msg = f"{judge.name!r} was not asked: the request is sensitive."
            raise NoCandidateError(msg)
        if self._guard is None:
            return None
        from langchain_llm_router.live.guarded_calls import (  # noqa: PLC0415 - slow to load
            GuardedRunnable,
        )

        return GuardedRunnable(self._prepared(draw), self._guard(judge))

    def _prepared(self, draw: Draw) -> Runnable[Any, Any]:
        call, judge, n = draw.call, draw.call.candidate, draw.n_replies
        options = (call.method, call.temperature, repr(call.kwargs), judge.max_output_tokens)
        key = (id(judge.model), call.schema, n, *options)
        known = self._models.prepared.get(key)
        if known is not None:
            return known[1]
        return self._models.prepared.keep(key, judge.model, _prepare(call, n))

    def _failure_reply(
        self, draw: Draw, error: Exception, guarded: GuardedRunnable | None, *, unsure: bool
    ) -> Reply:
        if is_pause(error):
            raise error
        schema = draw.call.schema
        # Of several replies, the error does not say which it is about.
        if draw.n == 1 and schema is not None and isinstance(error, ValidationError):
            parsed = parse_refused(schema, error)
            if parsed is not None:
                return Reply(parsed=parsed, unsure=True)
        text = describe_error(error, draw.call.candidate.model)
        failed = () if guarded is None else _failure_texts(guarded)
        earlier = tuple(failure for failure in failed if failure != text)
        return Reply(error=text, exception=error, earlier_errors=earlier, unsure=unsure)

    def _reply(
        self, call: Call, output: Any, guarded: GuardedRunnable | None, *, unsure: bool = False
    ) -> Reply:
        message, parsed, error = output, None, None
        if isinstance(output, dict):
            message, parsed = output.get("raw"), output.get("parsed")
            failure = output.get("parsing_error")
            if parsed is None and call.schema is not None and message is not None:
                parsed = parse_visible(call.schema, message)
            if parsed is None and failure is not None:
                error = describe_error(failure, call.candidate.model)
        price = self._price_of(call.candidate)
        cost = None if price is None else price.cost_usd(usage_of(message))
        earlier = () if guarded is None else _failure_texts(guarded)
        return Reply(message, parsed, error, cost, earlier_errors=earlier, unsure=unsure)


def _adapted_messages(call: Call) -> Sequence[BaseMessage]:
    """Return the messages of a call without what only other candidates accept."""
    messages = call.messages
    if not any(isinstance(message, AIMessage) for message in messages):
        return messages
    return for_candidate(messages, call.candidate)


def _failure_texts(guarded: GuardedRunnable) -> tuple[str, ...]:
    return tuple(failure["error"] for failure in guarded.notes.failures)


def _prepare(call: Call, n: int) -> Runnable[Any, Any]:
    model = call.candidate.model
    if not isinstance(model, BaseChatModel):
        model = live_model(call.candidate)
    if getattr(model, "max_retries", 0) != 0:
        model = without_retries(model)
    if any(getattr(model, name, 0) is None for name in LENGTHS):
        model = tell_limit(call.candidate, model)
    model, kwargs = _with_temperature(model, call.temperature), call.kwargs
    if n > 1:
        model, kwargs = with_number(model, kwargs, n)
    runnable: Runnable[Any, Any] = model.bind(**kwargs) if kwargs else model
    if call.schema is not None:
        method = {} if call.method is None else {"method": call.method}
        runnable = model.with_structured_output(call.schema, include_raw=True, **method, **kwargs)
    return runnable if n == 1 else all_replies(runnable)


def _with_temperature(model: BaseChatModel, temperature: float | None) -> BaseChatModel:
    """Return a copy with this temperature, or the model itself if it has no such setting."""
    if temperature is None or "temperature" not in type(model).model_fields:
        return model
    if "temperature" in rejected_settings(model):
        return model
    return model.model_copy(update={"temperature": temperature})
