"""What accounts keep: through new limits, odd subjects, forks, lost reservations and clocks."""

import contextlib
import multiprocessing
import os
import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.budgets.ledgers import Account, InProcessLedger, Ledger
from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.errors import LedgerError
from langchain_llm_router.types.steady_clock import SteadyClock

DAY = 86_400.0
texts = st.text(st.characters(exclude_categories=()), max_size=30)


def config(**keys) -> dict:
    return {"configurable": keys}


def situation(worst_usd: float) -> Situation:
    return Situation("q", (Arm("a", worst_cost_usd=worst_usd),))


def spend(budgets: Budgets, usd: float, **keys) -> bool:
    """Reserve and settle an amount; return False if it is refused."""
    try:
        held = budgets.reserve(situation(usd), config(**keys))
    except BudgetExceededError:
        return False
    budgets.settle(held, usd)
    return True


# Keys


@pytest.mark.parametrize("calendar", [{"period_s": DAY}, {"period": "month"}, {}])
@given(limits=st.lists(st.integers(0, 20), min_size=1, max_size=15))
@settings(max_examples=30)
def test_whatever_becomes_of_the_limit_what_was_spent_stays(calendar, limits):
    ledger, spent = InProcessLedger(), 0
    for limit in limits:
        budgets = Budgets([Budget(float(limit), per="user_id", **calendar)], ledger, lambda: 5e8)
        while spend(budgets, 1.0, user_id="ann"):
            spent += 1
            assert spent <= limit
        assert spent >= min(limits[0], limit)


@given(texts, texts, st.sampled_from(["user_id", "all", "per user_id", "x:y"]), st.data())
def test_two_subjects_never_have_the_same_account(one, other, scope, data):
    first, second = (
        Budget(1.0, per=scope),
        Budget(1.0, per=data.draw(st.sampled_from([scope, "z"]))),
    )
    keys = {
        first.account(config(**{first.per: one}), 0.0).key,
        second.account(config(**{second.per: other}), 0.0).key,
    }
    assert len(keys) == (1 if (first.per, one) == (second.per, other) else 2)


def test_a_subject_cannot_look_like_another_scope_or_period():
    subjects = ["", ":", "a:usd", "all", "86400.0s 0", "#", "%3A", "\ud800", "x" * 10_000, "a\0b"]
    budgets = [
        Budget(1.0),
        *(Budget(1.0, per="user_id", **period) for period in ({}, {"period_s": DAY})),
        Budget(1.0, per="user_id", period="day"),
        Budget(1.0, per="user_id", period="day", timezone="Asia/Tokyo"),
        Budget(1.0, per="user_id:usd"),
    ]
    keys = {b.account(config(**{b.per or "-": s}), 0.0).key for b in budgets for s in subjects}
    assert len(keys) == 1 + (len(budgets) - 1) * len(subjects)
    assert max(map(len, keys)) < 500


def test_periods_of_nearly_the_same_length_have_their_own_accounts():
    keys = {Budget(1.0, period_s=s).account({}, 0.0).key for s in (86400.25, 86400.26, 86400)}
    assert len(keys) == 3


def test_two_limits_on_one_account_reserve_once_and_the_lower_one_holds():
    budgets = Budgets([Budget(5.0), Budget(3.0)])
    assert [spend(budgets, 1.0) for _ in range(4)] == [True, True, True, False]


# Reservations that are never settled


