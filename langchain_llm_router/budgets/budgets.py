"""What may be spent: per call, run, user or key, in total or per period, and never more.

A request reserves the worst case of everything it may still do, is routed within what was granted
(an arm whose worst case no longer fits is not asked), and settles what it really cost. So the sum
stays within the limit, however many callers there are.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_llm_router.budgets.ledgers import (
    Account,
    Hold,
    InProcessLedger,
    Ledger,
    to_nano,
    to_usd,
)
from langchain_llm_router.budgets.pacer import Pacer
from langchain_llm_router.live.failure_rules import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.types import Arm, Candidate, Situation, sum_usd
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.errors import BudgetExceededError
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import Verifier

__all__ = [
    "Budget",
    "BudgetExceededError",
    "Budgets",
    "Held",
    "Reserving",
    "bounded",
    "prompt_bound",
    "worst_cost_usd",
]

_VERDICT_PROMPT_TOKENS = 4000


@dataclass(frozen=True)
class Budget(CheckedArguments):
    """A limit on spending, and what it applies to.

    Example:
        >>> Budget(5.0, per="user_id", period_s=86_400).limit_usd
        5.0
    """

    limit_usd: float
    """Hard: worst cases count."""

    per: str | None = None
    """A key of `config["configurable"]` (or of its metadata) that says whose money it is, such as
    `"user_id"`, `"thread_id"`, `"run_id"`; `"call"`: each call alone; None: all callers share."""

    period_s: float | None = None
    """The limit is for each period of this length (86,400: a day in UTC); None: for all time."""

    pace: float | None = None
    """Initial λ, in quality per dollar: the policy's λ is then adjusted so that the period's
    money lasts; None: λ is not adjusted."""

    def __post_init__(self) -> None:
        if not 0 <= self.limit_usd < 9e6:
            msg = f"`limit_usd` must lie in [0, 9,000,000), got {self.limit_usd!r}."
            raise ValueError(msg)
        if self.period_s is not None and not 0 < self.period_s < math.inf:
            msg = f"`period_s` must be > 0 or None, got {self.period_s!r}."
            raise ValueError(msg)
        check_range(self, "pace", above=True)
        if self.pace is not None and (self.period_s is None or self.per is not None):
            msg = "`pace` needs a `period_s`, and a budget that all callers share (`per` None)."
            raise ValueError(msg)

    @property
    def label(self) -> str:
        """Its name in error messages."""
        whose = "" if self.per is None else f" per {self.per}"
        when = "" if self.period_s is None else f" in {self.period_s:g} s"
        return f"{self.limit_usd:g} USD{whose}{when}"

    def account(self, config: Mapping[str, Any], now: float) -> Account | None:
        """The account that a request draws on; None: it is a limit on the call alone."""
        if self.per == "call":
            return None
        subject = ""
        if self.per is not None:
            metadata, configurable = config.get("metadata"), config.get("configurable")
            subject = str({**(metadata or {}), **(configurable or {})}.get(self.per, ""))
        key, expires = f"{self.per or 'all'}:{subject}:{self.limit_usd:g}", None
        if self.period_s is not None:
            window = int(now // self.period_s)
            key = f"{key}:{self.period_s:g}:{window}"
            expires = (window + 2) * self.period_s
        return Account(key, to_nano(self.limit_usd), expires)


def prompt_bound(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> int:
    """Upper bound on a prompt's tokens with any tokenizer: a token is at least one byte long."""
    content = sum(len(str(message.content).encode()) + 32 for message in messages)
    extra = sum(
        len(str(getattr(message, name, "") or "").encode())
        for message in messages
        for name in ("tool_calls", "additional_kwargs")
    )
    tools = sum(len(repr(value)) for key, value in kwargs.items() if key != "stop")
    return content + extra + 4 * tools


