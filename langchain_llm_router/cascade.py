"""The cascade as an explicit LangGraph state machine.

    predict ──► decide ──► one node per candidate ──► decide
                  │  ▲
                  ▼  │
              self_evaluate          decide ──► END

`decide`'s outgoing edge *is* the policy: it leads to a candidate, to `self_evaluate`, or to END. A
one-shot policy is the same graph whose policy accepts the first answer. With `approve` there is
one more stop on the way from a draft to a dearer candidate, where a person is asked. The state
holds plain dicts and messages, so that every checkpointer can keep it; rejected drafts stay inside
`trace`, where no message stream looks. Decisions, drafts and verdicts go to
`stream_mode="custom"` as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langgraph.config import get_stream_writer
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

from langchain_llm_router.answering import new_id
from langchain_llm_router.asking import (
    Answer,
    Asking,
    Predicting,
    candidate_config,
)
from langchain_llm_router.budgets import BudgetExceededError, Budgets
from langchain_llm_router.budgets.paying import paid_alone
from langchain_llm_router.conversation import routing_text
from langchain_llm_router.endpoints import expand_endpoints
from langchain_llm_router.engine import Engine
from langchain_llm_router.errors import NoCandidateError
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history import DecisionLog, Shadow
from langchain_llm_router.history.graph_trail import log_turn, situations_of, with_frame
from langchain_llm_router.history.plain import decision_of
from langchain_llm_router.history.shadow import Shadowing
from langchain_llm_router.judging import Verifying
from langchain_llm_router.loop import Routed, decision_record, hand_on, next_decision
from langchain_llm_router.nodes import ACall, Call, Node, OverError
from langchain_llm_router.policies.policy import Policy, accept
from langchain_llm_router.pool import resolve_candidate
from langchain_llm_router.resilience.live import Live
from langchain_llm_router.tracing import decision_data
from langchain_llm_router.types import Attempt, Candidate, Decision, Situation
from langchain_llm_router.verification import Verifier

__all__ = ["CascadeState", "create_cascade"]

_PREDICT, _DECIDE, _VERIFY, _APPROVE = "predict", "decide", "self_evaluate", "approve"


class TraceEntry(TypedDict):
    """One candidate asked: what came of it as data, and the draft itself."""

    attempt: Attempt
    message: AIMessage | None


class CascadeState(TypedDict):
    """What the graph remembers; everything but `messages` is about the present turn only."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the accepted answer is added at its end."""

    quality: NotRequired[list[float] | None]
    """Predicted quality per candidate."""

    trace: NotRequired[list[TraceEntry]]
    """Who was asked so far; without a reducer, so that a new turn starts afresh."""

    steps: NotRequired[list[dict[str, Any]]]
    """The decisions so far, as plain data."""

    decision_id: NotRequired[str]


class CascadeMessages(TypedDict):
    """What goes into the graph and comes out of it."""

    messages: Annotated[list[AnyMessage], add_messages]


