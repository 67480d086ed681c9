"""Operations that ask a candidate or the estimator, or call a user-defined node."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import AddableDict, Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_llm_router.calls.langchain_internals import is_router
from langchain_llm_router.calls.nested_records import inner_cost_usd, passed_on
from langchain_llm_router.calls.reports import Asking, HeldChunks
from langchain_llm_router.calls.tracing import quiet_config, watch_tokens
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.types import Attempt, Candidate
from langchain_llm_router.types.answers import (
    answer_flaw,
    finish_reason,
    has_output,
    message_of,
)
from langchain_llm_router.types.errors import EmptyAnswerError, blame_candidate, is_pause
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.types.secrets import find_secrets, redact, redact_error
from langchain_llm_router.types.usage import usage_increment, usage_of

if TYPE_CHECKING:
    from langchain_llm_router.estimators.estimator import QualityEstimator

__all__ = [
    "Answer",
    "AskOperation",
    "NodeOperation",
    "PredictOperation",
]


class Answer(NamedTuple):
    """The result of asking a candidate."""

    attempt: Attempt
    message: AIMessage | None = None
    output: Any = None
    """The runnable's output: the message itself, or a dict for structured output."""

    error: Exception | None = None
    given: AIMessage | None = None
    """The message as the candidate gave it, from which a confidence may have been removed."""

    run: Mapping[str, Any] | None = None
    """Of an agent's run: its final `state`, and what `prepare` returned as `prepared`."""


