"""What all nodes of a turn share: what it looks like now, who pays, how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from langchain_llm_router.budgets.paying import paid_alone
from langchain_llm_router.cascade.nodes import ACall, Call, Node
from langchain_llm_router.cascade.state import CascadeState
from langchain_llm_router.conversation import routing_text
from langchain_llm_router.engine import Engine
from langchain_llm_router.history.graph_trail import log_turn, situations_of
from langchain_llm_router.history.plain import decision_of
from langchain_llm_router.history.shadow import Shadowing
from langchain_llm_router.loop import Routed, decision_record, next_decision
from langchain_llm_router.types import Situation

__all__ = ["Turn"]


class Turn:
    """One turn of the conversation, as far as it is the same for every node."""

    def __init__(self, engine: Engine, tools: tuple[Any, ...] = ()) -> None:
        self.engine = engine
        self.kwargs = {"tools": tools} if tools else {}

    def situation(self, state: CascadeState, config: RunnableConfig) -> Situation:
        """What the policy sees now."""
        options = self.engine.options(config, {})
        quality = state.get("quality")
        situation = self.engine.situation(state["messages"], quality, options, self.kwargs)
        attempts = tuple(entry["attempt"] for entry in state.get("trace", []))
        return replace(situation, attempts=attempts)

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
        situation = self.situation(state, config)
        return paid_alone(operation, self.engine.budgets, situation, name, config, judged=judged)

    def is_over(self, state: CascadeState, config: RunnableConfig) -> bool:
        """Whether nobody is left to ask and there is no answer to keep or to hand on."""
        if any(entry["message"] is not None for entry in state.get("trace", [])):
            return False
        return next_decision(self.engine.policy, self.situation(state, config)) is None

    def accepted(
        self,
        state: CascadeState,
        situation: Situation,
        steps: list[dict[str, Any]],
        config: RunnableConfig,
    ) -> AIMessage:
        """The last decision's answer, with the record of the turn, which ends here."""
        decisions = tuple(decision_of(step) for step in steps)
        routed = Routed(decisions[-1], situation, decisions)
        record = decision_record(routed, state.get("decision_id", ""))
        if self.engine.shadow is not None:
            seen = situations_of(steps, situation.query)
            shadowing = Shadowing(self.engine.shadow, seen, situation.attempts, graph=True)
            record["shadow"] = shadowing.perform()
        self.log({**state, "steps": steps}, config, record=record)
        trace = state.get("trace", [])
        name = decisions[-1].candidate
        answer = next(e["message"] for e in trace if e["attempt"]["candidate"] == name)
        assert answer is not None
        metadata = {**answer.response_metadata, "llm_router": record}
        return answer.model_copy(update={"response_metadata": metadata})

    def log(self, state: Mapping[str, Any], config: RunnableConfig, **ending: Any) -> None:
        """Write the turn's line, if there is a log; an interrupt is no end."""
        engine = self.engine
        if engine.log is not None and not isinstance(ending.get("error"), GraphBubbleUp):
            query = routing_text(state["messages"], engine.turns)
            log_turn(engine.log, state, query, config, secrets=engine.secrets, **ending)

    def node(self, call: Call, acall: ACall) -> Node:
        """A node whose failure ends the turn, and is logged."""

        def failed(state: Mapping[str, Any], config: RunnableConfig, error: BaseException) -> None:
            self.log(state, config, error=error)

        return Node(call, acall, failed)
