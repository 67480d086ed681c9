"""Prices of a feed decide, bound and cost, and their age is in the record."""

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import DatedPrices, Live, PriceFeed
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Endpoint
from langchain_llm_router.verification import Agreement, SelfEvaluator
from tests.support.fakes import make_outcomes
from tests.support.timed_calls import Clock


class Market:
    """Prices that a test changes, and a feed of them."""

    def __init__(self, **prices):
        self.prices, self.clock = prices, Clock()
        since = self.clock() - 30
        self.feed = PriceFeed(lambda: DatedPrices(self.prices, since), clock=self.clock)
        self.live = Live(prices=self.feed)

    def change(self, **prices):
        self.prices = {**self.prices, **prices}
        assert self.feed.refresh()


@pytest.fixture
def market():
    market = Market(small=Price(1, 1))
    yield market
    market.feed.close()


def pool(**changes):
    small = Candidate("small", ScriptedChatModel("yes"), Price(1, 1), **changes)
    return [small, Candidate("medium", ScriptedChatModel("no"), Price(2, 2), **changes)]


def test_the_choice_follows_the_price_and_the_record_has_its_age(market):
    estimator = Constant().fit(make_outcomes(candidates=("small", "medium")))
    router = ChatLLMRouter(
        candidates=pool(), estimator=estimator, policy=Utility(cost=1e4), live=market.live
    )
    first = route_of(router.invoke("hi"))
    assert (first["candidate"], first["price_age_s"]) == ("small", {"small": 30.0})
    market.change(small=Price(1e5, 1e5))
    market.clock.wait(10)
    second = route_of(router.invoke("hi"))
    assert (second["candidate"], second["price_age_s"]) == ("medium", {"small": 40.0})


def test_a_call_costs_what_the_feed_says_in_chat_and_graph_alike(market):
    market.change(small=Price(1000, 1000))
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), live=market.live)
    answer = router.invoke("hi")
    n_tokens = answer.usage_metadata["total_tokens"]
    assert route_of(answer)["cost_usd"] == pytest.approx(n_tokens * 1000 / 1e6)
    graph = create_cascade(pool(), policy=Always("small"), live=market.live).compile()
    (*_, message) = graph.invoke({"messages": [("human", "hi")]})["messages"]
    assert route_of(message)["cost_usd"] == route_of(answer)["cost_usd"]
    assert route_of(message)["price_age_s"] == {"small": 30.0}


def test_a_budget_bounds_a_call_at_the_price_that_holds_now(market):
    budgets = Budgets([Budget(0.01)])
    candidates = pool(max_output_tokens=10)
    router = ChatLLMRouter(
        candidates=candidates, policy=Always("small"), live=market.live, budgets=budgets
    )
    assert router.invoke("hi").text == "yes"
    market.change(small=Price(1e6, 1e6), medium=Price(1e6, 1e6))
    with pytest.raises(BudgetExceededError):
        router.invoke("hi")


def verifiers():
    model = ScriptedChatModel(verdicts=["Incorrect"])
    judge = Candidate("judge", model, Price(1, 1), max_output_tokens=10)
    peer = Candidate("peer", ScriptedChatModel("maybe"), Price(1, 1), max_output_tokens=10)
    return {"judge": SelfEvaluator(2, judge=judge), "peer": Agreement([peer])}


@pytest.mark.parametrize("name", ["judge", "peer"])
def test_a_verdict_costs_and_is_bounded_by_the_price_of_the_feed(market, name):
    def verdict_usd():
        parts = {"policy": ConfidenceThreshold(threshold=0.5), "verifier": verifiers()[name]}
        budgets = Budgets([Budget(100.0)])
        candidates = pool(max_output_tokens=10)
        router = ChatLLMRouter(candidates=candidates, live=market.live, budgets=budgets, **parts)
        worst = router.situation("hi").arms[0].worst_verification_usd
        chat = route_of(router.invoke("hi"))
        graph = create_cascade(pool(), live=market.live, **parts).compile()
        (*_, message) = graph.invoke({"messages": [("human", "hi")]})["messages"]
        costs = [it["attempts"][0]["verification_cost_usd"] for it in (chat, route_of(message))]
        assert costs[0] == costs[1] <= worst
        return costs[0], worst

    cost, worst = verdict_usd()
    market.change(**{name: Price(1000, 1000)})
    assert verdict_usd() == pytest.approx((1000 * cost, 1000 * worst))


def test_a_request_keeps_the_prices_of_its_begin(market):
    market.feed.refresh()
    price_of = market.live.pricing()
    market.change(small=Price(7, 7))
    assert price_of(Candidate("small")) == Price(1, 1)
    assert market.live.pricing()(Candidate("small")) == Price(7, 7)
    assert price_of(Candidate("other", price=Price(3, 3))) == Price(3, 3)


def test_a_measured_mean_cost_is_scaled_to_the_price_of_the_feed(market):
    estimator = Constant().fit(make_outcomes(candidates=("small", "medium")))
    router = ChatLLMRouter(
        candidates=pool(expected_cost_usd=0.001),
        estimator=estimator,
        policy=Utility(cost=1.0),
        live=market.live,
    )
    market.change(small=Price(3, 3))
    scores = router.route("hi").scores
    assert scores["small"]["cost_usd"] == pytest.approx(0.003)
    assert scores["medium"]["cost_usd"] == pytest.approx(0.001)


def test_each_endpoint_has_a_price_of_its_own():
    market = Market(**{"small@a": Price(5, 5), "small@b": Price(1, 1)})
    ends = [Endpoint("a", ScriptedChatModel("a")), Endpoint("b", ScriptedChatModel("b"))]
    router = ChatLLMRouter(
        candidates=[Candidate("small", price=Price(2, 2), endpoints=ends)],
        policy=Always("small"),
        live=market.live,
    )
    first = {arm.candidate: arm.cost_usd for arm in router.situation("hi").arms}
    market.change(**{"small@b": Price(50, 50)})
    second = {arm.candidate: arm.cost_usd for arm in router.situation("hi").arms}
    assert first["small@a"] == second["small@a"] == pytest.approx(5 * first["small@b"])
    assert second["small@b"] == pytest.approx(50 * first["small@b"])
    market.feed.close()


def test_without_a_feed_the_record_has_no_ages():
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), live=Live())
    assert "price_age_s" not in route_of(router.invoke("hi"))