@dataclass
class AskOperation(Operation):
    """The operation that asks one candidate."""

    candidate: Candidate
    runnable: Runnable[Any, Any]
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False
    """Whether the answer will be accepted without verification, so that it may be streamed."""

    handled: tuple[type[Exception], ...] = (Exception,)
    commit: Callable[[AIMessage | None], bool] | None = None
    """For a draft: whether to stream it, given the partial answer (None before the first chunk)."""

    watch_after: int | None = None
    """Number of chunks after which `commit` is called again for each chunk; if None, `commit` is
    called only before the first."""

    asking: Asking | None = None
    """How the answer is read that comes with a confidence; None if none was asked for."""

    worst_usd: float | None = 0.0
    call_usd: float | None = None
    """Upper bound on the cost of a single call; None: that of them all."""

    client_retries: bool = False
    """Whether the candidate's client may retry unseen."""

    draft: bool = False
    notes: Notes = field(default_factory=Notes)
    """Notes of the guard around the call, if there is one."""

    answer: Answer | None = None
    """Set by `stream` and `astream` when they end."""

    passed_on: bool = False
    """Whether a chunk has been passed on."""

    restored: str | None = None
    """Name of the candidate whose effects it has undone before."""

    started: float | None = None
    """When the call began, on the clock `time.perf_counter`; None before."""

    @property
    def streams(self) -> bool:
        """Whether part of the answer may be passed on before it is complete."""
        return self.final or self.commit is not None

    @property
    def shown(self) -> bool:
        """Whether the answer was passed on as it arrived, provided that it was streamed."""
        if self.answer is None or self.answer.error is not None or not self.passed_on:
            return False
        return self.commit is None or self.answer.attempt.get("committed", False)

    def perform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        self.started = started = time.perf_counter()
        try:
            output = self.runnable.invoke(self.messages, self._watched(), **self.kwargs)
        except BaseException as error:
            if not self._handles(error):
                raise
            return self._fail(error, started)
        return self._make_answer(output, started)

    async def aperform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        self.started = started = time.perf_counter()
        try:
            output = await self.runnable.ainvoke(self.messages, self._watched(), **self.kwargs)
        except BaseException as error:
            if not self._handles(error):
                raise
            return self._fail(error, started)
        return self._make_answer(output, started)

    def stream(self) -> Iterator[Any]:
        """Ask, and pass chunks on from the first with output; a failure before is in `answer`."""
        self.started = time.perf_counter()
        partial = _PartialStream(self, self.started)
        stream = self.runnable.stream(self.messages, self.config, **self.kwargs)
        try:
            for chunk in stream:
                yield from partial.take(chunk)
        except BaseException as error:
            try:
                # A guard notes how its call ended when it is closed, and not before. LangChain
                # fails to close a stream whose usage it cannot add up.
                with suppress(Exception):
                    if hasattr(stream, "close"):
                        stream.close()
            finally:
                handled = self._handles(error)
            if not handled:
                raise
            partial.fail(cast("Exception", error))
        self.answer = partial.answer()
        yield from partial.rest()

    async def astream(self) -> AsyncGenerator[Any]:
        """Ask, and pass chunks on from the first with output; a failure before is in `answer`."""
        self.started = time.perf_counter()
        partial = _PartialStream(self, self.started)
        stream = self.runnable.astream(self.messages, self.config, **self.kwargs)
        try:
            async for chunk in stream:
                for part in partial.take(chunk):
                    yield part
        except BaseException as error:
            try:
                with suppress(Exception):  # as above
                    if hasattr(stream, "aclose"):
                        await stream.aclose()
            finally:
                handled = self._handles(error)
            if not handled:
                raise
            partial.fail(cast("Exception", error))
        self.answer = partial.answer()
        for part in partial.rest():
            yield part

    def on_refusal(self, error: Exception) -> Answer:
        """Return the result for a candidate that was not asked."""
        self.notes.add_refusal(self.candidate, error)
        return self._make_failure(error, time.perf_counter())

    def cut_off(self, error: BaseException) -> Attempt | None:
        """Return the attempt of a call whose end ended the request; None if it had not begun.

        Args:
            error: What ended it; if it is no `Exception`, the caller has left.
        """
        if self.started is None:
            return None
        if isinstance(error, Exception):
            return self._failed_attempt(f"{type(error).__name__}: {error}", self.started)
        attempt = self._failed_attempt("the caller left before its answer", self.started)
        attempt["abandoned"] = True
        return attempt

    @property
    def n_unsure(self) -> int:
        """Number of its calls that may be billed without an answer."""
        return self.notes.n_unsure

    @property
    def unfinished_usd(self) -> float | None:
        """What the calls that have ended without an answer may have cost."""
        if self.worst_usd is None or self.call_usd is None:
            return self.worst_usd
        return min(self.worst_usd, self.n_unsure * self.call_usd)

    def _handles(self, error: BaseException) -> TypeGuard[Exception]:
        """Note how the call ended; return whether its error is a result."""
        self.notes.add_end(self.candidate, error)
        return isinstance(error, self.handled) and not is_pause(error)

    def _watched(self) -> RunnableConfig:
        """Return the config; its run notes whether a handler has shown part of the answer."""
        callbacks = self.config.get("callbacks")
        has_handlers = bool(getattr(callbacks, "handlers", callbacks))
        return watch_tokens(self.config, self.notes) if has_handlers else self.config

    def _fail(self, error: Exception, started: float) -> Answer:
        """Return the failure, or raise it if part of the answer has been shown.

        Another answer cannot be appended to what the user has read.
        """
        if self.passed_on or self.notes.tokens_shown:
            redact_error(error, find_secrets(self.candidate.model))
            blame_candidate(error, self.candidate.name)
            raise error
        return self._make_failure(error, started)

    def _make_failure(self, error: Exception, started: float) -> Answer:
        redact_error(error, find_secrets(self.candidate.model))
        from langchain_llm_router.live.failure_rules import (  # noqa: PLC0415 - slow to load
            is_context_length,
            refused_effort,
        )

        error = refused_effort(self.candidate, error) or error
        blame_candidate(error, self.candidate.name)
        attempt = self._failed_attempt(f"{type(error).__name__}: {error}", started)
        if is_context_length(error):
            attempt["too_long"] = True
        return Answer(attempt, error=error)

    def _failed_attempt(self, error: str, started: float) -> Attempt:
        attempt = Attempt(
            candidate=self.candidate.name,
            error=redact(error, find_secrets(self.candidate.model)),
            verified=False,
            confidence=None,
            cost_usd=None,
            latency_s=time.perf_counter() - started,
        )
        return self._with_notes(attempt)

    def _with_notes(self, attempt: Attempt) -> Attempt:
        if self.notes.failures:
            attempt["failures"] = self.notes.failures
        if self.notes.may_be_billed is False:
            attempt["may_be_billed"] = False
        if self.notes.answered_by is not None:
            attempt["answered_by"] = self.notes.answered_by.name
        if self.client_retries:
            attempt["client_retries"] = True
        return attempt

    def _make_answer(self, output: Any, started: float, ttft_s: float | None = None) -> Answer:
        raw = output.get("raw") if isinstance(output, dict) else output
        given = message = raw if isinstance(raw, AIMessage) else None
        facts: Mapping[str, Any] = {}
        if self.asking is not None:
            output, facts = self.asking.read(output)
            message = message_of(output)
        reported = message is not None and message.usage_metadata is not None
        usage = usage_of(message) if reported else None
        price = (self.notes.answered_by or self.candidate).price
        cost_usd = None if price is None else price.cost_usd(usage)
        if price is None and message is not None and "llm_router" in message.response_metadata:
            cost_usd = inner_cost_usd(message)
        attempt: Attempt = {
            "candidate": self.candidate.name,
            "error": None,
            "verified": False,
            "confidence": None,
            "cost_usd": cost_usd,
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "latency_s": time.perf_counter() - started,
            "ttft_s": ttft_s,
            "finished_at_s": time.time(),
        }
        flaw = None if message is None else answer_flaw(message)
        if flaw is not None:
            attempt["flaw"] = flaw
        attempt.update(cast("Attempt", facts))
        return Answer(self._with_notes(attempt), message, output, given=given)


