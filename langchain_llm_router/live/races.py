"""A single call, and races of two calls: the I/O of `guarded_calls.GuardedRunnable`.

A call *opens* with its complete answer, or with the chunks of a stream up to the first that has
output: an empty role chunk is no answer. It records its own end in the telemetry, so that no code
path can omit it.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.live import LiveCall, Telemetry
from langchain_llm_router.live.bulkheads import Bulkhead
from langchain_llm_router.live.failure_rules import failure_kind, is_callers_fault, retry_after_s
from langchain_llm_router.live.measurements import FailureKind
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import (
    finish_reason,
    has_output,
    is_unfinished,
    message_of,
)
from langchain_llm_router.types.errors import EmptyAnswerError
from langchain_llm_router.types.usage import read_usage, usage_increment, usage_of

__all__ = ["NO_CHUNK", "Call", "Outcome", "arace", "race"]

NO_CHUNK = object()
"""The mark of a stream's end."""


_LEAST_GRACE_S = 0.1


@dataclass
class Call:
    """One call to one candidate."""

    candidate: Candidate
    runnable: Runnable[Any, Any]
    telemetry: Telemetry
    bulkhead: Bulkhead | None
    queue_s: float
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    streamed: bool
    rest: Any = None
    """Iterator over the chunks of a stream after those that it opened with."""

    started_s: float = 0.0
    cut: BaseException | None = None
    """What cancelled it, if it was."""

    is_abandoned: bool = False
    """Whether the caller no longer waits for it."""

    _live: LiveCall | None = None
    _n_chunks: int = 0
    """Number of chunks with output."""

    _metadata: dict[str, Any] = field(default_factory=dict)
    """The metadata of the answer, with its finish reason."""

    _tokens: int | None = None
    _usage: Any = None
    """The last usage that a chunk reported."""

    _has_place: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Any:
        """Ask and return the complete answer, or the chunks up to the first with output."""
        if self.bulkhead is not None:
            self.bulkhead.enter(self.queue_s)
            self._has_place = True
        try:
            if self.is_abandoned:
                # Its time ran out while it waited: the answer would be paid for and not read.
                raise self.timeout(self.queue_s)
            self._record_start()
            if not self.streamed:
                return self._finish_complete(
                    self.runnable.invoke(self.messages, self.config, **self.kwargs)
                )
            self.rest = self.runnable.stream(self.messages, self.config, **self.kwargs)
            first: list[Any] = []
            while not self._is_open(first) and not self.is_abandoned:
                first.append(self._count_chunk(next(self.rest, NO_CHUNK)))
            return self._end_empty(first)
        except BaseException as error:
            self.failed(error)
            raise

    async def aopen(self, limit_s: float | None = None) -> Any:
        """Ask and return the complete answer, or the chunks up to the first with output."""
        if self.bulkhead is not None:
            await self.bulkhead.aenter(self.queue_s)
            self._has_place = True
        try:
            self._record_start()
            async with asyncio.timeout(limit_s):
                if not self.streamed:
                    answer = await self.runnable.ainvoke(self.messages, self.config, **self.kwargs)
                    return self._finish_complete(answer)
                self.rest = self.runnable.astream(self.messages, self.config, **self.kwargs)
                first: list[Any] = []
                while not self._is_open(first):
                    first.append(self._count_chunk(await anext(self.rest, NO_CHUNK)))
                return self._end_empty(first)
        except BaseException as error:
            self.failed(self._add_message(error, limit_s))
            raise

    def read_rest(self, limit_s: float | None) -> Iterator[Any]:
        """Yield the chunks after those that it opened with."""
        try:
            for chunk in self.rest:
                yield self._count_chunk(chunk)
                self._check_time(limit_s)
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            if hasattr(self.rest, "close"):
                self.rest.close()
        self._end_call()

    async def aread_rest(self, limit_s: float | None) -> AsyncIterator[Any]:
        """Yield the chunks after those that it opened with."""
        try:
            while True:
                left = None if limit_s is None else self.started_s + limit_s - time.monotonic()
                async with asyncio.timeout(left):
                    chunk = await anext(self.rest, NO_CHUNK)
                if chunk is NO_CHUNK:
                    break
                yield self._count_chunk(chunk)
        except BaseException as error:
            self.failed(self._add_message(error, limit_s))
            raise
        finally:
            if hasattr(self.rest, "aclose"):
                await self.rest.aclose()
        self._end_call()

    @property
    def runs(self) -> bool:
        """Whether it has been sent, and its caller still waits for its end."""
        return self._live is not None

    def failed(self, error: BaseException) -> None:
        """Record its end without an answer; only the first recorded end counts."""
        self.leave()
        if not isinstance(error, Exception):
            self.cut = error
        live, self._live = self._live, None
        if live is None:
            return
        if not isinstance(error, Exception) or is_callers_fault(error):
            # It was cancelled or closed by its reader, or the request was wrong.
            live.abandoned()
        else:
            kind = failure_kind(error, started=self._n_chunks > 0)
            live.failed(kind, retry_after_s(error))

    def abandon(self) -> None:
        """Stop waiting for a thread, which cannot be stopped; its place is freed when it ends."""
        self._abandon_place()
        live, self._live = self._live, None
        if live is not None:
            live.abandoned()

    def timed_out(self, limit_s: float | None) -> TimeoutError:
        """Abandon it because it took too long, and return the error."""
        error = self.timeout(limit_s)
        live, self._live = self._live, None
        if live is not None:
            live.failed(failure_kind(error, started=self._n_chunks > 0))
        self._abandon_place()
        return error

    def _abandon_place(self) -> None:
        """Free its place when the thread ends, or at the latest after as long as it has run.

        A thread that hangs for ever would otherwise hold its place for ever.
        """
        self.is_abandoned = True
        if not self._has_place:
            return
        ran_s = time.monotonic() - self.started_s
        later = threading.Timer(max(ran_s, _LEAST_GRACE_S), self.leave)
        later.daemon = True
        later.start()

    def timeout(self, limit_s: float | None) -> TimeoutError:
        """Return the error, which says what did not arrive in time."""
        what = "an answer"
        if self.streamed:
            what = "the end of its answer" if self._n_chunks else "its first token"
        return TimeoutError(
            f"{self.candidate.name!r} did not return {what} within {limit_s:.3g} s."
        )

    def _add_message(self, error: BaseException, limit_s: float | None) -> BaseException:
        if type(error) is TimeoutError and not error.args and limit_s is not None:
            error.args = self.timeout(limit_s).args
        return error

    def _record_start(self) -> None:
        self.started_s = time.monotonic()
        self._live = self.telemetry.began(self.candidate.name, streamed=self.streamed)

    def _finish_complete(self, answer: Any) -> Any:
        raw = answer.get("raw") if isinstance(answer, dict) else answer
        usage = usage_of(raw)
        self._tokens = None if usage is None or usage.from_cache else usage.output_tokens
        self._read_metadata(answer)
        self._end_call()
        return answer

    def _is_open(self, chunks: list[Any]) -> bool:
        """Return whether the last of the chunks has output, or the stream has ended."""
        return len(chunks) > 0 and (self._n_chunks > 0 or chunks[-1] is NO_CHUNK)

    def _end_empty(self, chunks: list[Any]) -> list[Any]:
        """Return the chunks that a stream opened with; without output, its end."""
        if len(chunks) == 0 or chunks[-1] is not NO_CHUNK:
            return chunks
        if finish_reason(self._ending()) is None:
            raise EmptyAnswerError(self.candidate.name)
        return chunks[:-1]

    def _count_chunk(self, chunk: Any) -> Any:
        if chunk is NO_CHUNK:
            return chunk
        if self._n_chunks > 0 or has_output(chunk):
            if self._n_chunks == 0 and self._live is not None:
                self._live.got_first_token()
            self._n_chunks += 1
        self._read_metadata(chunk)
        usage = chunk.usage_metadata if isinstance(chunk, AIMessage) else None
        if usage is not None:
            added = read_usage(usage_increment(self._usage, usage))
            if added is not None:
                self._tokens = (self._tokens or 0) + added.output_tokens
            self._usage = usage or self._usage
        return chunk

    def _check_time(self, limit_s: float | None) -> None:
        if limit_s is not None and time.monotonic() - self.started_s > limit_s:
            raise self.timeout(limit_s)

    def _end_call(self) -> None:
        self.leave()
        live, self._live = self._live, None
        failure = self._failure_in_answer()
        if live is not None and failure is not None:
            live.failed(failure)
        elif live is not None:
            # Without usage from the provider a chunk counts as about one token.
            live.answered(self._tokens or self._n_chunks or None)

    def _failure_in_answer(self) -> FailureKind | None:
        """Return how an answer that ended without an exception failed; None if it did not."""
        ending = self._ending()
        reason = finish_reason(ending)
        if reason == "error":
            return "cut" if self._n_chunks > 0 else "error"
        return "cut" if self.streamed and reason is None and is_unfinished(ending) else None

    def _ending(self) -> AIMessage:
        return AIMessage("", response_metadata=self._metadata)

    def _read_metadata(self, output: Any) -> None:
        message = message_of(output)
        if message is not None:
            known = message.response_metadata.items()
            self._metadata.update((key, value) for key, value in known if value is not None)

    def leave(self) -> None:
        """Release its place in the bulkhead, once."""
        with self._lock:
            had, self._has_place = self._has_place, False
        if had and self.bulkhead is not None:
            self.bulkhead.leave()


