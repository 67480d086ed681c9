"""What the model's own token probabilities say: one call, or none at all.

Both read `response_metadata["logprobs"]["content"]` as OpenAI, llama-server and vLLM fill it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage

from langchain_llm_router.types import Candidate
from langchain_llm_router.verification.self_evaluation import verification_prompt
from langchain_llm_router.verification.verifier import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Verifier,
    steered,
)

__all__ = ["AnswerLogprob", "TokenProbability"]

_NONE = (
    "The answer has no token log-probabilities: this model, or this endpoint of it, does not "
    "return `logprobs`. Choose another verifier for it."
)


@dataclass(frozen=True)
class AnswerLogprob(Verifier):
    """How sure the candidate was while it wrote: exp of the mean token log-probability.

    Costs nothing: candidates are called with `logprobs=True`. It often works for small models
    whose verdicts on their own answers are worthless. The scores of two candidates are not
    comparable: calibrate per candidate.

    Args:
        last_tokens: Only this many tokens at the end count, where the result follows a chain of
            thought; None: all.

    References:
        Kadavath et al., 2022, Language models (mostly) know what they know, arXiv:2207.05221.
    """

    last_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.last_tokens is not None and self.last_tokens < 1:
            msg = f"`last_tokens` must be >= 1 or None, got {self.last_tokens!r}."
            raise ValueError(msg)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """It calls no model."""
        return []

    def evaluate(self, case: Case) -> Evaluating:
        """Read the answer's own log-probabilities without calling a model."""
        score = self.score_so_far(case.answer)
        return Evaluation(score, errors=(_NONE,) if score is None else ())
        yield  # pragma: no cover - makes this a generator like every verifier

    def score_so_far(self, answer: AIMessage) -> float | None:
        """The score of a whole or partial answer; None without log-probabilities."""
        # Some servers report the token that ends the answer in whole replies and not in streams;
        # it has no text, and with it the score would depend on whether the answer was streamed.
        written = [token for token in _tokens(answer) if token.get("token") != ""]
        values = [_logprob(token) for token in written]
        known = [value for value in values if value is not None]
        if self.last_tokens is not None:
            known = known[-self.last_tokens :]
        return min(1.0, math.exp(math.fsum(known) / len(known))) if known else None

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """Candidates must return their log-probabilities."""
        return {"logprobs": True}


@dataclass(frozen=True)
class TokenProbability(Verifier):
    """A one-word verdict, read as a probability: P(Correct) against P(Incorrect).

    It gets from one call what k sampled verdicts estimate: the probability mass of the words' first
    tokens at the verdict's position. Needs a model that returns `top_logprobs`.

    Args:
        judge: Another candidate that judges instead; None: the one that answered.
        top_logprobs: How many alternatives to ask for at each token.
        max_tokens: Longest reply; a word or two are enough.

    References:
        Kadavath et al., 2022, Language models (mostly) know what they know, arXiv:2207.05221,
        section 4: P(True).
    """

    judge: Candidate | None = None
    top_logprobs: int = 20
    max_tokens: int = 8

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """One."""
        return [(self.judge or candidate, self.max_tokens)]

    def evaluate(self, case: Case) -> Evaluating:
        """Ask once, and compare the two words' probabilities."""
        if (refused := steered(case)) is not None:
            return refused
        kwargs = {
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
            "max_tokens": self.max_tokens,
        }
        call = Call(
            messages=verification_prompt(case, one_word=True),
            candidate=self.judge or case.candidate,
            temperature=0.0,
            kwargs=kwargs,
        )
        (reply,) = yield [call]
        if reply.message is None:
            return Evaluation(None)
        tokens = _tokens(reply.message)
        if len(tokens) == 0:
            return Evaluation(None, errors=(_NONE,))
        confidence = _p_correct(tokens)
        if confidence is None:
            said = f"The reply {reply.message.text!r} holds neither Correct nor Incorrect."
            return Evaluation(None, errors=(said,))
        return Evaluation(confidence)


def _tokens(message: AIMessage) -> Sequence[Mapping[str, Any]]:
    logprobs = message.response_metadata.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return content if isinstance(content, Sequence) else ()


def _logprob(token: Mapping[str, Any]) -> float | None:
    value = token.get("logprob")
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _p_correct(tokens: Sequence[Mapping[str, Any]]) -> float | None:
    """P(Correct) at the first token that begins one of the words."""
    for place, token in enumerate(tokens):
        # Inside a sentence "I" or "in" is not the start of a verdict; as the first token it is.
        if _word(token, least=1 if place == 0 else 3) is None:
            continue
        mass = {"correct": 0.0, "incorrect": 0.0}
        alternatives = token.get("top_logprobs") or [token]
        for alternative in alternatives:
            word, logprob = _word(alternative, least=1), _logprob(alternative)
            if word is not None and logprob is not None:
                mass[word] += math.exp(logprob)
        total = math.fsum(mass.values())
        if total > 0:
            return mass["correct"] / total
    return None


def _word(token: Mapping[str, Any], *, least: int) -> str | None:
    """Which of the two words a token begins, e.g. " Cor", "In", "correct."."""
    text = str(token.get("token", "")).strip(" \t\n\r\"'*_`▁Ġ").lower()
    if len(text) < least:
        return None
    for word in ("correct", "incorrect"):
        if word.startswith(text) or text.startswith(word):
            return word
    return None
