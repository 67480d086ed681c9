"""One real call, and two of them in a race: the I/O behind `calling.Guarded`.

A call *opens* with its whole answer, or with the first chunk of a stream. However it ends, it
records itself in the telemetry, so that no code path forgets to.
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
from langchain_llm_router.types import Candidate

__all__ = ["NOTHING", "Call", "Outcome", "arace", "race"]

NOTHING = object()
"""What a stream without any chunk opens with."""


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
    """The chunks of a stream after the first."""

    started_s: float = 0.0
    given_up: bool = False
    """The caller no longer waits for it."""

    _live: LiveCall | None = None
    _n_chunks: int = 0
    _tokens: int | None = None
    _has_place: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Any:
        """Ask, until the whole answer or the first chunk is there."""
        if self.bulkhead is not None:
            self.bulkhead.enter(self.queue_s)
            self._has_place = True
        try:
            self._began()
            if not self.streamed:
                return self._whole(self.runnable.invoke(self.messages, self.config, **self.kwargs))
            self.rest = self.runnable.stream(self.messages, self.config, **self.kwargs)
            return self._first(next(self.rest, NOTHING))
        except BaseException as error:
            self.failed(error)
            raise

    async def aopen(self, limit_s: float | None = None) -> Any:
        """Ask, until the whole answer or the first chunk is there."""
        if self.bulkhead is not None:
            await self.bulkhead.aenter(self.queue_s)
            self._has_place = True
        try:
            self._began()
            async with asyncio.timeout(limit_s):
                if not self.streamed:
                    answer = await self.runnable.ainvoke(self.messages, self.config, **self.kwargs)
                    return self._whole(answer)
                self.rest = self.runnable.astream(self.messages, self.config, **self.kwargs)
                return self._first(await anext(self.rest, NOTHING))
        except BaseException as error:
            self.failed(self._explained(error, limit_s))
            raise

    def passed_on(self, limit_s: float | None) -> Iterator[Any]:
        """The chunks after the first."""
        try:
            for chunk in self.rest:
                yield self._chunk(chunk)
                self._check(limit_s)
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            if hasattr(self.rest, "close"):
                self.rest.close()
        self._ended()

    async def apassed_on(self, limit_s: float | None) -> AsyncIterator[Any]:
        """The chunks after the first."""
        try:
            while True:
                left = None if limit_s is None else self.started_s + limit_s - time.monotonic()
                async with asyncio.timeout(left):
                    chunk = await anext(self.rest, NOTHING)
                if chunk is NOTHING:
                    break
                yield self._chunk(chunk)
        except BaseException as error:
            self.failed(self._explained(error, limit_s))
            raise
        finally:
            if hasattr(self.rest, "aclose"):
                await self.rest.aclose()
        self._ended()

    def failed(self, error: BaseException) -> None:
        """Record how it ended without an answer; only the first ending counts."""
        self.leave()
        live, self._live = self._live, None
        if live is None:
            return
        if not isinstance(error, Exception) or is_callers_fault(error):
            # Cancelled, closed by its reader, or not the endpoint's fault.
            live.abandoned()
        else:
            kind = failure_kind(error, started=self._n_chunks > 0)
            live.failed(kind, retry_after_s(error))

    def give_up(self) -> None:
        """Stop waiting for a thread that cannot be stopped; its place is freed when it ends."""
        self.given_up = True
        live, self._live = self._live, None
        if live is not None:
            live.abandoned()

    def timed_out(self, limit_s: float | None) -> TimeoutError:
        """Abandon it because it took too long."""
        error = self.timeout(limit_s)
        live, self._live = self._live, None
        if live is not None:
            live.failed(failure_kind(error, started=self._n_chunks > 0))
        self.given_up = True
        return error

    def timeout(self, limit_s: float | None) -> TimeoutError:
        """The error that says what did not arrive in time."""
        what = "an answer"
        if self.streamed:
            what = "the end of its answer" if self._n_chunks else "its first token"
        return TimeoutError(f"{self.candidate.name!r} was waited for {limit_s:.3g} s for {what}.")

    def _explained(self, error: BaseException, limit_s: float | None) -> BaseException:
        if type(error) is TimeoutError and not error.args and limit_s is not None:
            error.args = self.timeout(limit_s).args
        return error

    def _began(self) -> None:
        self.started_s = time.monotonic()
        self._live = self.telemetry.began(self.candidate.name, streamed=self.streamed)

    def _whole(self, answer: Any) -> Any:
        raw = answer.get("raw") if isinstance(answer, dict) else answer
        usage = raw.usage_metadata if isinstance(raw, AIMessage) else None
        self._tokens = None if usage is None else usage["output_tokens"]
        self._ended()
        return answer

    def _first(self, chunk: Any) -> Any:
        if chunk is NOTHING:
            self._ended()
            return chunk
        if self._live is not None:
            self._live.got_first_token()
        return self._chunk(chunk)

    def _chunk(self, chunk: Any) -> Any:
        self._n_chunks += 1
        usage = chunk.usage_metadata if isinstance(chunk, AIMessage) else None
        if usage is not None:
            self._tokens = (self._tokens or 0) + usage["output_tokens"]
        return chunk

    def _check(self, limit_s: float | None) -> None:
        if limit_s is not None and time.monotonic() - self.started_s > limit_s:
            raise self.timeout(limit_s)

    def _ended(self) -> None:
        self.leave()
        live, self._live = self._live, None
        if live is not None:
            # One chunk is about one token where the provider does not count.
            live.answered(self._tokens or self._n_chunks or None)

    def leave(self) -> None:
        """Free its place in the bulkhead, once."""
        with self._lock:
            had, self._has_place = self._has_place, False
        if had and self.bulkhead is not None:
            self.bulkhead.leave()


@dataclass
class Outcome:
    """The outcome of a call, or of a race of two."""

    call: Call
    """The one that answered, or that failed last."""

    value: Any = None
    error: Exception | None = None
    lost: list[tuple[Call, str]] = field(default_factory=list)
    """The other call, if there was one, and how it ended."""


Start = Callable[[], Call]
_Done = queue.Queue[tuple[Call, Any, Exception | None]]
_LOST = "Hedged: the other call answered first"


@dataclass
class _Race:
    """The calls that are running, and those that have lost."""

    running: list[Call]
    lost: list[tuple[Call, str]] = field(default_factory=list)

    def may_hedge(self) -> bool:
        return len(self.running) == 1 and len(self.lost) == 0

    def finished(self, call: Call, value: Any, error: Exception | None) -> Outcome | None:
        """The outcome, unless this was a failure and another call is still running."""
        self.running.remove(call)
        if error is None:
            self.lost += [(other, _LOST) for other in self.running]
            return Outcome(call, value, lost=self.lost)
        if len(self.running) == 0:
            return Outcome(call, error=error, lost=self.lost)
        self.lost.append((call, f"{type(error).__name__}: {error}"))
        return None


def race(start: Start, twin: Start, limit_s: float | None, hedge_s: float | None) -> Outcome:
    """Make a call; if it has not opened after `hedge_s`, make a second one and take the first."""
    call = start()
    if limit_s is None and hedge_s is None:
        try:
            return Outcome(call, call.open())
        except Exception as error:  # noqa: BLE001 - the caller decides what it means
            return Outcome(call, error=error)
    done: _Done = queue.Queue()
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    state = _Race([call])
    _in_thread(call, done)
    while True:
        left = until - time.monotonic()
        hedging = hedge_s is not None and hedge_s < left and state.may_hedge()
        wait = hedge_s if hedging else left
        try:
            entry = done.get(timeout=None if wait is None or wait == math.inf else max(wait, 0.0))
        except queue.Empty:
            if hedging:
                state.running.append(twin())
                _in_thread(state.running[-1], done)
                continue
            errors = [late.timed_out(limit_s) for late in state.running]
            lost = [(late, str(errors[-1])) for late in state.running[1:]]
            return Outcome(state.running[0], error=errors[0], lost=state.lost + lost)
        outcome = state.finished(*entry)
        if outcome is not None:
            for other in state.running:
                other.give_up()
            return outcome


def _in_thread(call: Call, done: _Done) -> None:
    """Open a call in a thread; a stream's further chunks are read there too."""
    chunks: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            value = call.open()
        except Exception as error:  # noqa: BLE001 - passed to the waiting thread
            call.leave()
            done.put((call, None, error))
            return
        source = call.rest
        if call.streamed:
            call.rest = _Pumped(chunks, call)
        done.put((call, value, None))
        if call.streamed and source is not None:
            _pump(source, chunks, call)
        if call.given_up:
            call.leave()

    context = contextvars.copy_context()
    name = f"llm-router-{call.candidate.name}"
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()


