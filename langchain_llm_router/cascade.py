"""The cascade as an explicit LangGraph state machine.

    predict ──► decide ──► one node per candidate ──► decide
                  │  ▲
                  ▼  │
              self_evaluate          decide ──► END

`decide`'s outgoing edge *is* the policy: it leads to a candidate, to `self_evaluate`, or to END. A
one-shot policy is the same graph whose policy accepts the first answer. The state holds plain
dicts and messages, so that every checkpointer can keep it; rejected drafts stay inside `trace`,
where no message stream looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_llm_router.asking import (
    Answer,
    Asking,
    Predicting,
    Verifying,
    candidate_config,
    live_model,
    resolve_candidate,
)
from langchain_llm_router.chat import columns_of
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.loop import (
    Routed,
    begin,
    build_arms,
    check_policy,
    decision_record,
    next_decision,
)
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import (
    Attempt,
    Candidate,
    Decision,
    RoutingOptions,
    Situation,
    candidate_names,
)
from langchain_llm_router.verification import Case, Verifier, question_of

__all__ = ["CascadeState", "create_cascade"]

_PREDICT, _DECIDE, _VERIFY = "predict", "decide", "self_evaluate"


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


def create_cascade(
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    policy: Policy,
    verifier: Verifier | None = None,
    estimator: QualityEstimator | None = None,
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,),
) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
    """Build the cascade; compile it with your own checkpointer, or add it to a larger graph.

    Args:
        candidates: From cheap to strong; each becomes a node of its own name.
        policy: Whom to ask, whether to verify, when to accept.
        verifier: Judges answers for policies that verify.
        estimator: Predicts each candidate's quality.
        exceptions_to_handle: Failures of a candidate that are observations for the policy.

    Returns:
        An uncompiled `StateGraph`, messages in and messages out.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """
    pool = tuple(resolve_candidate(given) for given in candidates)
    names = candidate_names(pool)
    check_policy(policy, names)
    taken = sorted(set(names) & {_PREDICT, _DECIDE, _VERIFY, START, END})
    if taken:
        msg = f"Candidates cannot be named {taken}: the graph has nodes of those names."
        raise ValueError(msg)
    if policy.verifies and verifier is None:
        msg = f"{type(policy).__name__} verifies answers: pass a `verifier`."
        raise ValueError(msg)
    nodes = _Nodes(pool, policy, verifier, estimator, exceptions_to_handle)
    graph = StateGraph(CascadeState, input_schema=CascadeMessages, output_schema=CascadeMessages)
    graph.add_node(_PREDICT, RunnableLambda(nodes.predict, nodes.apredict))
    graph.add_node(_DECIDE, nodes.decide)
    graph.add_edge(START, _PREDICT)
    graph.add_edge(_PREDICT, _DECIDE)
    targets = [*names, END]
    for candidate in pool:
        ask = _AskNode(nodes, candidate)
        graph.add_node(candidate.name, RunnableLambda(ask.ask, ask.aask))
        graph.add_edge(candidate.name, _DECIDE)
    if policy.verifies:
        graph.add_node(_VERIFY, RunnableLambda(nodes.verify, nodes.averify))
        graph.add_edge(_VERIFY, _DECIDE)
        targets.append(_VERIFY)
    graph.add_conditional_edges(_DECIDE, nodes.edge, targets)
    return graph


class _Nodes:
    """What the nodes do; each is a method, so that tests can call it."""

    def __init__(
        self,
        pool: tuple[Candidate, ...],
        policy: Policy,
        verifier: Verifier | None,
        estimator: QualityEstimator | None,
        handled: tuple[type[Exception], ...],
    ) -> None:
        self.pool, self.policy, self.verifier = pool, policy, verifier
        self.estimator, self.handled = estimator, handled
        self.columns = columns_of(estimator, [candidate.name for candidate in pool])

    def predict(self, state: CascadeState) -> dict[str, Any]:
        """Predict qualities, and forget what an earlier turn on this thread left."""
        operation = self._predicting(state)
        return self._fresh(None if operation is None else operation.perform())

    async def apredict(self, state: CascadeState) -> dict[str, Any]:
        """Predict qualities, and forget what an earlier turn on this thread left."""
        operation = self._predicting(state)
        return self._fresh(None if operation is None else await operation.aperform())

    def _predicting(self, state: CascadeState) -> Predicting | None:
        if len(state["messages"]) == 0:
            msg = "The message list is empty: there is nothing to route."
            raise ValueError(msg)
        if self.estimator is None:
            return None
        return Predicting(self.estimator, question_of(state["messages"]))

    def _fresh(self, row: list[float] | None) -> dict[str, Any]:
        quality = None if row is None else [row[column] for column in self.columns]
        return {"quality": quality, "trace": [], "steps": [], "decision_id": uuid4().hex}

    def decide(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Take the policy's next decision; on acceptance, hand the answer out with its record."""
        situation = self._situation(state, config)
        decision = next_decision(self.policy, situation)
        assert decision is not None, "the node of the last failing candidate has raised"
        steps = [*state.get("steps", []), _as_data(decision)]
        if decision.action != "accept":
            return {"steps": steps}
        routed = Routed(decision, situation, tuple(Decision(**step) for step in steps))
        record = decision_record(routed, state.get("decision_id", ""))
        answer = self._entry(state, decision.candidate)["message"]
        assert answer is not None
        metadata = {**answer.response_metadata, "llm_router": record}
        message = answer.model_copy(update={"response_metadata": metadata})
        return {"steps": steps, "messages": [message]}

    def is_over(self, state: CascadeState, config: RunnableConfig) -> bool:
        """Whether nobody is left to ask and there is no answer to keep."""
        return next_decision(self.policy, self._situation(state, config)) is None

    def edge(self, state: CascadeState) -> str:
        """Where the last decision leads."""
        step = state.get("steps", [])[-1]
        if step["action"] == "ask":
            return str(step["candidate"])
        return _VERIFY if step["action"] == "verify" else END

    def verify(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Have the last answer judged."""
        return self._judged(state, self._verifying(state, config).perform())

    async def averify(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Have the last answer judged."""
        return self._judged(state, await self._verifying(state, config).aperform())

    def _verifying(self, state: CascadeState, config: RunnableConfig) -> Verifying:
        last = state.get("trace", [])[-1]
        name = last["attempt"]["candidate"]
        candidate = next(c for c in self.pool if c.name == name)
        assert last["message"] is not None
        assert self.verifier is not None
        case = Case(state["messages"], last["message"], candidate)
        child = candidate_config(config, name, state.get("decision_id", ""), quiet=True)
        return Verifying(self.verifier, case, last["attempt"], child)

    def _judged(self, state: CascadeState, attempt: Attempt) -> dict[str, Any]:
        *earlier, last = state.get("trace", [])
        return {"trace": [*earlier, TraceEntry(attempt=attempt, message=last["message"])]}

    def _entry(self, state: CascadeState, name: str) -> TraceEntry:
        return next(e for e in state.get("trace", []) if e["attempt"]["candidate"] == name)

    def _situation(self, state: CascadeState, config: RunnableConfig) -> Situation:
        options = RoutingOptions.parse((config.get("configurable") or {}).get("llm_router"))
        query = question_of(state["messages"])
        situation = begin(query, build_arms(self.pool, state.get("quality"), query), options)
        attempts = tuple(entry["attempt"] for entry in state.get("trace", []))
        return Situation(query, situation.arms, attempts, options)


class _AskNode:
    """The node of one candidate."""

    def __init__(self, nodes: _Nodes, candidate: Candidate) -> None:
        self._nodes, self._candidate = nodes, candidate

    def ask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        return self._answered(state, config, self._asking(state, config).perform())

    async def aask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        return self._answered(state, config, await self._asking(state, config).aperform())

    def _asking(self, state: CascadeState, config: RunnableConfig) -> Asking:
        final = bool(state.get("steps", [])[-1]["final"])
        child = candidate_config(
            config, self._candidate.name, state.get("decision_id", ""), quiet=not final
        )
        return Asking(
            self._candidate,
            live_model(self._candidate),
            state["messages"],
            child,
            final=final,
            handled=self._nodes.handled,
        )

    def _answered(
        self, state: CascadeState, config: RunnableConfig, answer: Answer
    ) -> dict[str, Any]:
        entry = TraceEntry(attempt=answer.attempt, message=answer.message)
        update = {"trace": [*state.get("trace", []), entry]}
        if answer.error is not None and self._nodes.is_over({**state, **update}, config):  # type: ignore[typeddict-item]
            # Nobody is left and nothing is held: only here is the candidate's own error at hand.
            raise answer.error
        return update


def _as_data(decision: Decision) -> dict[str, Any]:
    data = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data
