"""Calls to one candidate with time limits, retries, hedging and telemetry.

`GuardedRunnable` has the methods of the runnable that it wraps. One generator (`_plan`) decides
what to do next; four thin drivers run it: complete and streamed, sync and async. A failure before
the first output may be retried, a later one is not.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.live import Telemetry
from langchain_llm_router.live.bulkheads import Bulkhead
from langchain_llm_router.live.failure_rules import DeadlineError, Resilience, may_be_billed
from langchain_llm_router.live.notes import Notes, error_text
from langchain_llm_router.live.races import Call, Outcome, arace, race
from langchain_llm_router.types import Candidate

__all__ = ["Guard", "GuardedRunnable"]

_Check = Callable[[], bool]


@dataclass(frozen=True)
class Guard:
    """The rules, the bulkhead and the deadline for calls to one candidate."""

    candidate: Candidate
    telemetry: Telemetry
    rules: Resilience
    bulkhead: Bulkhead | None = None
    deadline_s: float | None = None
    """The deadline of the whole request, on `time.monotonic`'s clock."""

    twin: Guard | None = None
    """The guard of the endpoint for hedged calls; None means the same endpoint."""

    def left_s(self) -> float:
        """Return the seconds until the request's deadline."""
        return math.inf if self.deadline_s is None else self.deadline_s - time.monotonic()

    def limit_s(self, *, first_token: bool) -> float | None:
        """Return the time in seconds that the next call, or its first token, may take.

        Raises:
            DeadlineError: If the request's time is up.
        """
        left = self.left_s()
        if left <= 0:
            msg = f"The request's deadline has passed: {self.candidate.name!r} was not asked."
            raise DeadlineError(msg)
        limits = [None if left == math.inf else left, self.rules.timeout_s]
        if first_token:
            limits.append(self.rules.first_token_timeout_s)
        return min((limit for limit in limits if limit is not None), default=None)

    def hedge_s(self, *, first_token: bool) -> float | None:
        """Return the seconds after which to make a second call; None if not at all."""
        if self.rules.hedge_after is None:
            return None
        return self.telemetry.quantile_s(
            self.candidate.name, self.rules.hedge_after, first_token=first_token
        )


@dataclass(frozen=True)
class _Race:
    limit_s: float | None
    hedge_s: float | None


@dataclass(frozen=True)
class _Pause:
    seconds: float


