"""Verdicts are reserved and booked as they are asked: without retries of the judge's client."""

import asyncio

import pytest
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.budgets import Budget, Budgets, worst_cost_usd
from langchain_llm_router.budgets.bounds import bounded
from langchain_llm_router.budgets.ledgers import to_usd
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.types import Arm
from tests.benchmarks.failing.billing_server import BillingServer
from tests.support.fakes import ScriptedModel


def judge(url: str = "http://127.0.0.1:9", **client: int) -> Candidate:
    model = ChatOpenAI(model="judge", base_url=url, api_key="none", max_tokens=50, **client)
    return Candidate("judge", model, Price(1, 4))


@pytest.mark.parametrize("retries", [{}, {"max_retries": 5}, {"max_retries": 0}], ids=str)
def test_retries_that_no_judge_makes_are_not_reserved(retries):
    small = Candidate("small", ScriptedModel("x"), Price(1, 2), max_output_tokens=9)
    verifier = SelfEvaluator(n_samples=2, judge=judge(**retries), retries=0)
    (arm,) = bounded([Arm("small")], {"small": small}, [], {}, verifier=verifier)
    one = worst_cost_usd(judge(max_retries=0), 5000, None)
    assert one is not None
    assert 0 < arm.worst_verification_usd <= 2 * one


@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=0))], ids=["", "live"])
def test_a_verdict_that_is_refused_costs_nothing(live):
    with BillingServer(("429",)) as server:
        budgets = Budgets([Budget(1.0)])
        router = ChatLLMRouter(
            candidates=[
                Candidate(name, ScriptedModel("x"), Price(0, 0), max_output_tokens=9)
                for name in ("small", "large")
            ],
            policy=ConfidenceThreshold(threshold=0.5),
            verifier=SelfEvaluator(n_samples=2, judge=judge(server.url)),
            budgets=budgets,
            live=live,
        )
        assert router.invoke("hi").text == "x"
        assert server.calls == 2
    assert to_usd(budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0))) == 0


@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=2, backoff_s=0.001))])
def test_a_verdict_of_unknown_cost_is_booked_beside_those_of_known_cost(live):
    with BillingServer(("ok", "500") if live is None else ("ok", "500", "ok")) as server:
        budgets = Budgets([Budget(1.0)])
        verifier = SelfEvaluator(n_samples=2, judge=judge(server.url))
        pool = [
            Candidate(name, ScriptedModel("x"), Price(0, 0), max_output_tokens=9)
            for name in ("small", "large")
        ]
        router = ChatLLMRouter(
            candidates=pool,
            policy=ConfidenceThreshold(threshold=0.4),
            verifier=verifier,
            budgets=budgets,
            live=live,
        )
        router.invoke("hi")
        assert server.calls == (2 if live is None else 3)
    booked = to_usd(budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)))
    one = worst_cost_usd(judge(), 5000, None)
    assert server.billed_usd <= booked < server.billed_usd + one


@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=2))], ids=["", "live"])
@pytest.mark.parametrize("sent", [False, True], ids=["before it is sent", "after"])
async def test_a_verdict_that_is_cancelled_costs_what_may_have_been_billed(live, sent):
    with BillingServer(delay_s=(0.5,)) as server:
        budgets = Budgets([Budget(1.0)])
        judged, asked = judge(server.url), asyncio.Event()

        class Small(ScriptedModel):
            async def _agenerate(self, *args, **kwargs):
                asked.set()
                return self._generate(*args, **kwargs)

        pool = [
            Candidate(name, Small("x"), Price(0, 0), max_output_tokens=9)
            for name in ("small", "large")
        ]
        router = ChatLLMRouter(
            candidates=pool,
            policy=ConfidenceThreshold(threshold=0.4),
            verifier=SelfEvaluator(n_samples=1, judge=judged),
            budgets=budgets,
            live=live,
        )
        task = asyncio.create_task(router.ainvoke("hi"))
        await asked.wait()
        while sent and server.calls == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        booked = to_usd(budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)))
        one = worst_cost_usd(judged, 5000, None)
        assert server.billed_usd <= booked <= (one if sent else 0.0)