def worst_cost_usd(
    candidate: Candidate, prompt_tokens: int, most_tokens: int | None
) -> float | None:
    """Upper bound on the cost of one call; None if price or length is unbounded.

    Args:
        candidate: The candidate, with its price and longest answer.
        prompt_tokens: Upper bound on the prompt's length.
        most_tokens: `max_tokens` of the call; None: the candidate's own limit.
    """
    if most_tokens is None:
        most_tokens = _own_limit(candidate)
    if candidate.price is None or most_tokens is None:
        return None
    return candidate.price.estimate_usd(input_tokens=prompt_tokens, output_tokens=most_tokens)


# The same limit under the names that providers give it.
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")


def _most_tokens(candidate: Candidate, kwargs: Mapping[str, Any]) -> int | None:
    """The longest answer that a call's keywords allow, over all choices; None: no limit set."""
    named = [int(kwargs[name]) for name in _LENGTHS if kwargs.get(name) is not None]
    longest = max(named, default=_own_limit(candidate))
    n_choices = kwargs.get("n") or 1
    return None if longest is None else longest * int(n_choices)


def _own_limit(candidate: Candidate) -> int | None:
    """The longest answer that a candidate gives without such keywords; None: unknown."""
    if candidate.max_output_tokens is not None:
        return candidate.max_output_tokens
    profile = getattr(candidate.model, "profile", None) or {}
    own: int | None = getattr(candidate.model, "max_tokens", None)
    return own or profile.get("max_output_tokens")


def bounded(
    arms: Sequence[Arm],
    candidates: Mapping[str, Candidate],
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    verifier: Verifier | None = None,
    live: Live | None = None,
) -> tuple[Arm, ...]:
    """The arms with their worst cases.

    Args:
        arms: Of a situation.
        candidates: By name.
        messages: The conversation.
        kwargs: Keywords of the call: tools count, and `max_tokens` bounds the answer.
        settings: The router's own keywords, which a candidate's and the call's override.
        verifier: The verifier of their answers; None: answers are not verified.
        live: Its rules say how many calls one request to an arm can make.
    """
    prompt_tokens = prompt_bound(messages, kwargs)
    calls: dict[str, float | None] = {}
    lengths: dict[str, int | None] = {}
    for arm in arms:
        candidate = candidates[arm.candidate]
        given = {**(settings or {}), **candidate.parameters, **kwargs}
        lengths[candidate.name] = _most_tokens(candidate, given)
        prompt = prompt_tokens + (
            4 * len(repr(candidate.parameters)) if candidate.parameters else 0
        )
        calls[candidate.name] = worst_cost_usd(candidate, prompt, lengths[candidate.name])
    found = []
    for arm in arms:
        candidate = candidates[arm.candidate]
        call = _with_twins(arm, arms, calls, live.rules(candidate) if live else None)
        n_calls = 1 if live is None else live.most_calls(candidate)
        asking = None if call is None else call * n_calls
        judging: float | None = 0.0
        if verifier is not None:
            longest = lengths[candidate.name]
            judging = _verification_bound(verifier, candidate, prompt_tokens, longest, live)
        found.append(
            replace(
                arm,
                worst_call_usd=call,
                worst_asking_usd=asking,
                worst_verification_usd=judging,
                worst_cost_usd=sum_usd([asking, judging]),
            )
        )
    return tuple(found)


def _with_twins(
    arm: Arm, arms: Sequence[Arm], calls: Mapping[str, float | None], rules: Resilience | None
) -> float | None:
    """The most expensive call to an arm: a hedged one may go to an endpoint that costs more."""
    if rules is None or rules.hedge_after is None or arm.model is None:
        return calls[arm.candidate]
    twins = [calls[other.candidate] for other in arms if other.model == arm.model]
    return None if None in twins else max(usd for usd in twins if usd is not None)