class _PartialStream:
    """The chunks of an answer so far, those not yet passed on, and their sum."""

    def __init__(self, asking: AskOperation, started: float) -> None:
        self._operation, self._started = asking, started
        self._usage: Any = None
        self._chunks: list[Any] = []
        self._buffer: list[Any] = []
        self._sum: AIMessageChunk | None = None
        self._ttft_s: float | None = None
        self._failure: Answer | None = None
        self._open = asking.commit is None or asking.commit(None)
        report = None if asking.asking is None else asking.asking.report
        self._held = None if report is None else HeldChunks(report)

    def take(self, chunk: Any) -> Sequence[Any]:
        """Add a chunk, and return the chunks that may be passed on now."""
        if self._ttft_s is None and has_output(chunk):
            self._ttft_s = time.perf_counter() - self._started
        chunk = self._without_record(self._with_new_usage(chunk))
        self._chunks.append(chunk)
        # A complete draft is not committed here: the policy decides on it.
        is_last = isinstance(chunk, AIMessageChunk) and chunk.chunk_position == "last"
        if is_last:
            # The router adds one more chunk with its record; only that one is the last.
            chunk = chunk.model_copy(update={"chunk_position": None})
        self._buffer.append(passed_on(chunk))
        if not (self._open or is_last) and self._operation.watch_after is not None:
            self._open = self._looks_good(chunk)
        if not self._open or self._ttft_s is None:
            # Nothing has been answered yet, so another candidate may still answer.
            return ()
        passed, self._buffer = self._buffer, []
        if self._held is not None:
            passed = self._held.add(passed)
        if passed:
            self._operation.passed_on = True
        return passed

    def rest(self) -> Sequence[Any]:
        """Return what was held back of an answer of which something has been passed on."""
        if self._held is None or self._failure is not None or not self._operation.passed_on:
            return ()
        return self._held.finish()

    def _with_new_usage(self, chunk: Any) -> Any:
        """The chunk with what it adds to the usage, which some providers repeat in each."""
        given = getattr(chunk, "usage_metadata", None)
        if given is None:
            return chunk
        added, self._usage = usage_increment(self._usage, given), given
        return chunk if added == given else chunk.model_copy(update={"usage_metadata": added})

    def _without_record(self, chunk: Any) -> Any:
        """The chunk without a decision record, unless its candidate is a router that made it."""
        metadata = getattr(chunk, "response_metadata", None)
        if (
            not metadata
            or "llm_router" not in metadata
            or is_router(self._operation.candidate.model)
        ):
            return chunk
        kept = {key: value for key, value in metadata.items() if key != "llm_router"}
        return chunk.model_copy(update={"response_metadata": kept})

    def _looks_good(self, chunk: Any) -> bool:
        if not isinstance(chunk, AIMessageChunk) or self._operation.commit is None:
            return False
        self._sum = chunk if self._sum is None else self._sum + chunk
        enough = len(self._chunks) >= (self._operation.watch_after or 0)
        return enough and self._operation.commit(self._sum)

    def fail(self, error: Exception) -> None:
        self._failure = self._operation._fail(error, self._started)

    def answer(self) -> Answer:
        if self._failure is not None:
            return self._failure
        chunks = self._chunks
        output = chunks[-1] if chunks else None
        if chunks and all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
            output = add_ai_message_chunks(chunks[0], *chunks[1:])
            if self._ttft_s is None and finish_reason(output) is None:
                output = None
        elif chunks and all(isinstance(chunk, AddableDict) for chunk in chunks):
            # Structured output that includes its raw message, and with it the usage.
            output = reduce(add, chunks)
        if output is None:
            error = EmptyAnswerError(self._operation.candidate.name)
            return self._operation._make_failure(error, self._started)
        answer = self._operation._make_answer(output, self._started, self._ttft_s)
        if self._operation.commit is not None and self._operation.passed_on:
            answer.attempt["committed"] = True
        return answer


@dataclass(frozen=True)
class PredictOperation(Operation):
    """The operation that predicts quality; the estimator may embed the query over the network."""

    estimator: QualityEstimator
    query: str

    def perform(self) -> list[float]:
        """Predict in this thread."""
        try:
            row: list[float] = self.estimator.predict([self.query])[0].tolist()
        except Exception as error:
            # Its embedding may be a service, whose faults are not the caller's.
            blame_candidate(error, type(self.estimator).__name__)
            raise
        return row

    async def aperform(self) -> list[float]:
        """Predict in a thread, so that the event loop is not blocked."""
        return await run_in_executor(None, self.perform)


@dataclass(frozen=True)
class NodeOperation(Operation):
    """The operation that calls a user-defined node, which predicts, decides, verifies or approves.

    The models that it calls have no token events: their answers are not the router's.
    """

    runnable: Runnable[Any, Any]
    config: RunnableConfig
    worst_usd: float | None = 0.0

    def on_refusal(self, error: Exception) -> Any:
        """Return a missing verdict, because money is reserved only for nodes that verify."""
        errors = [f"{type(error).__name__}: {error}"]
        return {"verified": True, "confidence": None, "verification_errors": errors,
                "verification_cost_usd": 0.0, "verification_tokens": 0}  # fmt: skip

    def perform(self) -> Any:
        """Call it."""
        return self.runnable.invoke(None, quiet_config(self.config))

    async def aperform(self) -> Any:
        """Call it."""
        return await self.runnable.ainvoke(None, quiet_config(self.config))
