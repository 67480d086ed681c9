"""What processes do with a shared ledger until they are killed."""

import os
import signal
from typing import Any

from langchain_llm_router.budgets.ledgers import Account
from langchain_llm_router.budgets.redis_ledger import RedisLedger


def reserve_and_die(url: str, nano: int, *, limit: int, lease_s: float = 1.0) -> None:
    """Reserve an amount, and be killed before it is settled."""
    ledger = RedisLedger(url, escrow=0.0, lease_s=lease_s)
    ledger.reserve([Account("all", limit)], nano, nano)
    os.kill(os.getpid(), signal.SIGKILL)


def spend_all(ledger: RedisLedger, limit: int, nano: int, out: Any) -> None:
    """Spend as much as is granted, and report it; the process ends without closing the ledger."""
    spent = 0
    for _ in range(limit // nano + 5):
        hold = ledger.reserve([Account("all", limit)], nano, nano)
        if hold is not None:
            ledger.settle(hold, nano)
            spent += nano
    out.put(spent)
    out.close()
    out.join_thread()
