"""A ledger that processes share through Redis, with one Lua script for each step.

Every account is a hash of whole nano-dollars: `settled` is the amount spent, `reserved` the amount
that running requests may still spend. One script checks all accounts and reserves in all of them,
so that two processes cannot both reserve the last dollar.

While Redis is down, a process spends only from its *escrow*, an amount that it reserved in Redis
before, so the limit still applies. When Redis is back, requests go through it again. If Redis lost
its data, it is restored to the highest balance that a worker has read (with `appendonly yes` it
loses none).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import zip_longest
from typing import Any
from uuid import uuid4

from langchain_llm_router.budgets.ledgers import Account, InProcessLedger, Ledger, Reservation
from langchain_llm_router.live.shared_telemetry import connect
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.errors import import_extra

__all__ = ["RedisLedger"]

# KEYS: the accounts and the reservation. ARGV: want, least, epoch of a new account, then for each
# account: limit, largest settled amount read so far, seconds to live. A command that timed out may
# still have run, so the granted amount is stored under the reservation's own key.
_RESERVE = """
local granted = tonumber(ARGV[1])
local answer = {0}
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  local limit, seen = tonumber(ARGV[1 + 3 * i]), tonumber(ARGV[2 + 3 * i])
  redis.call('HSETNX', key, 'epoch', ARGV[3])
  local settled = tonumber(redis.call('HGET', key, 'settled') or '0')
  if seen > settled then
    settled = seen
    redis.call('HSET', key, 'settled', string.format('%.0f', settled))
  end
  local reserved = tonumber(redis.call('HGET', key, 'reserved') or '0')
  granted = math.min(granted, limit - settled - reserved)
  answer[3 * i - 1] = redis.call('HGET', key, 'epoch')
  answer[3 * i] = string.format('%.0f', settled)
  answer[3 * i + 1] = string.format('%.0f', reserved)
end
if granted < tonumber(ARGV[2]) then
  answer[1] = '-1'
  return answer
end
for i = 1, #KEYS - 1 do
  redis.call('HINCRBY', KEYS[i], 'reserved', string.format('%.0f', granted))
  local ttl = tonumber(ARGV[3 + 3 * i])
  if ttl > 0 then redis.call('EXPIRE', KEYS[i], ttl) end
