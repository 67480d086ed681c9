"""A ledger that processes share through Redis, with one Lua script for each step.

One script checks all accounts and reserves in all of them, so that two processes cannot both
reserve the last dollar. `redis_scripts` has the scripts and says what is kept in Redis.

While Redis is down, a process spends only from its *escrow*, an amount that it reserved in Redis
before, so the limit still applies. When Redis is back, requests go through it again. A Redis that
lost data is noticed: what the running processes remember is restored before anything is granted.
(With `appendonly yes` it loses at most the last second.)
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing import util
from typing import Any, Literal
from uuid import uuid4

from langchain_llm_router.budgets.ledgers import Account, Ledger, Reservation, merge_accounts
from langchain_llm_router.budgets.redis_records import Escrow, Hold, Known, check_persistence
from langchain_llm_router.budgets.redis_scripts import BEAT, RESERVE, RESTORE, SETTLE
from langchain_llm_router.live.shared_telemetry import connect
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.steady_clock import steady_time

__all__ = ["RedisLedger"]

_logger = logging.getLogger(__name__)

# Every process looks at Redis this often; after a loss of data, this long is waited for all.
_BEAT_S, _RECOVERING_S = 0.3, 1.0
_LONGEST_WAIT_S = 10.0
_MAX_REMEMBERED, _MAX_ESCROWS, _BATCH = 100_000, 10_000, 100
_PRUNE_EVERY_S = 60.0
_OFFLINE = "offline"


@dataclass(eq=False)
class RedisLedger(Ledger):
    """Ledger that several processes share through Redis.

    Accounts without a period stay in Redis for ever, because forgetting one would let its subject
    spend the limit again; accounts with a period expire after it. The process itself remembers the
    100,000 accounts that it used last, which is what it can restore if Redis loses its data.

    A forked process has no part in the escrow and in the reservations of its parent.

    Args:
        url: URL of the Redis server.
        escrow: Share of each limit that every process reserves for times without Redis; with 0 no
            request is granted anything while Redis is down.
        retry_s: Seconds after a failure before Redis is tried again.
        prefix: Prefix of every key. Budgets of the same scope and period share their accounts
            under one prefix, whatever their limits are.
        lease_s: Seconds after which what a killed process had reserved is released. Running
            processes renew their leases; one that cannot reach Redis for that long while others
            can may settle what was granted to another meanwhile.
        persistence: What to do about a Redis that forgets what was spent if it is killed or short
            of memory: `"warn"` in the log, `"require"` persistence and grant nothing without it,
            or `"ignore"`.
        unsettled: What happens to the amount that a killed process had reserved, as it is unknown
            how much of it was spent: `"release"` it, or `"charge"` all of it, so that not even
            killed processes can exceed the limit.
    """

    url: str = field(repr=False)
    escrow: float = 0.01
    retry_s: float = 0.5
    prefix: str = "llm_router"
    lease_s: float = 60.0
    persistence: Literal["warn", "require", "ignore"] = "warn"
    unsettled: Literal["release", "charge"] = "release"

    blocks = True

    def __post_init__(self) -> None:
        check_range(self, "escrow", high=1)
        check_range(self, "retry_s")
        check_range(self, "lease_s", low=1)
        for name, allowed in (
            ("persistence", ("warn", "require", "ignore")),
            ("unsettled", ("release", "charge")),
        ):
            if getattr(self, name) not in allowed:
                msg = f"`{name}` must be one of {allowed}, got {getattr(self, name)!r}."
                raise ValueError(msg)
        self._redis_errors: tuple[type[Exception], ...] = (
            import_extra("redis", "redis").RedisError,
            OSError,
        )
        self._now: Callable[[], float] | None = None
        self._known: dict[str, Known] = {}
        self._epoch = ""
        # Processes that this one was forked from: what they reserved is theirs to settle.
        self._ancestors: set[str] = set()
        self._process = ""
        self._begin_process()
        _LEDGERS.add(self)

    def _begin_process(self) -> None:
        """Set up what belongs to one process; also called in a child after a fork."""
        if self._process:
            self._ancestors.add(self._process)
        self._process = uuid4().hex[:16]
        self._ids = itertools.count()
        self._client = connect(self.url)
        self._lock = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self._escrows: dict[str, Escrow | None] = {}
        self._down_until = self._pruned_s = 0.0
        self._checked = False
        self._outbox: queue.Queue[tuple[Reservation, int] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> str:
        """Identifier of the accounts, the same in every process."""
        return blake2b(f"{self.url} {self.prefix}".encode(), digest_size=8).hexdigest()

    def __deepcopy__(self, memo: dict[int, object]) -> RedisLedger:
        # A copy of a router spends from the same accounts.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process: the same accounts, but an escrow and reservations of its own.
        fields = ("escrow", "retry_s", "prefix", "lease_s", "persistence", "unsettled")
        return type(self), (self.url, *(getattr(self, name) for name in fields))

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Use the clock of the budgets."""
        if self._now is None:
            self._now = clock

    def reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        """Reserve one amount, at most `want_nano`, in all accounts, or nothing in any."""
        accounts = merge_accounts(accounts)
        if len(accounts) == 0:
            return Reservation((), want_nano)
        self._start()
        if time.monotonic() >= self._down_until:
            try:
                if not self._checked and self.persistence != "ignore":
                    check_persistence(self._client, required=self.persistence == "require")
                self._checked = True
                reservation = self._reserve(accounts, want_nano, least_nano)
            except self._redis_errors as error:
                self._fail(error)
            else:
                if reservation is not None:
                    for account in accounts:
                        self._fill_escrow(account)
                return reservation
        return self._reserve_from_escrow(accounts, want_nano, least_nano)

    def settle(self, hold: Reservation, spent_nano: int) -> None:
        """Settle the actual cost and release the rest, in the ledger's own thread."""
        if len(hold.accounts) == 0:
            return
        reservation_id, *rest = hold.account_states
        if reservation_id.partition(".")[0] in self._ancestors:
            return
        spent_nano = max(0, spent_nano)
        if rest[:1] == [_OFFLINE]:
            with self._lock:
                for account in hold.accounts:
                    escrow = self._escrows.get(account.key)
                    if escrow is not None:
                        escrow.left += hold.granted_nano - spent_nano
            if spent_nano == 0:
                return
        self._settle_later(hold, spent_nano)

    def used_nano(self, account: Account) -> int:
        """Return the amount spent or reserved, as last read by this process."""
        with self._lock:
            known = self._known.get(account.key)
            return 0 if known is None else known.settled + known.reserved

    def read_nano(self, account: Account) -> tuple[int, int]:
        """Read the spent and the reserved amount from Redis."""
        settled, reserved = self._client.hmget(self._key(account), "settled", "reserved")
        return int(settled or 0), int(reserved or 0)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all spending is settled; return False if that takes too long."""
        until = time.monotonic() + timeout_s
        while self._outbox.unfinished_tasks > 0 and time.monotonic() < until:
            time.sleep(0.005)
        return self._outbox.unfinished_tasks == 0

    def close(self, timeout_s: float = 10.0) -> None:
        """Settle what is pending, release the unspent escrow, and close the connection.

        Args:
            timeout_s: Maximum time in seconds to wait for Redis.
        """
        with self._lock:
            escrows, self._escrows = list(self._escrows.values()), {}
        for escrow in escrows:
            if escrow is not None:
                self._settle_later(escrow.reservation, 0)
        self.flush(timeout_s)
        if self._thread is not None and self._thread.is_alive():
            self._outbox.put(None)
            self._thread.join(timeout=timeout_s / 2)
        self._client.close()

    # Keys and arguments of the scripts

    def _name(self, *parts: str) -> str:
        # All keys share a hash slot, because on a cluster a script may use one slot only.
        return ":".join([f"{{{self.prefix}:budget}}", *parts])

    def _key(self, account: Account) -> str:
        return self._name("account", account.key)

    def _run(
        self, script: str, arguments: Sequence[Any], *, done: str = "", keys: Sequence[str] = ()
    ) -> list[Any]:
        """Run a script that looks at the store first, and return its answer."""
        names = [self._name(name) for name in ("store", "recovering", "awake")]
        names.append(self._name("hold", self._process))
        if done:
            names.append(self._name("done", done))
        look = [self._epoch, uuid4().hex, int(self.lease_s * 1000), int(_RECOVERING_S * 1000)]
        answer: list[Any] = self._client.eval(
            script, len(names) + len(keys), *names, *keys, *look, *arguments
        )
        return answer

    def _ttl_s(self, account: Account) -> int:
        if account.expires_s is None:
            return 0
        return max(60, int(account.expires_s - (self._now or steady_time)()))

    def _new_id(self) -> str:
        return f"{self._process}.{next(self._ids)}"

    # Reserving

    def _reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        reservation_id = self._new_id()
        hold = Hold(accounts, None, time.monotonic())
        with self._lock:
            self._holds[reservation_id] = hold
        try:
            granted = self._ask(accounts, want_nano, least_nano, reservation_id)
        except self._redis_errors:
            # It may still have run: what it reserved is released once Redis is reachable.
            self._settle_later(Reservation(tuple(accounts), 0, (reservation_id,)), 0)
            raise
        with self._lock:
            hold.amount = granted
            if granted is None:
                del self._holds[reservation_id]
        if granted is None:
            return None
        return Reservation(tuple(accounts), granted, (reservation_id,))

    def _ask(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int, reservation_id: str
    ) -> int | None:
        """Run the script until Redis is not recovering; return what was granted."""
        until = time.monotonic() + _LONGEST_WAIT_S
        while True:
            numbers: list[Any] = [want_nano, least_nano, reservation_id]
            numbers += [self._name("hold", ""), self.unsettled]
            with self._lock:
                for account in accounts:
                    known = self._known.get(account.key)
                    seen = 0 if known is None else known.settled
                    numbers += [account.limit_nano, seen, self._ttl_s(account)]
            keys = [self._key(account) for account in accounts]
            answer = self._run(RESERVE, numbers, done=reservation_id, keys=keys)
            granted = int(answer[0])
            self._remember(accounts, answer[2::2], answer[3::2], max(granted, 0))
            # Another epoch is adopted by the ledger's thread, once it has restored what it knows.
            self._epoch = self._epoch or answer[1].decode()
            if granted != -2:
                self.problem = None
                return granted if granted >= 0 else None
            if time.monotonic() > until:
                self.problem = (
                    "Redis lost data, and the running processes are still restoring it: try again"
                )
                return None
            time.sleep(_BEAT_S / 6)

    def _fail(self, error: Exception) -> None:
        self._down_until = time.monotonic() + self.retry_s
        self._checked = False
        self.problem = (
            f"Redis cannot be used ({type(error).__name__}: {error}), and what this process has "
            "reserved for times without Redis (`escrow`) does not cover the request: check the "
            "server and the URL"
        )

    def _fill_escrow(self, account: Account) -> None:
        with self._lock:
            if (
                self.escrow == 0
                or account.key in self._escrows
                or len(self._escrows) >= _MAX_ESCROWS
            ):
                return
            self._escrows[account.key] = None
        try:
            reservation = self._reserve([account], int(account.limit_nano * self.escrow), 1)
        except self._redis_errors:
            # The next request that reaches Redis tries again.
            with self._lock:
                del self._escrows[account.key]
            return
        with self._lock:
            if reservation is not None:
                self._holds[reservation.account_states[0]].is_escrow = True
                self._escrows[account.key] = Escrow(reservation, reservation.granted_nano)

    def _reserve_from_escrow(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        states = [self._new_id(), _OFFLINE]
        with self._lock:
            granted, escrows = want_nano, []
            for account in accounts:
                escrow, known = self._escrows.get(account.key), self._known.get(account.key)
                # A limit that was lowered holds for the escrow too.
                room = account.limit_nano - (0 if known is None else known.settled)
                granted = min(granted, max(0, 0 if escrow is None else min(escrow.left, room)))
                escrows.append(escrow)
            if granted < least_nano:
                return None
            for escrow in escrows:
                if escrow is not None:
                    escrow.left -= granted
                    states.append(escrow.reservation.account_states[0])
                else:
                    states.append("")
        return Reservation(tuple(accounts), granted, tuple(states))

    # Settling, in the ledger's own thread

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                if self._thread is None:
                    # Runs at the end of processes of `multiprocessing` too, unlike `atexit`.
                    util.Finalize(None, _leave, (weakref.ref(self),), exitpriority=0)
                self._thread = threading.Thread(
                    target=self._work, name="llm-router-ledger", daemon=True
                )
                self._thread.start()

    def _settle_later(self, reservation: Reservation, spent_nano: int) -> None:
        self._start()
        self._outbox.put((reservation, spent_nano))

    def _work(self) -> None:
        looked_s = 0.0
        while True:
            with suppress(queue.Empty):
                entry = self._outbox.get(timeout=_BEAT_S)
                while entry is not None and not self._settle_in_redis(*entry):
                    time.sleep(min(self.retry_s, _BEAT_S))
                self._outbox.task_done()
                if entry is None:
                    return
            if time.monotonic() - looked_s >= _BEAT_S:
                looked_s = time.monotonic()
                with suppress(*self._redis_errors):
                    self._beat()

    def _beat(self) -> None:
        """Renew the lease, and restore what Redis has lost."""
        self._adopt(self._run(BEAT, ()))
        now = time.monotonic()
        if now - self._pruned_s >= _PRUNE_EVERY_S:
            self._pruned_s = now
            self._prune(now)

    def _adopt(self, answer: Sequence[Any]) -> None:
        epoch = answer[1 if len(answer) > 1 else 0].decode()
        if self._epoch not in ("", epoch):
            _logger.warning("Redis has lost data of the budgets or was restarted: restoring it.")
            with self._lock:
                accounts = {key: known.account for key, known in self._known.items()}
                for hold in self._holds.values():
                    accounts.update((account.key, account) for account in hold.accounts)
            self._restore(accounts.values())
        self._epoch = epoch

    def _restore(self, accounts: Iterable[Account]) -> None:
        """Write the balances and the reservations that this process remembers."""
        with self._lock:
            holds: dict[str, list[Any]] = {}
            for reservation_id, hold in self._holds.items():
                for account in hold.accounts:
                    amount = "" if hold.amount is None else hold.amount
                    holds.setdefault(account.key, []).extend([reservation_id, amount])
            rows = []
            for account in accounts:
                known = self._known.get(account.key)
                seen = 0 if known is None else known.settled
                if seen > 0 or account.key in holds:
                    numbers = [self._process, seen, self._ttl_s(account)]
                    rows.append((self._key(account), numbers + holds.get(account.key, [])))
        for i in range(0, len(rows), _BATCH):
            pipe = self._client.pipeline(transaction=False)
            for key, numbers in rows[i : i + _BATCH]:
                pipe.eval(RESTORE, 1, key, *numbers)
            pipe.execute()

    def _prune(self, now: float) -> None:
        """Forget accounts of past periods, and release what will not be settled any more."""
        unix_s = (self._now or steady_time)()
        with self._lock:
            late = {
                reservation_id: hold.accounts
                for reservation_id, hold in self._holds.items()
                if hold.amount is not None and hold.is_past(unix_s, now)
            }
            for reservation_id in late:
                del self._holds[reservation_id]
            past = [
                key
                for key, known in self._known.items()
                if known.account.expires_s is not None and known.account.expires_s < unix_s
            ]
            for key in past:
                del self._known[key]
                self._escrows.pop(key, None)
        # What is not listed any more is released.
        self._restore(account for accounts in late.values() for account in accounts)

    def _settle_in_redis(self, reservation: Reservation, spent_nano: int) -> bool:
        reservation_id, *rest = reservation.account_states
        escrows = rest[1:] or [""] * len(reservation.accounts)
        numbers: list[Any] = [spent_nano, reservation_id]
        with self._lock:
            for account, escrow_id in zip(reservation.accounts, escrows, strict=True):
                known = self._known.get(account.key)
                seen = 0 if known is None else known.settled
                numbers += [seen, self._ttl_s(account), escrow_id]
        keys = [self._key(account) for account in reservation.accounts]
        try:
            answer = self._run(SETTLE, numbers, done=reservation_id, keys=keys)
            self._adopt(answer)
        except self._redis_errors:
            return False
        if int(answer[0]) == -2:
            return False
        self._remember(reservation.accounts, answer[2::2], answer[3::2])
        with self._lock:
            self._holds.pop(reservation_id, None)
            for escrow_id in filter(None, escrows):
                hold = self._holds.get(escrow_id)
                if hold is not None and hold.amount is not None:
                    hold.amount = max(0, hold.amount - spent_nano)
        return True

    def _remember(
        self,
        accounts: Sequence[Account],
        settled: Sequence[bytes],
        reserved: Sequence[bytes],
        new_nano: int = 0,
    ) -> None:
        """Record balances read from Redis; `settled` only grows, replies may be out of order."""
        with self._lock:
            for account, spent, pending in zip(accounts, settled, reserved, strict=True):
                known = self._known.pop(account.key, None) or Known(account)
                known.account, known.reserved = account, int(pending) + new_nano
                known.settled = max(known.settled, int(spent))
                self._known[account.key] = known
            while len(self._known) > _MAX_REMEMBERED:
                del self._known[next(iter(self._known))]


def _leave(ledger: weakref.ref[RedisLedger]) -> None:
    """Settle what is pending when a process ends."""
    known = ledger()
    if known is not None:
        known.close(timeout_s=1.0)


_LEDGERS: weakref.WeakSet[RedisLedger] = weakref.WeakSet()


def _begin_processes() -> None:
    for ledger in list(_LEDGERS):
        ledger._begin_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_processes)
