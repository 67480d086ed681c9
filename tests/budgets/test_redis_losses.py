"""Redis, its data and the workers may go at any moment: the limit holds, and losses are said."""

import logging
import multiprocessing
import os
import pickle
import random
import signal
import threading
import time

import pytest

from langchain_llm_router.budgets import Account, Budget, BudgetExceededError, Budgets, RedisLedger
from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.errors import LedgerError
from tests.support.ledger_workers import reserve_and_die, spend_all
from tests.support.redis_server import RedisServer, reserve_with_answer

LIMIT = 10_000
ACCOUNT = Account("all", LIMIT)
SITUATION = Situation("q", (Arm("a", worst_cost_usd=1.0),))
START_METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=[True, False], ids=["append-only file", "no persistence"])
def server(request, tmp_path):
    server = RedisServer(tmp_path, append=request.param, sync="everysec")
    yield server
    server.kill()


@pytest.fixture
def durable(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def make():
    ledgers = []

    def make(server, **fields):
        ledgers.append(RedisLedger(server.url, **{"escrow": 0.0, "retry_s": 0.05, **fields}))
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.close(timeout_s=0.2)


def spend(ledger, nano, account=ACCOUNT) -> bool:
    return settle_all(ledger, nano, ledger.reserve([account], nano, nano))


def spend_with_answer(ledger, nano, account=ACCOUNT) -> bool:
    """Spend, asking again while Redis does not answer: its disk may be slow on a busy machine."""
    return settle_all(ledger, nano, reserve_with_answer(ledger, account, nano))


def settle_all(ledger, nano, hold) -> bool:
    if hold is not None:
        ledger.settle(hold, nano)
    return hold is not None


def kill_worker(server, nano, **fields):
    worker = multiprocessing.get_context("spawn").Process(
        target=reserve_and_die, args=(server.url, nano), kwargs={"limit": LIMIT, **fields}
    )
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL


# Workers that are killed, forked or started


def test_what_a_killed_worker_had_reserved_comes_back_and_a_running_one_keeps_its(durable, make):
    ledger = make(durable, lease_s=1.0)
    own = ledger.reserve([ACCOUNT], 3000, 3000)
    kill_worker(durable, 6000)
    assert ledger.reserve([ACCOUNT], 2000, 2000) is None
    time.sleep(1.2)
    # Longer than a lease, which the running process has renewed.
    other = make(durable, lease_s=1.0)
    hold = other.reserve([ACCOUNT], LIMIT, 1)
    assert hold.granted_nano == LIMIT - 3000
    ledger.settle(own, 2500)
    other.settle(hold, 7000)
    assert ledger.flush()
    assert other.flush()
    assert ledger.read_nano(ACCOUNT) == (9500, 0)


def test_what_a_killed_worker_had_reserved_can_be_charged_instead(durable, make):
    ledger = make(durable, lease_s=1.0, unsettled="charge")
    assert spend(ledger, 1000)
    kill_worker(durable, 6000)
    time.sleep(1.2)
    assert ledger.reserve([ACCOUNT], LIMIT, 1).granted_nano == 3000
    assert ledger.read_nano(ACCOUNT) == (7000, 3000)


def test_a_settlement_that_comes_after_the_lease_is_still_booked_once(durable, make):
    slow, other = make(durable, lease_s=1.0), make(durable)
    hold = slow.reserve([ACCOUNT], 6000, 6000)
    other._client.delete(slow._name("hold", slow._process))
    assert spend(other, 9000)
    slow.settle(hold, 500)
    slow.settle(hold, 500)
    assert slow.flush()
    assert other.flush()
    assert other.read_nano(ACCOUNT) == (9500, 0)


def test_leases_that_ended_while_redis_was_down_release_nothing(durable, make):
    ledger, other = make(durable, lease_s=1.0), make(durable, lease_s=1.0)
    hold = ledger.reserve([ACCOUNT], 6000, 6000)
    assert spend(other, 1000)
    durable.kill()
    time.sleep(1.5)
    durable.start()
    assert not spend_with_answer(other, 4000)
    assert spend_with_answer(other, 3000)
    ledger.settle(hold, 6000)
    assert ledger.flush()
    assert other.flush()
    assert ledger.read_nano(ACCOUNT) == (LIMIT, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_has_no_part_in_the_escrow_and_settles_nothing_of_its_parent(durable, make):
    ledger = make(durable, escrow=0.5)
    assert spend(ledger, 1000)
    held = ledger.reserve([ACCOUNT], 2000, 2000)
    assert ledger.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ledger.settle(held, 0)
            # Its own connection and thread.
            own = ledger.reserve([ACCOUNT], 2000, 2000)
            ledger.settle(own, 2000)
            ledger.flush()
            os.write(write, b"%d" % sum(ledger.read_nano(ACCOUNT)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 100)) == 3000 + 5000 + 2000
    durable.kill()
    pids = []
    for _ in range(3):
        pids.append(os.fork())
        if pids[-1] == 0:
            os._exit(sum(spend(ledger, 1000) for _ in range(10)))
    assert sum(spend(ledger, 1000) for _ in range(10)) == 5
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("method", START_METHODS)
def test_processes_started_in_every_way_share_the_limit_and_book_all_when_they_end(
    durable, make, method
):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not available on this system")
    ledger, context = make(durable, escrow=0.01), multiprocessing.get_context(method)
    assert spend(ledger, 100)
    out = context.Queue()
    workers = [context.Process(target=spend_all, args=(ledger, LIMIT, 100, out)) for _ in range(3)]
    for worker in workers:
        worker.start()
    spent = 100 + sum(out.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(30)
    assert ledger.flush()
    settled, reserved = ledger.read_nano(ACCOUNT)
    assert settled == spent
    assert reserved == 100
    assert LIMIT * 0.9 < spent <= LIMIT


def test_a_ledger_that_is_sent_to_a_process_has_the_same_accounts_and_its_own_escrow(durable, make):
    ledger = make(durable, escrow=0.2, lease_s=30.0, unsettled="charge")
    assert spend(ledger, 1000)
    copy = pickle.loads(pickle.dumps(ledger))
    assert copy.identity == ledger.identity
    assert (copy.escrow, copy.lease_s, copy.unsettled) == (0.2, 30.0, "charge")
    durable.kill()
    assert not spend(copy, 100)
    assert spend(ledger, 100)


# Redis that is killed, flushed, or forgets


def test_killed_again_and_again_while_it_is_spent_from_the_limit_holds(server, make):
    limit, account = 40_000, Account("all", 40_000)
    ledgers = [make(server, escrow=escrow) for escrow in (0.0, 0.05, 0.05)]
    spent, running = [0] * len(ledgers), True

    def work(k):
        rng = random.Random(k)
        while running:
            want = rng.randint(50, 500)
            hold = ledgers[k].reserve([account], want, want)
            if hold is None:
                time.sleep(0.01)
                continue
            time.sleep(rng.random() / 50)
            paid = rng.randint(0, want)
            spent[k] += paid
            ledgers[k].settle(hold, paid)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(ledgers))]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.7)
        server.kill()
        time.sleep(0.3)
        server.start()
    time.sleep(3)
    running = False
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.close()
    booked, reserved = ledgers[0].read_nano(account)
    assert sum(spent) <= booked <= limit
    assert reserved == 0
    assert sum(spent) > 0.2 * limit