def create_cascade(  # noqa: PLR0913 - the parts of a router, by keyword
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    policy: Policy,
    verifier: Verifier | None = None,
    estimator: QualityEstimator | None = None,
    tools: Sequence[Any] = (),
    approve: bool | Callable[[dict[str, Any]], bool] = False,
    sticky: bool | Literal["escalate"] = False,
    live: Live | None = None,
    budgets: Budgets | None = None,
    log: DecisionLog | None = None,
    shadow: Shadow | None = None,
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,),
) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
    """Build the cascade; compile it with your own checkpointer, or add it to a larger graph.

    Args:
        candidates: From cheap to strong; each becomes a node of its own name.
        policy: Whom to ask, whether to verify, when to accept.
        verifier: Judges answers for policies that verify.
        estimator: Predicts each candidate's quality.
        tools: Bound to whoever is asked.
        approve: Interrupt before a draft is escalated (needs a checkpointer): for all, or where a
            function of the proposal says so. Resume with True, or with False to keep the draft.
        sticky: Stay with the candidate that gave the conversation's last answer; `"escalate"`:
            choose anew each time, but never below the strongest that has answered.
        live: Measures every call, leaves failing and slow endpoints, limits and repeats calls.
        budgets: Hard limits on what may be spent; every node pays for itself.
        log: Gets one line per request, however it ends.
        shadow: A second router that decides beside this one and answers nothing.
        exceptions_to_handle: Failures of a candidate that are observations for the policy.

    Returns:
        An uncompiled `StateGraph`, messages in and messages out.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """
    engine = Engine(
        candidates=tuple(resolve_candidate(given) for given in expand_endpoints(candidates)),
        policy=policy,
        estimator=estimator,
        verifier=verifier,
        live=live,
        budgets=budgets,
        log=log,
        shadow=shadow,
        handled=exceptions_to_handle,
        sticky=sticky,
    )
    taken = sorted(set(engine.names) & {_PREDICT, _DECIDE, _VERIFY, _APPROVE, START, END})
    if taken:
        msg = f"Candidates cannot be named {taken}: the graph has nodes of those names."
        raise ValueError(msg)
    nodes = _Nodes(engine, tools=tuple(tools), approve=approve)
    graph = StateGraph(CascadeState, input_schema=CascadeMessages, output_schema=CascadeMessages)
    graph.add_node(_PREDICT, nodes.node(nodes.predict, nodes.apredict))
    graph.add_node(_DECIDE, nodes.node(nodes.decide, nodes.adecide))
    graph.add_edge(START, _PREDICT)
    graph.add_edge(_PREDICT, _DECIDE)
    targets = [*engine.names, END]
    for name in engine.names:
        ask = _AskNode(nodes, name)
        graph.add_node(name, nodes.node(ask.ask, ask.aask))
        graph.add_edge(name, _DECIDE)
    if policy.verifies:
        graph.add_node(_VERIFY, nodes.node(nodes.verify, nodes.averify))
        graph.add_edge(_VERIFY, _DECIDE)
        targets.append(_VERIFY)
    if approve is not False:
        graph.add_node(_APPROVE, nodes.approve)
        graph.add_conditional_edges(_APPROVE, nodes.edge, [*engine.names, END])
        targets.append(_APPROVE)
    graph.add_conditional_edges(_DECIDE, nodes.edge_or_approval, targets)
    return graph


