"""The belief over which answer of a request is right, as a part of an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = ["AnswerBelief", "BelievedAnswer", "FurtherAnswer", "answer_belief"]


@dataclass(frozen=True)
class BelievedAnswer:
    """One answer, and the candidates that gave it."""

    members: tuple[str, ...]
    p_right: float
    """P(the answer is right), recalibrated."""

    comparable: bool
    """Whether it could be compared with the others; if not, it has one member."""

    kept: bool
    """Whether it is the accepted answer."""


@dataclass(frozen=True)
class FurtherAnswer:
    """What it is worth to ask a candidate that has not answered yet."""

    candidate: str
    value: float
    """P(right) - λ·cost of the best steps from there on, as the model of the policy says."""

    cost_usd: float | None
    """Expected cost of its answer and of comparing it."""

    chosen: bool


@dataclass(frozen=True)
class AnswerBelief:
    """What a policy that compares answers knows at a decision.

    Attributes:
        answers: The different answers so far, the most likely one first.
        further: The candidates that can still be asked, the most valuable one first.
        keeping: Value of keeping the best answer, on the scale of `FurtherAnswer.value`; None
            without answers.
    """

    answers: tuple[BelievedAnswer, ...]
    further: tuple[FurtherAnswer, ...]
    keeping: float | None

    def told(self) -> list[str]:
        """Return the belief as lines of text."""
        lines = []
        if self.answers:
            lines.append("P(right) of each answer so far, and who gave it")
            for it in self.answers:
                note = "" if it.comparable else " (cannot be compared)"
                mark = "→" if it.kept else " "
                lines.append(f"  {mark} {format_score(it.p_right)}  {', '.join(it.members)}{note}")
        if self.further:
            if lines:
                lines.append("")
            kept = "" if self.keeping is None else f"; keeping the best answer: {self.keeping:.3f}"
            lines.append(f"worth of asking one more candidate, P(right) - λ·cost{kept}")
            wide = max(len(it.candidate) for it in self.further)
            for one in self.further:
                mark = "→" if one.chosen else " "
                cost = format_usd(one.cost_usd)
                lines.append(f"  {mark} {one.candidate:<{wide}}  {one.value:.3f}  costs {cost}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the belief as JSON-ready data."""
        return {
            "answers": [{**vars(it), "members": list(it.members)} for it in self.answers],
            "further": [vars(it) for it in self.further],
            "keeping": self.keeping,
        }


def answer_belief(situation: Situation, decision: Decision) -> AnswerBelief | None:
    """Read the belief off a decision; None if its policy does not compare answers.

    Args:
        situation: The situation before the decision.
        decision: The decision. Its scores have `p_right` and `value` for a candidate that has
            answered, `value` and `cost_usd` for one that can be asked.
    """
    if not any("value" in numbers for numbers in decision.scores.values()):
        return None
    groups = {attempt["candidate"]: attempt.get("answer_group") for attempt in situation.attempts}
    members: dict[object, list[str]] = {}
    further, values = [], []
    for name, numbers in decision.scores.items():
        value = numbers.get("value")
        if value is None:
            continue
        if numbers.get("p_right") is None:
            chosen = name == decision.candidate
            further.append(FurtherAnswer(name, value, numbers.get("cost_usd"), chosen))
            continue
        values.append(value)
        group = groups.get(name)
        members.setdefault(name if group is None else group, []).append(name)
    answers = []
    for key, names in members.items():
        p_right = decision.scores[names[0]]["p_right"]
        assert p_right is not None, "only such candidates are grouped"
        kept = decision.action == "accept" and decision.candidate in names
        answers.append(BelievedAnswer(tuple(names), p_right, not isinstance(key, str), kept))
    return AnswerBelief(
        tuple(sorted(answers, key=lambda it: -it.p_right)),
        tuple(sorted(further, key=lambda it: -it.value)),
        max(values, default=None),
    )