@pytest.mark.parametrize("how", ["restarted", "flushed", "deleted"])
def test_a_redis_that_lost_everything_does_not_grant_it_again(tmp_path, make, caplog, how):
    server = RedisServer(tmp_path, append=False)
    ledger, other = make(server), make(server)
    assert spend(ledger, 5000)
    assert ledger.flush()
    hold = ledger.reserve([ACCOUNT], 2000, 2000)
    assert spend(other, 1000)
    assert other.flush()
    caplog.clear()
    if how == "restarted":
        server.kill()
        server.start()
    elif how == "flushed":
        ledger._client.flushall()
    else:
        ledger._client.delete(ledger._key(ACCOUNT))
    # One that knows nothing comes first.
    new = make(server)
    if how != "deleted":
        assert not spend_with_answer(new, 3000)
    assert not spend_with_answer(other, 3000)
    assert spend_with_answer(other, 2000)
    ledger.settle(hold, 2000)
    assert ledger.flush()
    assert other.flush()
    assert new.read_nano(ACCOUNT) == (LIMIT, 0)
    assert any("lost data" in record.getMessage() for record in caplog.records)
    server.kill()


def test_a_settlement_that_redis_lost_again_leaves_no_amount_reserved(tmp_path, make):
    server = RedisServer(tmp_path)
    ledger = make(server)
    hold = ledger.reserve([ACCOUNT], 4000, 4000)
    ledger.settle(hold, 1000)
    assert ledger.flush()
    # As if the last second of the append-only file were missing.
    key = ledger._key(ACCOUNT)
    field = f"h:{hold.account_states[0]}"
    ledger._client.hset(key, mapping={"settled": 0, "reserved": 4000, field: 4000})
    assert ledger.reserve([ACCOUNT], LIMIT, 1).granted_nano == 9000
    server.kill()


def test_a_settlement_whose_answer_was_lost_leaves_no_amount_reserved(durable, make):
    ledger = make(durable)
    hold = ledger.reserve([ACCOUNT], 4000, 4000)
    remembered = ledger._holds[hold.account_states[0]]
    assert ledger._settle_in_redis(hold, 1000)
    # Redis is restarted: the process restores what it does not know as settled, and settles again.
    ledger._holds[hold.account_states[0]] = remembered
    ledger._restore([ACCOUNT])
    assert ledger.read_nano(ACCOUNT) == (1000, 4000)
    assert ledger._settle_in_redis(hold, 1000)
    assert ledger.read_nano(ACCOUNT) == (1000, 0)


