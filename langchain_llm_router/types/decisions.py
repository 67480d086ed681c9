"""What was seen and what was decided: attempts, arms, situations, decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = ["Action", "Arm", "Attempt", "Decision", "Situation", "share_true", "sum_usd"]

Action = Literal["ask", "verify", "accept"]


def sum_usd(amounts: Sequence[float | None]) -> float | None:
    """Add costs; unknown plus anything is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if len(known) == len(amounts) else None


def share_true(verdicts: Sequence[bool | None]) -> float | None:
    """Share of True among the verdicts that could be read; None if none could."""
    read = [verdict for verdict in verdicts if verdict is not None]
    return None if len(read) == 0 else math.fsum(read) / len(read)


class Attempt(TypedDict, total=False):
    """One candidate asked once, as plain data: what it cost, and what its verifier said."""

    candidate: str
    error: str | None
    """Class and text of the candidate's failure; None when it answered."""

    form: Literal["text", "tool_calls", "structured"]
    """What kind of answer it is; only text is sent to a verifier."""

    flaw: str | None
    """What visibly makes the answer useless: a refusal, an invalid tool call, a failed parse."""

    committed: bool
    """Whether it was streamed to the caller before it was complete, so that it must be kept."""

    verified: bool
    """Whether a verifier has looked at this answer (it may still have no verdict)."""

    confidence: float | None
    """The verifier's raw score in [0, 1]; None: not verified, or no verdict could be read."""

    verdicts: list[bool | None]
    """The single samples behind `confidence`, None for each that could not be read."""

    verification_errors: list[str]
    """What went wrong in the verifier's calls, one entry per failed call."""

    cost_usd: float | None
    verification_cost_usd: float | None
    verification_unsure: bool
    """Whether a verifier's call failed that may still have been billed."""

    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    ttft_s: float | None
    finished_at_s: float
    """Unix time; it tells how old a prompt cache is."""

    failures: list[dict[str, Any]]
    """Single calls that failed or lost a race; the last one's error is `error` if set."""

    interrupted: list[Action]
    """Steps on it that were under way when their process ended, and were run again: what they
    cost is unknown."""

    answered_by: str
    """The endpoint that answered, where a hedged call to another one was faster."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A candidate as the policy sees it for one query: what is expected of asking it."""

    candidate: str
    quality: float | None = None
    """Expected quality of its answer in [0, 1]; None without an estimator."""

    cost_usd: float | None = None
    """Expected cost of one call."""

    ttft_s: float | None = None
    itl_s: float | None = None
    verification_cost_usd: float | None = None
    """Expected cost of having its answer verified."""

    model: str | None = None
    """With several endpoints: the candidate that this is one endpoint of."""

    error_rate: float | None = None
    """P(the call fails), as measured recently; None: unknown."""

    available: bool = True
    """Whether its circuit breaker lets a call through."""

    probe: bool = False
    """A probe is due: its statistics are stale or missing, or its breaker is half-open."""

    worst_call_usd: float | None = None
    """Upper bound on the cost of one call; None: there is none."""

    worst_asking_usd: float | None = None
    """The same with all retries and hedged calls."""

    worst_verification_usd: float | None = None
    """Upper bound on having its answer judged."""

    worst_cost_usd: float | None = None
    """Upper bound on everything that asking it may cost, verification included."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a policy may look at: the arms, and what has been seen so far."""

    query: str
    arms: tuple[Arm, ...]
    attempts: tuple[Attempt, ...] = ()
    options: RoutingOptions = NO_OPTIONS

    granted_usd: float | None = None
    """What a budget has set aside for this request; worst cases must fit. None: no budget."""

    prefer: str | None = None
    """The candidate to ask first, whatever the policy: it has the thread or its tool loop."""

    @property
    def names(self) -> tuple[str, ...]:
        """Candidates in their declared order."""
        return tuple(arm.candidate for arm in self.arms)

    @property
    def open_arms(self) -> tuple[Arm, ...]:
        """The arms that have not been asked yet, in their declared order."""
        asked = {attempt["candidate"] for attempt in self.attempts}
        return tuple(arm for arm in self.arms if arm.candidate not in asked)

    @property
    def answered(self) -> tuple[Attempt, ...]:
        """The attempts that brought an answer."""
        return tuple(attempt for attempt in self.attempts if attempt.get("error") is None)

    @property
    def spent_usd(self) -> float | None:
        """What all attempts and verifications have cost so far; unknown if any of them is."""
        costs: list[float | None] = []
        for attempt in self.attempts:
            # A call that failed before it was billed has no cost.
            answered = attempt.get("error") is None or attempt.get("flaw") is not None
            if answered or attempt.get("cost_usd") is not None:
                costs.append(attempt.get("cost_usd"))
            if attempt.get("verified", False):
                costs.append(attempt.get("verification_cost_usd"))
        return sum_usd(costs)

    def arm(self, name: str) -> Arm:
        """The arm of a candidate.

        Raises:
            ValueError: If no arm has this name.
        """
        for arm in self.arms:
            if arm.candidate == name:
                return arm
        msg = f"Unknown candidate {name!r}: this router has {list(self.names)}."
        raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants next, and why."""

    action: Action
    """`ask` the candidate, have its answer `verify`-ed, or `accept` the answer it gave."""

    candidate: str
    policy: str
    """Class name of the policy that decided."""

    reason: str
    """One sentence a person can read."""

    final: bool = False
    """With `ask`: the answer will be accepted unverified, so it may be streamed directly."""

    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """For every arm: quality, cost_usd, utility, or what else the policy looked at."""

    confidence: float | None = None
    """P(answer good) after the verifier's score was read through the observation model."""

    propensity: float = 1.0
    """Probability with which the policy takes this action in this situation."""

    flip: str | None = None
    """The change of the policy's knob that would have changed the choice."""

    decision_id: str = ""
    """Set by the live router; feedback refers to it."""

    def explain(self) -> str:
        """The decision as text: the choice, the reason, and every arm's numbers."""
        lines = [f"{self.action} {self.candidate}  ({self.policy}: {self.reason})"]
        for name, numbers in self.scores.items():
            shown = "  ".join(
                f"{key}={'unknown' if value is None else f'{value:.4g}'}"
                for key, value in numbers.items()
            )
            mark = "→" if name == self.candidate else " "
            lines.append(f"  {mark} {name}: {shown}")
        if self.flip is not None:
            lines.append(f"  flips: {self.flip}")
        return "\n".join(lines)
