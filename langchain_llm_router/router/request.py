"""One request, without I/O, from a query to its answer.

A `Request` has three stages, `prepare`, `decide` and `act`, each a generator that yields
operations and is sent their results. `run` runs all stages, for the chat model and the agent
middleware; the graph runs one stage per node and keeps the request as plain data in between
(`data`, `restore`). Budgets, log, trace and shadow are handled here, not in the drivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.calls.ask import Answer, AskOperation, NodeOperation, PredictOperation
from langchain_llm_router.calls.bindings import caller_output, wants_schema
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.calls.langchain_internals import RUNTIME_KEY
from langchain_llm_router.calls.trace_runs import mark_run
from langchain_llm_router.calls.tracing import (
    AnnotateOperation,
    EventOperation,
    TraceOperation,
    candidate_config,
)
from langchain_llm_router.loop.charges import budget_data
from langchain_llm_router.loop.commitment import commit_rule
from langchain_llm_router.loop.conversation import routing_text
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.loop.record import decision_data, decision_record
from langchain_llm_router.router.attempts import add_end, earlier_attempts, is_lost, read_answers
from langchain_llm_router.router.endings import Done, find_answer
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.preparation import (
    align_quality,
    earlier_quality,
    left_out,
    make_situation,
)
from langchain_llm_router.router.request_log import append_entry
from langchain_llm_router.router.sensitivity import SensitivityOperation, confine_verdict
from langchain_llm_router.types import Action, Arm, Attempt, Decision, Situation
from langchain_llm_router.types.errors import LlmRouterError, is_pause, own_error
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import Case

if TYPE_CHECKING:
    from langchain_llm_router.budgets.spending import EarlierRuns, Spending

__all__ = ["Request", "Stage"]

Stage = Generator[Operation, Any, None]
"""A generator that yields operations and is sent their results, or has their failures thrown in."""

_VERSION = 3
"""Version of the plain data; data of another version cannot be restored."""

_CHANGES = {"decide": ("steps", "decision_id"), "act": ("trace",), "ask_draft": ("draft",)}
"""The keys of the plain data that a stage changes, by the name of the stage's function; the stages
that are not named here change `request`, `steps` and `trace`."""


@dataclass(slots=True)
class Request:
    """One request in progress; see the module's docstring.

    Args:
        parts: The router's parts.
        messages: The conversation.
        config: The config for the runs inside the request; `configurable["llm_router"]` has the
            request's options.
        kwargs: Keyword arguments of the call, including bound tools and schema.
        streaming: Whether the caller streams: an answer that needs no verification is passed on as
            it arrives.
        in_nodes: Whether each stage runs in a node of its own, so that no money stays reserved
            between two stages.
        emits_events: Whether decisions, drafts and verdicts are reported as they happen. In a graph
            its node sets this, otherwise `run` sets it from the router's `streaming_mode`.
    """

    parts: Parts
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    streaming: bool = False
    in_nodes: bool = False
    emits_events: bool = False

    user_node: Runnable[Any, Any] | None = None
    """A user-defined node that a stage calls in place of its own operation."""

    mark_step: Operation | None = None
    """The operation that marks the beginning of a step and counts the earlier runs of that step."""

    nodes: dict[str, str] = field(default_factory=dict)
    """Labels of the functions that replaced or wrapped nodes of the graph, by the node's name."""

    draft: Mapping[str, Any] | None = None
    """The attempt and message of a candidate that was asked at the same time as another one, and
    the decision id; see `parallel_drafts`."""

    alongside: str | None = None
    """The candidate that is asked at the same time as that of this step."""

    decision_id: str = ""
    due_s: float | None = None
    """Deadline in seconds on the clock `time.monotonic`; pauses between nodes do not count."""

    answers: dict[str, Answer] = field(default_factory=dict)
    done: Done | None = None
    declined: bool = False
    """Whether a person declined the last step."""

    reply: AIMessage | None = None
    """The answer of a person who was asked because no other is good enough."""

    sensitive: str | None = "unknown"
    """Why only some candidates may see the request; None if all may."""

    _loop: Loop | None = None
    _shown: set[str] = field(default_factory=set)
    _spending: Spending | None = None
    _n_interrupted: int = 0
    """Number of earlier runs of this step that were interrupted."""

    _has_handlers: bool = False

    @property
    def loop(self) -> Loop:
        """The decision loop; it exists once `prepare` has made the situation."""
        assert self._loop is not None, "prepare comes first"
        return self._loop

    # As plain data

    def data(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the request as plain data, from which another process can continue it.

        Args:
            keys: The parts to return: `trace` (the attempts with their messages), `steps`,
                `decision_id`, `draft` (see the attribute), and `request` (everything else).
        """
        plain: dict[str, Any] = {}
        if "request" in keys:
            plain["request"] = {
                "version": _VERSION,
                "left_s": None if self.due_s is None else self.due_s - time.monotonic(),
                "nodes": self.nodes,
                "frames": self.loop.frames_data(),
            }
        if "decision_id" in keys:
            plain["decision_id"] = self.decision_id
        if "steps" in keys:
            plain["steps"] = self.loop.steps_data()
        if "trace" in keys:
            found = [(one, self.answers[one["candidate"]]) for one in self.loop.situation.attempts]
            # Only agents have a run.
            plain["trace"] = [
                {"attempt": attempt, "message": answer.message}
                if answer.run is None
                else {"attempt": attempt, "message": answer.message, "run": answer.run}
                for attempt, answer in found
            ]
        if "draft" in keys:
            plain["draft"] = self.draft
        return plain

    def restore(self, data: Mapping[str, Any]) -> Request:
        """Restore the request from the plain data that `data` returned.

        Raises:
            LlmRouterError: If another version wrote the data.
        """
        rest: Mapping[str, Any] = data.get("request") or {}
        if rest.get("version") != _VERSION:
            msg = (
                f"The unfinished request in this thread has data version {rest.get('version')!r}, "
                f"but this release reads {_VERSION} only: send the question again, as a new turn."
            )
            raise LlmRouterError(msg)
        attempts = []
        for entry in data["trace"]:
            attempt, message = entry["attempt"], entry["message"]
            attempts.append(attempt)
            answer = Answer(attempt, message, message, run=entry.get("run"))
            self.answers[attempt["candidate"]] = answer
        # The first decision makes the id: a stage before it may come from a node's cache.
        self.decision_id, left_s = data["decision_id"] or uuid4().hex, rest["left_s"]
        self.draft = data.get("draft")
        self.due_s = None if left_s is None else time.monotonic() + left_s
        self.nodes = {**rest["nodes"], **self.nodes}
        self._loop = Loop.restore(
            self.parts.policy, rest["frames"], data["steps"], attempts, self.parts.reader
        )
        return self

    # The stages

    def run(self) -> Generator[Operation, Any, Done]:
        """Run all stages, from the query to the accepted answer."""
        self.emits_events = self.parts.fields.streaming_mode == "events"
        self._open()
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
        """Run one stage, for a node of a graph; a failure of the stage ends the request.

        Args:
            stage: The stage.
            state: The plain data of the earlier stages, or None before the first.

        Returns:
            The plain data that the stage changed, and the accepted answer if there is one.
        """
        if state is not None:
            self.restore(state)
        self._open()
        try:
            yield from stage(self)
        except BaseException as error:
            self._log_failure(error)
            raise
        finally:
            self._settle()
        keys = _CHANGES.get(stage.__name__, ("request", "steps", "trace"))
        # `decide` and `act` change nothing else in `request` than the time left and `nodes`.
        changed = self.due_s is not None or len(self.nodes) > 0
        update = self.data(("request", *keys) if changed else keys)
        if state is None:
            update["decision_id"] = ""
        elif state["decision_id"]:
            # Only the first decision makes it, and LangGraph takes time for every key.
            update.pop("decision_id", None)
        if self.done is not None:
            update["messages"] = [self.done.output]
        if self._has_handlers and state is not None:
            mark_run(self.config, metadata={"llm_router_decision_id": self.decision_id})
        return update

    def prepare(self) -> Stage:
        """Make the situation, once per request and again only after a person's approval."""
        parts = self.parts
        self.decision_id = self.decision_id or uuid4().hex
        if self.due_s is None and parts.live is not None:
            self.due_s = parts.live.due_s()
        earlier = None if self._loop is None else self._loop.situation
        situation = yield from self.situate()
        if self._spending is not None:
            situation = yield from self._spending.reserve_request(situation, earlier)
        if self._loop is None:
            self._loop = Loop(parts.policy, situation)
            return
        step = self._loop.steps[-1]
        if step.candidate not in situation.names:
            # The approved candidate may no longer be asked: the policy decides again.
            self._loop.steps.pop()
        self._loop.refresh(situation)

    def _predict_operation(self) -> PredictOperation | None:
        fields, estimator = self.parts.fields, self.parts.fields.estimator
        if estimator is None or left_out(self.parts, self.sensitive, estimator) is not None:
            return None
        return PredictOperation(estimator, routing_text(self.messages, fields.turns))

    def situate(self) -> Generator[Operation, Any, Situation]:
        """Find out who may see the request, predict, and make the situation."""
        parts, messages, loop = self.parts, self.messages, self._loop
        self.sensitive = None
        if (rule := parts.fields.sensitive) is not None:
            found = yield SensitivityOperation(rule, messages, self.kwargs, self.config)
            self.sensitive = found if loop is None else loop.situation.sensitive or found
        quality = None if loop is None else earlier_quality(parts, loop.frames[0][1])
        operation = self._predict_operation() if self.user_node is None else self._call_node()
        if quality is None and operation is not None:
            quality = align_quality(parts, (yield operation))
        return make_situation(parts, messages, quality, self.config, self.kwargs, self.sensitive)

    def _call_node(self, worst_usd: float | None = 0.0) -> NodeOperation:
        assert self.user_node is not None
        return NodeOperation(self.user_node, self.config, worst_usd)

    def decide(self) -> Stage:
        """Take the next step; an acceptance ends the request."""
        loop, fields = self.loop, self.parts.fields
        user_step = None if self.user_node is None else (yield self._call_node())
        step = loop.next() if user_step is None else loop.take(user_step)
        assert step is not None, "`act` has raised if every candidate failed"
        if self.parts.rules is not None and step.ends:
            step = yield from self.parts.rules.end(loop, step, self.answers)
        if fields.trace_decision and self._has_handlers:
            unseen, situation, id = loop.accepted_without_policy, loop.situation, self.decision_id
            yield TraceOperation(step, situation, self.config, id, self.in_nodes, unseen)
        if self.emits_events:
            yield from self._emit_event("decision", decision_data(step))
        if step.action == "accept" or step.ending not in (None, "interrupt"):
            yield from self.end(step)

    def act(self) -> Stage:
        """Carry out the last step: ask a candidate, or verify its answer."""
        loop, step = self.loop, self.loop.steps[-1]
        if step.action == "ask":
            attempt = yield from self.ask(step)
        elif self.user_node is None:
            verifying, confinement = self._verify_operation(step), self.parts.confinement
            if confinement is not None:
                known = loop.situation.sensitive
                verifying = yield from confine_verdict(verifying, confinement, known, self.kwargs)
            attempt = yield from self._perform_paid(verifying, step)
        else:
            operation = self._call_node(self._worst_case_arm(step).worst_verification_usd)
            verdict = yield from self._perform_paid(operation, step)
            attempt = {**loop.situation.attempts[-1], **verdict}
        self.saw(step, attempt)
        if attempt.get("error") is not None and self.alongside is None and self._is_over():
            # Raised here because exceptions are not plain data: the next node would not have them.
            raise own_error([answer.error for answer in self.answers.values()])
        if self.emits_events:
            name, facts = "verdict", dict[str, Any](attempt)
            if step.action == "ask":
                message = self.answers[step.candidate].message
                name, facts["text"] = "draft", None if message is None else str(message.text)
            yield from self._emit_event(name, facts)

    def ask(self, step: Decision) -> Generator[Operation, Any, Attempt]:
        """Ask the candidate of a step, and return the attempt."""
        if step.candidate in self.answers:
            # It was asked at the same time as an earlier one.
            return self.answers[step.candidate].attempt
        asking = self._ask_operation(step)
        try:
            answer = yield from self._perform_paid(asking, step)
        except BaseException as error:
            # Settled first: what a call may have cost that has no result is known to its operation.
            self._settle()
            add_end(self.loop, asking, error)
            raise
        return self._store_answer(step, asking, answer)

    def saw(self, step: Decision, attempt: Attempt) -> None:
        """Record the result of a step, which is known now with what it has cost."""
        if self._n_interrupted > 0:
            again: list[Action] = [step.action] * self._n_interrupted
            attempt["interrupted"] = [*attempt.get("interrupted", []), *again]
        self.loop.saw(attempt)
        if self._spending is not None:
            self._spending.pending = None

    def _is_over(self) -> bool:
        """Return whether the request has failed: every candidate failed, or the time is up."""
        late = self.due_s is not None and time.monotonic() >= self.due_s
        if late and all(answer.message is None for answer in self.answers.values()):
            return True
        step = self.loop.peek()
        return step is None or (self.parts.rules is not None and is_lost(self.loop, step))

    def end(self, step: Decision) -> Stage:
        """End the request with the answer that a step gives, and with its decision record."""
        fields, loop, policy = self.parts.fields, self.loop, self.parts.policy
        record = decision_record(
            loop.steps, loop.situation, self.decision_id, verifies=policy.verifies
        )
        if self.reply is not None:
            record["unsure"]["answered_by"] = "person"
        if fields.budgets is not None:
            record["budget"] = budget_data(loop.situation)
        if self.nodes:
            record["nodes"] = self.nodes
        if (shadow := fields.shadow) is not None:
            why = left_out(self.parts, loop.situation.sensitive, shadow.estimator)
            record["shadow"] = yield self.parts.shadow_operation(loop, why)
        if fields.trace_decision and self._has_handlers:
            yield AnnotateOperation(record, self.config, in_node=self.in_nodes)
        if step.action == "accept":
            answer = self.answers[step.candidate]
        else:
            answer = find_answer(step, self.answers, policy.exit_terms, self.kwargs, self.reply)
        self._log("answered", record)
        if self.parts.judged is not None and step.action == "accept":
            self.parts.judged.offer(self, step.candidate)
        output = caller_output(answer.output, record, self.kwargs)
        is_shown = step.action == "accept" and step.candidate in self._shown
        self.done = Done(answer, output, record, shown=is_shown)

    # Asking and verifying

    def _ask_operation(self, step: Decision) -> AskOperation:
        fields, commit = self.parts.fields, None
        drafts_stream = fields.streaming_mode == "commit" and self.streaming and not step.final
        if drafts_stream and not wants_schema(self.kwargs):
            now, policy = self.loop.situation, self.parts.policy
            commit = commit_rule(policy, fields.verifier, now, step.candidate, fields.commit_at)
        # A whole answer may still be replaced because it is flawed, a streamed one may not.
        alone = self.streaming or not fields.fallback_on or len(self.loop.situation.open_arms) == 1
        shown_at_once = (step.final and alone) or (commit is not None and commit(None))
        config = self.config
        model = self.parts.models.get(step.candidate)
        if self._has_handlers or model is None or model.callbacks is not None:
            # Tags and metadata take a tenth of a call's time, so they are made only if a handler
            # is attached.
            # Handlers would receive the confidence that is removed from a draft.
            quiet = not (shown_at_once and (step.final or not self.parts.reports[step.candidate]))
            config = candidate_config(self.config, step.candidate, self.decision_id, quiet=quiet)
            if not self.in_nodes:
                # A node has the name already.
                config["run_name"] = step.candidate
        reads_along = commit is not None and fields.verifier and fields.verifier.reads_along
        arm = self._worst_case_arm(step)
        asking = self.parts.ask_operation(
            step.candidate,
            self.messages,
            config,
            self.kwargs,
            final=step.final,
            include_raw=not (self.streaming and step.final),
            due_s=self.due_s,
            may_see=self._may_see,
            commit=commit,
            watch_after=fields.commit_after if reads_along else None,
            worst_usd=arm.worst_asking_usd,
            call_usd=arm.worst_call_usd,
            draft=not shown_at_once,
            earlier=earlier_attempts(self.loop.situation, self.answers) if self.parts.rules else (),
        )
        return asking if self.user_node is None else replace(asking, runnable=self.user_node)

    def _store_answer(self, step: Decision, asking: AskOperation, answer: Answer) -> Attempt:
        if self.streaming and asking.shown:
            self._shown.add(step.candidate)
        if asking.restored is not None:
            self.loop.mark_restored(asking.restored)
        if self.parts.rules is not None and asking.earlier_usd is not None:
            # The earlier run of an agent had paused, so it was not cut off.
            self._n_interrupted = 0
        if answer.run is None and answer.message is not None and self.parts.fatal_flaws:
            streamed = asking.notes.tokens_shown or step.candidate in self._shown
            attempt = self.parts.classify(answer, self.kwargs.get("tools") or (), streamed=streamed)
            # By position, in every call: `_replace` takes several calls of its own.
            answer = Answer(attempt, *answer[1:])
        self.answers[step.candidate] = answer
        return answer.attempt

    def _verify_operation(self, step: Decision) -> VerifyOperation:
        parts, attempts = self.parts, self.loop.situation.attempts
        verifier, answer = parts.fields.verifier, self.answers[step.candidate]
        assert verifier is not None
        assert answer.message is not None
        compared = len(attempts) > 1 or attempts[-1].get("comparable", False)
        read = read_answers(attempts, self.answers) if compared else (answer.message, ())
        return VerifyOperation(
            verifier=verifier,
            case=Case(
                messages=self.messages,
                answer=read[0],
                candidate=parts.by_name[step.candidate],
                next_step=self.loop.step_after,
                earlier=read[1],
                state=(answer.run or {}).get("state"),
            ),
            attempt=attempts[-1],
            config=candidate_config(self.config, step.candidate, self.decision_id, quiet=True),
            guard=None if parts.live is None else parts.live.judging(self.due_s),
            traced=self._has_handlers,
            each_run=parts.fields.trace_verdicts,
            models=parts.judges,
            price_of=parts.price_of,
            worst_usd=self._worst_case_arm(step).worst_verification_usd,
        )

    @property
    def _may_see(self) -> Collection[str] | None:
        return None if self.loop.situation.sensitive is None else self.parts.may_see

    def _open(self) -> None:
        if self.parts.live is not None:
            # Once, so that the choice, the bounds and the costs of a request have the same prices.
            self.parts = self.parts.at_current_prices()
        callbacks = self.config.get("callbacks")
        self._has_handlers = bool(getattr(callbacks, "handlers", callbacks))
        if self.parts.fields.budgets is not None:
            self._spending = self.parts.spending(self.config, in_nodes=self.in_nodes)

    def _perform_paid(self, operation: Operation, step: Decision) -> Generator[Operation, Any, Any]:
        """Perform the operation of a step; in a node, its worst-case cost is reserved first."""
        if self._spending is None:
            return (yield operation)
        situation = self.loop.situation
        if self.in_nodes:
            earlier: EarlierRuns | None = None if self.mark_step is None else (yield self.mark_step)
            self._n_interrupted = 0 if earlier is None else earlier.n_unfinished
            try:
                yield from self._spending.reserve_operation(operation, situation, step, earlier)
            except LlmRouterError as error:  # the budgets refuse, or Redis is down
                return operation.on_refusal(error)
        self._spending.begin(operation, situation, step)
        return (yield operation)

    def _worst_case_arm(self, step: Decision) -> Arm:
        """Return the arm with a step's worst-case costs; without budgets, any: none has them."""
        situation = self.loop.situation
        return situation.arms[0] if self._spending is None else situation.arm(step.candidate)

    def _settle(self) -> None:
        if self._spending is not None:
            self._spending.settle(None if self._loop is None else self._loop.situation)

    # Log and events

    def _emit_event(self, name: str, facts: Mapping[str, Any]) -> Stage:
        event = {"event": name, **facts, "decision_id": self.decision_id}
        runtime = (self.config.get("configurable") or {}).get(RUNTIME_KEY)
        writer = getattr(runtime, "stream_writer", None)
        if writer is not None:
            writer(event)
        elif self._has_handlers:
            yield EventOperation(event, self.config)

    def _log_failure(self, error: BaseException) -> None:
        if not is_pause(error):
            failed = error if isinstance(error, Exception) else None
            self._log("abandoned" if failed is None else "failed", error=failed)

    def _log(self, outcome: str, record: Any = None, error: Exception | None = None) -> None:
        if self.parts.fields.log is not None or outcome != "answered":
            append_entry(self, self._loop, outcome, record, error)
