"""Limits on spending per call, run, user or key, in total or per period.

A request reserves the worst case of everything that it may still do, is routed within the granted
amount (an arm whose worst case does not fit is not asked), and settles its actual cost. The sum
therefore stays within the limit for any number of concurrent callers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, get_args
from urllib.parse import quote

from langchain_llm_router.budgets.ledgers import (
    Account,
    InProcessLedger,
    Ledger,
    Reservation,
    to_nano,
    to_usd,
)
from langchain_llm_router.budgets.pacer import Pacer
from langchain_llm_router.budgets.periods import (
    CalendarUnit,
    Period,
    calendar_period,
    find_timezone,
    fixed_period,
)
from langchain_llm_router.loop.charges import in_tokens
from langchain_llm_router.types import Situation
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.errors import BudgetExceededError, LedgerError
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.types.steady_clock import steady_time

__all__ = [
    "Budget",
    "BudgetExceededError",
    "Budgets",
    "Held",
    "ReserveOperation",
]


@dataclass(frozen=True)
class Budget(CheckedArguments):
    """A limit on spending and its scope.

    Budgets of the same scope and period draw on the same account of a ledger: a limit that is
    raised or lowered keeps what was spent.

    Example:
        >>> Budget(5.0, per="user_id", period="day", timezone="Europe/Berlin").label
        '5 USD per user_id in a day (Europe/Berlin)'
    """

    limit_usd: float | None = None
    """Limit in USD; a reserved worst case counts until its actual cost is settled."""

    per: str | None = None
    """Key of `config["configurable"]` (or of the metadata) whose values have accounts of their
    own, such as `"user_id"`, `"thread_id"`, `"run_id"`; `"call"` limits each single call; None
    means that all callers share one account. Calls without the key share one account, too. The
    account of a `"run_id"` without a period is forgotten a day after its last call, because a run
    does not come back; other accounts without a period are kept for all time."""

    period_s: float | None = None
    """Length of the periods to each of which the limit applies (86,400 is a day in UTC); None means
    that it applies for all time, unless `period` is set."""

    pace: float | None = None
    """Initial λ in quality per dollar, which is then adjusted so that the budget lasts for the
    period. If None, λ is not adjusted."""

    period: CalendarUnit | None = None
    """Calendar period to each of which the limit applies: `"day"`, `"week"` (from Monday) or
    `"month"`; instead of `period_s`."""

    timezone: str | None = None
    """Time zone in which a calendar period begins, such as `"Europe/Berlin"`; None means UTC."""

    limit_tokens: int | None = None
    """Limit in tokens of prompts, answers and verdicts, instead of `limit_usd`. To limit both, give
    `Budgets` two budgets."""

    def __post_init__(self) -> None:
        if (self.limit_usd is None) == (self.limit_tokens is None):
            msg = (
                f"One of `limit_usd` and `limit_tokens` must be None, got {self.limit_usd!r} and "
                f"{self.limit_tokens!r}: to limit both, give `Budgets` two budgets."
            )
            raise ValueError(msg)
        if self.limit_usd is not None and not 0 <= self.limit_usd < 9e6:
            msg = f"`limit_usd` must lie in [0, 9,000,000), got {self.limit_usd!r}."
            raise ValueError(msg)
        if self.limit_tokens is not None and not 0 <= self.limit_tokens < 9e15:
            msg = f"`limit_tokens` must lie in [0, 9e15), got {self.limit_tokens!r}."
            raise ValueError(msg)
        if self.period_s is not None and not 0 < self.period_s < math.inf:
            msg = f"`period_s` must be > 0 or None, got {self.period_s!r}."
            raise ValueError(msg)
        self._check_calendar()
        check_range(self, "pace", above=True)
        is_shared = self.has_period and self.per is None
        if self.pace is not None and (not is_shared or self.limit_usd is None):
            msg = (
                f"`pace` must be None, got {self.pace!r}: only a budget in USD with a period that "
                "all callers share can be paced. Set `limit_usd` and `period` or `period_s`, and "
                "leave `per` out."
            )
            raise ValueError(msg)

    def _check_calendar(self) -> None:
        if self.period not in (None, *get_args(CalendarUnit)):
            msg = f"`period` must be one of {get_args(CalendarUnit)} or None, got {self.period!r}."
            raise ValueError(msg)
        if self.period is not None and self.period_s is not None:
            msg = (
                f"`period` must be None where `period_s` is set, got {self.period!r} and "
                f"{self.period_s!r}: set one of them."
            )
            raise ValueError(msg)
        if self.timezone is not None:
            if self.period is None:
                msg = (
                    f"`timezone` must be None unless `period` is set, got {self.timezone!r}: set "
                    "`period` to 'day', 'week' or 'month'."
                )
                raise ValueError(msg)
            find_timezone(self.timezone)

    @property
    def has_period(self) -> bool:
        """Whether the limit applies to each period anew."""
        return self.period_s is not None or self.period is not None

    @property
    def label(self) -> str:
        """Description for error messages."""
        whose = "" if self.per is None else f" per {self.per}"
        when = "" if self.period_s is None else f" in {self.period_s:g} s"
        if self.period is not None:
            when = f" in a {self.period} ({self.timezone or 'UTC'})"
        limit = f"{self.limit_tokens} tokens"
        if self.limit_usd is not None:
            limit = f"{self.limit_usd:g} USD"
        return f"{limit}{whose}{when}"

    @property
    def limit_nano(self) -> int:
        """Limit in the ledger's whole numbers: nano-dollars or tokens."""
        if self.limit_usd is not None:
            return to_nano(self.limit_usd)
        assert self.limit_tokens is not None
        return int(self.limit_tokens)

    def current_period(self, now: float) -> Period | None:
        """Return the period that a Unix time lies in; None without periods."""
        if self.period is not None:
            return calendar_period(now, self.period, self.timezone or "UTC")
        return None if self.period_s is None else fixed_period(now, self.period_s)

    def account(self, config: Mapping[str, Any], now: float) -> Account | None:
        """Return the account that a request draws on; None for a limit on each call."""
        if self.per == "call":
            return None
        subject = None
        if self.per is not None:
            metadata, configurable = config.get("metadata"), config.get("configurable")
            subject = {**(metadata or {}), **(configurable or {})}.get(self.per)
        period = self.current_period(now)
        expires_s = None if period is None else period.expires_s
        if period is None and self.per == "run_id":
            expires_s = now + _RUN_LIVES_S
        parts = [
            "tokens" if self.limit_usd is None else "usd",
            "all" if self.per is None else f"per {self.per}",
            "" if subject is None else str(subject),
            "" if period is None else period.label,
        ]
        key = ":".join(_quote(part) for part in parts)
        return Account(key, self.limit_nano, expires_s)