def test_a_redis_without_persistence_is_said_and_can_be_refused(server, make, caplog):
    with caplog.at_level(logging.WARNING):
        assert spend(make(server), 100)
        said = [record.getMessage() for record in caplog.records]
        assert any("append-only" in text and "appendonly yes" in text for text in said) != (
            server.append
        )
        caplog.clear()
        assert spend(make(server, persistence="ignore"), 100)
        assert caplog.records == []
    budgets = Budgets([Budget(1.0)], make(server, persistence="require"))
    if server.append:
        budgets.reserve(SITUATION, {})
    else:
        with pytest.raises(LedgerError, match=r"append-only.*persistence="):
            budgets.reserve(SITUATION, {})


def test_a_redis_that_evicts_accounts_is_said(durable, make, caplog):
    ledger = make(durable)
    ledger._client.config_set("maxmemory", "100mb")
    ledger._client.config_set("maxmemory-policy", "allkeys-lru")
    assert spend(ledger, 100)
    assert any("allkeys-lru" in record.getMessage() for record in caplog.records)


def test_a_redis_that_is_down_is_reported_as_such_and_not_as_an_exceeded_budget(durable, make):
    budgets = Budgets([Budget(1.0)], make(durable))
    budgets.settle(budgets.reserve(SITUATION, {}), 0.5)
    with pytest.raises(BudgetExceededError, match="Raise the limit"):
        budgets.reserve(SITUATION, {})
    durable.kill()
    with pytest.raises(LedgerError, match=r"Redis cannot be used .*Connection") as caught:
        budgets.reserve(SITUATION, {})
    assert not isinstance(caught.value, BudgetExceededError)
    durable.start()
    assert reserve_with_answer(budgets.ledger, Account("other", 1), 1) is not None
    with pytest.raises(BudgetExceededError, match="Raise the limit"):
        budgets.reserve(SITUATION, {})


def test_a_redis_that_was_never_there_is_reported_with_what_to_check():
    ledger = RedisLedger("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(LedgerError, match=r"check the server and the URL") as caught:
        Budgets([Budget(1.0)], ledger).reserve(SITUATION, {})
    assert "secret" not in str(caught.value)
    ledger.close(timeout_s=0.1)


def test_what_was_spent_from_the_escrow_is_booked_as_soon_as_redis_is_back(durable, make):
    ledger = make(durable, escrow=0.2)
    assert spend(ledger, 1000)
    durable.kill()
    assert spend(ledger, 1500)
    durable.start()
    assert ledger.flush()
    assert ledger.read_nano(ACCOUNT) == (2500, 500)
    durable.kill()
    assert not spend(ledger, 600)
    assert spend(ledger, 500)


def test_a_limit_that_was_lowered_holds_for_the_escrow(durable, make):
    ledger = make(durable, escrow=0.5)
    assert spend(ledger, 1000)
    assert ledger.flush()
    durable.kill()
    lowered = Account("all", 1200)
    assert not spend(ledger, 300, lowered)
    assert spend(ledger, 200, lowered)


# Limits, accounts and memory


def test_a_new_limit_keeps_what_was_spent_in_redis(durable, make):
    ledger = make(durable)
    for limit, granted in [(3.0, 3), (5.0, 2), (4.0, 0), (6.0, 1)]:
        budgets, n = Budgets([Budget(limit, per="user_id", period="week")], ledger), 0
        while True:
            try:
                held = budgets.reserve(SITUATION, {"configurable": {"user_id": "ann:1"}})
            except BudgetExceededError:
                break
            budgets.settle(held, 1.0)
            assert ledger.flush()
            n += 1
        assert n == granted


def test_two_limits_on_one_account_reserve_once(durable, make):
    ledger = make(durable)
    hold = ledger.reserve([ACCOUNT, Account("all", 500)], 1000, 1)
    assert hold.granted_nano == 500
    assert ledger.read_nano(ACCOUNT) == (0, 500)


def test_an_account_in_which_nothing_was_spent_leaves_nothing_in_redis(durable, make):
    ledger = make(durable)
    for i in range(20):
        account = Account(f"user {i}", LIMIT)
        ledger.settle(ledger.reserve([account], 10, 10), 0)
    assert ledger.flush()
    assert list(ledger._client.scan_iter("*account*")) == []


def test_a_process_forgets_the_accounts_of_past_periods(durable, make):
    now = [1000.0]
    ledger = make(durable, escrow=0.1)
    budgets = Budgets([Budget(5.0, per="user_id", period_s=10.0)], ledger, clock=lambda: now[0])
    for i in range(30):
        now[0] += 10.0
        held = budgets.reserve(SITUATION, {"configurable": {"user_id": i}})
        budgets.settle(held, 1.0)
    assert ledger.flush()
    ledger._prune(time.monotonic())
    assert len(ledger._known) < 5
    assert len(ledger._escrows) < 5
    assert len(ledger._holds) < 5


@pytest.mark.parametrize(
    "fields", [{"persistence": "maybe"}, {"unsettled": "forget"}, {"lease_s": 0.1}]
)
def test_a_knob_that_makes_no_sense_is_refused(fields):
    with pytest.raises((ValueError, TypeError), match=next(iter(fields))):
        RedisLedger("redis://127.0.0.1:1", **fields)