@dataclass
class GuardedRunnable:
    """A candidate's runnable, called by the rules of its guard.

    Args:
        runnable: The runnable to call.
        guard: The rules for its calls.
        twin: The runnable for a hedged call, if that goes to another endpoint.
        notes: Record of the failed calls.
        adapt: Returns the messages in a form that the other endpoint accepts.
        gate: Returns a config whose handlers hear tokens only while a first function returns True,
            and the end only if a second one does.
    """

    runnable: Runnable[Any, Any]
    guard: Guard
    twin: Runnable[Any, Any] | None = None
    notes: Notes = field(default_factory=Notes)
    adapt: Callable[[Sequence[BaseMessage], Candidate], Sequence[BaseMessage]] | None = None
    gate: Callable[[RunnableConfig, _Check, _Check], RunnableConfig] | None = None
    _shown: Call | None = None
    """The call whose tokens the handlers hear."""

    _running: list[Call] = field(default_factory=list)
    """The calls of the current race, whose end is not known yet."""

    def invoke(self, messages: Sequence[BaseMessage], config: RunnableConfig, **kwargs: Any) -> Any:
        """Ask and wait for the complete answer."""
        return self._open(messages, config, kwargs, streamed=False).value

    async def ainvoke(
        self, messages: Sequence[BaseMessage], config: RunnableConfig, **kwargs: Any
    ) -> Any:
        """Ask and wait for the complete answer."""
        return (await self._aopen(messages, config, kwargs, streamed=False)).value

    def stream(
        self, messages: Sequence[BaseMessage], config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        """Ask and yield the chunks."""
        opened = self._open(messages, config, kwargs, streamed=True)
        limit = self._total_limit_s(opened.call)
        if hasattr(opened.call.rest, "limit_s"):
            opened.call.rest.limit_s = limit
        try:
            yield from opened.value
            yield from opened.call.read_rest(limit)
        except BaseException as error:
            # Cancelled or closed by its reader as well: an answer has begun.
            self.notes.add_failure(opened.call, error_text(error), billed=True)
            raise
        finally:
            opened.call.failed(GeneratorExit())

    async def astream(
        self, messages: Sequence[BaseMessage], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Ask and yield the chunks."""
        opened = await self._aopen(messages, config, kwargs, streamed=True)
        try:
            for chunk in opened.value:
                yield chunk
            async for chunk in opened.call.aread_rest(self._total_limit_s(opened.call)):
                yield chunk
        except BaseException as error:
            # Cancelled or closed by its reader as well: an answer has begun.
            self.notes.add_failure(opened.call, error_text(error), billed=True)
            raise
        finally:
            opened.call.failed(GeneratorExit())

    def _open(
        self,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        streamed: bool,
    ) -> Outcome:
        plan = self._plan(streamed=streamed)
        first, second = self._calls(messages, config, kwargs, streamed=streamed)
        try:
            step = next(plan)
            while True:
                if isinstance(step, _Pause):
                    time.sleep(step.seconds)
                    step = next(plan)
                else:
                    step = plan.send(
                        race(first, second, step.limit_s, step.hedge_s, self._is_shown)
                    )
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except BaseException as error:
            self._note_cancelled(error)
            raise

    async def _aopen(
        self,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        streamed: bool,
    ) -> Outcome:
        plan = self._plan(streamed=streamed)
        first, second = self._calls(messages, config, kwargs, streamed=streamed)
        try:
            step = next(plan)
            while True:
                if isinstance(step, _Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(plan)
                else:
                    step = plan.send(
                        await arace(first, second, step.limit_s, step.hedge_s, self._is_shown)
                    )
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except BaseException as error:
            self._note_cancelled(error)
            raise

    def _is_shown(self) -> bool:
        return self.notes.tokens_shown

    def _note_cancelled(self, error: BaseException) -> None:
        """Note the calls that were running when their caller was cancelled."""
        if isinstance(error, Exception):
            return
        for call in self._running:
            billed = call.started_s > 0 and may_be_billed(call.cut or error)
            self.notes.add_failure(call, error_text(error), billed=billed)

    def _plan(self, *, streamed: bool) -> Generator[_Race | _Pause, Any, Outcome]:
        """Yield races and pauses until a call opens, or a failure is final."""
        guard, n_failed = self.guard, 0
        while True:
            limit = guard.limit_s(first_token=streamed)
            outcome: Outcome = yield _Race(limit, guard.hedge_s(first_token=streamed))
            self._running.clear()
            for call, why in outcome.lost:
                self.notes.add_failure(call, why, billed=True)
            if outcome.error is None:
                if outcome.call.candidate is not guard.candidate:
                    self.notes.answered_by = outcome.call.candidate
                return outcome
            n_failed += 1
            billed = may_be_billed(outcome.error)
            self.notes.add_failure(outcome.call, error_text(outcome.error), billed=billed)
            pause = guard.rules.pause_s(outcome.error, n_failed)
            if pause is None or pause >= guard.left_s() or self.notes.tokens_shown:
                raise outcome.error
            yield _Pause(pause)

    def _calls(
        self,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        streamed: bool,
    ) -> Any:
        def make_starter(
            guard: Guard, runnable: Runnable[Any, Any], messages: Sequence[BaseMessage]
        ) -> Any:
            def start() -> Call:
                call = Call(
                    guard.candidate,
                    runnable,
                    guard.telemetry,
                    guard.bulkhead,
                    guard.rules.queue_s,
                    messages,
                    config,
                    kwargs,
                    streamed,
                )
                if self.gate is not None:
                    call.config = self.gate(config, lambda: self._may_show(call), lambda: call.runs)
                self._running.append(call)
                return call

            return start

        first = make_starter(self.guard, self.runnable, messages)
        if self.twin is None or self.guard.twin is None:
            return first, first
        if self.adapt is not None:
            messages = self.adapt(messages, self.guard.twin.candidate)
        return first, make_starter(self.guard.twin, self.twin, messages)

    def _may_show(self, call: Call) -> bool:
        """Return whether handlers may hear a call's tokens: one call's at a time, till its end."""
        if call.runs and (self._shown is None or not self._shown.runs):
            self._shown = call
        return self._shown is call and call.runs

    def _total_limit_s(self, call: Call) -> float | None:
        limits = [self.guard.rules.timeout_s]
        if self.guard.deadline_s is not None:
            limits.append(max(0.0, self.guard.deadline_s - call.started_s))
        return min((limit for limit in limits if limit is not None), default=None)
