"""Budgets shared among processes through plain Redis: one Lua script per step, never overdrawn.

Every account is one hash with whole nano-dollars: `settled` what was spent, `reserved` what
requests under way may still spend. Reserving checks all accounts and takes from all of them in
one script, so two processes cannot both take the last dollar.

Without Redis a process spends only from its *escrow*, money that it had set aside in Redis before,
so the limit still holds. When Redis is back, requests go through it again. A Redis that lost its
data gets back the highest balance that any worker has seen (with `appendonly yes` it loses
none).
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

from langchain_llm_router.budgets.ledgers import Account, Hold, InProcessLedger, Ledger
from langchain_llm_router.live.shared_telemetry import connect
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.errors import import_extra

__all__ = ["RedisLedger"]

# KEYS: accounts, and the hold. ARGV: want, least, epoch if new, then per account: limit, seen,
# seconds to live. A command that timed out may still have run, so what was granted is written
# under the hold's own key.
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

# KEYS: accounts, and the hold. ARGV: spent, then per account: epoch of the hold, seconds to live.
# Booked once, however often it is sent: the hold's own key says whether it is still open. Where
# the data was lost meanwhile (another epoch) there is nothing to give back, but it was spent.
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
    """Accounts that several processes share.

    Args:
        url: Where Redis is.
        escrow: Share of each limit that every process sets aside for times without Redis; 0:
            without Redis no request can be paid.
        retry_s: After a failure, how long to wait before trying Redis again.
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
        self._seen: dict[str, tuple[int, int]] = {}
        self._escrows: dict[str, Hold | None] = {}
        self._down_until = 0.0
        self._outbox: queue.Queue[tuple[Hold, int] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> str:
        """The same in every process: they share the accounts."""
        return blake2b(f"{self.url} {self.prefix}".encode(), digest_size=8).hexdigest()

    def __deepcopy__(self, memo: dict[int, object]) -> RedisLedger:
        # A copy of a router spends from the same accounts.
        return self

    def reserve(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        """Set aside up to `want_nano` in all the accounts, all or nothing."""
        if len(accounts) == 0:
            return Hold((), want_nano)
        if time.monotonic() >= self._down_until:
            try:
                hold = self._take(accounts, want_nano, least_nano)
            except self._redis_errors:
                self._down_until = time.monotonic() + self.retry_s
            else:
                for account in accounts:
                    self._fill_escrow(account)
                return hold
        return self._from_escrow(accounts, want_nano, least_nano)

    def settle(self, hold: Hold, spent_nano: int) -> None:
        """Book what was spent and give back the rest, in the ledger's own thread."""
        if hold.tokens == (_OFFLINE,):
            self._offline.settle(hold, spent_nano)
        elif len(hold.accounts) > 0:
            self._later(hold, spent_nano)

    def used_nano(self, account: Account) -> int:
        """What is spent or set aside, as this process saw it last."""
        with self._lock:
            return sum(self._seen.get(account.key, (0, 0)))

    def read_nano(self, account: Account) -> tuple[int, int]:
        """What Redis says now: spent, and set aside."""
        settled, reserved = self._client.hmget(self._key(account), "settled", "reserved")
        return int(settled or 0), int(reserved or 0)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was spent is booked; False if that took too long."""
        until = time.monotonic() + timeout_s
        while self._outbox.unfinished_tasks > 0 and time.monotonic() < until:
            time.sleep(0.005)
        return self._outbox.unfinished_tasks == 0

    def close(self) -> None:
        """Book what is left, give back the unspent escrow, and close the connection."""
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
        # One hash slot for all, so that a script over several accounts runs on a cluster too.
        return f"{{{self.prefix}:budget}}:{account.key}"

    def _hold_key(self, hold_id: str) -> str:
        return f"{{{self.prefix}:budget}}:hold:{hold_id}"

    def _take(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        hold_id = uuid4().hex
        numbers: list[Any] = [want_nano, least_nano, hold_id]
        with self._lock:
            for account in accounts:
                seen = self._seen.get(account.key, (0, 0))[0]
                numbers += [account.limit_nano, seen, _ttl_s(account)]
        keys = [*(self._key(account) for account in accounts), self._hold_key(hold_id)]
        try:
            answer = self._client.eval(_RESERVE, len(keys), *keys, *numbers)
        except self._redis_errors:
            # It may still have run: whatever it took is given back when Redis answers.
            self._later(Hold(tuple(accounts), 0, (hold_id,)), 0)
            raise
        granted = int(answer[0])
        epochs = tuple(bytes(text).decode() for text in answer[1::3])
        self._note(accounts, answer[2::3], answer[3::3], max(granted, 0))
        if granted < 0:
            return None
        return Hold(tuple(accounts), granted, (hold_id, *epochs))

    def _later(self, hold: Hold, spent_nano: int) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="llm-router-ledger", daemon=True
                )
                self._thread.start()
        self._outbox.put((hold, spent_nano))

    def _fill_escrow(self, account: Account) -> None:
        with self._lock:
            if self.escrow == 0 or account.key in self._escrows:
                return
            self._escrows[account.key] = None
        try:
            hold = self._take([account], int(account.limit_nano * self.escrow), 1)
        except self._redis_errors:
            # The next request that reaches Redis tries again.
            with self._lock:
                del self._escrows[account.key]
        else:
            with self._lock:
                self._escrows[account.key] = hold

    def _from_escrow(
        self, accounts: Sequence[Account], want_nano: int, least_nano: int
    ) -> Hold | None:
        with self._lock:
            held = [self._escrows.get(account.key) for account in accounts]
        own = [
            replace(account, limit_nano=0 if escrow is None else escrow.granted_nano)
            for account, escrow in zip(accounts, held, strict=True)
        ]
        hold = self._offline.reserve(own, want_nano, least_nano)
        return None if hold is None else replace(hold, tokens=(_OFFLINE,))

    def _run(self) -> None:
        while True:
            entry = self._outbox.get()
            if entry is None:
                self._outbox.task_done()
                return
            while not self._settled(*entry):
                time.sleep(self.retry_s)
            self._outbox.task_done()

    def _settled(self, hold: Hold, spent_nano: int) -> bool:
        hold_id, *epochs = hold.tokens
        keys = [*(self._key(account) for account in hold.accounts), self._hold_key(hold_id)]
        numbers: list[Any] = [spent_nano]
        for account, epoch in zip_longest(hold.accounts, epochs, fillvalue=""):
            assert isinstance(account, Account)
            numbers += [epoch, _ttl_s(account)]
        try:
            answer = self._client.eval(_SETTLE, len(keys), *keys, *numbers)
        except self._redis_errors:
            return False
        self._note(hold.accounts, answer[0::2], answer[1::2])
        return True

    def _note(
        self,
        accounts: Sequence[Account],
        settled: Sequence[bytes],
        reserved: Sequence[bytes],
        taken_nano: int = 0,
    ) -> None:
        """Remember what Redis said; answers may come out of order, but spending only grows."""
        with self._lock:
            for account, spent, held in zip(accounts, settled, reserved, strict=True):
                before = self._seen.get(account.key, (0, 0))[0]
                self._seen[account.key] = max(before, int(spent)), int(held) + taken_nano


def _ttl_s(account: Account) -> int:
    if account.expires_s is None:
        return 0
    return max(60, int(account.expires_s - time.time()))
