"""A decision model as verifier: the probability that an answer is good, in one call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_llm_router.data.yes_probabilities import (
    Probabilities,
    YesNoRequest,
    ask_probabilities,
    decision_model_name,
)
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.verification.verifier import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Verifier,
    injection_evaluation,
)

__all__ = ["DecisionVerifier"]

_GOOD = "good"


@dataclass(frozen=True)
class DecisionVerifier(Verifier):
    """Asks a decision model whether an answer is good; the score is its probability of yes.

    One call per answer, without sampling. As with every verifier, the score is not a probability
    until an observation model has calibrated it. The model is not saved with a router: pass the
    verifier when you load it.

    Args:
        model: A `BaseDecisionModel` of langchain-core >= 1.8 or OpenAI's `OpenAIDecisions`. For a
            chat model, `SelfEvaluator` and `YesNo` ask more simply; it is accepted as well.
        price: Price of the model's tokens; without it the cost of a verdict is unknown.
        instructions: The yes/no question that is asked about the question and its answer.
    """

    model: Any
    price: Price | None = None
    instructions: str = (
        "The state has a question and an AI generated answer to it. Is the answer correct, and "
        "does it answer all of the question?"
    )

    def __post_init__(self) -> None:
        ask_probabilities(self.model)

    def evaluate(self, case: Case) -> Evaluating:
        """Ask once and read the probability."""
        if (rejected := injection_evaluation(case)) is not None:
            return rejected
        state = {"question": case.question, "answer": answer_text(case.answer)}
        asked = HumanMessage(json.dumps(state, ensure_ascii=False))
        (reply,) = yield [Call([asked], self._judge)]
        return Evaluation(None if reply.message is None else _read(reply.message))

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return the one call of the decision model."""
        return [(self._judge, None)]

    @property
    def _judge(self) -> Candidate:
        judge = _DecisionJudge(decisions=self.model, instructions=self.instructions)
        return Candidate(decision_model_name(self.model), judge, self.price)


class _DecisionJudge(BaseChatModel):
    """A decision model as a chat model, so that its calls are limited and measured like others."""

    decisions: Any
    instructions: str

    @property
    def _llm_type(self) -> str:
        return "llm-router-decision-judge"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _as_chat(ask_probabilities(self.decisions).invoke(self._request(messages)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = ask_probabilities(self.decisions)
        return _as_chat(await asked.ainvoke(self._request(messages)))

    def _request(self, messages: list[BaseMessage]) -> YesNoRequest:
        return YesNoRequest(str(messages[-1].text), {_GOOD: self.instructions})


def _as_chat(found: Probabilities) -> ChatResult:
    yes = found.yes.get(_GOOD)
    text = "" if yes is None else repr(float(yes))
    message = AIMessage(text, usage_metadata=found.usage)
    return ChatResult(generations=[ChatGeneration(message=message)])


def _read(message: AIMessage) -> float | None:
    try:
        score = float(message.text)
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None