_RUN_LIVES_S = 86_400.0
_MAX_QUOTED = 200


def _quote(text: str) -> str:
    """Quote a part of a key, so that no text can end it or look like another one."""
    quoted = quote(text, safe="", errors="surrogatepass")
    if len(quoted) <= _MAX_QUOTED:
        return quoted
    return "#" + blake2b(quoted.encode(), digest_size=32).hexdigest()


@dataclass(frozen=True)
class Held:
    """A request's reservations and the amounts that it may spend."""

    hold: Reservation
    granted_usd: float | None
    """None means that no budget is in USD."""

    token_hold: Reservation | None = None
    granted_tokens: float | None = None
    """None means that no budget is in tokens."""


@dataclass(frozen=True)
class _Unit:
    """The unit of a budget, and its whole numbers in ledgers."""

    name: str
    to_whole: Callable[[float], int]
    from_whole: Callable[[int], float]


_USD = _Unit("USD", to_nano, to_usd)
_TOKENS = _Unit("tokens", math.ceil, float)


@dataclass(eq=False)
class Budgets(CheckedArguments):
    """A router's budgets and the ledger that keeps their accounts.

    Args:
        budgets: The budgets, all of which apply at once.
        ledger: Keeps the accounts; with a `RedisLedger` processes share them.
        clock: Returns the Unix time; by default one that does not jump with the wall clock.
    """

    budgets: Sequence[Budget]
    ledger: Ledger = field(default_factory=InProcessLedger)
    clock: Callable[[], float] = steady_time

    def __post_init__(self) -> None:
        if len(self.budgets) == 0:
            msg = "`budgets` is empty: give at least one `Budget`."
            raise ValueError(msg)
        self.ledger.use_clock(self.clock)
        self._pacers: dict[int, Pacer] = {}
        for i, budget in enumerate(self.budgets):
            period = budget.current_period(self.clock())
            if budget.pace is not None and period is not None and budget.limit_usd is not None:
                length_s = period.end_s - period.start_s
                self._pacers[i] = Pacer(budget.limit_usd, length_s, budget.pace)

    def __deepcopy__(self, memo: dict[int, Any]) -> Budgets:
        # A copy of a router spends from the same accounts.
        return self

    def lambda_(self, config: Mapping[str, Any]) -> float | None:
        """Return the highest λ of the paced budgets; None if no budget is paced."""
        now, values = self.clock(), []
        for i, pacer in self._pacers.items():
            budget = self.budgets[i]
            account, period = budget.account(config, now), budget.current_period(now)
            assert account is not None
            assert period is not None
            used_usd = to_usd(self.ledger.used_nano(account))
            values.append(pacer.observe(used_usd, now, (period.start_s, period.end_s)))
        return max(values, default=None)

    @property
    def in_tokens(self) -> bool:
        """Whether any of the budgets is in tokens."""
        return any(budget.limit_usd is None for budget in self.budgets)

    def reserve(self, situation: Situation, config: Mapping[str, Any]) -> Held:
        """Reserve the worst case of everything that the request may still do.

        Raises:
            BudgetExceededError: If the budgets do not cover the worst case of any candidate, or no
                worst case is known.
            LedgerError: If the ledger cannot tell, e.g. because Redis is down.
        """
        held = Held(Reservation((), 0), None)
        if any(budget.limit_usd is not None for budget in self.budgets):
            reservation = self._reserve(situation, config, _USD)
            held = Held(reservation, to_usd(reservation.granted_nano))
        if not self.in_tokens:
            return held
        try:
            reservation = self._reserve(in_tokens(situation), config, _TOKENS)
        except (BudgetExceededError, LedgerError):
            self.ledger.settle(held.hold, 0)
            raise
        return replace(held, token_hold=reservation, granted_tokens=float(reservation.granted_nano))

    def _reserve(self, situation: Situation, config: Mapping[str, Any], unit: _Unit) -> Reservation:
        """Reserve in the accounts of the budgets in one unit."""
        budgets = [b for b in self.budgets if (b.limit_usd is None) == (unit is _TOKENS)]
        worst = [a.worst_cost_usd for a in situation.arms if a.worst_cost_usd is not None]
        if len(worst) == 0:
            why = {arm.candidate: arm.unbounded for arm in situation.arms}
            msg = (
                "A budget needs an upper bound on the cost of a call, and no candidate has one: "
                f"{why}."
            )
            raise BudgetExceededError(msg)
        now = self.clock()
        pairs = [(budget, budget.account(config, now)) for budget in budgets]
        limits = [unit.from_whole(b.limit_nano) for b, account in pairs if account is None]
        want, least = min([math.fsum(worst), *limits]), min(worst)
        accounts = [account for _, account in pairs if account is not None]
        reservation = None
        if least <= want:
            reservation = self.ledger.reserve(accounts, unit.to_whole(want), unit.to_whole(least))
        if reservation is None:
            labels = [budget.label for budget in budgets]
            if least <= want and self.ledger.problem is not None:
                msg = (
                    f"Whether the budgets {labels} have enough left is not known, so nothing is "
                    f"asked: {self.ledger.problem}."
                )
                raise LedgerError(msg)
            used = [unit.from_whole(self.ledger.used_nano(account)) for account in accounts]
            spent = f"; already spent or reserved: {used} {unit.name}" if used else ""
            msg = (
                f"The budgets {labels} leave too little for any candidate: the cheapest one can "
                f"cost {least:.6g} {unit.name}{spent}. Raise the limit or lower "
                "`max_output_tokens`."
            )
            raise BudgetExceededError(msg)
        return reservation

    def settle(self, held: Held, spent_usd: float, spent_tokens: float = 0.0) -> None:
        """Settle a reservation with what the request has cost, without waiting.

        Args:
            held: The reservation.
            spent_usd: The cost; one that is no finite number counts as all that was reserved.
            spent_tokens: The tokens of prompts, answers and verdicts.
        """
        self._settle(held.hold, spent_usd, _USD)
        if held.token_hold is not None:
            self._settle(held.token_hold, spent_tokens, _TOKENS)

    def _settle(self, hold: Reservation, spent: float, unit: _Unit) -> None:
        whole = unit.to_whole(max(0.0, spent)) if math.isfinite(spent) else hold.granted_nano
        self.ledger.settle(hold, whole)


@dataclass(frozen=True)
class ReserveOperation(Operation):
    """Reserves the worst case of a request, or of a single operation of it."""

    budgets: Budgets
    situation: Situation
    config: Mapping[str, Any]

    def perform(self) -> Held:
        """Reserve in the calling thread."""
        return self.budgets.reserve(self.situation, self.config)

    async def aperform(self) -> Held:
        """Reserve in another thread if the ledger may wait for a network."""
        if self.budgets.ledger.blocks:
            return await asyncio.to_thread(self.perform)
        return self.perform()
