"""One-word verdicts in the same conversation, for the price of one short call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.decisions import share_true
from langchain_llm_router.verification.short_replies import (
    ask_thinking,
    check_thinking_tokens,
    reply_limits,
    visible_tokens,
)
from langchain_llm_router.verification.verifier import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Verifier,
    injection_evaluation,
)

__all__ = ["YesNo"]


@dataclass(frozen=True)
class YesNo(Verifier):
    """Asks in the same conversation whether the answer is correct, yes or no.

    The question follows the answer, so that a server with a prompt cache processes only the short
    question, and one request samples k verdicts (`n`). Unlike with `SelfEvaluator` there is no
    reasoning before a verdict.

    Args:
        n_samples: k, the number of verdicts; the score is the share of "yes".
        read: `"samples"`, or `"probability"`: one call whose score is P(yes) / (P(yes) + P(no))
            of its first token, for models that return `top_logprobs`.
        judge: Candidate that judges the answer; if None, the one that answered.
        question: The text that requests the verdict.
        temperature: Sampling temperature of the verdicts.
        kwargs: Keyword arguments of the call, e.g. a grammar that allows nothing but yes and no.
        thinking_tokens: Maximum length of a verdict of a model that thinks first, in tokens. A
            model whose profile has `reasoning_output`, or whose short reply was all reasoning, is
            asked with this limit in place of a smaller `max_tokens`. None means never.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, section 3.1 (k = 8 samples, temperature 1);
        the one-word verdict is P(True) of Kadavath et al., 2022, arXiv:2207.05221, section 4.
    """

    n_samples: int = 8
    read: Literal["samples", "probability"] = "samples"
    judge: Candidate | None = None
    question: str = "Is this answer correct? Reply with one word, Yes or No."
    temperature: float = 1.0
    kwargs: Mapping[str, Any] = field(default_factory=lambda: {"max_tokens": 2})
    thinking_tokens: int | None = 1024

    free_parameters: ClassVar[frozenset[str]] = frozenset({"thinking_tokens"})

    def __post_init__(self) -> None:
        check_range(self, "temperature")
        check_thinking_tokens(self.thinking_tokens)
        if self.n_samples < 1:
            msg = f"`n_samples` must be >= 1, got {self.n_samples!r}."
            raise ValueError(msg)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return one call per verdict and limit, although one request samples all verdicts."""
        n_verdicts = self.n_samples if self.read == "samples" else 1
        judge = self.judge or candidate
        limits = reply_limits(judge, self.kwargs.get("max_tokens"), self.thinking_tokens)
        return [(judge, limit) for limit in limits] * n_verdicts

    def evaluate(self, case: Case) -> Evaluating:
        """Ask once and read the verdicts or the first token's probabilities."""
        if (rejected := injection_evaluation(case)) is not None:
            return rejected
        sampled = self.read == "samples"
        answer = AIMessage(answer_text(case.answer))
        call = Call(
            messages=[*case.messages, answer, HumanMessage(self.question)],
            candidate=self.judge or case.candidate,
            temperature=self.temperature if sampled else 0.0,
            kwargs={**self.kwargs, **({} if sampled else {"logprobs": True, "top_logprobs": 20})},
            n_samples=self.n_samples if sampled else 1,
        )
        reply = yield from ask_thinking(call, self.thinking_tokens)
        if not sampled:
            return Evaluation(_p_yes(reply.message))
        verdicts = tuple(_read_yes(answer_text(message)) for message in reply.samples)
        return Evaluation(share_true(verdicts), verdicts)


def _read_yes(text: str) -> bool | None:
    word = text.strip(" \t\n\r\"'*.`▁Ġ").casefold()
    # A token may have only the beginning of the word.
    if word[:1] == "y":
        return True
    return False if word[:2] == "no" or word == "n" else None


def _p_yes(message: AIMessage | None) -> float | None:
    tokens = () if message is None else visible_tokens(message)
    if len(tokens) == 0:
        return None
    mass = {True: 0.0, False: 0.0}
    for alternative in tokens[0].get("top_logprobs") or ():
        verdict = _read_yes(str(alternative["token"]))
        if verdict is not None:
            mass[verdict] += math.exp(alternative["logprob"])
    total = math.fsum(mass.values())
    return mass[True] / total if total > 0 else None
