"""Attempts, arms, situations and decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = [
    "Action",
    "Arm",
    "Attempt",
    "Decision",
    "Ending",
    "Situation",
    "Stuck",
    "share_true",
    "sum_usd",
]

Action = Literal["ask", "verify", "accept", "abstain"]
Ending = Literal["refuse", "flag", "interrupt", "hold"]
"""How a request ends that no answer is good enough for, see `policies.Unsure`."""


def sum_usd(amounts: Sequence[float | None]) -> float | None:
    """Add costs; the sum is None (unknown) if any of them is."""
    return None if None in amounts else math.fsum(amounts)  # type: ignore[arg-type]


def share_true(verdicts: Sequence[bool | None]) -> float | None:
    """Return the share of True among the verdicts that could be read; None if there are none."""
    read = [verdict for verdict in verdicts if verdict is not None]
    return None if len(read) == 0 else math.fsum(read) / len(read)


class Attempt(TypedDict, total=False):
    """One request to a candidate as plain data: its outcome, cost and verification."""

    candidate: str
    error: str | None
    """Class and message of the candidate's error; None if it answered."""

    form: Literal["text", "tool_calls", "structured"]
    """Kind of the answer; only text is verified, what came with a confidence, and what can be
    compared."""

    reported: bool
    """Whether a confidence was asked for in structured output, or came beside a tool call, so that
    the answer is verified although it is no text."""

    comparable: bool
    """Whether it is structured output and the verifier compares answers, so that it is compared
    with the other candidates' objects although it is no text."""

    flaw: str | None
    """What makes the answer unusable or only half of one: a refusal, a filter, an empty answer, a
    cut, a missing finish reason, an invalid tool call, a failed parse. If `error` is the same, it
    counted as a failure."""

    too_long: bool
    """Whether the candidate failed because the prompt is longer than its context window."""

    abandoned: bool
    """Whether the caller left before its answer was complete; `error` says so too."""

    committed: bool
    """Whether it was streamed to the caller before it was complete: it can no longer be
    discarded."""

    verified: bool
    """Whether the answer was verified (even if the verifier returned no verdict)."""

    confidence: float | None
    """The verifier's raw score in [0, 1]; None if not verified or without a readable verdict."""

    verdicts: list[bool | None]
    """The single samples behind `confidence`, None for each that could not be read."""

    rationales: list[str | None]
    """The reason for each verdict, by its place in `verdicts`; missing if none gave any."""

    standard_error: float | None
    """√(p(1-p)/n) of p = `confidence` over the n verdicts that could be read: with `confidence` as
    mean, the answer's own Gaussian. 0 where all verdicts agree; None without verdicts."""

    verification_errors: list[str]
    """Errors of the verifier's calls, one per failed call."""

    answer_group: int | None
    """Group of equal answers that this answer belongs to, among the attempts of this request.
    Groups are numbered from 0 in the order of their first answer. Missing or None if the answer was
    not compared, or cannot be, e.g. because it is free text."""

    cost_usd: float | None
    verification_cost_usd: float | None
    verification_tokens: int | None
    """Tokens of the verifier's calls, prompts included."""

    verification_unsure: bool
    """Whether a verifier's call failed that may still have been billed."""

    verification_most_usd: float
    """Upper bound on the cost of such a verification, where there is a budget."""

    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    ttft_s: float | None
    finished_at_s: float
    """Unix time; the age of a prompt cache is computed from it."""

    failures: list[dict[str, Any]]
    """Calls that failed or lost a race; if the attempt failed, `error` is that of the last one."""

    may_be_billed: bool
    """False if its call failed before an answer can have been made, so that it cost nothing."""

    interrupted: list[Action]
    """Steps of this attempt that were running when their process ended and were then repeated;
    the cost of the interrupted ones is unknown."""

    calls: int
    """Number of model calls of an agent's run, as far as they are known; missing for a model."""

    unsure_usd: float
    """Upper bound on what an agent's calls may have cost that ended without an answer, also in an
    earlier process; missing for a model, or where a call has no bound."""

    restored: bool
    """Whether `restore` has undone its effects, so that its answer can no longer be kept."""

    check_outputs: list[str | None]
    """What each check said, by its place in `verdicts`; missing if none said anything."""

    client_retries: bool
    """Whether its client may have retried unseen: then the cost is that of the last call alone."""

    answered_by: str
    """The endpoint that answered, where a hedged call to another one was faster."""

    alongside: str
    """The candidate that was asked at the same time, and whose attempt follows; missing if none."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A candidate as the policy sees it for one query, with the expected outcome of a call."""

    candidate: str
    quality: float | None = None
    """Expected quality of its answer in [0, 1]; None without an estimator."""

    cost_usd: float | None = None
    """Expected cost of one call."""

    ttft_s: float | None = None
    itl_s: float | None = None
    verification_cost_usd: float | None = None
    """Expected cost of verifying its answer."""

    model: str | None = None
    """Name of the candidate that this arm is an endpoint of; None if it is no endpoint."""

    error_rate: float | None = None
    """P(the call fails), as measured recently; None if unknown."""

    available: bool = True
    """Whether its circuit breaker lets a call through."""

    max_input_tokens: int | None = None
    """Its context window in tokens, as its model's profile gives it; None if unknown."""

    probe: bool = False
    """Whether a probe is due: statistics are stale or missing, or the breaker is half-open."""

    worst_call_usd: float | None = None
    """Upper bound on the cost of one call; None if there is no bound."""

    worst_asking_usd: float | None = None
    """Upper bound on the cost of asking it, with all retries and hedged calls."""

    worst_verification_usd: float | None = None
    """Upper bound on the cost of verifying its answer."""

    worst_cost_usd: float | None = None
    """Upper bound on the total cost of asking it and verifying its answer."""

    worst_call_tokens: float | None = None
    """Upper bound on the tokens of one call, prompt included; None if there is no bound, or no
    budget in tokens."""

    worst_asking_tokens: float | None = None
    """Upper bound on the tokens of asking it, with all retries and hedged calls."""

    worst_verification_tokens: float | None = None
    """Upper bound on the tokens of verifying its answer."""

    unbounded: str | None = None
    """Why there is no upper bound, and what would give it one; None if there is one."""

    capped_usd: float | None = None
    """Expected cost of one call without what records in the messages say of lengths and caches,
    as a caller may have written them; None if `cost_usd` owes nothing to them."""

    prompt_usd: float | None = None
    """Expected cost of reading the prompt, its cached part at the price of a cached one; known in
    tool loops only, where it says what a switch costs."""

    tokens_per_s: float | None = None
    """Expected output tokens per second, the wait for the first one included."""

    price_age_s: float | None = None
    """Seconds since its price was known to hold; None if the feed does not say, or without one."""

    price_from_feed: bool = False
    """Whether its price is from a feed."""

    @property
    def model_name(self) -> str:
        """The name used by estimators and policies, which all endpoints of a model share."""
        return self.candidate if self.model is None else self.model

    @property
    def limited_usd(self) -> float | None:
        """The expected cost that is compared with a request's limits."""
        return self.cost_usd if self.capped_usd is None else self.capped_usd


