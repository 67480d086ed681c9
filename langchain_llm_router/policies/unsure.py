"""A policy that ends a request where no answer is good enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from langchain_llm_router.policies.exits import Exit, ExitTerms
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.policy import Policy, accept, exit_decision
from langchain_llm_router.policies.wrapped_policy import WrappedPolicy
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.decisions import Ending

__all__ = ["Unsure"]

_TIE = 1e-12
_NEEDS_ANSWER = ("flag", "hold")


@dataclass(frozen=True)
class Unsure(WrappedPolicy):
    """Decides as a policy that verifies does, but may end without an answer that is good enough.

    To end is one more action, on the scale of the others: keeping an answer is worth P(good), and
    this is worth `value` - λ·`cost_usd`, where λ is the policy's (0 without). `Pomdp`,
    `CascadeRouting` and `AnswerPool` count with it in all further steps, so that they end early
    where the strong candidate would probably fail too. Other policies compare it with P(good) of
    the answer that they would accept, and with the predicted quality of a last candidate before
    they ask it. If that is unknown, nothing changes, and neither does it with a worth of at most 0.

    An answer that a policy accepts unverified is passed on as it comes and is never taken back:
    with `verify_last` it is verified first, too.

    On the shipped answers of small local models (1,531 questions, the smallest and the largest
    model, `answer_logprob`, a `Pomdp` fitted on one half and tested on the other, both ways, λ =
    0.1 per call of the large one, with `verify_last`) 66.9 % are right. Where it abstains on 15 %
    (`value=0.4`), 71.7 % of the others are; on 30 % (0.5), 77.0 %; on 88 % (0.6), 95.7 %, at a
    fifth of the cost.

    Args:
        policy: The policy, which must verify answers.
        value: What this end is worth, as a quality in [0, 1]: of a refusal, or of a person's
            answer (1 if it is always right).
        do: How the request ends. `refuse`: the answer is `message`. `flag`: the best answer so
            far, with `response_metadata["unsure"]` set to True. `hold`: the best answer so far,
            with its P(good) as the record's `confidence`. `interrupt`: a person is asked; only in
            a graph with a checkpointer, which is resumed with the person's answer. In all cases
            the decision record says so (`unsure`).
        cost_usd: What this end costs, e.g. a person's time; it is added to the request's cost.
        latency_s: Seconds that it takes, for replays; None if unknown.
        verify_last: Whether no answer is accepted unverified, also not that of the last candidate,
            and none whose verification failed so that P(good) is unknown. Tool calls and objects
            are checked by their schema alone.
        message: The text of a refusal.

    Raises:
        ValueError: If `policy` does not verify, or a value is out of its range.

    Example:
        >>> from langchain_llm_router.policies import ConfidenceThreshold
        >>> from langchain_llm_router.types import Arm
        >>> policy = Unsure(ConfidenceThreshold(threshold=0.7), value=0.4)
        >>> arms = (Arm("small", quality=0.5), Arm("large", quality=0.3))
        >>> asked = Attempt(candidate="small", verified=True, confidence=0.2)
        >>> policy.decide(Situation("q", arms, (asked,))).action
        'abstain'

    References:
        Chow, 1970, On Optimum Recognition Error and Reject Tradeoff: reject where the best answer
        is worth less than a rejection.
    """

    policy: Policy
    value: float
    do: Ending = "refuse"
    cost_usd: float = 0.0
    latency_s: float | None = None
    verify_last: bool = False
    message: str = "I am not sure enough to answer this."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "value", high=1.0)
        check_range(self, "cost_usd", "latency_s")
        if self.do not in get_args(Ending):
            msg = f"`do` must be one of {list(get_args(Ending))}, got {self.do!r}."
            raise ValueError(msg)
        if self.policy.exit_terms is not None:
            msg = "`policy` is or holds an `Unsure` already: a request ends in one way, so use one."
            raise ValueError(msg)
        if not self.policy.verifies:
            msg = (
                f"`policy` must verify answers, but {type(self.policy).__name__} does not, so it "
                "never knows that none is good enough: use e.g. `ConfidenceThreshold` or `Pomdp`."
            )
            raise ValueError(msg)

    @property
    def exit_terms(self) -> ExitTerms:
        """How a request ends for which no answer is good enough."""
        return ExitTerms(self.do, self.value, self.cost_usd, self.latency_s, self.message)

    @property
    def verifies_last(self) -> bool:
        """Whether the last candidate's answer is verified too."""
        return self.verify_last

    @property
    def knob(self) -> Knob | None:
        """The knob of the wrapped policy; its crossings are found by trying."""
        return _inexact(self.policy.knob)

    def knob_for(self, situation: Situation) -> Knob | None:
        """Return that of the wrapped policy."""
        return _inexact(self.policy.knob_for(situation))

    def exit(self, situation: Situation) -> Exit | None:
        """Return the end as an action that competes with others; None if it is worth nothing."""
        knob = self.policy.knob_for(situation)
        lambda_ = knob.value if knob is not None and knob.name == "lambda" else 0.0
        worth = self.value - lambda_ * self.cost_usd
        has_answer = len(situation.answered) > 0
        possible = has_answer or self.do not in _NEEDS_ANSWER
        return Exit(worth, lambda_, possible=possible) if worth > 0 else None

    def decide(self, situation: Situation) -> Decision:
        """Decide as the wrapped policy, with one more action."""
        exit_ = self.exit(situation)
        if exit_ is None:
            step = self.policy.decide(situation)
        else:
            step = self.policy.decide_or_abstain(situation, exit_)
        if self.verify_last and step.action == "ask" and step.final:
            step = replace(step, final=False)
        elif self.verify_last and step.ends and _is_unverified(situation, step):
            reason = "the last answer is verified too"
            last = situation.attempts[-1]["candidate"]
            step = Decision("verify", last, step.policy, reason, scores=step.scores)
        elif exit_ is not None and step.ends and len(situation.answered) > 0:
            step = self._end(situation, step, exit_)
        step = replace(step, policy=type(self).__name__)
        if step.action == "abstain":
            return replace(step, ending=self.do, ending_cost_usd=self.cost_usd)
        return step

    def _end(self, situation: Situation, step: Decision, exit_: Exit) -> Decision:
        """Keep the answer, or the best one, if it is worth at least as much as to abstain."""
        answered = {attempt["candidate"]: attempt for attempt in situation.standing}
        if len(answered) == 0:
            # Of agents alone: all that they changed was undone.
            if self.do in _NEEDS_ANSWER:
                return step
            reason = "the effects of every answer were undone"
            return exit_decision(self, step.candidate, reason, scores=step.scores)
        chances = {name: self.p_good(situation, attempt) for name, attempt in answered.items()}
        if (
            step.action == "accept"
            and step.candidate in chances
            and not self._is_below(chances[step.candidate], exit_)
        ):
            return step
        known = {name: -1.0 if p is None else p for name, p in chances.items()}
        best = max(known, key=known.__getitem__)
        p = chances[best]
        if not self._is_below(p, exit_):
            reason = "it is worth more than to end without an answer"
            return accept(self, answered[best], reason, scores=step.scores, confidence=p)
        if step.action == "abstain":
            return replace(step, candidate=best, confidence=p)
        reason = f"whether {best}'s answer is good could not be verified"
        if p is not None:
            reason = (
                f"P(good) {p:.3f} of {best}'s answer is less than {exit_.worth:.3f}, what to end "
                "without an answer is worth"
            )
        return replace(exit_decision(self, best, reason, scores=step.scores), confidence=p)

    def _is_below(self, p: float | None, exit_: Exit) -> bool:
        """Return whether an answer is worth less than to abstain, if known; else `verify_last`."""
        return self.verify_last if p is None else p < exit_.worth - _TIE


def _is_unverified(situation: Situation, step: Decision) -> bool:
    """Return whether the end would rest on a last answer that is not verified yet."""
    if len(situation.attempts) == 0:
        return False
    last = situation.attempts[-1]
    others = {attempt["candidate"] for attempt in situation.standing} - {last["candidate"]}
    kept = step.action == "abstain" or step.candidate not in others
    return kept and _can_be_verified(last)


def _can_be_verified(attempt: Attempt) -> bool:
    done = attempt.get("verified", False) or attempt.get("committed", False)
    return attempt.get("error") is None and not done


def _inexact(knob: Knob | None) -> Knob | None:
    return None if knob is None else replace(knob, exact=False)
