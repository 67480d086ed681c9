"""The only room that calls models: asks a candidate, makes a verifier's calls.

Each operation is a small object with the same thing twice, `perform` and `aperform`, around
logic that is written once. The chat model and the LangGraph nodes both use them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.pool import live_model
from langchain_llm_router.redaction import redact_error, redacted, secrets_of
from langchain_llm_router.resilience.calling import Guard, Guarded, Notes
from langchain_llm_router.tracing import is_traced
from langchain_llm_router.types import Attempt, Candidate, sum_usd
from langchain_llm_router.verification import (
    Call,
    Case,
    Evaluation,
    Reply,
    Verifier,
    evaluated,
)

__all__ = [
    "NOSTREAM",
    "Answer",
    "Asking",
    "Caller",
    "Predicting",
    "Verifying",
    "candidate_config",
]

NOSTREAM = "nostream"
"""`langgraph.constants.TAG_NOSTREAM`: keeps a call out of `stream_mode="messages"`."""


def candidate_config(
    config: RunnableConfig, candidate: str, decision_id: str, *, quiet: bool
) -> RunnableConfig:
    """The child config of a candidate's run: tagged, and silent for drafts."""
    tags = [*(config.get("tags") or []), f"llm_router:candidate:{candidate}"]
    if quiet:
        tags.append(NOSTREAM)
    metadata = {
        **(config.get("metadata") or {}),
        "llm_router_candidate": candidate,
        "llm_router_decision_id": decision_id,
    }
    # Not `merge_configs`: inside a run it pulls in the context's callbacks a second time.
    return {**config, "tags": tags, "metadata": metadata}


@dataclass(frozen=True)
class Answer:
    """What came of asking a candidate."""

    attempt: Attempt
    message: AIMessage | None = None
    output: Any = None
    """What the runnable returned: the message itself, or a dict for structured output."""

    error: Exception | None = None


