"""The router as a LangChain decision model (langchain-core >= 1.8).

It makes LangChain's `ModelRouterMiddleware`, in which otherwise a model chooses the model, route by
a policy of this package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_llm_router.router.runs import RequestChatModel
from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.errors import import_extra

_decisions: Any = import_extra("langchain_core.decisions", "decisions")

__all__ = ["RouterDecisionModel"]


class RouterDecisionModel(_decisions.BaseDecisionModel):  # type: ignore[misc]
    """A decision model for `Choice` questions whose labels are the router's candidates.

    The chosen label's probability is the decision's propensity (1 for a deterministic policy), and
    the rest is divided evenly among the other labels. The confidence is the chosen candidate's
    expected quality, or the propensity if no estimator predicts one. No candidate is asked.

    Args:
        router: The router that decides.
    """

    model: str = "llm-router"
    router: Any

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(kwargs, type(self).model_fields, type(self).__name__)
        super().__init__(**kwargs)
        if not isinstance(self.router, RequestChatModel):
            msg = f"`router` must be a ChatLLMRouter, got {self.router!r}."
            raise TypeError(msg)

    @property
    def _provider(self) -> str:
        return "llm_router"

    def _classify(self, state: Any, questions: Mapping[str, Any]) -> Any:
        answers = {name: self._choice(state, question) for name, question in questions.items()}
        return _decisions.ClassifierResponse(model=self.model, answers=answers)

    def _choice(self, state: Any, question: Any) -> Any:
        if not isinstance(question, _decisions.Choice):
            msg = f"A router can only answer `Choice` questions, got {question!r}."
            raise TypeError(msg)
        labels = list(question.criteria)
        config: Any = {"configurable": {"llm_router": {"candidates": labels}}}
        decision = self.router.route(_messages(state), config)
        others = max(len(labels) - 1, 1)
        probabilities = {name: (1 - decision.propensity) / others for name in labels}
        probabilities[decision.candidate] = decision.propensity
        quality = decision.scores.get(decision.candidate, {}).get("quality")
        return _decisions.ChoiceAnswer(
            type="choice",
            choice=decision.candidate,
            probabilities=probabilities,
            confidence=decision.propensity if quality is None else min(max(quality, 0.0), 1.0),
        )


def _messages(state: Any) -> list[BaseMessage]:
    if isinstance(state, BaseMessage):
        return [state]
    if isinstance(state, Mapping) and "messages" in state:
        state = state["messages"]
    if isinstance(state, Sequence) and not isinstance(state, str):
        messages = [item for item in state if isinstance(item, BaseMessage)]
        if len(messages) > 0:
            return messages
    text = state if isinstance(state, str) else json.dumps(state, default=str)
    return [HumanMessage(text)]
