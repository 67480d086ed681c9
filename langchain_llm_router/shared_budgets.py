"""Budgets shared among processes through plain Redis: one Lua script per step, never overdrawn.

Every account is one hash with whole nano-dollars: `settled` what was spent, `reserved` what
requests under way may still spend. Reserving checks all accounts and takes from all of them in
one script, so two processes cannot both take the last dollar.

Without Redis a process spends from its *escrow*, money that it had set aside in Redis before, and
nothing else: so the limit holds even then. When Redis is back, requests go through it again. A
Redis that lost its data learns the highest balance that any worker has seen (run it with
`appendonly yes` and it loses none).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from langchain_llm_router.errors import import_extra
from langchain_llm_router.ledgers import Account, Hold, InProcessLedger, Ledger
from langchain_llm_router.shared_state import connect

__all__ = ["RedisLedger"]

# KEYS: accounts. ARGV: want, least, epoch if new, then per account: limit, seen, seconds to live.
_RESERVE = """
local granted = tonumber(ARGV[1])
local answer = {0}
for i, key in ipairs(KEYS) do
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
for i, key in ipairs(KEYS) do
  redis.call('HINCRBY', key, 'reserved', string.format('%.0f', granted))
  local ttl = tonumber(ARGV[3 + 3 * i])
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end
answer[1] = string.format('%.0f', granted)
return answer
"""

# KEYS: accounts. ARGV: granted, spent, then per account: epoch of the hold, seconds to live.
_SETTLE = """
for i, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'epoch') == ARGV[1 + 2 * i] then
    redis.call('HINCRBY', key, 'reserved', -tonumber(ARGV[1]))
  end
  redis.call('HINCRBY', key, 'settled', ARGV[2])
  local ttl = tonumber(ARGV[2 + 2 * i])
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end
return 'OK'
"""

_OFFLINE = "offline"


@dataclass(eq=False)
class RedisLedger(Ledger):
    """Accounts that several processes share.

    Args:
        url: Where Redis is.
        escrow: Share of each limit that every process sets aside for times without Redis; 0: no
            request is paid for then.
        retry_s: After a failure, how long to do without Redis before trying it again.
        prefix: Before every key, so that several routers can share one Redis.
    """

    url: str = field(repr=False)
    escrow: float = 0.01
    retry_s: float = 0.5
    prefix: str = "llm_router"
    _offline: InProcessLedger = field(default_factory=InProcessLedger)

    blocks = True

    def __post_init__(self) -> None:
        if not 0 <= self.escrow <= 1:
            msg = f"`escrow` must lie in [0, 1], got {self.escrow!r}."
            raise ValueError(msg)
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

    def __deepcopy__(self, memo: dict[int, object]) -> RedisLedger:
        # A copy of a router spends the same money.
        return self

    def reserve(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        """Set aside up to `want_nano` in all the accounts, all or nothing."""
        if len(accounts) == 0:
            return Hold((), want_nano)
        if time.monotonic() >= self._down_until:
            try:
                hold = self._take(accounts, want_nano, least_nano)
                for account in accounts:
                    self._fill_escrow(account)
            except self._redis_errors:
                # Whether the script still ran is unknown: what it took stays taken, to be safe.
                self._down_until = time.monotonic() + self.retry_s
            else:
                return hold
        return self._from_escrow(accounts, want_nano, least_nano)

    def settle(self, hold: Hold, spent_nano: int) -> None:
        """Book what was spent and give back the rest, in a thread of the ledger's own."""
        if hold.tokens == (_OFFLINE,):
            self._offline.settle(hold, spent_nano)
        elif len(hold.accounts) > 0:
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._run, name="llm-router-ledger", daemon=True
                    )
                    self._thread.start()
            self._outbox.put((hold, spent_nano))

    def used_nano(self, account: Account) -> int:
        """What is spent or set aside, as this process saw it last."""
        with self._lock:
            return sum(self._seen.get(account.key, (0, 0)))

    def read_nano(self, account: Account) -> tuple[int, int]:
        """What Redis says now: spent, and set aside."""
        settled, reserved = self._client.hmget(self._key(account), "settled", "reserved")
        return int(settled or 0), int(reserved or 0)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was spent is booked; False if it was not in time."""
        until = time.monotonic() + timeout_s
        while self._outbox.unfinished_tasks > 0 and time.monotonic() < until:
            time.sleep(0.005)
        return self._outbox.unfinished_tasks == 0

    def close(self) -> None:
        """Book what is left, give back the unspent escrow, and let go of Redis."""
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

    def _take(self, accounts: Sequence[Account], want_nano: int, least_nano: int) -> Hold | None:
        numbers: list[Any] = [want_nano, least_nano, uuid4().hex]
        with self._lock:
            for account in accounts:
                seen = self._seen.get(account.key, (0, 0))[0]
                numbers += [account.limit_nano, seen, _ttl_s(account)]
        keys = [self._key(account) for account in accounts]
        answer = self._client.eval(_RESERVE, len(keys), *keys, *numbers)
        granted = int(answer[0])
        epochs = tuple(bytes(text).decode() for text in answer[1::3])
        taken = max(granted, 0)
        with self._lock:
            for account, settled, reserved in zip(
                accounts, answer[2::3], answer[3::3], strict=True
            ):
                self._seen[account.key] = int(settled), int(reserved) + taken
        if granted < 0:
            return None
        return Hold(tuple(accounts), granted, epochs)

    def _fill_escrow(self, account: Account) -> None:
        with self._lock:
            if self.escrow == 0 or account.key in self._escrows:
                return
            self._escrows[account.key] = None
        hold = self._take([account], int(account.limit_nano * self.escrow), 1)
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
        keys = [self._key(account) for account in hold.accounts]
        numbers: list[Any] = [hold.granted_nano, spent_nano]
        for account, epoch in zip(hold.accounts, hold.tokens, strict=True):
            numbers += [epoch, _ttl_s(account)]
        try:
            self._client.eval(_SETTLE, len(keys), *keys, *numbers)
        except self._redis_errors:
            return False
        with self._lock:
            for account in hold.accounts:
                settled, reserved = self._seen.get(account.key, (0, 0))
                self._seen[account.key] = settled + spent_nano, max(0, reserved - hold.granted_nano)
        return True


def _ttl_s(account: Account) -> int:
    if account.expires_s is None:
        return 0
    return max(60, int(account.expires_s - time.time()))
