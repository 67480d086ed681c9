"""The basic types: what is routed to, what was seen, what was decided.

Values that live in Python are frozen dataclasses. What enters a LangGraph state or a JSON log
(`Attempt`) is a `TypedDict`, because checkpointers reject unknown classes.

Units are in the names: `_usd`, `_usd_per_mtok` (USD per million tokens), `_s`, `_tokens`.
Quality, confidence and probability are floats in [0, 1]. Unknown is `None`, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from langchain_llm_router.arguments import CheckedArguments, check_range, make_plain
from langchain_llm_router.lazy import lazy_names
from langchain_llm_router.options import NO_OPTIONS, RoutingOptions

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata
else:  # Only annotations need them.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_core.language_models": "BaseChatModel",
            "langchain_core.messages.ai": "UsageMetadata",
        },
    )

__all__ = [
    "CHARS_PER_TOKEN",
    "Action",
    "Arm",
    "Attempt",
    "Candidate",
    "Decision",
    "Endpoint",
    "Price",
    "RoutingOptions",
    "Situation",
    "candidate_names",
    "sum_usd",
]

CHARS_PER_TOKEN = 4.0
"""Approximate length of a token where none were counted: English text, any tokenizer."""

Action = Literal["ask", "verify", "accept"]


def sum_usd(amounts: Sequence[float | None]) -> float | None:
    """Add costs; unknown plus anything is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if len(known) == len(amounts) else None


@dataclass(frozen=True, slots=True)
class Price(CheckedArguments):
    """What tokens cost.

    Example:
        >>> Price(0.15, 0.60).estimate_usd(input_tokens=1_000, output_tokens=500)
        0.00045
    """

    input_usd_per_mtok: float
    """USD per million input tokens."""

    output_usd_per_mtok: float
    """USD per million output tokens."""

    cache_read_usd_per_mtok: float | None = None
    """USD per million input tokens read from the provider's prompt cache; None: as for others."""

    def __post_init__(self) -> None:
        names = ("input_usd_per_mtok", "output_usd_per_mtok", "cache_read_usd_per_mtok")
        check_range(self, *names)
        make_plain(self, *names)

    def estimate_usd(
        self, *, input_tokens: float, output_tokens: float, cache_read_tokens: float = 0
    ) -> float:
        """Price a call by its token counts; cached tokens are part of `input_tokens`."""
        cache_rate = self.cache_read_usd_per_mtok
        if cache_rate is None:
            cache_rate = self.input_usd_per_mtok
        return (
            (input_tokens - cache_read_tokens) * self.input_usd_per_mtok
            + cache_read_tokens * cache_rate
            + output_tokens * self.output_usd_per_mtok
        ) / 1e6

    def cost_usd(self, usage: UsageMetadata | None) -> float | None:
        """Price a LangChain usage record; None when the provider reported no usage."""
        if usage is None:
            return None
        cached = usage.get("input_token_details", {}).get("cache_read") or 0
        return self.estimate_usd(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_tokens=cached,
        )


@dataclass(frozen=True)
class Endpoint(CheckedArguments):
    """One of several places or ways to ask the same model; None means: as for its candidate.

    Example:
        >>> Candidate("gpt-4o", endpoints=[Endpoint("azure"), Endpoint("openai")]).endpoints[1].name
        'openai'
    """

    name: str
    """Unique within its candidate; the arm is called `candidate@endpoint`."""

    model: BaseChatModel | str | None = None
    price: Price | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of every call, e.g. `{"service_tier": "flex"}`, added to its candidate's."""

    ttft_s: float | None = None
    itl_s: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "ttft_s", "itl_s")


@dataclass(frozen=True)
class Candidate(CheckedArguments):
    """A model that may be asked.

    Example:
        >>> Candidate("small", price=Price(0.15, 0.6)).price.output_usd_per_mtok
        0.6
    """

    name: str
    """Its name in policies, records and saved tables; unique within a router."""

    model: BaseChatModel | str | None = None
    """A chat model, or `"provider:model"`; None for offline replay only.

    Tokens and cost of a streamed answer are known only if the model reports usage in streams:
    `ChatOpenAI(base_url=...)` does so with `stream_usage=True`. Otherwise they stay unknown (None).
    """

    price: Price | None = None
    """None: looked up by provider and model name where possible, otherwise unknown."""

    expected_output_tokens: float = 256
    """Length of a typical answer, for pricing a call before it is made."""

    expected_cost_usd: float | None = None
    """Measured mean cost of a call, e.g. from training outcomes; used instead of price x tokens
    where no length is predicted."""

    ttft_s: float | None = None
    """Typical time to first token, used until live telemetry has measured it."""

    itl_s: float | None = None
    """Typical inter-token latency, used until live telemetry has measured it."""

    max_output_tokens: int | None = None
    """Longest answer it can give; with a hard budget its worst case must be known."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of every call, e.g. `{"reasoning_effort": "low"}`."""

    endpoints: Sequence[Endpoint] = ()
    """Where it can be asked: each endpoint becomes an arm, `name@endpoint`."""

    of: str | None = None
    """On an arm made from `endpoints`: the candidate whose quality it has."""

    def __post_init__(self) -> None:
        if not self.name:
            msg = f"A candidate's name must be a non-empty string, got {self.name!r}."
            raise ValueError(msg)
        numbers = ("expected_output_tokens", "expected_cost_usd", "ttft_s", "itl_s")
        check_range(self, *numbers)
        check_range(self, "max_output_tokens", low=1)
        make_plain(self, *numbers, "max_output_tokens")
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names) or "" in names:
            msg = f"Endpoints of {self.name!r} must have distinct, non-empty names, got {names}."
            raise ValueError(msg)

    @property
    def quality_name(self) -> str:
        """The name that estimators and policies know it by: endpoints share their model's."""
        return self.name if self.of is None else self.of


def candidate_names(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Names in order, after checking that there is at least one and none occurs twice."""
    names = tuple(candidate.name for candidate in candidates)
    if not names:
        msg = "`candidates` is empty: give at least one `Candidate`."
        raise ValueError(msg)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"Candidate names must be unique, but {twice} come more than once in {list(names)}."
        raise ValueError(msg)
    return names


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
