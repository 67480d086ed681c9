"""Ledgers: accounts of spending that concurrent callers cannot overdraw.

Amounts are whole nano-dollars, because sums are then exact and the cost of a thousand cheap calls
is not rounded away. A caller *reserves* the worst case before a call and *settles* the actual cost
after it; in between the worst case counts as spent.
"""

from __future__ import annotations

import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from langchain_llm_router.types.arguments import CheckedArguments

__all__ = [
    "Account",
    "InProcessLedger",
    "Ledger",
    "Reservation",
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
    limit_nano: int
    expires_s: float | None = None
    """Unix time after which the account may be deleted; None means never."""


@dataclass(frozen=True)
class Reservation:
    """An amount reserved in one or more accounts."""

    accounts: tuple[Account, ...]
    granted_nano: int
    """The wanted amount, or what was left in the accounts if that was less."""

    account_states: tuple[str, ...] = ()
    """What its ledger needs to settle it, e.g. the state of the accounts when it was granted."""


_PROCESS = os.urandom(8).hex()


def process_id() -> str:
    """Return a text that identifies this process, even if it reuses the PID of an earlier one."""
    return f"{_PROCESS}:{os.getpid()}"


class Ledger(CheckedArguments, ABC):
    """Base class of ledgers, which keep accounts and reserve amounts in them."""

    blocks: bool = False
    """Whether `reserve` may wait for a network, so that async callers run it in a thread."""

    @property
    def identity(self) -> str:
        """Identifier of the accounts, equal in all processes that share them.

        The class name by default; a ledger whose accounts belong to one process overrides it.
        """
        return f"{type(self).__module__}.{type(self).__qualname__}"

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
            The reservation; None if an account has less than `least_nano` left.
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


@dataclass(eq=False)
class InProcessLedger(Ledger):
    """Ledger of one process, safe for threads and async tasks.

    Args:
        clock: Returns the Unix time; used only to delete the accounts of past periods.
    """

    clock: Callable[[], float] = time.time
    _entries: dict[str, _Balance] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _cleaned_s: float = field(default=0.0, init=False)

    @property
    def identity(self) -> str:
        """Identifier that no other process and no other ledger has."""
        return f"{process_id()}:{id(self)}"

    def __deepcopy__(self, memo: dict[int, object]) -> InProcessLedger:
        # A copy of a router spends from the same accounts.
        return self

    def reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        """Reserve one amount, at most `want_nano`, in all accounts, or nothing in any."""
        with self._lock:
            self._delete_expired()
            entries = [self._entry(account) for account in accounts]
            room = [a.limit_nano - e.settled - e.reserved for a, e in zip(accounts, entries)]  # noqa: B905
            granted = min([want_nano, *room])
            if granted < least_nano:
                return None
            for entry in entries:
                entry.reserved += granted
        return Reservation(tuple(accounts), granted)

    def settle(self, hold: Reservation, spent_nano: int) -> None:
        """Settle the actual cost and release the rest of the reservation."""
        with self._lock:
            for account in hold.accounts:
                entry = self._entry(account)
                entry.reserved -= hold.granted_nano
                entry.settled += spent_nano

    def used_nano(self, account: Account) -> int:
        """Return the amount spent or reserved."""
        with self._lock:
            entry = self._entries.get(account.key)
            return 0 if entry is None else entry.settled + entry.reserved

    def _entry(self, account: Account) -> _Balance:
        if account.key not in self._entries:
            self._entries[account.key] = _Balance(expires_s=account.expires_s)
        return self._entries[account.key]

    def _delete_expired(self) -> None:
        now = self.clock()
        if now - self._cleaned_s < 60:
            return
        self._cleaned_s = now
        for key, entry in list(self._entries.items()):
            if entry.expires_s is not None and entry.expires_s < now and entry.reserved == 0:
                del self._entries[key]
