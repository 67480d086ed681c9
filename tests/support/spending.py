"""What one of several processes does with a shared purse; imports little, to start soon."""

import random
import threading

from langchain_llm_router.budgets.ledgers import Account
from langchain_llm_router.budgets.redis_ledger import RedisLedger


def spend(url: str, limit: int, n: int, seed: int, out) -> None:
    """Four threads that reserve, and settle a part of it."""
    ledger, account = RedisLedger(url, escrow=0.0), Account("all", limit)
    paid_sums, refusals = [], []

    def work(worker: int) -> None:
        rng = random.Random(100 * seed + worker)
        for _ in range(n // 4):
            want = rng.randint(50, 1500)
            hold = ledger.reserve([account], want, want)
            if hold is None:
                refusals.append(1)
                continue
            paid = rng.randint(0, want)
            ledger.settle(hold, paid)
            paid_sums.append(paid)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    out.put((sum(paid_sums), len(refusals)))
