"""What every policy is: a pure function from a `Situation` to a `Decision`.

A policy performs no I/O, keeps no state between calls and draws no random numbers of its own (a
mixed policy draws by the query and its seed), so the live router, the LangGraph state machine and
the offline replay take the same decision in the same situation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

from langchain_llm_router.types import Action, Arm, Attempt, Decision, Situation

__all__ = ["Always", "OneShot", "Policy", "RandomMix", "accept", "last_resort", "query_uniform"]


class Policy(ABC):
    """Decides whom to ask, whether to verify, and when to accept."""

    verifies: ClassVar[bool] = False
    """Whether it ever asks for an answer to be verified; then the router needs a verifier."""

    @abstractmethod
    def decide(self, situation: Situation) -> Decision:
        """Say what to do next; the same situation always gets the same decision."""

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """Candidates this policy names itself; a router checks that it has them."""
        return ()

    @property
    def reads_query(self) -> bool:
        """Whether the query's text itself matters to it, and not only what is known of the arms."""
        return False

    def chance(self, situation: Situation, step: Decision) -> float:
        """Probability with which this policy would take the action of `step` on its candidate.

        1 or 0 here; a policy that draws lots says how likely each outcome of the draw is.

        Raises:
            NotImplementedError: If it draws lots and does not say.
        """
        own = self.decide(situation)
        if own.propensity != 1.0:
            msg = f"{type(self).__name__} draws lots: it needs a `chance` of its own."
            raise NotImplementedError(msg)
        return float((own.action, own.candidate) == (step.action, step.candidate))

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """P(this attempt's answer is good), as this policy reads its verdict; None: it reads none.

        Args:
            situation: In which it was asked.
            attempt: With the verifier's score under `confidence`, if there is one.
        """
        return None

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """What one endpoint of a model is worth beside the others; the quality is the same."""
        return 0.0


class OneShot(Policy):
    """A policy that asks one candidate and takes its answer; others only if that one fails."""

    def decide(self, situation: Situation) -> Decision:
        """Accept an answer if there is one, otherwise choose among those not asked yet."""
        answered = situation.answered
        if len(answered) > 0:
            return accept(self, answered[-1], "it answered")
        return self.choose(situation)

    @abstractmethod
    def choose(self, situation: Situation) -> Decision:
        """Choose one of `situation.open_arms`."""

    def ask(
        self,
        candidate: str,
        reason: str,
        scores: Mapping[str, Mapping[str, float | None]] | None = None,
        *,
        propensity: float = 1.0,
        flip: str | None = None,
    ) -> Decision:
        """The decision to ask a candidate and take its answer."""
        return Decision(
            action="ask",
            candidate=candidate,
            policy=type(self).__name__,
            reason=reason,
            final=True,
            scores={} if scores is None else scores,
            propensity=propensity,
            flip=flip,
        )


def accept(
    policy: Policy,
    attempt: Attempt,
    reason: str,
    *,
    scores: Mapping[str, Mapping[str, float | None]] | None = None,
    confidence: float | None = None,
    flip: str | None = None,
) -> Decision:
    """The decision to keep an answer."""
    action: Action = "accept"
    return Decision(
        action=action,
        candidate=attempt["candidate"],
        policy=type(policy).__name__,
        reason=reason,
        scores={} if scores is None else scores,
        confidence=confidence,
        flip=flip,
    )


def last_resort(policy: Policy, situation: Situation) -> Decision:
    """What to do when nobody the policy knows can answer: ask whoever else there is, or give up."""
    if len(situation.answered) > 0:
        return accept(policy, situation.answered[-1], "the only answer there is")
    if len(situation.open_arms) > 0:
        other = situation.open_arms[0].candidate
        reason = "every known candidate failed"
        return Decision("ask", other, type(policy).__name__, reason, final=True)
    return accept(policy, situation.attempts[-1], "everybody failed")


def query_uniform(query: str, seed: int) -> float:
    """A number in [0, 1) that depends on the query and the seed alone: randomness that is pure."""
    digest = blake2b(f"{seed}:{query}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


@dataclass(frozen=True)
class Always(OneShot):
    """Asks the same candidate every time: the single-model baseline.

    Args:
        candidate: Whom to ask.
    """

    candidate: str

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The one candidate."""
        return (self.candidate,)

    def choose(self, situation: Situation) -> Decision:
        """Ask it."""
        situation.arm(self.candidate)
        return self.ask(self.candidate, "always this one")


@dataclass(frozen=True)
class RandomMix(OneShot):
    """Asks each candidate with a fixed probability: the baseline that every router must beat.

    The draw depends on the query and the seed alone, so a replay repeats it.

    Args:
        shares: Probability per candidate; must sum to 1.
        seed: Another seed, another draw.
    """

    shares: Mapping[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(self.shares.values())
        if min(self.shares.values(), default=-1.0) < 0 or abs(total - 1) > 1e-9:
            msg = f"`shares` must be >= 0 and sum to 1, got {dict(self.shares)!r}."
            raise ValueError(msg)

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """Everybody with a share."""
        return tuple(self.shares)

    def choose(self, situation: Situation) -> Decision:
        """Draw among those not asked yet, in proportion to their shares."""
        pool, total = self._pool(situation)
        draw = query_uniform(situation.query, self.seed) * total
        chosen = next(iter(pool))
        for name, share in pool.items():
            if share > 0:
                chosen = name
            draw -= share
            if draw < 0:
                break
        share = pool[chosen] / total
        return self.ask(chosen, f"drawn with probability {share:.3g}", propensity=share)

    @property
    def reads_query(self) -> bool:
        """It draws by the query."""
        return True

    def chance(self, situation: Situation, step: Decision) -> float:
        """The share of the candidate among those not asked yet."""
        if len(situation.answered) > 0 or step.action != "ask":
            return super().chance(situation, step)
        pool, total = self._pool(situation)
        return pool.get(step.candidate, 0.0) / total

    def _pool(self, situation: Situation) -> tuple[dict[str, float], float]:
        pool = {a.candidate: self.shares.get(a.candidate, 0.0) for a in situation.open_arms}
        total = sum(pool.values())
        if total <= 0:
            return dict.fromkeys(pool, 1.0), float(len(pool))
        return pool, total
