"""The ledger that processes share through a real Redis."""

import asyncio
import multiprocessing
import queue
import threading
import time

import pytest

from langchain_llm_router.budgets import (
    Budget,
    Budgets,
)
from langchain_llm_router.budgets.ledgers import (
    Account,
    Reservation,
    to_usd,
)
from langchain_llm_router.budgets.redis_ledger import RedisLedger
from tests.support.fakes import ScriptedModel
from tests.support.redis_server import RedisServer, reserve_with_answer
from tests.support.spending import spend
from tests.support.spending_pools import answer, cost, router


def test_four_ledgers_with_one_redis_never_overspend(redis_server):
    limit, out = 150_000, queue.SimpleQueue()
    threads = [
        threading.Thread(target=spend, args=(redis_server.url, limit, 200, seed, out))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(out.get()[0] for _ in threads)
    ledger = RedisLedger(redis_server.url)
    assert ledger.read_nano(Account("all", limit)) == (total, 0)
    # settling runs behind reserving, so some were refused that would have fitted later
    assert 0.4 * limit < total <= limit
    ledger.close()


@pytest.mark.slow
def test_four_processes_with_one_redis_never_overspend(redis_server):
    limit, context = 150_000, multiprocessing.get_context("spawn")
    out = context.Queue()
    args = [(redis_server.url, limit, 200, seed, out) for seed in range(4)]
    workers = [context.Process(target=spend, args=arg) for arg in args]
    for worker in workers:
        worker.start()
    results = [out.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(10)
    total = sum(paid for paid, _ in results)
    ledger = RedisLedger(redis_server.url)
    settled, reserved = ledger.read_nano(Account("all", limit))
    assert settled == total <= limit
    assert reserved == 0
    assert total > 0.4 * limit
    assert sum(refused for _, refused in results) > 0
    ledger.close()


def test_without_redis_only_the_escrow_is_spent_and_afterwards_all_goes_on(redis_server):
    account = Account("all", 10_000)
    ledger = RedisLedger(redis_server.url, escrow=0.1, retry_s=0.05)
    ledger.settle(ledger.reserve([account], 500, 500), 400)
    assert ledger.flush()
    assert sum(ledger.read_nano(account)) == 400 + 1000
    redis_server.kill()
    paid = 0
    for _ in range(30):
        hold = ledger.reserve([account], 100, 100)
        if hold is not None:
            ledger.settle(hold, 100)
            paid += 100
    assert paid == 1000
    redis_server.start()
    hold = reserve_with_answer(ledger, account, 5000)
    assert hold.granted_nano == 5000
    ledger.settle(hold, 5000)
    assert ledger.flush()
    assert sum(ledger.read_nano(account)) == 400 + 1000 + 5000
    ledger.close()


class Interrupted(RedisLedger):
    """A ledger whose Redis goes away after so many commands, and comes back."""

    def _reserve(self, accounts, want_nano, least_nano):
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken == 2:
            raise ConnectionResetError
        return super()._reserve(accounts, want_nano, least_nano)


def test_an_escrow_that_failed_loses_no_reservation_and_is_tried_again(redis_server):
    account = Account("all", 10_000)
    ledger = Interrupted(redis_server.url, escrow=0.1)
    hold = ledger.reserve([account], 500, 500)
    assert hold.granted_nano == 500
    ledger.settle(hold, 400)
    assert ledger.flush()
    assert ledger.read_nano(account) == (400, 0)
    ledger.settle(ledger.reserve([account], 500, 500), 500)
    assert ledger.flush()
    assert ledger.read_nano(account) == (900, 1000)
    ledger.close()


def test_an_escrow_that_was_not_needed_is_given_back(redis_server):
    account = Account("all", 10_000)
    ledger = RedisLedger(redis_server.url, escrow=0.1)
    ledger.settle(ledger.reserve([account], 500, 500), 400)
    ledger.close()
    reader = RedisLedger(redis_server.url)
    assert reader.read_nano(account) == (400, 0)
    reader.close()


def test_what_is_spent_while_redis_is_down_is_booked_when_it_is_back(redis_server):
    account = Account("all", 10_000)
    ledger = RedisLedger(redis_server.url, escrow=0.0, retry_s=0.05)
    hold = ledger.reserve([account], 500, 500)
    redis_server.kill()
    started = time.monotonic()
    ledger.settle(hold, 321)
    assert time.monotonic() - started < 0.2
    assert not ledger.flush(0.2)
    redis_server.start()
    assert ledger.flush()
    assert ledger.read_nano(account) == (321, 0)
    ledger.close()


def test_a_redis_that_lost_its_data_learns_it_from_its_workers(tmp_path):
    server = RedisServer(tmp_path, append=False)
    try:
        account = Account("all", 10_000)
        ledger = RedisLedger(server.url, escrow=0.0, retry_s=0.05)
        ledger.settle(ledger.reserve([account], 6000, 6000), 6000)
        assert ledger.flush()
        pending = ledger.reserve([account], 1000, 1000)
        server.kill()
        server.start()
        assert reserve_with_answer(ledger, account, 5000) is None
        hold = reserve_with_answer(ledger, account, 3000)
        ledger.settle(pending, 1000)
        ledger.settle(hold, 3000)
        assert ledger.flush()
        assert ledger.read_nano(account) == (10_000, 0)
        ledger.close()
    finally:
        server.kill()


def test_a_router_with_shared_money_works(redis_server):
    ledger = RedisLedger(redis_server.url, escrow=0.0)
    model = router(ScriptedModel(answer(30)), budgets=Budgets([Budget(1.0)], ledger))
    model.invoke("hi")
    asyncio.run(model.ainvoke("hi"))
    assert ledger.flush()
    settled, reserved = ledger.read_nano(model.budgets.budgets[0].account({}, 0.0))
    assert to_usd(settled) == pytest.approx(2 * cost(30), abs=1e-8)
    assert reserved == 0
    ledger.close()


def test_a_settlement_that_is_sent_twice_is_booked_once(redis_server):
    # A command that timed out may have run all the same; so it is sent again.
    account = Account("all", 10_000)
    ledger = RedisLedger(redis_server.url, escrow=0.0)
    hold = ledger.reserve([account], 500, 500)
    assert ledger._settle_in_redis(hold, 300)
    assert ledger._settle_in_redis(hold, 300)
    assert ledger.read_nano(account) == (300, 0)
    ledger.close()


def test_a_reservation_whose_answer_was_lost_is_given_back(redis_server):
    account = Account("all", 10_000)
    ledger = RedisLedger(redis_server.url, escrow=0.0)
    hold = ledger.reserve([account], 500, 500)
    ledger._settle_later(Reservation((account,), 0, hold.account_states[:1]), 0)
    assert ledger.flush()
    assert ledger.read_nano(account) == (0, 0)
    ledger.close()
