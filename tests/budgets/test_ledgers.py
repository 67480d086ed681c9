"""The ledger of one process."""

from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.budgets.ledgers import (
    Account,
    InProcessLedger,
    to_nano,
    to_usd,
)


@given(st.floats(0, 1e5))
def test_nano_dollars_never_charge_too_little_and_never_a_cent_too_much(usd):
    assert -1e-10 < to_usd(to_nano(usd)) - usd < 2e-9


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=60), st.integers(0, 500))
def test_whatever_is_reserved_and_settled_in_whatever_order_the_limit_holds(moves, limit):
    ledger, account = InProcessLedger(), Account("a", limit)
    holds, spent = [], 0
    for want, share in moves:
        hold = ledger.reserve([account], want, max(1, want // 2))
        if hold is not None:
            assert want // 2 <= hold.granted_nano <= want
            holds.append(hold)
        if holds and share < 0.5:
            done = holds.pop(0)
            paid = int(share * 2 * done.granted_nano)
            ledger.settle(done, paid)
            spent += paid
        assert ledger.used_nano(account) == spent + sum(h.granted_nano for h in holds) <= limit


def test_all_accounts_or_none():
    ledger = InProcessLedger()
    rich, poor = Account("rich", 100), Account("poor", 5)
    assert ledger.reserve([rich, poor], 10, 10) is None
    assert ledger.used_nano(rich) == 0
    assert ledger.reserve([rich, poor], 10, 1).granted_nano == 5


def test_accounts_of_past_periods_are_forgotten():
    now = [0.0]
    ledger = InProcessLedger(clock=lambda: now[0])
    for i in range(100):
        now[0] = i * 100.0
        hold = ledger.reserve([Account(f"w{i}", 10, now[0] + 200)], 5, 1)
        ledger.settle(hold, 5)
    assert len(ledger._entries) < 10