@given(
    st.lists(
        st.tuples(st.sampled_from(["reserve", "settle", "drop", "wait", "settle again"]),
                  st.integers(1, 40)),
        max_size=60,
    )
)  # fmt: skip
def test_a_lost_reservation_comes_back_after_its_time_and_the_limit_holds_meanwhile(moves):
    now, limit = [0.0], 100
    ledger = InProcessLedger(clock=lambda: now[0], hold_s=100.0)
    account, holds, spent, done = Account("a", limit), [], 0, []
    for move, amount in moves:
        if move == "reserve":
            hold = ledger.reserve([account], amount, 1)
            if hold is not None:
                holds.append(hold)
        elif move == "settle" and holds:
            done.append(holds.pop())
            ledger.settle(done[-1], done[-1].granted_nano // 2)
            spent += done[-1].granted_nano // 2
        elif move == "settle again" and done:
            ledger.settle(done[-1], 40)
        elif move == "drop":
            holds = holds[1:]
        elif move == "wait":
            # Those that are still held are settled in time.
            for hold in holds:
                ledger.settle(hold, hold.granted_nano)
                spent += hold.granted_nano
            holds, now[0] = [], now[0] + 101.0
            room = ledger.reserve([account], limit, 0)
            assert room.granted_nano == limit - spent
            ledger.settle(room, 0)
        assert spent + sum(h.granted_nano for h in holds) <= ledger.used_nano(account) <= limit


def test_a_settlement_that_comes_after_the_release_is_still_booked():
    now = [0.0]
    ledger = InProcessLedger(clock=lambda: now[0], hold_s=10.0)
    account = Account("a", 100)
    late = ledger.reserve([account], 60, 60)
    now[0] = 11.0
    ledger.settle(ledger.reserve([account], 100, 100), 10)
    ledger.settle(late, 50)
    ledger.settle(late, 50)
    assert ledger.used_nano(account) == 60


def test_a_cost_that_is_no_number_counts_as_all_that_was_reserved_and_none_is_negative():
    for spent, used in [(float("nan"), 3.0), (float("inf"), 3.0), (-5.0, 0.0), (1.0, 1.0)]:
        budgets = Budgets([Budget(10.0)])
        budgets.settle(budgets.reserve(situation(3.0), {}), spent)
        account = budgets.budgets[0].account({}, 0.0)
        assert budgets.ledger.used_nano(account) == used * 1e9


def test_what_is_free_is_granted_even_after_the_limit_was_lowered_below_the_spending():
    ledger = InProcessLedger()
    assert spend(Budgets([Budget(5.0)], ledger), 5.0)
    lowered = Budgets([Budget(1.0)], ledger)
    assert spend(lowered, 0.0)
    assert not spend(lowered, 0.01)


# Memory


def test_accounts_without_a_period_are_refused_in_words_before_memory_runs_out():
    budgets = Budgets([Budget(1.0, per="user_id")], InProcessLedger(max_accounts=50))
    for i in range(50):
        assert spend(budgets, 0.5, user_id=i)
    with pytest.raises(LedgerError, match=r"50 accounts.*max_accounts.*period"):
        spend(budgets, 0.5, user_id="one more")
    assert spend(budgets, 0.5, user_id=3)
    assert not spend(budgets, 0.5, user_id=3)


def test_a_subject_that_spent_nothing_takes_no_place():
    ledger = InProcessLedger(max_accounts=5)
    budgets = Budgets([Budget(1.0, per="user_id")], ledger)
    for i in range(1000):
        budgets.settle(budgets.reserve(situation(0.5), config(user_id=i)), 0.0)
        assert not spend(budgets, 2.0, user_id=f"refused {i}")
    assert len(ledger._entries) == 0


def test_runs_are_forgotten_a_day_after_their_last_call_and_not_before():
    now = [0.0]
    ledger = InProcessLedger()
    budgets = Budgets([Budget(1.0, per="run_id")], ledger, lambda: now[0])
    for i in range(2000):
        now[0] += 600.0
        assert spend(budgets, 0.001, run_id=f"run {i}")
        assert spend(budgets, 0.0001, run_id="one that goes on")
    assert len(ledger._entries) < 200
    assert not spend(budgets, 0.9, run_id="one that goes on")


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_is_refused_in_words_even_if_the_ledger_was_locked():
    budgets = Budgets([Budget(1.0)])
    assert spend(budgets, 0.4)
    held = budgets.reserve(situation(0.4), {})
    budgets.ledger._lock.acquire()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            budgets.settle(held, 0.0)
            spend(budgets, 0.1)
            os.write(write, b"granted")
        except LedgerError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    budgets.ledger._lock.release()
    os.waitpid(child, 0)
    assert "RedisLedger" in os.read(read, 1000).decode()
    budgets.settle(held, 0.4)
    assert budgets.ledger.used_nano(Budget(1.0).account({}, 0.0)) == 0.8e9


def test_a_ledger_of_one_process_cannot_be_sent_to_another():
    with pytest.raises(TypeError, match="RedisLedger"):
        pickle.dumps(InProcessLedger())
    with pytest.raises(TypeError, match="RedisLedger"):
        multiprocessing.get_context("spawn").Process(
            target=print, args=(InProcessLedger(),)
        ).start()


class Unreachable(Ledger):
    problem = "the disk is on fire: use another one"

    def reserve(self, accounts, want_nano, least_nano):
        return None

    def settle(self, hold, spent_nano):
        pass

    def used_nano(self, account):
        return 0


def test_a_ledger_that_cannot_tell_is_not_reported_as_an_exceeded_budget():
    with pytest.raises(LedgerError, match="the disk is on fire") as caught:
        spend(Budgets([Budget(1.0)], Unreachable()), 0.1)
    assert not isinstance(caught.value, BudgetExceededError)


# Clocks


@given(st.lists(st.floats(-3 * DAY, 3 * DAY), max_size=40), st.sampled_from(["day", None]))
def test_a_clock_that_jumps_never_opens_a_spent_period_again(jumps, unit):
    now, spent = [1e9], {}
    budget = Budget(3.0, period=unit, period_s=None if unit else 3600.0)
    budgets = Budgets([budget], clock=lambda: now[0])
    for jump in jumps:
        now[0] = max(0.0, now[0] + jump)
        for _ in range(4):
            label = budget.current_period(now[0]).label
            # What is not known any more is refused.
            with contextlib.suppress(LedgerError):
                spent[label] = spent.get(label, 0) + spend(budgets, 1.0)
    assert max(spent.values(), default=0) <= 3


def test_a_jump_of_the_wall_clock_is_not_followed_unless_it_lasts():
    wall, steady = [1000.0], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: steady[0])

    def wait(seconds, jump=0.0):
        steady[0] += seconds
        wall[0] += seconds + jump
        return clock()

    assert clock() == 1000.0
    assert wait(10) == 1010.0
    assert wait(10, DAY) == 1020.0
    assert wait(500) == 1520.0
    assert wait(10, -DAY) == 1530.0
    assert wait(10, -DAY) == 1540.0
    assert wait(599) == 2139.0
    assert wait(2) == 2141.0 - DAY
    # Small differences are adjustments, which are followed.
    assert wait(10, 0.5) == 2151.5 - DAY
    assert wait(10, -0.5) == 2161.0 - DAY


def test_a_jump_of_the_wall_clock_neither_opens_a_period_nor_closes_the_new_one(monkeypatch):
    import time

    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    budgets = Budgets([Budget(1.0, period="day")], clock=SteadyClock())
    assert spend(budgets, 1.0)
    for jump in (DAY, -DAY, 365 * DAY, 0.0):
        offset[0] = jump
        assert not spend(budgets, 1.0)


def test_threads_share_one_account():
    budgets, granted = Budgets([Budget(10.0, per="user_id")]), []

    def work():
        granted.extend(spend(budgets, 0.5, user_id="ann") for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 20
