"""Do other models say the same? The strongest cheap signal where answers are short."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.decisions import share_true
from langchain_llm_router.verification.verifier import (
    Call,
    Case,
    Evaluating,
    Evaluation,
    Verifier,
)

__all__ = ["Agreement", "normalized", "same_answer"]


def normalized(text: str) -> str:
    """An answer reduced to what matters for comparing it with another.

    Case, character width, spaces, a final period, surrounding quotes, and the format of numbers
    ($, %, thousands commas, trailing zeros) do not matter.

    Example:
        >>> normalized(" $1,200.00. ") == normalized("1200")
        True
    """
    plain = unicodedata.normalize("NFKC", text).casefold().strip().rstrip(".").strip("'\"")
    plain = re.sub(r"\s+", "", plain)
    bare = re.sub(r"[,$€£%]", "", plain)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", bare):
        return f"{float(bare):.12g}"
    return plain


def same_answer(a: str, b: str) -> bool:
    """Whether two answers are the same after `normalized`; an empty one is never the same."""
    return bool(a.strip()) and normalized(a) == normalized(b)


@dataclass(frozen=True)
class Agreement(Verifier):
    """Do other models give the same answer? The score is the share of them that agree.

    The strongest cheap signal where answers are short: two different cheap models rarely make the
    same mistake. A peer that fails counts as missing, not as disagreeing.

    Args:
        peers: Cheap candidates that are asked the same question, all at the same time.
        n_resamples: How often the answering candidate itself is asked again at temperature 1.
        same: Whether two answers are the same; the default compares normalized text.

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
        """One call per peer, and `n_resamples` calls of the candidate."""
        return [(one, None) for one in (*self.peers, *[candidate] * self.n_resamples)]

    def evaluate(self, case: Case) -> Evaluating:
        """Ask all of them at the same time and take the share that gives the same answer."""
        calls = [Call(case.messages, peer) for peer in self.peers]
        calls += [Call(case.messages, case.candidate, temperature=1.0)] * self.n_resamples
        replies = yield calls
        own = str(case.answer.text)
        verdicts = tuple(
            None if reply.message is None else self.same(own, str(reply.message.text))
            for reply in replies
        )
        return Evaluation(share_true(verdicts), verdicts)
