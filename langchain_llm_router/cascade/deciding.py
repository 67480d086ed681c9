"""The nodes that decide: `predict`, `decide`, and where a decision leads."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langgraph.graph import END

from langchain_llm_router.answering import new_id
from langchain_llm_router.asking import Predicting
from langchain_llm_router.cascade.state import CascadeState, as_data, held, tell
from langchain_llm_router.cascade.turn import Turn
from langchain_llm_router.history.graph_trail import with_frame
from langchain_llm_router.loop import hand_on, next_decision
from langchain_llm_router.tracing import decision_data
from langchain_llm_router.types import Decision, Situation

__all__ = ["VERIFY", "Deciding"]

VERIFY = "self_evaluate"


class Deciding:
    """Predicts, decides, and leads on."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

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
        return self._turn.engine.predicting(state["messages"])

    def _fresh(self, row: list[float] | None) -> dict[str, Any]:
        quality = self._turn.engine.in_order(row)
        return {"quality": quality, "trace": [], "steps": [], "decision_id": new_id()}

    def decide(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Take the policy's next decision; on acceptance, hand the answer out with its record."""
        situation = self._turn.situation(state, config)
        decision = next_decision(self._turn.engine.policy, situation)
        if decision is None:
            kept = held(state)
            assert kept, "the node of the last failing candidate has raised"
            decision = hand_on(self._turn.engine.policy, kept[-1])
        tell({"event": "decision", **decision_data(decision)}, state)
        steps = self._with_step(state, decision, situation)
        if decision.action != "accept":
            return {"steps": steps}
        return {"steps": steps, "messages": [self._turn.accepted(state, situation, steps, config)]}

    async def adecide(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Take the policy's next decision; only a shadow that predicts leaves the event loop."""
        shadow = self._turn.engine.shadow
        if shadow is not None and shadow.estimator is not None:
            return await run_in_executor(config, self.decide, state, config)
        return self.decide(state, config)

    def _with_step(
        self, state: CascadeState, decision: Decision, situation: Situation
    ) -> list[dict[str, Any]]:
        step, earlier = as_data(decision), state.get("steps", [])
        if self._turn.engine.log is not None or self._turn.engine.shadow is not None:
            step = with_frame(step, situation, earlier)
        return [*earlier, step]

    def edge(self, state: CascadeState) -> str:
        """Where the last decision leads."""
        step = state.get("steps", [])[-1]
        if step["action"] == "ask":
            return str(step["candidate"])
        return VERIFY if step["action"] == "verify" else END