class _Nodes:
    """What the nodes do; each is a method, so that tests can call it."""

    def __init__(
        self,
        engine: Engine,
        *,
        tools: tuple[Any, ...] = (),
        approve: bool | Callable[[dict[str, Any]], bool] = False,
    ) -> None:
        self.engine, self._approve = engine, approve
        self.kwargs = {"tools": tools} if tools else {}

    def predict(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Predict qualities, and forget what an earlier turn on this thread left."""
        operation = self._predicting(state)
        return self._fresh(None if operation is None else operation.perform())

    async def apredict(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Predict qualities, and forget what an earlier turn on this thread left."""
        operation = self._predicting(state)
        return self._fresh(None if operation is None else await operation.aperform())

    def _predicting(self, state: CascadeState) -> Predicting | None:
        if len(state["messages"]) == 0:
            msg = "The message list is empty: there is nothing to route."
            raise ValueError(msg)
        return self.engine.predicting(state["messages"])

    def _fresh(self, row: list[float] | None) -> dict[str, Any]:
        quality = self.engine.in_order(row)
        return {"quality": quality, "trace": [], "steps": [], "decision_id": new_id()}

    def decide(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Take the policy's next decision; on acceptance, hand the answer out with its record."""
        situation = self._situation(state, config)
        decision = next_decision(self.engine.policy, situation)
        if decision is None:
            held = [e["attempt"] for e in state.get("trace", []) if e["message"] is not None]
            assert held, "the node of the last failing candidate has raised"
            decision = hand_on(self.engine.policy, held[-1])
        _tell({"event": "decision", **decision_data(decision)}, state)
        steps = self._with_step(state, decision, situation)
        if decision.action != "accept":
            return {"steps": steps}
        return {"steps": steps, "messages": [self._accepted(state, situation, steps, config)]}

    async def adecide(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Take the policy's next decision; only a shadow that predicts leaves the event loop."""
        shadow = self.engine.shadow
        if shadow is not None and shadow.estimator is not None:
            return await run_in_executor(config, self.decide, state, config)
        return self.decide(state, config)

    def _with_step(
        self, state: CascadeState, decision: Decision, situation: Situation
    ) -> list[dict[str, Any]]:
        step, earlier = _as_data(decision), state.get("steps", [])
        if self.engine.log is not None or self.engine.shadow is not None:
            step = with_frame(step, situation, earlier)
        return [*earlier, step]

    def _accepted(
        self,
        state: CascadeState,
        situation: Situation,
        steps: list[dict[str, Any]],
        config: RunnableConfig,
    ) -> AIMessage:
        decisions = tuple(decision_of(step) for step in steps)
        routed = Routed(decisions[-1], situation, decisions)
        record = decision_record(routed, state.get("decision_id", ""))
        if self.engine.shadow is not None:
            seen = situations_of(steps, situation.query)
            shadowing = Shadowing(self.engine.shadow, seen, situation.attempts, graph=True)
            record["shadow"] = shadowing.perform()
        self._log({**state, "steps": steps}, config, record=record)
        trace = state.get("trace", [])
        name = decisions[-1].candidate
        answer = next(e["message"] for e in trace if e["attempt"]["candidate"] == name)
        assert answer is not None
        metadata = {**answer.response_metadata, "llm_router": record}
        return answer.model_copy(update={"response_metadata": metadata})

    def _log(self, state: Mapping[str, Any], config: RunnableConfig, **ending: Any) -> None:
        engine = self.engine
        if engine.log is not None and not isinstance(ending.get("error"), GraphBubbleUp):
            query = routing_text(state["messages"], engine.turns)
            log_turn(engine.log, state, query, config, secrets=engine.secrets, **ending)

    def node(self, call: Call, acall: ACall) -> Node:
        """A node whose failure ends the turn, and is logged."""

        def failed(state: Mapping[str, Any], config: RunnableConfig, error: BaseException) -> None:
            self._log(state, config, error=error)

        return Node(call, acall, failed)

    def is_over(self, state: CascadeState, config: RunnableConfig) -> bool:
        """Whether nobody is left to ask and there is no answer to keep or to hand on."""
        if any(entry["message"] is not None for entry in state.get("trace", [])):
            return False
        return next_decision(self.engine.policy, self._situation(state, config)) is None

    def edge(self, state: CascadeState) -> str:
        """Where the last decision leads."""
        step = state.get("steps", [])[-1]
        if step["action"] == "ask":
            return str(step["candidate"])
        return _VERIFY if step["action"] == "verify" else END

    def edge_or_approval(self, state: CascadeState, config: RunnableConfig) -> str:
        """Where the last decision leads, by way of a person where one is to be asked."""
        proposal = None if self._approve is False else self._proposal(state, config)
        if proposal is None:
            return self.edge(state)
        if callable(self._approve) and not self._approve(proposal):
            return self.edge(state)
        return _APPROVE

    def approve(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Ask a person whether the escalation may be paid for; if not, keep the draft."""
        reply = interrupt(self._proposal(state, config))
        approved = reply.get("approve") if isinstance(reply, dict) else reply
        if approved:
            return {}
        held = [e["attempt"] for e in state.get("trace", []) if e["message"] is not None]
        if len(held) == 0:
            step = state.get("steps", [])[-1]
            msg = f"Asking {step['candidate']!r} was declined, and there is no answer to keep."
            error = NoCandidateError(msg)
            self._log(state, config, error=error)
            raise error
        reason = "a person declined the escalation"
        decision = accept(self.engine.policy, held[-1], reason)
        *earlier, last = state.get("steps", [])
        steps = [*earlier, {**last, **_as_data(decision), "declined": True}]
        situation = self._situation(state, config)
        return {"steps": steps, "messages": [self._accepted(state, situation, steps, config)]}

    def _proposal(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any] | None:
        """What a person is asked about; None unless the last step escalates."""
        step, trace = state.get("steps", [])[-1], state.get("trace", [])
        if step["action"] != "ask" or len(trace) == 0:
            return None
        draft = next((e["message"] for e in reversed(trace) if e["message"] is not None), None)
        arm = self._situation(state, config).arm(step["candidate"])
        return {
            "candidate": step["candidate"],
            "reason": step["reason"],
            "confidence": step["confidence"],
            "expected_cost_usd": arm.cost_usd,
            "draft": None if draft is None else str(draft.text),
        }

    def verify(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Have the last answer judged."""
        verifying, paid = self._verifying(state, config)
        try:
            return self._judged(state, paid.perform())
        except BudgetExceededError as error:
            return self._judged(state, _unjudged(verifying, error))

    async def averify(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Have the last answer judged."""
        verifying, paid = self._verifying(state, config)
        try:
            return self._judged(state, await paid.aperform())
        except BudgetExceededError as error:
            return self._judged(state, _unjudged(verifying, error))

    def _verifying(self, state: CascadeState, config: RunnableConfig) -> tuple[Verifying, Any]:
        last = state.get("trace", [])[-1]
        name = last["attempt"]["candidate"]
        assert last["message"] is not None
        verifier, guard = self.engine.verifier, self.engine.judging()
        assert verifier is not None
        seen = self._situation(state, config)
        case = self.engine.case(state["messages"], last["message"], seen)
        child = candidate_config(config, name, state.get("decision_id", ""), quiet=True)
        verifying = Verifying(verifier, case, last["attempt"], child, guard)
        return verifying, self.paid(verifying, state, config, name, judged=True)

    def paid(
        self,
        operation: Any,
        state: CascadeState,
        config: RunnableConfig,
        name: str,
        *,
        judged: bool = False,
    ) -> Any:
        """The operation, paid for on its own if there are budgets."""
        if self.engine.budgets is None:
            return operation
        situation = self._situation(state, config)
        return paid_alone(operation, self.engine.budgets, situation, name, config, judged=judged)

    def _judged(self, state: CascadeState, attempt: Attempt) -> dict[str, Any]:
        *earlier, last = state.get("trace", [])
        _tell({"event": "verdict", **attempt}, state)
        return {"trace": [*earlier, TraceEntry(attempt=attempt, message=last["message"])]}

    def _situation(self, state: CascadeState, config: RunnableConfig) -> Situation:
        options = self.engine.options(config, {})
        quality = state.get("quality")
        situation = self.engine.situation(state["messages"], quality, options, self.kwargs)
        attempts = tuple(entry["attempt"] for entry in state.get("trace", []))
        return replace(situation, attempts=attempts)


class _AskNode:
    """The node of one candidate."""

    def __init__(self, nodes: _Nodes, name: str) -> None:
        self._nodes, self._name = nodes, name

    def ask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        asking = self._asking(state, config)
        try:
            answer = self._nodes.paid(asking, state, config, self._name).perform()
        except BudgetExceededError as error:
            answer = asking.refused(error)
        return self._answered(state, config, answer)

    async def aask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        asking = self._asking(state, config)
        try:
            answer = await self._nodes.paid(asking, state, config, self._name).aperform()
        except BudgetExceededError as error:
            answer = asking.refused(error)
        return self._answered(state, config, answer)

    def _asking(self, state: CascadeState, config: RunnableConfig) -> Asking:
        final = bool(state.get("steps", [])[-1]["final"])
        child = candidate_config(config, self._name, state.get("decision_id", ""), quiet=not final)
        nodes = self._nodes
        return nodes.engine.asking(self._name, state["messages"], child, nodes.kwargs, final=final)

    def _answered(
        self, state: CascadeState, config: RunnableConfig, answer: Answer
    ) -> dict[str, Any]:
        answer = self._nodes.engine.at_sight(answer, self._nodes.kwargs, streamed=False)
        entry = TraceEntry(attempt=answer.attempt, message=answer.message)
        update = {"trace": [*state.get("trace", []), entry]}
        if answer.error is not None and self._nodes.is_over({**state, **update}, config):  # type: ignore[typeddict-item]
            # Nobody is left and nothing is held: only here is the candidate's own error at hand.
            raise OverError({**state, **update}, answer.error)
        text = None if answer.message is None else str(answer.message.text)
        _tell({"event": "draft", **answer.attempt, "text": text}, state)
        return update


def _unjudged(verifying: Verifying, error: BudgetExceededError) -> Attempt:
    """An answer that there was no money to have judged: a missing verdict."""
    return {
        **verifying.attempt,
        "verified": True,
        "confidence": None,
        "verification_errors": [f"{type(error).__name__}: {error}"],
        "verification_cost_usd": 0.0,
    }


def _tell(event: dict[str, Any], state: CascadeState) -> None:
    """Write an event for whoever streams with `stream_mode="custom"`."""
    get_stream_writer()({**event, "decision_id": state.get("decision_id", "")})


def _as_data(decision: Decision) -> dict[str, Any]:
    data = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data
