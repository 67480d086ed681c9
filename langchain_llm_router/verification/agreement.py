"""Agreement with other models, the strongest cheap signal where answers are short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_flaw, answer_text
from langchain_llm_router.types.decisions import share_true
from langchain_llm_router.verification.answer_reader import is_non_answer, same_answer
from langchain_llm_router.verification.verifier import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Reply,
    Verifier,
)

__all__ = ["Agreement"]


@dataclass(frozen=True)
class Agreement(Verifier):
    """Compares the answer with those of other models; the score is the share that agrees.

    The strongest cheap signal where answers are short: two different cheap models rarely make the
    same mistake. A peer that fails, refuses, is cut off or says that it does not know counts as
    missing: it neither agrees nor disagrees.

    Args:
        peers: Cheap candidates that are asked the same query, all at the same time.
        n_resamples: Number of further samples from the answering candidate, at temperature 1.
        same: Function that returns whether two answers are the same; the default is
            `same_answer`.

    References:
        Yue et al., 2023, Large language model cascades with mixture of thoughts, arXiv:2310.03094,
        section 3 (answer consistency as the escalation signal).
    """

    peers: Sequence[Candidate] = ()
    n_resamples: int = 0
    same: Callable[[str, str], bool] = same_answer

    def __post_init__(self) -> None:
        if len(self.peers) + self.n_resamples == 0:
            msg = "`Agreement` has no model to compare with: give `peers` or `n_resamples`."
            raise ValueError(msg)

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return one call per peer and `n_resamples` calls to the candidate."""
        return [(peer, None) for peer in (*self.peers, *[candidate] * self.n_resamples)]

    def evaluate(self, case: Case) -> Evaluating:
        """Ask all of them at the same time and return the share with the same answer."""
        calls = [Call(case.messages, peer) for peer in self.peers]
        calls += [Call(case.messages, case.candidate, temperature=1.0)] * self.n_resamples
        replies = yield calls
        answer = answer_text(case.answer)
        verdicts = tuple(
            self.same(answer, text) if text is not None else None for text in map(_said, replies)
        )
        return Evaluation(share_true(verdicts), verdicts)


def _said(reply: Reply) -> str | None:
    """Return what a peer answers; None if nothing, e.g. as it spent its tokens on reasoning."""
    if reply.message is None or answer_flaw(reply.message) is not None:
        return None
    text = answer_text(reply.message)
    return None if is_non_answer(text) else text
