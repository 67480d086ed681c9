"""The nodes that call models: one per candidate, and `self_evaluate`."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_llm_router.asking import Answer, Asking, candidate_config
from langchain_llm_router.budgets import BudgetExceededError
from langchain_llm_router.cascade.nodes import OverError
from langchain_llm_router.cascade.state import CascadeState, TraceEntry, tell
from langchain_llm_router.cascade.turn import Turn
from langchain_llm_router.judging import Verifying
from langchain_llm_router.types import Attempt

__all__ = ["AskNode", "VerifyNode"]


class AskNode:
    """The node of one candidate."""

    def __init__(self, turn: Turn, name: str) -> None:
        self._turn, self._name = turn, name

    def ask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Ask the candidate."""
        asking = self._asking(state, config)
        try:
            answer = self._turn.paid(asking, state, config, self._name).perform()
        except BudgetExceededError as error:
            answer = asking.refused(error)
        return self._answered(state, config, answer)

    async def aask(self, state: CascadeState, config: RunnableConfig) -> dict[str, Any]:
        """Ask the candidate."""
        asking = self._asking(state, config)
        try:
            answer = await self._turn.paid(asking, state, config, self._name).aperform()
        except BudgetExceededError as error:
            answer = asking.refused(error)
        return self._answered(state, config, answer)

    def _asking(self, state: CascadeState, config: RunnableConfig) -> Asking:
        final = bool(state.get("steps", [])[-1]["final"])
        child = candidate_config(config, self._name, state.get("decision_id", ""), quiet=not final)
        turn = self._turn
        return turn.engine.asking(self._name, state["messages"], child, turn.kwargs, final=final)

    def _answered(
        self, state: CascadeState, config: RunnableConfig, answer: Answer
    ) -> dict[str, Any]:
        answer = self._turn.engine.at_sight(answer, self._turn.kwargs, streamed=False)
        entry = TraceEntry(attempt=answer.attempt, message=answer.message)
        update = {"trace": [*state.get("trace", []), entry]}
        if answer.error is not None and self._turn.is_over({**state, **update}, config):  # type: ignore[typeddict-item]
            # Nobody is left and nothing is held: only here is the candidate's own error at hand.
            raise OverError({**state, **update}, answer.error)
        text = None if answer.message is None else str(answer.message.text)
        tell({"event": "draft", **answer.attempt, "text": text}, state)
        return update


class VerifyNode:
    """The node in which the last answer is judged."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

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
        verifier, guard = self._turn.engine.verifier, self._turn.engine.judging()
        assert verifier is not None
        seen = self._turn.situation(state, config)
        case = self._turn.engine.case(state["messages"], last["message"], seen)
        child = candidate_config(config, name, state.get("decision_id", ""), quiet=True)
        verifying = Verifying(verifier, case, last["attempt"], child, guard)
        return verifying, self._turn.paid(verifying, state, config, name, judged=True)

    def _judged(self, state: CascadeState, attempt: Attempt) -> dict[str, Any]:
        *earlier, last = state.get("trace", [])
        tell({"event": "verdict", **attempt}, state)
        return {"trace": [*earlier, TraceEntry(attempt=attempt, message=last["message"])]}


def _unjudged(verifying: Verifying, error: BudgetExceededError) -> Attempt:
    """An answer that there was no money to have judged: a missing verdict."""
    return {
        **verifying.attempt,
        "verified": True,
        "confidence": None,
        "verification_errors": [f"{type(error).__name__}: {error}"],
        "verification_cost_usd": 0.0,
    }
