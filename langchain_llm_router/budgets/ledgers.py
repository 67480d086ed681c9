"""Ledgers: accounts of spending that concurrent callers cannot overdraw.

Amounts are whole nano-dollars, because sums are then exact and the cost of a thousand cheap calls
is not rounded away (or whole tokens, for a budget in tokens). A caller *reserves* the worst case
before a call and *settles* the actual cost after it; in between the worst case counts as spent.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.steady_clock import steady_time

__all__ = [
    "Account",
    "InProcessLedger",
    "Ledger",
    "Reservation",
    "merge_accounts",
    "process_id",
    "to_nano",
    "to_usd",
]


def to_nano(usd: float) -> int:
    """Convert USD to nano-dollars, rounded up, because accounts must not be charged too little."""
    return math.ceil(round(usd * 1e9, 3))


def to_usd(nano: int) -> float:
    """Convert nano-dollars to USD."""
    return nano / 1e9


@dataclass(frozen=True, slots=True)
class Account:
    """The account of one subject under one budget in one period."""

    key: str
    """Identifies subject and period; without the limit, so that a new limit keeps the spending."""

    limit_nano: int
    expires_s: float | None = None
    """Unix time after which the account may be deleted; None means never."""


def merge_accounts(accounts: Sequence[Account]) -> list[Account]:
    """Return each account once, with its lowest limit, so that no amount is reserved twice."""
    merged: dict[str, Account] = {}
    for account in accounts:
        known = merged.get(account.key)
        if known is None or account.limit_nano < known.limit_nano:
            merged[account.key] = account
    return list(merged.values())


@dataclass(frozen=True)
class Reservation:
    """An amount reserved in one or more accounts."""

    accounts: tuple[Account, ...]
    granted_nano: int
    """The wanted amount, or what was left in the accounts if that was less."""

    account_states: tuple[str, ...] = ()
    """What its ledger needs to settle it: the reservation's identifier first."""


_PROCESS = os.urandom(8).hex()


def process_id() -> str:
    """Return a text that identifies this process, even if it reuses the PID of an earlier one."""
    return f"{_PROCESS}:{os.getpid()}"