def _verification_bound(
    verifier: Verifier,
    candidate: Candidate,
    prompt_tokens: int,
    most_tokens: int | None,
    live: Live | None,
) -> float | None:
    """Upper bound on the cost of judging one answer; the judge reads prompt and answer."""
    # Our bound counts one token per byte; for the judge a token has at most about four bytes.
    prompt = prompt_tokens + 4 * (most_tokens or 0) + _VERDICT_PROMPT_TOKENS
    costs: list[float | None] = []
    for judge, longest in verifier.most_calls(candidate):
        # A verdict is as long as its judge may write, whatever the call allows for the answer.
        tries = 1 if live is None else live.rules(judge).retries + 1
        costs += [worst_cost_usd(judge, prompt, longest)] * tries
    return sum_usd(costs)


@dataclass(frozen=True)
class Held:
    """A request's reservation: what it may spend, and where to settle."""

    hold: Hold
    granted_usd: float


@dataclass(eq=False)
class Budgets(CheckedArguments):
    """A router's budgets and the ledger with their accounts.

    Args:
        budgets: All of them hold at once.
        ledger: Where accounts are kept; a `RedisLedger` shares them among processes.
        clock: Unix time.
    """

    budgets: Sequence[Budget]
    ledger: Ledger = field(default_factory=InProcessLedger)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if len(self.budgets) == 0:
            msg = "`budgets` is empty: give at least one `Budget`."
            raise ValueError(msg)
        self._pacers = {
            i: Pacer(budget.limit_usd, budget.period_s, budget.pace)
            for i, budget in enumerate(self.budgets)
            if budget.pace is not None and budget.period_s is not None
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Budgets:
        # A copy of a router spends from the same accounts.
        return self

    def lambda_(self, config: Mapping[str, Any]) -> float | None:
        """The highest λ that a paced budget asks for; None: none is paced."""
        now, values = self.clock(), []
        for i, pacer in self._pacers.items():
            account = self.budgets[i].account(config, now)
            assert account is not None
            values.append(pacer.observe(to_usd(self.ledger.used_nano(account)), now))
        return max(values, default=None)

    def reserve(self, situation: Situation, config: Mapping[str, Any]) -> Held:
        """Set money aside for everything that the request may still cost.

        Raises:
            BudgetExceededError: If there is not enough for the worst case of any candidate.
        """
        worst = [a.worst_cost_usd for a in situation.arms if a.worst_cost_usd is not None]
        if len(worst) == 0:
            names = [arm.candidate for arm in situation.arms]
            msg = (
                f"A budget needs to know what a call can cost at most, but {names} have no price "
                "or no longest answer: give them a `price`, and `max_tokens` or "
                "`max_output_tokens`."
            )
            raise BudgetExceededError(msg)
        now = self.clock()
        drawn = [(budget, budget.account(config, now)) for budget in self.budgets]
        most = [budget.limit_usd for budget, account in drawn if account is None]
        want, least = min([math.fsum(worst), *most]), min(worst)
        accounts = [account for _, account in drawn if account is not None]
        hold = None
        if least <= want:
            hold = self.ledger.reserve(accounts, to_nano(want), to_nano(least))
        if hold is None:
            labels = [budget.label for budget in self.budgets]
            used = [to_usd(self.ledger.used_nano(account)) for account in accounts]
            msg = (
                f"The budgets {labels} leave too little for any candidate: the cheapest call can "
                f"cost {least:.6g} USD; already spent or set aside: {used}."
            )
            raise BudgetExceededError(msg)
        return Held(hold, to_usd(hold.granted_nano))

    def settle(self, held: Held, spent_usd: float) -> None:
        """Book what the request has cost; never waits."""
        self.ledger.settle(held.hold, to_nano(spent_usd))


@dataclass(frozen=True)
class Reserving(Operation):
    """Set money aside for a request, or for a single operation of it."""

    budgets: Budgets
    situation: Situation
    config: Mapping[str, Any]

    def perform(self) -> Held:
        """Reserve in place."""
        return self.budgets.reserve(self.situation, self.config)

    async def aperform(self) -> Held:
        """Reserve in a thread if the ledger may wait for a network."""
        if self.budgets.ledger.blocks:
            return await asyncio.to_thread(self.perform)
        return self.perform()