@dataclass
class Asking:
    """Ask one candidate."""

    candidate: Candidate
    runnable: Runnable[Any, Any]
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False
    """Its answer will be accepted unseen, so it may be streamed."""

    handled: tuple[type[Exception], ...] = (Exception,)
    commit: Callable[[AIMessage | None], bool] | None = None
    """For a draft: whether it may be streamed, by what has come so far (None: nothing yet)."""

    watch_after: int | None = None
    """From so many chunks on, `commit` is asked again with each; None: only before the first."""

    answer: Answer | None = None
    """Set by `stream` and `astream` when they end."""

    notes: Notes = field(default_factory=Notes)
    """What happened on the way, where its calls are guarded."""

    def guarded_by(self, guard: Guard, twin: Runnable[Any, Any] | None) -> None:
        """Have its calls timed, limited, repeated and recorded.

        Args:
            guard: The rules.
            twin: What a hedged call asks, where that is another endpoint.
        """
        guarded = Guarded(self.runnable, guard, twin, self.notes)
        self.runnable = cast("Runnable[Any, Any]", guarded)

    @property
    def streams(self) -> bool:
        """Whether some of it may be passed on before it is whole."""
        return self.final or self.commit is not None

    @property
    def shown(self) -> bool:
        """Whether the answer was passed on as it came."""
        if self.answer is None or self.answer.error is not None:
            return False
        return self.commit is None or self.answer.attempt.get("committed", False)

    def perform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        started = time.perf_counter()
        try:
            output = self.runnable.invoke(self.messages, self.config, **self.kwargs)
        except self.handled as error:
            return self._failed(error, started)
        return self._answered(output, started)

    async def aperform(self) -> Answer:
        """Ask, and wait for the whole answer."""
        started = time.perf_counter()
        try:
            output = await self.runnable.ainvoke(self.messages, self.config, **self.kwargs)
        except self.handled as error:
            return self._failed(error, started)
        return self._answered(output, started)

    def stream(self) -> Iterator[Any]:
        """Ask, and pass on what comes; a failure before the first chunk ends in `answer`."""
        taken = _Taken(self, time.perf_counter())
        stream = self.runnable.stream(self.messages, self.config, **self.kwargs)
        try:
            for chunk in stream:
                yield from taken.take(chunk)
        except self.handled as error:
            taken.failed(error)
        self.answer = taken.answer()

    async def astream(self) -> AsyncIterator[Any]:
        """Ask, and pass on what comes; a failure before the first chunk ends in `answer`."""
        taken = _Taken(self, time.perf_counter())
        stream = self.runnable.astream(self.messages, self.config, **self.kwargs)
        try:
            async for chunk in stream:
                for part in taken.take(chunk):
                    yield part
        except self.handled as error:
            taken.failed(error)
        self.answer = taken.answer()

    def refused(self, error: Exception) -> Answer:
        """The answer of a candidate that was not asked at all."""
        self.notes.refused(self.candidate, error)
        return self._failed(error, time.perf_counter())

    def _failed(self, error: Exception, started: float) -> Answer:
        secrets = secrets_of(self.candidate.model)
        redact_error(error, secrets)
        attempt = Attempt(
            candidate=self.candidate.name,
            error=redacted(f"{type(error).__name__}: {error}", secrets),
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


class _Taken:
    """What has come so far, what of it may be passed on, and what it adds up to."""

    def __init__(self, asking: Asking, started: float) -> None:
        self._asking, self._started = asking, started
        self._chunks: list[Any] = []
        self._held: list[Any] = []
        self._sum: AIMessageChunk | None = None
        self._ttft_s: float | None = None
        self._failure: Answer | None = None
        self._open = asking.commit is None or asking.commit(None)

    def take(self, chunk: Any) -> Sequence[Any]:
        """Take a chunk, and give what may be passed on now."""
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
            # Half an answer is out: a second one glued to it would be no answer at all.
            redact_error(error, secrets_of(self._asking.candidate.model))
            raise error
        self._failure = self._asking._failed(error, self._started)

    def answer(self) -> Answer:
        if self._failure is not None:
            return self._failure
        chunks = self._chunks
        output = chunks[-1] if chunks else None
        if chunks and all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
            output = add_ai_message_chunks(chunks[0], *chunks[1:])
        answer = self._asking._answered(output, self._started, self._ttft_s)
        if self._asking.commit is not None and self._open:
            answer.attempt["committed"] = True
        return answer


@dataclass(frozen=True)
class Predicting:
    """Ask the estimator; its embedding may be a model behind a network."""

    estimator: QualityEstimator
    query: str

    def perform(self) -> list[float]:
        """Predict in place."""
        row: list[float] = self.estimator.predict([self.query])[0].tolist()
        return row

    async def aperform(self) -> list[float]:
        """Predict in a thread, so that the event loop goes on."""
        return await run_in_executor(None, self.perform)


@dataclass(frozen=True)
class Verifying:
    """Drive a verifier: make the calls it yields, all of a batch at once."""

    verifier: Verifier
    case: Case
    attempt: Attempt
    config: RunnableConfig

    def perform(self) -> Attempt:
        """The attempt with its verdict."""
        if not is_traced(self.config):
            return self._perform(self.attempt, self.config)
        return self._grouped().invoke(self.attempt, self.config)

    def _perform(self, attempt: Attempt, config: RunnableConfig) -> Attempt:
        steps, seen = self.verifier.evaluate(self.case), _Seen()
        try:
            calls = next(steps)
            while True:
                calls = steps.send(seen.note(self._calling().batch(list(calls), config)))
        except StopIteration as stop:
            return seen.verdict(attempt, stop.value)

    async def aperform(self) -> Attempt:
        """The attempt with its verdict."""
        if not is_traced(self.config):
            return await self._aperform(self.attempt, self.config)
        return await self._grouped().ainvoke(self.attempt, self.config)

    async def _aperform(self, attempt: Attempt, config: RunnableConfig) -> Attempt:
        steps, seen = self.verifier.evaluate(self.case), _Seen()
        try:
            calls = next(steps)
            while True:
                replies = await self._calling().abatch(list(calls), config)
                calls = steps.send(seen.note(replies))
        except StopIteration as stop:
            return seen.verdict(attempt, stop.value)

    def _grouped(self) -> RunnableLambda[Attempt, Attempt]:
        # One run around all samples, so that a trace shows an evaluation and not its votes.
        name = type(self.verifier).__name__
        return RunnableLambda(self._perform, self._aperform, name=name)

    def _calling(self) -> RunnableLambda[Call, Reply]:
        # Not `model.batch`: a lambda around each call keeps the trace a tree.
        caller = Caller()
        return RunnableLambda(caller.call, caller.acall, name="verdict")


class _Seen:
    """The replies of one evaluation, and what they add up to."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []

    def note(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        self._replies += replies
        return replies

    def verdict(self, attempt: Attempt, evaluation: Evaluation) -> Attempt:
        # A call that failed outright was not billed as far as anybody can know.
        billed = [reply.cost_usd for reply in self._replies if reply.message is not None]
        failed = [reply.error for reply in self._replies if reply.error is not None]
        return {
            **evaluated(attempt, evaluation),
            "verification_errors": [*failed, *evaluation.errors],
            "verification_cost_usd": sum_usd(billed),
        }


class Caller:
    """Makes one verifier call; equal calls of a batch share the runnable."""

    def __init__(self) -> None:
        self._built: dict[int, Runnable[Any, Any]] = {}

    def call(self, call: Call, config: RunnableConfig) -> Reply:
        """Make it; a failure is a reply without a message."""
        try:
            output = self._runnable(call).invoke(call.messages, config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return Reply(error=_safe_text(call, error), exception=error)
        return self._reply(call, output)

    async def acall(self, call: Call, config: RunnableConfig) -> Reply:
        """Make it; a failure is a reply without a message."""
        try:
            output = await self._runnable(call).ainvoke(call.messages, config)
        except Exception as error:  # noqa: BLE001 - a verdict that failed is a missing verdict
            return Reply(error=_safe_text(call, error), exception=error)
        return self._reply(call, output)

    def _runnable(self, call: Call) -> Runnable[Any, Any]:
        built = self._built.get(id(call))
        if built is None:
            model = _at_temperature(live_model(call.candidate), call.temperature)
            if call.schema is not None:
                method = {} if call.method is None else {"method": call.method}
                built = model.with_structured_output(
                    call.schema, include_raw=True, **method, **call.kwargs
                )
            elif call.n_samples > 1:
                built = _sampling(model, call)
            else:
                built = model.bind(**call.kwargs) if call.kwargs else model
            self._built[id(call)] = built
        return built

    def _reply(self, call: Call, output: Any) -> Reply:
        message, parsed, error = output, None, None
        samples = (output,) if isinstance(output, AIMessage) else ()
        if isinstance(output, list):
            message, samples = output[0], tuple(output)
        if isinstance(output, dict):
            message, parsed = output.get("raw"), output.get("parsed")
            failure = output.get("parsing_error")
            error = None if failure is None else _safe_text(call, failure)
        price = call.candidate.price
        usage = getattr(message, "usage_metadata", None)
        cost = None if price is None else price.cost_usd(usage)
        return Reply(message, parsed, error, cost, samples)


def _sampling(model: BaseChatModel, call: Call) -> Runnable[Any, list[AIMessage]]:
    """Several samples in one request: `invoke` would drop all but the first."""
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


def _safe_text(call: Call, error: BaseException) -> str:
    return redacted(f"{type(error).__name__}: {error}", secrets_of(call.candidate.model))


def _at_temperature(model: BaseChatModel, temperature: float | None) -> BaseChatModel:
    """A copy that samples at a temperature; models without one are left alone."""
    fixed = (model.profile or {}).get("temperature") is False
    if temperature is None or fixed or "temperature" not in type(model).model_fields:
        return model
    return model.model_copy(update={"temperature": temperature})
