"""What a provider billed against what the ledger booked, fault by fault, over real HTTP.

The rows are those of `tests/benchmarks/faults.py --only money`.
"""

import pytest
from langchain_core.messages import HumanMessage

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.policies import Always
from tests.benchmarks.failing.billing_server import BillingServer
from tests.benchmarks.failing.money import FAULTS, IMAGE, booked_usd, made_pool, row

QUICK = {
    "none": {"cascade": True, "live": True},
    "5xx that was billed": {"cascade": True, "live": False},
    "cancelled after sending": {"cascade": False, "live": True},
}


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in QUICK], ids=lambda f: f.name)
def test_booked_covers_billed_and_billed_is_within_the_limit(fault):
    made = row(fault, **QUICK[fault.name], n=8)
    assert made["calls"] >= 8
    assert made["holds"], made


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True], ids=["", "live"])
@pytest.mark.parametrize("cascade", [False, True], ids=["one-shot", "cascade"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_books_are_right_whatever_fails(fault, cascade, live):
    if fault.only_live and not live:
        pytest.skip("without `live` there are no such rules")
    made = row(fault, cascade=cascade, live=live)
    assert made["calls"] > 0
    assert made["holds"], made


@pytest.mark.slow
def test_the_books_are_right_whatever_process_ends():
    from tests.benchmarks.failing.money_processes import rows

    failed = [made for made in rows() if not made["holds"]]
    assert failed == []


def asked(limit_usd, content, **kwargs):
    with BillingServer(image_tokens=25_501) as server:
        budgets = Budgets([Budget(limit_usd)])
        router = ChatLLMRouter(
            candidates=made_pool(server.url)[:1], policy=Always("small"), budgets=budgets
        )
        router.invoke([HumanMessage(content)], **kwargs)
        assert server.calls == 1
        assert booked_usd(budgets) == pytest.approx(server.billed_usd, abs=1e-9)


def test_a_large_image_is_not_refused_for_its_bytes():
    asked(0.05, [{"type": "image_url", "image_url": {"url": IMAGE}}], max_tokens=100)


def test_a_short_answer_is_not_refused_on_a_tiny_limit():
    asked(0.0001, "What is it?", max_tokens=10)
