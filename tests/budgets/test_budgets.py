"""The worst case of a call before it is made, and budgets that make no sense."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_llm_router import Candidate, Price, SelfEvaluator
from langchain_llm_router.budgets import (
    Budget,
    Budgets,
    bounded,
    prompt_bound,
    worst_cost_usd,
)
from langchain_llm_router.budgets.pacer import Pacer
from langchain_llm_router.budgets.redis_ledger import RedisLedger
from langchain_llm_router.live import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.types import Arm, Endpoint
from langchain_llm_router.verification import (
    Agreement,
    AnswerLogprob,
    ByCandidate,
    Checks,
    TokenProbability,
    YesNo,
)
from tests.support.fakes import ScriptedModel, TimedModel
from tests.support.spending_pools import PRICE, cost, router, used


@given(st.text(max_size=200))
def test_a_prompt_has_no_more_tokens_than_its_bound(text):
    assert prompt_bound([HumanMessage(text)], {}) >= len(text.encode())


def test_the_worst_case_needs_a_price_and_a_longest_answer():
    model = ScriptedModel("x")
    assert worst_cost_usd(Candidate("a", model, PRICE), 10, None) is None
    assert worst_cost_usd(Candidate("a", model), 10, 100) is None
    assert worst_cost_usd(Candidate("a", model, PRICE), 10, 100) == pytest.approx(cost(100))
    bounded = Candidate("a", model, PRICE, max_output_tokens=50)
    assert worst_cost_usd(bounded, 10, None) == pytest.approx(cost(50))


def worst_call(candidate: Candidate, *, settings=None, live=None, **kwargs) -> float | None:
    (arm,) = bounded(
        [Arm(candidate.name)], {candidate.name: candidate}, [HumanMessage("hi")], kwargs,
        settings=settings, live=live,
    )  # fmt: skip
    return arm.worst_call_usd


def test_the_longest_answer_is_what_the_call_really_allows():
    plain = Candidate("a", ScriptedModel("x"), PRICE, max_output_tokens=100)
    wordy = replace(plain, parameters={"max_completion_tokens": 5000})
    least = PRICE.estimate_usd(input_tokens=0, output_tokens=1)
    assert worst_call(plain, max_tokens=20) < 100 * least < worst_call(plain) < 200 * least
    # a candidate's own parameters overrule the router's, and the call's overrule both
    assert worst_call(wordy) > 5000 * least
    assert worst_call(wordy, settings={"max_tokens": 20}) > 5000 * least
    assert worst_call(plain, settings={"max_tokens": 20}) < 100 * least
    assert worst_call(plain, n=4) > 400 * least


def test_a_hedged_call_is_paid_for_at_the_dearer_endpoint():
    endpoints = [Endpoint("cheap"), Endpoint("dear", price=Price(10.0, 100.0))]
    model = Candidate("m", ScriptedModel("x"), PRICE, max_output_tokens=50, endpoints=endpoints)
    pool = {arm.name: arm for arm in expand_endpoints([model])}
    arms = [Arm(name, model="m") for name in pool]

    def worst(live):
        return [a.worst_call_usd for a in bounded(arms, pool, [HumanMessage("hi")], {}, live=live)]

    cheap, dear = worst(Live())
    assert dear == pytest.approx(10 * cheap)
    assert worst(Live(resilience=Resilience(hedge_after=0.95))) == [dear, dear]


def test_a_verdict_may_be_longer_than_the_answer_it_is_about():
    judge = Candidate("judge", ScriptedModel("x"), PRICE, max_output_tokens=1000)
    small = Candidate("a", ScriptedModel("x"), PRICE, max_output_tokens=100)
    (arm,) = bounded(
        [Arm("a")], {"a": small}, [HumanMessage("hi")], {"max_tokens": 1},
        verifier=SelfEvaluator(n_samples=2, judge=judge),
    )  # fmt: skip
    assert arm.worst_verification_usd > 2 * PRICE.estimate_usd(input_tokens=0, output_tokens=1000)


@pytest.mark.parametrize(
    ("verifier", "n_calls"),
    [
        (AnswerLogprob(), 0),
        (Checks([lambda case: True]), 0),
        # A judge that only thought is asked again with more room.
        (TokenProbability(), 2),
        # A verdict that cannot be read is asked for once more.
        (SelfEvaluator(n_samples=5), 10),
        (SelfEvaluator(n_samples=5, retries=0), 5),
        (YesNo(n_samples=3), 6),
        (Agreement(peers=[Candidate("b", ScriptedModel("x"))], n_resamples=2), 3),
        (ByCandidate({"a": SelfEvaluator(n_samples=4)}), 8),
        (ByCandidate({"b": SelfEvaluator()}), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_judging_is_reserved_for_with_every_call_it_can_make(verifier, n_calls):
    small = Candidate("a@there", ScriptedModel("x"), PRICE, max_output_tokens=100, endpoint_of="a")
    assert len(verifier.most_calls(small)) == n_calls
    live = Live(resilience=Resilience(retries=1))

    def worst(live=None):
        (arm,) = bounded(
            [Arm("a@there")], {small.name: small}, [HumanMessage("hi")], {},
            verifier=verifier, live=live,
        )  # fmt: skip
        return arm.worst_verification_usd

    if isinstance(verifier, Agreement):
        assert worst() is None, "its peer has no price"
    else:
        assert (worst() > 0) == (n_calls > 0)
        assert worst(live) == pytest.approx(2 * worst())


async def test_a_request_that_is_given_up_has_paid_for_all_its_tries():
    slow = TimedModel("x", delays=[30.0])
    live = Live(resilience=Resilience(timeout_s=0.05, retries=50, backoff_s=0.01))
    model = router(slow, budgets=Budget(100.0), live=live)
    asking = asyncio.create_task(model.ainvoke("hi"))
    while len(slow.started) < 3:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert used(model) >= len(slow.started) * cost(100)


@pytest.mark.parametrize(
    "build",
    [lambda: Budget(-1), lambda: Budget(1, period_s=0), lambda: Budget(1, pace=1.0),
     lambda: Budget(1, per="user_id", period_s=5, pace=1.0), lambda: Budgets([]),
     lambda: Pacer(0, 1), lambda: RedisLedger("redis://x", escrow=2)],
)  # fmt: skip
def test_budgets_that_make_no_sense_are_refused(build):
    with pytest.raises(ValueError, match=r"must|needs|empty"):
        build()
