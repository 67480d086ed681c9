"""From a question to its answer, less the I/O.

`answering` is a generator that yields operations (predict, ask, verify, show) and ends in the
accepted answer with its record. Who runs it performs the operations, sync or async: the chat
model, and the agent middleware. The graph takes the same steps, each in a node of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.asking import (
    Answer,
    Asking,
    Predicting,
    candidate_config,
)
from langchain_llm_router.binding import caller_output, wants_schema
from langchain_llm_router.budgets.paying import Reserving, Spending, paid_route
from langchain_llm_router.conversation import routing_text
from langchain_llm_router.engine import Engine
from langchain_llm_router.history.shadow import Shadowing
from langchain_llm_router.history.trail import Trail, recorded, run_ids
from langchain_llm_router.judging import Verifying
from langchain_llm_router.loop import Routed, decision_record, hand_on, observe, routing
from langchain_llm_router.options import RoutingOptions
from langchain_llm_router.pool import live_model
from langchain_llm_router.resilience.live import own_error
from langchain_llm_router.tracing import Announcing, Noting, Tracing, decision_data, is_traced
from langchain_llm_router.types import Attempt, Decision, Situation

__all__ = ["Done", "Operation", "Session", "answering", "new_id"]

Operation = Predicting | Reserving | Asking | Verifying | Shadowing | Tracing | Announcing | Noting
"""What a session wants done next; each has `perform` and `aperform`."""


@dataclass(frozen=True)
class Done:
    """A finished session."""

    answer: Answer
    """The accepted answer."""

    output: Any
    """What the caller gets: the message with its record, or a parsed object."""

    record: dict[str, Any]
    shown: bool = False
    """Whether the answer has been passed on already, as it came."""


Session = Generator[Operation, Any, Done]


def new_id() -> str:
    """A decision's id: 32 hexadecimal digits, random."""
    return os.urandom(16).hex()


def answering(
    engine: Engine,
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    kwargs: Mapping[str, Any],
    *,
    streaming: bool = False,
) -> Session:
    """Route one conversation; see the module's docstring.

    Args:
        engine: The router's parts.
        messages: The conversation.
        config: For the runs within; `configurable["llm_router"]` holds the request's options.
        kwargs: Keywords of the call, bound tools and schema among them.
        streaming: Whether what may be seen at once is passed on as it comes.
    """
    if engine.log is None:
        return (yield from _answering(engine, messages, config, kwargs, streaming=streaming))
    query = routing_text(messages, engine.turns)
    trail = Trail(new_id(), query, engine.secrets, run_ids(config))
    session = _answering(engine, messages, config, kwargs, streaming=streaming, trail=trail)
    return (yield from recorded(engine.log, trail, session))


def _answering(
    engine: Engine,
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    kwargs: Mapping[str, Any],
    *,
    streaming: bool,
    trail: Trail | None = None,
) -> Session:
    kwargs = dict(kwargs)
    options = engine.options(config, kwargs)
    traced = is_traced(config)
    request = _Request(
        engine,
        messages,
        config,
        kwargs,
        options,
        streaming=streaming,
        traced=traced,
        watched=engine.streaming_mode != "buffer" or (traced and engine.trace_decision),
        due_s=None if engine.live is None else engine.live.due_s(),
        trail=trail,
        decision_id=new_id() if trail is None else trail.decision_id,
    )
    predicting = engine.predicting(messages)
    row = None if predicting is None else (yield predicting)
    situation = engine.situation(messages, engine.in_order(row), options, kwargs)
    if engine.budgets is None:
        routed = yield from request.route(situation)
    else:
        routed = yield from paid_route(
            engine.budgets, situation, config, request.spending, request.route
        )
    if routed.decision is None:
        routed = request.handed_on(routed)
    record = decision_record(routed, request.decision_id)
    if request.spending.record:
        record["budget"] = request.spending.record
    if engine.shadow is not None:
        first = replace(routed.situation, attempts=())
        record["shadow"] = yield Shadowing(engine.shadow, [first], routed.situation.attempts)
    if trail is not None:
        trail.record, trail.routed = record, routed
    if traced and engine.trace_decision:
        yield Noting(record)
    assert routed.decision is not None
    name = routed.decision.candidate
    answer = request.answers[name]
    output = caller_output(answer.output, record, kwargs)
    return Done(answer, output, record, shown=name in request.shown)


