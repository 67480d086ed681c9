"""How much each subject has spent: accounts that concurrent callers cannot overdraw.

Money is counted in whole nano-dollars, so that sums are exact and a thousand cheap calls do not
round away. A caller *reserves* the worst case before it does anything, and *settles* what it
really spent; in between the worst case counts as spent.
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

__all__ = ["Account", "Hold", "InProcessLedger", "Ledger", "process_id", "to_nano", "to_usd"]


def to_nano(usd: float) -> int:
    """USD as nano-dollars, rounded up: a budget is never charged too little."""
    return math.ceil(round(usd * 1e9, 3))


def to_usd(nano: int) -> float:
    """Nano-dollars as USD."""
    return nano / 1e9


@dataclass(frozen=True, slots=True)
class Account:
    """The account of one subject under one budget in one period."""

    key: str
    limit_nano: int
    expires_s: float | None = None
    """Unix time after which it can be forgotten; None: never."""


@dataclass(frozen=True)
class Hold:
    """Money set aside for one request."""

    accounts: tuple[Account, ...]
    granted_nano: int
    """The amount asked for, or what was left if that is less."""

    tokens: tuple[str, ...] = ()
    """For the ledger that granted it: the state of the accounts then."""


_PROCESS = os.urandom(8).hex()


def process_id() -> str:
    """Another text in every process, also in one that reuses an earlier one's number."""
    return f"{_PROCESS}:{os.getpid()}"


class Ledger(CheckedArguments, ABC):
    """Keeps accounts."""

    blocks: bool = False
    """Whether `reserve` may wait for a network, so that async callers run it in a thread."""

    @property
    def identity(self) -> str:
        """Identifies these accounts: equal in all processes that share them.

        Here only the class; a ledger of a single process overrides it.
        """
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def reserve(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        """Set aside up to `want_nano` in all the accounts, all or nothing.

        Returns:
            None if one of them has less than `least_nano` left.
        """

    @abstractmethod
    def settle(self, hold: Hold, spent_nano: int) -> None:
        """Book what was spent and give back the rest; never waits."""

    @abstractmethod
    def used_nano(self, account: Account) -> int:
        """What is spent or set aside, as far as this process knows."""


@dataclass(slots=True)
class _Entry:
    settled: int = 0
    reserved: int = 0
    expires_s: float | None = None


@dataclass(eq=False)
class InProcessLedger(Ledger):
    """Accounts of one process, for threads and tasks.

    Args:
        clock: Unix time; only to forget accounts of periods that are over.
    """

    clock: Callable[[], float] = time.time
    _entries: dict[str, _Entry] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _swept_s: float = field(default=0.0, init=False)

    @property
    def identity(self) -> str:
        """Different in every process, and for every ledger in it."""
        return f"{process_id()}:{id(self)}"

    def __deepcopy__(self, memo: dict[int, object]) -> InProcessLedger:
        # A copy of a router spends from the same accounts.
        return self

    def reserve(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        """Set aside up to `want_nano` in all the accounts, all or nothing."""
        with self._lock:
            self._sweep()
            entries = [self._entry(account) for account in accounts]
            room = [a.limit_nano - e.settled - e.reserved for a, e in zip(accounts, entries)]  # noqa: B905
            granted = min([want_nano, *room])
            if granted < least_nano:
                return None
            for entry in entries:
                entry.reserved += granted
        return Hold(tuple(accounts), granted)

    def settle(self, hold: Hold, spent_nano: int) -> None:
        """Book what was spent and give back the rest."""
        with self._lock:
            for account in hold.accounts:
                entry = self._entry(account)
                entry.reserved -= hold.granted_nano
                entry.settled += spent_nano

    def used_nano(self, account: Account) -> int:
        """What is spent or set aside."""
        with self._lock:
            entry = self._entries.get(account.key)
            return 0 if entry is None else entry.settled + entry.reserved

    def _entry(self, account: Account) -> _Entry:
        if account.key not in self._entries:
            self._entries[account.key] = _Entry(expires_s=account.expires_s)
        return self._entries[account.key]

    def _sweep(self) -> None:
        now = self.clock()
        if now - self._swept_s < 60:
            return
        self._swept_s = now
        for key, entry in list(self._entries.items()):
            if entry.expires_s is not None and entry.expires_s < now and entry.reserved == 0:
                del self._entries[key]
