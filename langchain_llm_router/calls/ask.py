"""Operations that call a candidate, the estimator, or a user-defined node."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import AddableDict, Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_llm_router.live.notes import Notes
from langchain_llm_router.types import Attempt, Candidate
from langchain_llm_router.types.errors import is_pause
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.types.secrets import find_secrets, redact, redact_error

if TYPE_CHECKING:
    from langchain_llm_router.estimators.estimator import QualityEstimator

__all__ = [
    "Answer",
    "Asking",
    "Calling",
    "Predicting",
]


@dataclass(frozen=True)
class Answer:
    """The result of asking a candidate."""

    attempt: Attempt
    message: AIMessage | None = None
    output: Any = None
    """What the runnable returned: the message itself, or a dict for structured output."""

    error: Exception | None = None


@dataclass
class Asking(Operation):
    """Ask one candidate."""

    candidate: Candidate
    runnable: Runnable[Any, Any]
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False
    """Its answer will be accepted without verification, so it may be streamed."""

    handled: tuple[type[Exception], ...] = (Exception,)
    commit: Callable[[AIMessage | None], bool] | None = None
    """For a draft: whether to stream it, given what has arrived so far (None: nothing yet)."""

    watch_after: int | None = None
    """From this chunk on, `commit` is called again with each; None: only before the first."""

    worst_usd: float | None = 0.0
    draft: bool = False
    notes: Notes = field(default_factory=Notes)
    """What the guards of its calls recorded, if it has any."""

    answer: Answer | None = None
    """Set by `stream` and `astream` when they end."""

    @property
    def streams(self) -> bool:
        """Whether some of it may be passed on before it is whole."""
        return self.final or self.commit is not None

    @property
    def shown(self) -> bool:
        """Whether the answer was passed on as it arrived: only if it was streamed."""
        if self.answer is None or self.answer.error is not None:
            return False
        return self.commit is None or self.answer.attempt.get("committed", False)

    def perform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        started = time.perf_counter()
        try:
            output = self.runnable.invoke(self.messages, self.config, **self.kwargs)
        except self.handled as error:
            if is_pause(error):
                raise
            return self._failed(error, started)
        return self._answered(output, started)

    async def aperform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        started = time.perf_counter()
        try:
            output = await self.runnable.ainvoke(self.messages, self.config, **self.kwargs)
        except self.handled as error:
            if is_pause(error):
                raise
            return self._failed(error, started)
        return self._answered(output, started)

    def stream(self) -> Iterator[Any]:
        """Ask, and pass chunks on as they come; a failure before the first is in `answer`."""
        partial = _PartialStream(self, time.perf_counter())
        stream = self.runnable.stream(self.messages, self.config, **self.kwargs)
        try:
            for chunk in stream:
                yield from partial.take(chunk)
        except self.handled as error:
            if is_pause(error):
                raise
            partial.failed(error)
        self.answer = partial.answer()

    async def astream(self) -> AsyncIterator[Any]:
        """Ask, and pass chunks on as they come; a failure before the first is in `answer`."""
        partial = _PartialStream(self, time.perf_counter())
        stream = self.runnable.astream(self.messages, self.config, **self.kwargs)
        try:
            async for chunk in stream:
                for part in partial.take(chunk):
                    yield part
        except self.handled as error:
            if is_pause(error):
                raise
            partial.failed(error)
        self.answer = partial.answer()

    def on_refusal(self, error: Exception) -> Answer:
        """The result for a candidate that was not asked."""
        self.notes.add_refusal(self.candidate, error)
        return self._failed(error, time.perf_counter())

    def _failed(self, error: Exception, started: float) -> Answer:
        secrets = find_secrets(self.candidate.model)
        redact_error(error, secrets)
        attempt = Attempt(
            candidate=self.candidate.name,
            error=redact(f"{type(error).__name__}: {error}", secrets),
            verified=False,
            confidence=None,
            cost_usd=None,
            latency_s=time.perf_counter() - started,
        )
        return Answer(self._noted(attempt), error=error)

    def _noted(self, attempt: Attempt) -> Attempt:
        if self.notes.failures:
            attempt["failures"] = self.notes.failures
        if self.notes.answered_by is not None:
            attempt["answered_by"] = self.notes.answered_by.name
        return attempt

    def _answered(self, output: Any, started: float, ttft_s: float | None = None) -> Answer:
        raw = output.get("raw") if isinstance(output, dict) else output
        message = raw if isinstance(raw, AIMessage) else None
        usage = None if message is None else message.usage_metadata
        price = (self.notes.answered_by or self.candidate).price
        attempt = Attempt(
            candidate=self.candidate.name,
            error=None,
            verified=False,
            confidence=None,
            cost_usd=None if price is None else price.cost_usd(usage),
            input_tokens=None if usage is None else usage["input_tokens"],
            output_tokens=None if usage is None else usage["output_tokens"],
            latency_s=time.perf_counter() - started,
            ttft_s=ttft_s,
            finished_at_s=time.time(),
        )
        return Answer(self._noted(attempt), message, output)


class _PartialStream:
    """The chunks so far, those that may be passed on, and their sum."""

    def __init__(self, asking: Asking, started: float) -> None:
        self._asking, self._started = asking, started
        self._chunks: list[Any] = []
        self._held: list[Any] = []
        self._sum: AIMessageChunk | None = None
        self._ttft_s: float | None = None
        self._failure: Answer | None = None
        self._open = asking.commit is None or asking.commit(None)

    def take(self, chunk: Any) -> Sequence[Any]:
        """Add a chunk, and return what may be passed on now."""
        if self._ttft_s is None:
            self._ttft_s = time.perf_counter() - self._started
        self._chunks.append(chunk)
        # A draft that is whole is for the policy to judge.
        whole = isinstance(chunk, AIMessageChunk) and chunk.chunk_position == "last"
        if whole:
            # The router adds one more chunk with its record; only that one is the last.
            chunk = chunk.model_copy(update={"chunk_position": None})
        self._held.append(chunk)
        if not (self._open or whole) and self._asking.watch_after is not None:
            self._open = self._looks_good(chunk)
        if not self._open:
            return ()
        passed, self._held = self._held, []
        return passed

    def _looks_good(self, chunk: Any) -> bool:
        if not isinstance(chunk, AIMessageChunk) or self._asking.commit is None:
            return False
        self._sum = chunk if self._sum is None else self._sum + chunk
        enough = len(self._chunks) >= (self._asking.watch_after or 0)
        return enough and self._asking.commit(self._sum)

    def failed(self, error: Exception) -> None:
        if len(self._chunks) > len(self._held):
            # Part of an answer has been streamed: another one appended to it would be no answer.
            redact_error(error, find_secrets(self._asking.candidate.model))
            raise error
        self._failure = self._asking._failed(error, self._started)

    def answer(self) -> Answer:
        if self._failure is not None:
            return self._failure
        chunks = self._chunks
        output = chunks[-1] if chunks else None
        if chunks and all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
            output = add_ai_message_chunks(chunks[0], *chunks[1:])
        elif chunks and all(isinstance(chunk, AddableDict) for chunk in chunks):
            # Structured output that includes its raw message, and so its usage.
            output = reduce(add, chunks)
        answer = self._asking._answered(output, self._started, self._ttft_s)
        if self._asking.commit is not None and self._open:
            answer.attempt["committed"] = True
        return answer


@dataclass(frozen=True)
class Predicting(Operation):
    """Ask the estimator; its embedding may be a model behind a network."""

    estimator: QualityEstimator
    query: str

    def perform(self) -> list[float]:
        """Predict in place."""
        row: list[float] = self.estimator.predict([self.query])[0].tolist()
        return row

    async def aperform(self) -> list[float]:
        """Predict in a thread, so that the event loop is not blocked."""
        return await run_in_executor(None, self.perform)


@dataclass(frozen=True)
class Calling(Operation):
    """Call a user-defined node."""

    runnable: Runnable[Any, Any]
    config: RunnableConfig
    worst_usd: float | None = 0.0

    def on_refusal(self, error: Exception) -> Any:
        """A missing verdict: of user-defined nodes only a verifying one is paid for."""
        said = [f"{type(error).__name__}: {error}"]
        return {"verified": True, "confidence": None, "verification_errors": said,
                "verification_cost_usd": 0.0}  # fmt: skip

    def perform(self) -> Any:
        """Call it."""
        return self.runnable.invoke(None, self.config)

    async def aperform(self) -> Any:
        """Call it."""
        return await self.runnable.ainvoke(None, self.config)