@dataclass
class _Request:
    """One request on its way."""

    engine: Engine
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    options: RoutingOptions
    streaming: bool = False
    traced: bool = False
    """Whether any handler listens."""

    watched: bool = False
    """Whether decisions are to be shown on the way."""

    due_s: float | None = None
    """When it has to be over, on `time.monotonic`'s clock."""

    decision_id: str = ""
    trail: Trail | None = None
    """Gathers what is done, for the log."""

    answers: dict[str, Answer] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    """Whose answers the caller has seen already."""

    spending: Spending = field(default_factory=Spending)

    def route(self, situation: Situation) -> Generator[Operation, Any, Routed]:
        """Take the policy's steps until it accepts or everybody has failed."""
        if self.trail is not None:
            self.trail.situation = situation
        steps = routing(self.engine.policy, situation)
        seen = situation
        try:
            step = next(steps)
            while True:
                yield from self._taking(step, seen)
                if step.action == "ask":
                    asking = self._asking(step, seen)
                    self.spending.under_way = step.candidate
                    answer = yield asking
                    self.spending.under_way = None
                    attempt = self._answered(step, asking, answer)
                else:
                    attempt = yield self._verifying(step, seen)
                yield from self._taken(step, attempt)
                if self._looked_at:
                    self.spending.seen = seen = observe(seen, attempt)
                step = steps.send(attempt)
        except StopIteration as stop:
            routed: Routed = stop.value
        if self.watched and routed.decision and routed.decision.action == "accept":
            yield from self._decided(routed.decision, seen)
        return routed

    def _taking(self, step: Decision, seen: Situation) -> Iterable[Operation]:
        if self.trail is not None:
            self.trail.steps.append(step)
        return self._decided(step, seen) if self.watched else ()

    def _taken(self, step: Decision, attempt: Attempt) -> Iterable[Operation]:
        if self.trail is not None:
            self.trail.saw(attempt)
        return self._announced(step, attempt) if self.watched else ()

    @property
    def _looked_at(self) -> bool:
        """Whether anybody but the policy looks at what has been seen so far."""
        return self.watched or self.engine.policy.verifies or self.engine.budgets is not None

    def handed_on(self, routed: Routed) -> Routed:
        """Where nobody answered well: the last flawed answer, or the candidate's own error."""
        given = list(self.answers.values())
        usable = [answer.attempt for answer in given if answer.message is not None]
        if len(usable) == 0:
            raise own_error([answer.error for answer in given])
        decision = hand_on(self.engine.policy, usable[-1])
        return replace(routed, decision=decision, steps=(*routed.steps, decision))

    def _answered(self, step: Decision, asking: Asking, answer: Answer) -> Attempt:
        if asking.shown:
            self.shown.add(step.candidate)
        answer = self.engine.at_sight(answer, self.kwargs, streamed=asking.shown)
        self.answers[step.candidate] = answer
        return answer.attempt

    def _asking(self, step: Decision, seen: Situation) -> Asking:
        commit = self._commitment(step, seen)
        seen_at_once = step.final or (commit is not None and commit(None))
        config, engine = self.config, self.engine
        if self.traced or live_model(engine.candidate(step.candidate)).callbacks is not None:
            # Tags and metadata cost a tenth of a call, so they are made only for who listens.
            config = candidate_config(
                config, step.candidate, self.decision_id, quiet=not seen_at_once
            )
        asking = engine.asking(
            step.candidate,
            self.messages,
            config,
            self.kwargs,
            final=step.final,
            include_raw=not (self.streaming and step.final),
            due_s=self.due_s,
        )
        if commit is not None:
            asking.commit = commit
            if hasattr(engine.verifier, "score_so_far"):
                asking.watch_after = engine.commit_after
        return asking

    def _verifying(self, step: Decision, seen: Situation) -> Verifying:
        verifier, answer = self.engine.verifier, self.answers[step.candidate]
        assert verifier is not None
        assert answer.message is not None
        config = candidate_config(self.config, step.candidate, self.decision_id, quiet=True)
        case = self.engine.case(self.messages, answer.message, seen)
        return Verifying(verifier, case, answer.attempt, config, self.engine.judging(self.due_s))

    def _commitment(
        self, step: Decision, seen: Situation
    ) -> Callable[[AIMessage | None], bool] | None:
        """Whether a draft looks good enough, from what is out so far, to be streamed."""
        engine = self.engine
        drafts_stream = engine.streaming_mode == "commit" and self.streaming and not step.final
        if not drafts_stream or wants_schema(self.kwargs):
            return None
        p_good = getattr(engine.policy, "p_good", None)
        score_so_far = getattr(engine.verifier, "score_so_far", None)

        def commits(message: AIMessage | None) -> bool:
            score = None if message is None or score_so_far is None else score_so_far(message)
            if message is not None and score is None:
                return False
            p = seen.arm(step.candidate).quality if score is None else score
            if p_good is not None:
                p = p_good(seen, Attempt(candidate=step.candidate, confidence=score))
            return p is not None and p >= engine.commit_at

        return commits

    def _decided(self, step: Decision, seen: Situation) -> Generator[Operation, Any, None]:
        if self.engine.trace_decision and self.traced:
            yield Tracing(step, seen, self.config)
        if self.engine.streaming_mode == "events":
            yield self._event("decision", decision_data(step))

    def _announced(self, step: Decision, attempt: Attempt) -> Generator[Operation, Any, None]:
        if self.engine.streaming_mode != "events" or step.final:
            return
        facts: dict[str, Any] = dict(attempt)
        message = self.answers[step.candidate].message
        if step.action == "ask" and message is not None:
            facts["text"] = str(message.text)
        yield self._event("draft" if step.action == "ask" else "verdict", facts)

    def _event(self, name: str, facts: Mapping[str, Any]) -> Announcing:
        event = {"event": name, **facts, "decision_id": self.decision_id}
        return Announcing(event, self.config)