def _pump(
    source: Iterator[Any], chunks: queue.Queue[tuple[Any, BaseException | None]], call: Call
) -> None:
    try:
        for chunk in source:
            if call.given_up:
                return
            chunks.put((chunk, None))
        chunks.put((NOTHING, None))
    except Exception as error:  # noqa: BLE001 - passed to the reading thread
        chunks.put((NOTHING, error))


class _Pumped:
    """Chunks read in another thread, waited for no longer than the call may take."""

    def __init__(self, chunks: queue.Queue[tuple[Any, BaseException | None]], call: Call) -> None:
        self._chunks, self._call = chunks, call
        self.limit_s: float | None = None

    def __iter__(self) -> _Pumped:
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
        if chunk is NOTHING:
            raise StopIteration
        return chunk


async def arace(start: Start, twin: Start, limit_s: float | None, hedge_s: float | None) -> Outcome:
    """Make a call; if it has not opened after `hedge_s`, make a second one and take the first."""
    call = start()
    if hedge_s is None:
        try:
            return Outcome(call, await call.aopen(limit_s))
        except Exception as error:  # noqa: BLE001 - the caller decides what it means
            return Outcome(call, error=error)
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    state = _Race([call])
    tasks = {asyncio.create_task(call.aopen(limit_s)): call}
    try:
        await asyncio.wait(tasks, timeout=hedge_s)
        if not any(task.done() for task in tasks):
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


async def _first_of(tasks: dict[asyncio.Task[Any], Call], state: _Race) -> Outcome | None:
    finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    task = finished.pop()
    failure = task.exception()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    value = None if failure is not None else task.result()
    return state.finished(tasks.pop(task), value, failure)