end
answer[1] = string.format('%.0f', granted)
redis.call('SET', KEYS[#KEYS], answer[1], 'EX', 86400)
return answer
"""

# KEYS: the accounts and the reservation. ARGV: spent, then for each account: its epoch when the
# amount was reserved, seconds to live. A repeated command has no effect while Redis keeps its data,
# because the reservation's own key is deleted. If the data was lost (another epoch), there is
# nothing to release, but the amount was spent.
_SETTLE = """
local granted = redis.call('GET', KEYS[#KEYS])
redis.call('DEL', KEYS[#KEYS])
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  if granted then
    redis.call('HINCRBY', key, 'reserved', '-' .. granted)
  end
  if granted or redis.call('HGET', key, 'epoch') ~= ARGV[2 * i] then
    redis.call('HINCRBY', key, 'settled', ARGV[1])
  end
  local ttl = tonumber(ARGV[1 + 2 * i])
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end
local answer = {}
for i = 1, #KEYS - 1 do
  answer[2 * i - 1] = redis.call('HGET', KEYS[i], 'settled') or '0'
  answer[2 * i] = redis.call('HGET', KEYS[i], 'reserved') or '0'
end
return answer
"""

_OFFLINE = "offline"


@dataclass(eq=False)
class RedisLedger(Ledger):
    """Ledger that several processes share through Redis.

    Args:
        url: URL of the Redis server.
        escrow: Share of each limit that every process reserves for times without Redis; with 0 no
            request is granted anything while Redis is down.
        retry_s: Seconds after a failure before Redis is tried again.
        prefix: Prefix of every key, so that several routers can share one Redis.
    """

    url: str = field(repr=False)
    escrow: float = 0.01
    retry_s: float = 0.5
    prefix: str = "llm_router"
    _offline: InProcessLedger = field(default_factory=InProcessLedger, init=False)

    blocks = True

    def __post_init__(self) -> None:
        check_range(self, "escrow", high=1)
        check_range(self, "retry_s")
        self._redis_errors: tuple[type[Exception], ...] = (
            import_extra("redis", "redis").RedisError,
            OSError,
        )
        self._client = connect(self.url)
        self._lock = threading.Lock()
        self._balances: dict[str, tuple[int, int]] = {}
        self._escrows: dict[str, Reservation | None] = {}
        self._down_until = 0.0
        self._outbox: queue.Queue[tuple[Reservation, int] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> str:
        """Identifier of the accounts, the same in every process."""
        return blake2b(f"{self.url} {self.prefix}".encode(), digest_size=8).hexdigest()

    def __deepcopy__(self, memo: dict[int, object]) -> RedisLedger:
        # A copy of a router spends from the same accounts.
        return self

    def reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        """Reserve one amount, at most `want_nano`, in all accounts, or nothing in any."""
        if len(accounts) == 0:
            return Reservation((), want_nano)
        if time.monotonic() >= self._down_until:
            try:
                reservation = self._reserve(accounts, want_nano, least_nano)
            except self._redis_errors:
                self._down_until = time.monotonic() + self.retry_s
            else:
                for account in accounts:
                    self._fill_escrow(account)
                return reservation
        return self._reserve_from_escrow(accounts, want_nano, least_nano)

    def settle(self, hold: Reservation, spent_nano: int) -> None:
        """Settle the actual cost and release the rest, in the ledger's own thread."""
        if hold.account_states == (_OFFLINE,):
            self._offline.settle(hold, spent_nano)
        elif len(hold.accounts) > 0:
            self._settle_later(hold, spent_nano)

    def used_nano(self, account: Account) -> int:
        """Return the amount spent or reserved, as last read by this process."""
        with self._lock:
            return sum(self._balances.get(account.key, (0, 0)))

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

    def close(self) -> None:
        """Settle what is pending, release the unspent escrow, and close the connection."""
        with self._lock:
            escrows, self._escrows = list(self._escrows.values()), {}
        for escrow in escrows:
            if escrow is not None:
                self.settle(escrow, self._offline.used_nano(escrow.accounts[0]))
        self.flush()
        self._outbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._client.close()

    def _key(self, account: Account) -> str:
        # All keys share a hash slot, because on a cluster a script may use one slot only.
        return f"{{{self.prefix}:budget}}:{account.key}"

    def _reservation_key(self, reservation_id: str) -> str:
        return f"{{{self.prefix}:budget}}:hold:{reservation_id}"

    def _reserve(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        reservation_id = uuid4().hex
        numbers: list[Any] = [want_nano, least_nano, reservation_id]
        with self._lock:
            for account in accounts:
                seen = self._balances.get(account.key, (0, 0))[0]
                numbers += [account.limit_nano, seen, _ttl_s(account)]
        keys = [
            *(self._key(account) for account in accounts),
            self._reservation_key(reservation_id),
        ]
        try:
            answer = self._client.eval(_RESERVE, len(keys), *keys, *numbers)
        except self._redis_errors:
            # It may still have run: what it reserved is released once Redis is reachable.
            self._settle_later(Reservation(tuple(accounts), 0, (reservation_id,)), 0)
            raise
        granted = int(answer[0])
        epochs = tuple(bytes(text).decode() for text in answer[1::3])
        self._record_balances(accounts, answer[2::3], answer[3::3], max(granted, 0))
        if granted < 0:
            return None
        return Reservation(tuple(accounts), granted, (reservation_id, *epochs))

    def _settle_later(self, reservation: Reservation, spent_nano: int) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._settle_outbox, name="llm-router-ledger", daemon=True
                )
                self._thread.start()
        self._outbox.put((reservation, spent_nano))

    def _fill_escrow(self, account: Account) -> None:
        with self._lock:
            if self.escrow == 0 or account.key in self._escrows:
                return
            self._escrows[account.key] = None
        try:
            reservation = self._reserve([account], int(account.limit_nano * self.escrow), 1)
        except self._redis_errors:
            # The next request that reaches Redis tries again.
            with self._lock:
                del self._escrows[account.key]
        else:
            with self._lock:
                self._escrows[account.key] = reservation

    def _reserve_from_escrow(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Reservation | None:
        with self._lock:
            escrows = [self._escrows.get(account.key) for account in accounts]
        limited = [
            replace(account, limit_nano=0 if escrow is None else escrow.granted_nano)
            for account, escrow in zip(accounts, escrows, strict=True)
        ]
        reservation = self._offline.reserve(limited, want_nano, least_nano)
        if reservation is None:
            return None
        return replace(reservation, account_states=(_OFFLINE,))

    def _settle_outbox(self) -> None:
        while True:
            entry = self._outbox.get()
            if entry is None:
                self._outbox.task_done()
                return
            while not self._settle_in_redis(*entry):
                time.sleep(self.retry_s)
            self._outbox.task_done()

    def _settle_in_redis(self, reservation: Reservation, spent_nano: int) -> bool:
        reservation_id, *epochs = reservation.account_states
        keys = [
            *(self._key(account) for account in reservation.accounts),
            self._reservation_key(reservation_id),
        ]
        numbers: list[Any] = [spent_nano]
        for account, epoch in zip_longest(reservation.accounts, epochs, fillvalue=""):
            assert isinstance(account, Account)
            numbers += [epoch, _ttl_s(account)]
        try:
            answer = self._client.eval(_SETTLE, len(keys), *keys, *numbers)
        except self._redis_errors:
            return False
        self._record_balances(reservation.accounts, answer[0::2], answer[1::2])
        return True

    def _record_balances(
        self,
        accounts: Sequence[Account],
        settled: Sequence[bytes],
        reserved: Sequence[bytes],
        new_nano: int = 0,
    ) -> None:
        """Record balances read from Redis; `settled` only grows, replies may be out of order."""
        with self._lock:
            for account, spent, pending in zip(accounts, settled, reserved, strict=True):
                before = self._balances.get(account.key, (0, 0))[0]
                self._balances[account.key] = max(before, int(spent)), int(pending) + new_nano


def _ttl_s(account: Account) -> int:
    if account.expires_s is None:
        return 0
    return max(60, int(account.expires_s - time.time()))