@dataclass(frozen=True, slots=True)
class Stuck:
    """A reading of one tool loop, which a policy sees like any other observation.

    Raises:
        ValueError: If it is stuck, and no signal says so.
    """

    stuck: bool = False
    signal: str | None = None
    """Name of the signal that moved the reading most; None if none did."""

    detail: str = ""
    """The reading in words, without any text of the messages."""

    probability: float | None = None
    """P(the loop fails), in [0, 1]; None if rules read it, which know no probability."""

    signals: Mapping[str, float] = field(default_factory=dict)
    """The known signals that are not zero, by name."""

    above: tuple[str, ...] = ()
    """The models that are stronger than the one that has the loop, the weakest of them first."""

    max_switch_usd: float | None = None
    """Most that a switch to another candidate may cost; None means no limit."""

    def __post_init__(self) -> None:
        if self.stuck and self.signal is None:
            msg = "A `Stuck` with `stuck=True` needs the name of a `signal`, got None."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a decision may depend on: the query, the arms, the attempts so far."""

    query: str
    arms: tuple[Arm, ...]
    attempts: tuple[Attempt, ...] = ()
    options: RoutingOptions = NO_OPTIONS

    granted_usd: float | None = None
    """Amount that a budget has reserved for this request; worst cases must fit in it. None means
    that there is no budget in USD."""

    prefer: str | None = None
    """Candidate to ask first regardless of the policy, because it answered last in this
    conversation or runs a tool loop."""

    granted_tokens: float | None = None
    """Tokens that a budget has reserved for this request; None means that there is no budget in
    tokens."""

    stuck: Stuck | None = None
    """Whether the tool loop is stuck that `prefer` has; None outside of such loops."""

    sensitive: str | None = None
    """Why only some candidates may see the request, see `Sensitive`; None if all may."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates in declared order."""
        return tuple(arm.candidate for arm in self.arms)

    @property
    def open_arms(self) -> tuple[Arm, ...]:
        """The arms that have not been asked yet, in declared order."""
        asked = {attempt["candidate"] for attempt in self.attempts}
        return tuple(arm for arm in self.arms if arm.candidate not in asked)

    @property
    def answered(self) -> tuple[Attempt, ...]:
        """The attempts that returned an answer."""
        return tuple(attempt for attempt in self.attempts if attempt.get("error") is None)

    @property
    def standing(self) -> tuple[Attempt, ...]:
        """The attempts whose answers can be kept: their effects were not undone."""
        return tuple(attempt for attempt in self.answered if "restored" not in attempt)

    @property
    def spent_usd(self) -> float | None:
        """Total cost of all attempts and verifications so far; None if any of it is unknown."""
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
        """Return the arm of a candidate.

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
    """The next step that a policy takes, and why."""

    action: Action
    """`ask` the candidate, `verify` its answer, `accept` its answer, or `abstain`: end the request
    although no answer is good enough."""

    candidate: str
    """With `abstain`: the candidate whose answer is the best, or without any answer the one that
    would have been asked."""

    policy: str
    """Class name of the policy that decided."""

    reason: str
    """The reason, as one sentence."""

    final: bool = False
    """With `ask`: the answer will be accepted unverified, so it may be streamed directly."""

    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """For every arm the numbers behind the decision, e.g. quality, cost_usd, utility."""

    confidence: float | None = None
    """P(the answer is good), given the verifier's score."""

    propensity: float = 1.0
    """Probability with which the policy takes this action in this situation."""

    flip: str | None = None
    """The change of the policy's knob that would have changed the choice, where it is known at
    once; `explain` finds it for every policy with a knob."""

    decision_id: str = ""
    """Identifier of the request, set by the live router; feedback refers to it."""

    likely_next: str | None = None
    """With `ask`: the candidate that will probably be asked next, so that a driver may ask
    both at the same time; None if there is none, or it is unknown."""

    signal: str | None = None
    """The signal of a stuck tool loop that moved the choice to a stronger candidate."""

    ending: Ending | None = None
    """With `abstain`: how the request ends."""

    ending_cost_usd: float | None = None
    """With `abstain`: what this ending costs, e.g. the time of a person."""

    bar: float | None = None
    """What `confidence` must reach for the answer to be kept; None if the policy has no bar."""

    @property
    def ends(self) -> bool:
        """Whether the request ends with this decision."""
        return self.action in ("accept", "abstain")

    def explain(self) -> str:
        """Return the decision as text: the choice, the reason, and every arm's numbers."""
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
        if self.signal is not None:
            lines.append(f"  signal: {self.signal}")
        return "\n".join(lines)
