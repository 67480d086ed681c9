"""Scores from a model's own token probabilities, with one call or none.

Both read `response_metadata["logprobs"]["content"]` as OpenAI, llama-server and vLLM fill it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from langchain_core.messages import AIMessage

from langchain_llm_router.types import Candidate
from langchain_llm_router.verification.self_evaluation import verification_prompt
from langchain_llm_router.verification.short_replies import (
    ask_thinking,
    check_thinking_tokens,
    reply_limits,
    token_logprobs,
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

__all__ = ["AnswerLogprob", "TokenProbability"]

_NO_LOGPROBS = (
    "The answer has no token log-probabilities: this model, or this endpoint of it, does not "
    "return `logprobs`. Choose another verifier for it."
)


@dataclass(frozen=True)
class AnswerLogprob(Verifier):
    """Scores the answer by exp of its mean token log-probability.

    It needs no further call: candidates are called with `logprobs=True`. It often works for small
    models whose verdicts on their own answers are worthless. Scores of two candidates are not
    comparable: calibrate each candidate.

    Args:
        last_tokens: Number of tokens at the end that count, for results after a chain of thought;
            if None, all.

    References:
        Kadavath et al., 2022, Language models (mostly) know what they know, arXiv:2207.05221.
    """

    last_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.last_tokens is not None and self.last_tokens < 1:
            msg = f"`last_tokens` must be >= 1 or None, got {self.last_tokens!r}."
            raise ValueError(msg)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return no calls: the answer's own probabilities are used."""
        return []

    def evaluate(self, case: Case) -> Evaluating:
        """Score the answer by its own log-probabilities."""
        score = self.score_so_far(case.answer)
        return Evaluation(score, errors=(_NO_LOGPROBS,) if score is None else ())
        yield  # pragma: no cover - makes this a generator like every verifier

    def score_so_far(self, answer: AIMessage) -> float | None:
        """Return the score of a complete or partial answer; None without log-probabilities."""
        # Some servers report the empty end token in complete replies and not in streams: with it
        # the score would depend on whether the answer was streamed.
        written = [token for token in token_logprobs(answer) if token.get("token") != ""]
        values = [_logprob(token) for token in written]
        known = [value for value in values if value is not None]
        if self.last_tokens is not None:
            known = known[-self.last_tokens :]
        return min(1.0, math.exp(math.fsum(known) / len(known))) if known else None

    def answer_kwargs(self, candidate: str) -> Mapping[str, Any]:
        """Make candidates return their log-probabilities."""
        return {"logprobs": True}


@dataclass(frozen=True)
class TokenProbability(Verifier):
    """Scores the answer by the probability of the one-word verdict "Correct".

    One call gives what k sampled verdicts estimate: P(Correct) / (P(Correct) + P(Incorrect)), from
    the words' first tokens at the verdict's position. It needs a judge that returns `top_logprobs`.

    Args:
        judge: Candidate that judges the answer; if None, the one that answered.
        top_logprobs: Number of alternatives to request for each token.
        max_tokens: Maximum length of the reply; a word or two are enough.
        thinking_tokens: Maximum length of the reply of a judge that thinks first, as in `YesNo`.

    References:
        Kadavath et al., 2022, Language models (mostly) know what they know, arXiv:2207.05221,
        section 4: P(True).
    """

    judge: Candidate | None = None
    top_logprobs: int = 20
    max_tokens: int = 8
    thinking_tokens: int | None = 1024

    free_parameters: ClassVar[frozenset[str]] = frozenset({"thinking_tokens"})

    def __post_init__(self) -> None:
        check_thinking_tokens(self.thinking_tokens)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return the call to the judge, and the second one to a judge that may think first."""
        judge = self.judge or candidate
        limits = reply_limits(judge, self.max_tokens, self.thinking_tokens)
        return [(judge, limit) for limit in limits]

    def evaluate(self, case: Case) -> Evaluating:
        """Ask once and compare the probabilities of the two words."""
        if (rejected := injection_evaluation(case)) is not None:
            return rejected
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
        reply = yield from ask_thinking(call, self.thinking_tokens)
        if reply.message is None:
            return Evaluation(None)
        tokens = visible_tokens(reply.message)
        if len(tokens) == 0:
            return Evaluation(None, errors=(_NO_LOGPROBS,))
        confidence = _p_correct(tokens)
        if confidence is None:
            text = f"The reply {reply.message.text!r} has neither Correct nor Incorrect."
            return Evaluation(None, errors=(text,))
        return Evaluation(confidence)


def _logprob(token: Mapping[str, Any]) -> float | None:
    value = token.get("logprob")
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _p_correct(tokens: Sequence[Mapping[str, Any]]) -> float | None:
    """Return P(Correct) at the first token that begins one of the two words."""
    for position, token in enumerate(tokens):
        # Only as the first token is "I" or "in" likely to begin a verdict.
        if _find_word(token, min_length=1 if position == 0 else 3) is None:
            continue
        mass = {"correct": 0.0, "incorrect": 0.0}
        alternatives = token.get("top_logprobs") or [token]
        for alternative in alternatives:
            word, logprob = _find_word(alternative, min_length=1), _logprob(alternative)
            if word is not None and logprob is not None:
                mass[word] += math.exp(logprob)
        total = math.fsum(mass.values())
        if total > 0:
            return mass["correct"] / total
    return None


def _find_word(token: Mapping[str, Any], *, min_length: int) -> str | None:
    """Return the word of the two that a token begins, e.g. for " Cor", "In" or "correct."."""
    text = str(token.get("token", "")).strip(" \t\n\r\"'*_`▁Ġ").lower()
    if len(text) < min_length:
        return None
    for word in ("correct", "incorrect"):
        if word.startswith(text) or text.startswith(word):
            return word
    return None