@dataclass
class Outcome:
    """The outcome of a call, or of a race of two."""

    call: Call
    """The call that answered, or that failed last."""

    value: Any = None
    error: Exception | None = None
    lost: list[tuple[Call, str]] = field(default_factory=list)
    """The other call, if there was one, and the reason why it has no answer."""


_Start = Callable[[], Call]
_Results = queue.Queue[tuple[Call, Any, Exception | None]]
_LOST_RACE = "Hedged: the other call answered first"


@dataclass
class _RaceState:
    """The calls of a race that are running, and those that have failed or lost."""

    running: list[Call]
    lost: list[tuple[Call, str]] = field(default_factory=list)

    def may_hedge(self) -> bool:
        return len(self.running) == 1 and len(self.lost) == 0

    def add_result(self, call: Call, value: Any, error: Exception | None) -> Outcome | None:
        """Return the outcome; None after a failure while another call is still running."""
        self.running.remove(call)
        if error is None:
            self.lost += [(other, _LOST_RACE) for other in self.running]
            return Outcome(call, value, lost=self.lost)
        if len(self.running) == 0:
            return Outcome(call, error=error, lost=self.lost)
        self.lost.append((call, f"{type(error).__name__}: {error}"))
        return None


def race(
    start: _Start,
    twin: _Start,
    limit_s: float | None,
    hedge_s: float | None,
    is_shown: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Make a call and, if it has not opened after `hedge_s`, a second; the first to open wins.

    Args:
        start: Makes the call.
        twin: Makes the second call.
        limit_s: Seconds after which no call is waited for; None means no limit.
        hedge_s: Seconds after which the second call is made; None means never.
        is_shown: Whether a handler has shown part of the first answer: no other may follow then.
    """
    call = start()
    if limit_s is None and hedge_s is None:
        try:
            return Outcome(call, call.open())
        except Exception as error:  # noqa: BLE001 - the caller classifies it
            return Outcome(call, error=error)
    results: _Results = queue.Queue()
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    state = _RaceState([call])
    _open_in_thread(call, results)
    while True:
        left = until - time.monotonic()
        hedging = hedge_s is not None and hedge_s < left and state.may_hedge()
        wait = hedge_s if hedging else left
        try:
            entry = results.get(
                timeout=None if wait is None or wait == math.inf else max(wait, 0.0)
            )
        except queue.Empty:
            if hedging and is_shown():
                hedge_s = None
                continue
            if hedging:
                state.running.append(twin())
                _open_in_thread(state.running[-1], results)
                continue
            errors = [late.timed_out(limit_s) for late in state.running]
            lost = [(late, str(errors[-1])) for late in state.running[1:]]
            return Outcome(state.running[0], error=errors[0], lost=state.lost + lost)
        outcome = state.add_result(*entry)
        if outcome is not None:
            for other in state.running:
                other.abandon()
            return outcome


def _open_in_thread(call: Call, results: _Results) -> None:
    """Open a call in a thread, which also reads the further chunks of a stream."""
    chunks: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            value = call.open()
        except Exception as error:  # noqa: BLE001 - passed to the waiting thread
            call.leave()
            results.put((call, None, error))
            return
        source = call.rest
        if call.streamed:
            call.rest = _ThreadedStream(chunks, call)
        results.put((call, value, None))
        if call.streamed and source is not None:
            _read_chunks(source, chunks, call)
        if call.is_abandoned:
            call.leave()

    context = contextvars.copy_context()
    name = f"llm-router-{call.candidate.name}"
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()


def _read_chunks(
    source: Iterator[Any], chunks: queue.Queue[tuple[Any, BaseException | None]], call: Call
) -> None:
    try:
        for chunk in source:
            if call.is_abandoned:
                return
            chunks.put((chunk, None))
        chunks.put((NO_CHUNK, None))
    except Exception as error:  # noqa: BLE001 - passed to the reading thread
        chunks.put((NO_CHUNK, error))


class _ThreadedStream:
    """Iterator over chunks that another thread reads, within the time limit of the call."""

    def __init__(self, chunks: queue.Queue[tuple[Any, BaseException | None]], call: Call) -> None:
        self._chunks, self._call = chunks, call
        self.limit_s: float | None = None

    def __iter__(self) -> _ThreadedStream:
        return self

    def __next__(self) -> Any:
        wait = None
        if self.limit_s is not None:
            wait = max(0.0, self._call.started_s + self.limit_s - time.monotonic())
        try:
            chunk, error = self._chunks.get(timeout=wait)
        except queue.Empty:
            raise self._call.timed_out(self.limit_s) from None
        if error is not None:
            raise error
        if chunk is NO_CHUNK:
            raise StopIteration
        return chunk


async def arace(
    start: _Start,
    twin: _Start,
    limit_s: float | None,
    hedge_s: float | None,
    is_shown: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Make a call, and perhaps a second, as `race` does."""
    call = start()
    if hedge_s is None:
        try:
            return Outcome(call, await call.aopen(limit_s))
        except Exception as error:  # noqa: BLE001 - the caller classifies it
            return Outcome(call, error=error)
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    state = _RaceState([call])
    tasks = {asyncio.create_task(call.aopen(limit_s)): call}
    try:
        await asyncio.wait(tasks, timeout=hedge_s)
        if not is_shown() and not any(task.done() for task in tasks):
            second = twin()
            left = None if limit_s is None else until - time.monotonic()
            tasks[asyncio.create_task(second.aopen(left))] = second
            state.running.append(second)
        while True:
            outcome = await _first_of(tasks, state)
            if outcome is not None:
                return outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(tasks: dict[asyncio.Task[Any], Call], state: _RaceState) -> Outcome | None:
    finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    task = finished.pop()
    failure = task.exception()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    value = None if failure is not None else task.result()
    return state.add_result(tasks.pop(task), value, failure)
