"""One request, without I/O: from a question to an accepted answer.

A `Request` has three stages, `prepare`, `decide` and `act`, each a generator that yields
operations and is sent their results. `run` is the stages in a row, for the chat model and the agent
middleware; the graph runs one stage per node and keeps the request as plain data in between
(`data`, `restore`). Budgets, log, trace and shadow belong to the request, not to what drives it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.calls.answer_checks import classify
from langchain_llm_router.calls.ask import Answer, Asking, Calling, Predicting
from langchain_llm_router.calls.bindings import caller_output, wants_schema
from langchain_llm_router.calls.judge import Verifying
from langchain_llm_router.calls.langchain_internals import graph_runtime
from langchain_llm_router.calls.tracing import Announcing, Noting, Tracing
from langchain_llm_router.history.log_entries import entry_data, run_ids
from langchain_llm_router.loop.charges import charged_usd
from langchain_llm_router.loop.commitment import commit_rule
from langchain_llm_router.loop.conversation import routing_text
from langchain_llm_router.loop.loop import Loop, next_decision
from langchain_llm_router.loop.record import decision_data, decision_record
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.preparation import make_situation
from langchain_llm_router.types import Arm, Attempt, Decision, Situation
from langchain_llm_router.types.errors import (
    BudgetExceededError,
    LlmRouterError,
    is_pause,
    own_error,
)
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import Case

if TYPE_CHECKING:
    from langchain_llm_router.budgets.spending import EarlierRuns, Spending

__all__ = ["NOSTREAM", "Done", "Request", "Stage", "new_id"]

Stage = Generator[Operation, Any, None]
"""Yields operations and is sent their results, or their failures by `throw`."""

NOSTREAM = "nostream"
"""`langgraph.constants.TAG_NOSTREAM`: keeps a call out of `stream_mode="messages"`."""

_VERSION = 2
"""Version of the plain data; data of another version cannot be restored."""

_CHANGES = {"decide": ("steps",), "act": ("trace",)}
"""The keys of the plain data that a stage changes; stages not named here change all of it."""


@dataclass(frozen=True)
class Done:
    """A finished request."""

    answer: Answer
    """The accepted answer."""

    output: Any
    """What the caller gets: the message with its record, or a parsed object."""

    record: dict[str, Any]
    shown: bool = False
    """Whether the answer has been passed on already, as it arrived."""


def new_id() -> str:
    """A decision's id: 32 hexadecimal digits, random."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class Request:
    """One request in progress; see the module's docstring.

    Args:
        parts: The router's parts.
        messages: The conversation.
        config: For the runs inside the request; `configurable["llm_router"]` holds the request's
            options.
        kwargs: Keywords of the call, bound tools and schema among them.
        streaming: Whether chunks that may be shown at once are passed on as they arrive.
        in_nodes: Whether each stage runs on its own: then no money is reserved between two of them.
        tells: Whether decisions, drafts and verdicts are reported as they happen: a node says it,
            elsewhere the router's `streaming_mode` does.
    """

    parts: Parts
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    streaming: bool = False
    in_nodes: bool = False
    tells: bool = False

    custom: Runnable[Any, Any] | None = None
    """What a stage calls in place of its own operation: a user-defined node."""

    begin: Operation | None = None
    """Returns what is known of earlier runs of a step about to be taken."""

    nodes: dict[str, str] = field(default_factory=dict)
    """User-defined nodes that replaced or wrapped the graph's own."""

    decision_id: str = ""
    due_s: float | None = None
    """Its deadline, on `time.monotonic`'s clock; pauses between nodes do not count."""

    answers: dict[str, Answer] = field(default_factory=dict)
    done: Done | None = None
    declined: bool = False
    """Whether a person declined the last step."""

    _loop: Loop | None = None
    _shown: set[str] = field(default_factory=set)
    _spending: Spending | None = None
    _n_interrupted: int = 0
    """How many earlier runs of this step were cut off while in progress."""

    @property
    def loop(self) -> Loop:
        """The decisions, once the situation is known."""
        assert self._loop is not None, "prepare comes first"
        return self._loop

    @property
    def _traced(self) -> bool:
        callbacks = self.config.get("callbacks")
        return bool(getattr(callbacks, "handlers", callbacks))

    # As plain data

    def data(self, keys: Sequence[str]) -> dict[str, Any]:
        """What another process needs to continue, limited to the named keys.

        Args:
            keys: `trace`, the attempts with their messages; `steps`; `request`, all the rest.
        """
        found: dict[str, Any] = {}
        if "request" in keys:
            found["request"] = {
                "version": _VERSION,
                "decision_id": self.decision_id,
                "left_s": None if self.due_s is None else self.due_s - time.monotonic(),
                "nodes": self.nodes,
                "frames": self.loop.frames_data(),
            }
        if "steps" in keys:
            found["steps"] = self.loop.steps_data()
        if "trace" in keys:
            attempts = self.loop.situation.attempts
            found["trace"] = [
                {"attempt": attempt, "message": self.answers[attempt["candidate"]].message}
                for attempt in attempts
            ]
        return found

    def restore(self, data: Mapping[str, Any]) -> Request:
        """Restore what `data` returned.

        Raises:
            LlmRouterError: If it was written by another version.
        """
        rest: Mapping[str, Any] = data.get("request") or {}
        if rest.get("version") != _VERSION:
            msg = (
                f"This thread holds a request of version {rest.get('version')!r}, and this one "
                f"reads {_VERSION}: send the question again, as a new turn."
            )
            raise LlmRouterError(msg)
        attempts = []
        for entry in data["trace"]:
            attempt, message = entry["attempt"], entry["message"]
            attempts.append(attempt)
            self.answers[attempt["candidate"]] = Answer(attempt, message, message)
        self.decision_id, left_s = rest["decision_id"], rest["left_s"]
        self.due_s = None if left_s is None else time.monotonic() + left_s
        self.nodes = {**rest["nodes"], **self.nodes}
        self._loop = Loop.restore(
            self.parts.policy, rest["frames"], data["steps"], attempts, self.parts.reader
        )
        return self

    # The stages

    def run(self) -> Generator[Operation, Any, Done]:
        """Everything between a question and its answer."""
        self.tells = self.parts.fields.streaming_mode == "events"
        self._open_spending()
        try:
            yield from self.prepare()
            while True:
                yield from self.decide()
                if self.done is not None:
                    return self.done
                yield from self.act()
        except BaseException as error:
            self._log_failure(error)
            raise
        finally:
            self._settle()

    def run_stage(
        self, stage: Callable[[Request], Stage], state: Mapping[str, Any] | None
    ) -> Generator[Operation, Any, dict[str, Any]]:
        """One stage on its own, for a node of a graph: its failure ends the request.

        Args:
            stage: Which.
            state: State of the earlier stages; None before the first.

        Returns:
            What the stage changed, as plain data, and the answer if it has come.
        """
        if state is not None:
            self.restore(state)
        self._open_spending()
        try:
            yield from stage(self)
        except BaseException as error:
            self._log_failure(error)
            raise
        finally:
            self._settle()
        keys = _CHANGES.get(stage.__name__, ("request", "steps", "trace"))
        # Elsewhere only the time that is left changes, and which user-defined nodes have run.
        always = self.due_s is not None or len(self.nodes) > 0
        update = self.data(("request", *keys) if always else keys)
        if self.done is not None:
            update["messages"] = [self.done.output]
        return update

    def prepare(self) -> Stage:
        """Make the situation: once, and again only when a person's approval has come back."""
        parts = self.parts
        self.decision_id = self.decision_id or new_id()
        if self.due_s is None and parts.live is not None:
            self.due_s = parts.live.due_s()
        quality = self._known_quality()
        operation = self._predicting() if self.custom is None else self._custom()
        if quality is None and operation is not None:
            quality = self._in_order((yield operation))
        situation = make_situation(parts, self.messages, quality, self.config, self.kwargs)
        if self._spending is not None:
            earlier = None if self._loop is None else self._loop.situation
            situation = yield from self._spending.reserve_request(situation, earlier)
        if self._loop is None:
            self._loop = Loop(parts.policy, situation)
            return
        step = self._loop.steps[-1]
        if step.candidate not in situation.names:
            # What was approved is no longer allowed: the policy decides again.
            self._loop.steps.pop()
        self._loop.refresh(situation)

    def first_decision(self) -> Decision:
        """Which candidate would be asked first; none is asked."""
        decision = next_decision(self.parts.policy, self.first_situation())
        assert decision is not None, "no candidate has failed yet"
        return replace(decision, decision_id=new_id())

    def _predicting(self) -> Predicting | None:
        fields = self.parts.fields
        if fields.estimator is None:
            return None
        return Predicting(fields.estimator, routing_text(self.messages, fields.turns))

    def first_situation(self) -> Situation:
        """What the policy is shown first, with no money reserved and no answer requested."""
        predicting = self._predicting()
        quality = None if predicting is None else self._in_order(predicting.perform())
        return make_situation(self.parts, self.messages, quality, self.config, self.kwargs)

    def _known_quality(self) -> list[float] | None:
        """What was predicted for every candidate when the situation was made before."""
        if self._loop is None:
            return None
        arms = {arm.candidate: arm.quality for arm in self._loop.frames[0][1].arms}
        if not arms.keys() >= set(self.parts.names):
            return None
        known = [arms[name] for name in self.parts.names]
        return [math.nan if quality is None else quality for quality in known]

    def _custom(self, worst_usd: float | None = 0.0) -> Calling:
        assert self.custom is not None
        return Calling(self.custom, self.config, worst_usd)

    def _in_order(self, predicted: Sequence[float] | Mapping[str, float] | None) -> Any:
        """Predicted qualities in the order of the candidates."""
        parts = self.parts
        if predicted is None:
            return None
        if isinstance(predicted, Mapping):
            models = [candidate.model_name for candidate in parts.candidates]
            return [predicted.get(model, math.nan) for model in models]
        return [predicted[column] for column in parts.columns]

    def decide(self) -> Stage:
        """Take the next step; an acceptance ends the request."""
        given = None if self.custom is None else (yield self._custom())
        step = self.loop.next() if given is None else self.loop.take(given)
        assert step is not None, "the stage that asked has raised"
        fields = self.parts.fields
        if fields.trace_decision and self._traced and not self.loop.unseen:
            yield Tracing(step, self.loop.situation, self.config)
        if self.tells:
            yield from self._tell("decision", decision_data(step))
        if step.action == "accept":
            yield from self.end(step)

    def act(self) -> Stage:
        """Do what the last step says: ask, or verify."""
        step = self.loop.steps[-1]
        if step.action == "ask":
            asking = self._asking(step)
            answer = yield from self._paid(asking)
            attempt = self._asked(step, asking, answer)
        elif self.custom is None:
            attempt = yield from self._paid(self._verifying(step))
        else:
            operation = self._custom(self._worst(step).worst_verification_usd)
            verdict = yield from self._paid(operation)
            attempt = {**self.loop.situation.attempts[-1], **verdict}
        if self._n_interrupted > 0:
            again = [step.action] * self._n_interrupted
            attempt["interrupted"] = [*attempt.get("interrupted", []), *again]
        self.loop.saw(attempt)
        if self._spending is not None:
            self._spending.pending = None
        if attempt.get("error") is not None and self._is_over():
            # Here, where the candidate's own error is available: exceptions are not plain data.
            raise own_error([answer.error for answer in self.answers.values()])
        if self.tells:
            yield from self._tell(*self._facts(step, attempt))

    def _is_over(self) -> bool:
        """Whether no answer is possible any more: every candidate failed, or the time is up."""
        late = self.due_s is not None and time.monotonic() >= self.due_s
        if late and all(answer.message is None for answer in self.answers.values()):
            return True
        return self.loop.peek() is None

    def end(self, step: Decision) -> Stage:
        """Return the answer that a step accepts, with the record of the whole request."""
        fields, loop = self.parts.fields, self.loop
        record = decision_record(loop.steps, loop.situation, self.decision_id)
        if fields.budgets is not None:
            record["budget"] = {
                "granted_usd": loop.situation.granted_usd,
                "charged_usd": charged_usd(loop.situation),
            }
        if self.nodes:
            record["nodes"] = self.nodes
        if fields.shadow is not None:
            from langchain_llm_router.router.shadow import (  # noqa: PLC0415 - slow to load
                Shadowing,
            )

            attempts = loop.situation.attempts
            record["shadow"] = yield Shadowing(fields.shadow, loop.situations(), attempts)
        if fields.trace_decision and self._traced:
            yield Noting(record)
        answer = self.answers[step.candidate]
        self._log("answered", record)
        output = caller_output(answer.output, record, self.kwargs)
        self.done = Done(answer, output, record, shown=step.candidate in self._shown)

    # Asking and verifying

    def _asking(self, step: Decision) -> Asking:
        fields, commit = self.parts.fields, None
        drafts_stream = fields.streaming_mode == "commit" and self.streaming and not step.final
        if drafts_stream and not wants_schema(self.kwargs):
            seen, policy = self.loop.situation, self.parts.policy
            commit = commit_rule(policy, fields.verifier, seen, step.candidate, fields.commit_at)
        seen_at_once = step.final or (commit is not None and commit(None))
        config = self.config
        if self._traced or self.parts.models[step.candidate].callbacks is not None:
            # Tags and metadata cost a tenth of a call, so they are made only where a handler
            # listens.
            config = self._child_config(step.candidate, quiet=not seen_at_once)
        verifier = fields.verifier
        reads_along = commit is not None and verifier is not None and verifier.reads_along
        asking = self.parts.asking(
            step.candidate,
            self.messages,
            config,
            self.kwargs,
            final=step.final,
            include_raw=not (self.streaming and step.final),
            due_s=self.due_s,
            commit=commit,
            watch_after=fields.commit_after if reads_along else None,
            worst_usd=self._worst(step).worst_asking_usd,
            draft=not seen_at_once,
        )
        return asking if self.custom is None else replace(asking, runnable=self.custom)

    def _asked(self, step: Decision, asking: Asking, answer: Answer) -> Attempt:
        streamed = self.streaming and asking.shown
        if streamed:
            self._shown.add(step.candidate)
        if answer.message is not None and self.parts.policy.verifies:
            tools = self.kwargs.get("tools") or ()
            attempt = classify(
                answer.attempt, answer.message, answer.output, tools, streamed=streamed
            )
            answer = replace(answer, attempt=attempt)
        self.answers[step.candidate] = answer
        return answer.attempt

    def _verifying(self, step: Decision) -> Verifying:
        parts, seen = self.parts, self.loop.situation
        verifier, message = parts.fields.verifier, self.answers[step.candidate].message
        assert verifier is not None
        assert message is not None
        case = Case(
            messages=self.messages,
            answer=message,
            candidate=parts.by_name[step.candidate],
            next_step=self.loop.step_after,
        )
        return Verifying(
            verifier=verifier,
            case=case,
            attempt=seen.attempts[-1],
            config=self._child_config(step.candidate, quiet=True),
            guard=None if parts.live is None else parts.live.judging(self.due_s),
            traced=self._traced,
            worst_usd=self._worst(step).worst_verification_usd,
        )

    def _child_config(self, candidate: str, *, quiet: bool) -> RunnableConfig:
        """The config of a candidate's run: tagged, and kept out of streams where it is a draft."""
        tags = [*(self.config.get("tags") or []), f"llm_router:candidate:{candidate}"]
        if quiet:
            tags.append(NOSTREAM)
        metadata = {
            **(self.config.get("metadata") or {}),
            "llm_router_candidate": candidate,
            "llm_router_decision_id": self.decision_id,
        }
        # Not `merge_configs`: inside a run it pulls in the context's callbacks a second time.
        return {**self.config, "tags": tags, "metadata": metadata}

    def _open_spending(self) -> None:
        budgets = self.parts.fields.budgets
        if budgets is not None:
            from langchain_llm_router.budgets.spending import (  # noqa: PLC0415 - slow to load
                Spending,
            )

            self._spending = Spending(budgets, self.config, in_nodes=self.in_nodes)

    def _paid(self, operation: Operation) -> Generator[Operation, Any, Any]:
        """Perform an operation; in a node, with its own worst case reserved."""
        if self._spending is None:
            return (yield operation)
        if self.in_nodes:
            earlier: EarlierRuns | None = None if self.begin is None else (yield self.begin)
            self._n_interrupted = 0 if earlier is None else earlier.n_unfinished
            situation, name = self.loop.situation, self.loop.steps[-1].candidate
            try:
                yield from self._spending.reserve_operation(operation, situation, name, earlier)
            except BudgetExceededError as error:
                return operation.on_refusal(error)
        self._spending.pending = operation
        return (yield operation)

    def _worst(self, step: Decision) -> Arm:
        """The arm with the worst cases of a step; without budgets there are none."""
        situation = self.loop.situation
        return situation.arms[0] if self._spending is None else situation.arm(step.candidate)

    def _settle(self) -> None:
        if self._spending is not None:
            self._spending.settle(None if self._loop is None else self._loop.situation)

    # Log and events

    def _tell(self, name: str, facts: Mapping[str, Any]) -> Stage:
        event = {"event": name, **facts, "decision_id": self.decision_id}
        writer = getattr(graph_runtime(self.config), "stream_writer", None)
        if writer is not None:
            writer(event)
        elif self._traced:
            yield Announcing(event, self.config)

    def _facts(self, step: Decision, attempt: Attempt) -> tuple[str, dict[str, Any]]:
        if step.action == "verify":
            return "verdict", {**attempt}
        message = self.answers[step.candidate].message
        return "draft", {**attempt, "text": None if message is None else str(message.text)}

    def _log_failure(self, error: BaseException) -> None:
        if is_pause(error):
            return
        failed = isinstance(error, Exception)
        self._log("failed" if failed else "abandoned", error=error if failed else None)

    def _log(
        self,
        outcome: str,
        record: Mapping[str, Any] | None = None,
        *,
        error: BaseException | None = None,
    ) -> None:
        log, loop = self.parts.fields.log, self._loop
        if log is None:
            return
        if loop is None:
            query = routing_text(self.messages, self.parts.fields.turns)
        else:
            query = loop.situation.query
        entry = partial(
            entry_data,
            query,
            [] if loop is None else list(loop.frames),
            [] if loop is None else list(loop.steps),
            () if loop is None else loop.situation.attempts,
            {**(record or {}), "decision_id": self.decision_id, **run_ids(self.config)},
            outcome=outcome,
            error=error,
            secrets=self.parts.secrets,
            declined=self.declined,
        )
        log.append(entry)