class Ledger(CheckedArguments, ABC):
    """Base class of ledgers, which keep accounts and reserve amounts in them."""

    blocks: bool = False
    """Whether `reserve` may wait for a network, so that async callers run it in a thread."""

    problem: str | None = None
    """Why nothing can be reserved, with what to do about it; None while the ledger works."""

    @property
    def identity(self) -> str:
        """Identifier of the accounts, equal in all processes that share them.

        The class name by default; a ledger whose accounts belong to one process overrides it.
        """
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Use the clock of the budgets, unless the ledger was given its own."""

    @abstractmethod
    def reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        """Reserve one amount in all accounts, or nothing in any.

        Args:
            accounts: The accounts to reserve in.
            want_nano: The largest amount to reserve, in nano-dollars.
            least_nano: The smallest amount to accept where less than `want_nano` is left.

        Returns:
            The reservation; None if an account has less than `least_nano` left, or if `problem`
            says why that is not known.
        """

    @abstractmethod
    def settle(self, hold: Reservation, spent_nano: int) -> None:
        """Settle the actual cost and release the rest of the reservation, without waiting."""

    @abstractmethod
    def used_nano(self, account: Account) -> int:
        """Return the amount spent or reserved, as last read by this process."""


@dataclass(slots=True)
class _Balance:
    settled: int = 0
    reserved: int = 0
    expires_s: float | None = None


# Expired reservations whose late settlement is still recognized.
_MAX_EXPIRED = 10_000
_CLEAN_EVERY_S = 60.0


@dataclass(eq=False)
class InProcessLedger(Ledger):
    """Ledger of one process, safe for threads and async tasks.

    An account with a period is deleted after it. Should the clock then go back to such a period,
    nothing is granted in it, because what was spent is no longer known. An account without a period
    is kept for as long as the process runs, since forgetting it would let its subject spend the
    limit again; one in which nothing was spent is forgotten at once.

    A forked process has copies of the accounts, so that parent and child would both spend what is
    left: nothing is granted in the child.

    Args:
        clock: Returns the Unix time; if None, the clock of the `Budgets` that use the ledger.
        hold_s: Seconds after which a reservation that was not settled, because the thread that had
            it never came back, is released; longer than any request lasts.
        max_accounts: Maximum number of accounts; when it is reached, further subjects are refused.
    """

    clock: Callable[[], float] | None = None
    hold_s: float = 86_400.0
    max_accounts: int = 100_000
    _entries: dict[str, _Balance] = field(default_factory=dict, init=False)
    _holds: dict[str, tuple[float, Reservation]] = field(default_factory=dict, init=False)
    _expired: dict[str, None] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _cleaned_s: float = field(default=-math.inf, init=False)
    _deleted_until_s: float = field(default=-math.inf, init=False)
    """Latest end of life of a deleted account: an earlier one may have been deleted too."""

    def __post_init__(self) -> None:
        check_range(self, "hold_s", above=True)
        check_range(self, "max_accounts", low=1)
        self._ids = itertools.count()
        self._pid = os.getpid()
        self._now: Callable[[], float] = self.clock or steady_time

    @property
    def identity(self) -> str:
        """Identifier that no other process and no other ledger has."""
        return f"{process_id()}:{id(self)}"

    def __deepcopy__(self, memo: dict[int, object]) -> InProcessLedger:
        # A copy of a router spends from the same accounts.
        return self

    def __reduce__(self) -> str:
        msg = (
            "An InProcessLedger keeps the accounts of one process and cannot be sent to another: "
            "use a RedisLedger, whose accounts processes share, or make the ledger there."
        )
        raise TypeError(msg)

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Use the clock of the budgets, unless the ledger was given its own."""
        if self.clock is None:
            self.clock = self._now = clock

    def reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        """Reserve one amount, at most `want_nano`, in all accounts, or nothing in any."""
        accounts = merge_accounts(accounts)
        if len(accounts) == 0:
            return Reservation((), want_nano)
        if self._is_forked():
            self.problem = (
                "an InProcessLedger was made before the process was forked, and parent and child "
                "would both spend what is left: make the budgets after the fork, which gives each "
                "process a limit of its own, or share the limit through a RedisLedger"
            )
            return None
        with self._lock:
            now = self._now()
            self._clean(now)
            self.problem = self._find_problem(accounts)
            if self.problem is not None:
                return None
            granted = self._grant(accounts, want_nano)
            if granted < want_nano and self._release_expired(now):
                granted = self._grant(accounts, want_nano)
            if granted < least_nano:
                return None
            reservation = Reservation(tuple(accounts), granted, (str(next(self._ids)),))
            for account in accounts:
                self._entry(account).reserved += granted
            self._holds[reservation.account_states[0]] = (now + self.hold_s, reservation)
        return reservation

    def settle(self, hold: Reservation, spent_nano: int) -> None:
        """Settle the actual cost and release the rest; a second settlement has no effect."""
        if len(hold.accounts) == 0 or self._is_forked():
            return
        with self._lock:
            reservation_id = hold.account_states[0]
            if reservation_id in self._holds:
                self._release(reservation_id)
            elif reservation_id not in self._expired:
                return
            self._expired.pop(reservation_id, None)
            for account in hold.accounts:
                entry = self._entry(account)
                entry.settled += max(0, spent_nano)
                if entry.settled == 0 and entry.reserved == 0:
                    del self._entries[account.key]

    def used_nano(self, account: Account) -> int:
        """Return the amount spent or reserved."""
        if self._is_forked():
            # Another thread may have had the lock when the process was forked.
            return self._sum(account)
        with self._lock:
            return self._sum(account)

    def _sum(self, account: Account) -> int:
        entry = self._entries.get(account.key)
        return 0 if entry is None else entry.settled + entry.reserved

    def _is_forked(self) -> bool:
        return os.getpid() != self._pid

    def _find_problem(self, accounts: Sequence[Account]) -> str | None:
        new = [account for account in accounts if account.key not in self._entries]
        if any(a.expires_s is not None and a.expires_s <= self._deleted_until_s for a in new):
            return (
                "the clock was set back to a period whose accounts are deleted, so what was spent "
                "in it is not known: set the clock right, or wait for the next period"
            )
        if len(self._entries) + len(new) > self.max_accounts:
            return (
                f"the ledger has {len(self._entries)} accounts, and `max_accounts` is "
                f"{self.max_accounts}: give the budget a period, after which accounts are deleted, "
                "raise `max_accounts`, or use a RedisLedger"
            )
        return None

    def _grant(self, accounts: Sequence[Account], want_nano: int) -> int:
        # A free call is granted even where more is spent than a lowered limit allows.
        return min(want_nano, *(max(0, a.limit_nano - self._sum(a)) for a in accounts))

    def _entry(self, account: Account) -> _Balance:
        entry = self._entries.setdefault(account.key, _Balance())
        if account.expires_s is not None:
            known_s = account.expires_s if entry.expires_s is None else entry.expires_s
            entry.expires_s = max(known_s, account.expires_s)
        return entry

    def _release(self, reservation_id: str) -> None:
        _, reservation = self._holds.pop(reservation_id)
        for account in reservation.accounts:
            self._entry(account).reserved -= reservation.granted_nano

    def _release_expired(self, now: float) -> bool:
        """Release what was not settled in time; return whether there was any."""
        oldest_first = self._holds.items()
        late = [key for key, _ in itertools.takewhile(lambda hold: hold[1][0] <= now, oldest_first)]
        for reservation_id in late:
            self._release(reservation_id)
            self._expired[reservation_id] = None
        for reservation_id in list(self._expired)[: max(0, len(self._expired) - _MAX_EXPIRED)]:
            del self._expired[reservation_id]
        return len(late) > 0

    def _clean(self, now: float) -> None:
        # A clock that was set back must not put off the next cleaning until it has caught up.
        if 0 <= now - self._cleaned_s < _CLEAN_EVERY_S:
            return
        self._cleaned_s = now
        self._release_expired(now)
        for key, entry in list(self._entries.items()):
            unspent = entry.settled == 0 and entry.reserved == 0
            expired = entry.expires_s is not None and entry.expires_s < now
            if entry.reserved == 0 and (unspent or expired):
                del self._entries[key]
                if not unspent and entry.expires_s is not None:
                    self._deleted_until_s = max(self._deleted_until_s, entry.expires_s)
