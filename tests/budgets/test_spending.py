"""The money of a request: what is reserved, settled and refused."""

import asyncio

import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, create_cascade
from langchain_llm_router.budgets import (
    Budget,
    BudgetExceededError,
    Budgets,
)
from langchain_llm_router.budgets.ledgers import (
    to_usd,
)
from langchain_llm_router.live import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.chat import route_of
from tests.support.fakes import JudgeModel, ProviderError, ScriptedModel, TimedModel
from tests.support.spending_pools import PRICE, answer, cost, router, used


def test_what_was_spent_is_booked_and_the_rest_is_given_back():
    model = router(ScriptedModel(answer(30)), budgets=Budget(1.0))
    model.invoke("hi")
    assert used(model) == pytest.approx(cost(30), abs=1e-8)


async def test_every_way_of_asking_settles():
    model = router(ScriptedModel(answer(30)), budgets=Budget(1.0))
    await model.ainvoke("hi")
    list(model.stream("hi"))
    [chunk async for chunk in model.astream("hi")]
    assert used(model) == pytest.approx(3 * cost(30), abs=1e-7)


def test_no_candidate_is_asked_that_could_break_the_budget():
    first = ScriptedModel(answer(30))
    model = router(first, budgets=Budget(0.0001))
    with pytest.raises(BudgetExceededError, match=r"0\.0001 USD.*too little"):
        model.invoke("hi")
    assert first.seen == []
    assert used(model) == 0


def test_a_budget_without_a_bound_says_what_is_missing():
    model = ChatLLMRouter(
        candidates=[Candidate("a", ScriptedModel("x"), PRICE)],
        policy=Always("a"),
        budgets=Budgets([Budget(1.0)]),
    )
    with pytest.raises(BudgetExceededError, match="max_tokens"):
        model.invoke("hi")
    assert model.invoke("hi", max_tokens=10).content == "x"


def test_a_budget_is_spent_to_its_end_and_not_beyond():
    model = router(ScriptedModel(answer(100)), budgets=Budget(0.01))
    answered = 0
    for _ in range(50):
        try:
            model.invoke("hi")
        except BudgetExceededError:
            break
        answered += 1
    assert used(model) <= 0.01
    assert answered == 9


def test_each_user_and_each_period_has_its_own_money():
    now = [1000.0]
    budgets = Budgets([Budget(0.0012, per="user_id", period_s=100)], clock=lambda: now[0])
    model = router(ScriptedModel(answer(100)), budgets=budgets)

    def ask(user):
        return model.invoke("hi", {"configurable": {"user_id": user}})

    ask("ann")
    with pytest.raises(BudgetExceededError, match="per user_id in 100 s"):
        ask("ann")
    ask("bob")
    now[0] = 1101.0
    ask("ann")
    # a call without the key is a subject too, never without a limit
    model.invoke("hi")
    with pytest.raises(BudgetExceededError):
        model.invoke("hi")


def test_a_limit_per_call_and_one_in_all_hold_together():
    budgets = Budgets([Budget(0.0012, per="call"), Budget(0.003)])
    model = router(ScriptedModel(answer(100)), ScriptedModel(answer(1)), budgets=budgets)
    for _ in range(2):
        model.invoke("hi")
    with pytest.raises(BudgetExceededError):
        model.invoke("hi")
    tight = router(ScriptedModel(answer(1)), budgets=Budget(0.0001, per="call"))
    with pytest.raises(BudgetExceededError):
        tight.invoke("hi")


def test_a_fallback_stays_within_what_is_left():
    # enough for one worst case, and the first candidate may have been billed before it hung up
    first = TimedModel("x", delays=[3.0])
    live = Live(resilience=Resilience(timeout_s=0.05))
    second = ScriptedModel(answer(1))
    model = router(first, second, budgets=Budget(0.0015), live=live)
    with pytest.raises(TimeoutError):
        model.invoke("hi")
    assert second.seen == []
    assert 0.001 < used(model) <= 0.0015
    plenty = router(first, second, budgets=Budget(0.1), live=live)
    assert plenty.invoke("hi").content == "fine"
    assert used(plenty) > 0.001


def test_a_refused_call_costs_nothing():
    model = router(
        ScriptedModel(ProviderError(429)),
        ScriptedModel(answer(7)),
        budgets=Budget(1.0),
        live=Live(),
    )
    model.invoke("hi")
    assert used(model) == pytest.approx(cost(7), abs=1e-8)


def test_an_answer_of_unknown_cost_counts_as_its_worst_case():
    model = router(ScriptedModel(AIMessage("no usage")), budgets=Budget(1.0))
    model.invoke("hi")
    assert used(model) > cost(100)


def test_a_cascade_pays_for_drafts_and_verdicts_within_its_budget():
    small = JudgeModel(answer(10, "draft"), verdicts=["no"])
    model = router(
        small,
        ScriptedModel(answer(20)),
        budgets=Budget(1.0),
        policy=ConfidenceThreshold(),
        verifier=SelfEvaluator(n_samples=3),
    )
    record = route_of(model.invoke("hi"))
    assert used(model) == pytest.approx(record["cost_usd"], abs=1e-7)
    assert record["budget"]["granted_usd"] > record["cost_usd"]


def test_a_reader_that_goes_away_has_paid_for_the_whole_answer():
    model = router(TimedModel("one two three"), budgets=Budget(1.0))
    stream = model.stream("hi")
    next(stream)
    stream.close()
    assert used(model) > cost(99)


def test_the_graph_keeps_the_budget_too():
    budgets = Budgets([Budget(0.0025)])
    candidates = [Candidate("a", ScriptedModel(answer(100)), PRICE, max_output_tokens=100)]
    graph = create_cascade(candidates, policy=Always("a"), budgets=budgets).compile()
    for _ in range(2):
        graph.invoke({"messages": [("user", "hi")]})
    with pytest.raises(BudgetExceededError):
        graph.invoke({"messages": [("user", "hi")]})
    used_nano = budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0))
    assert to_usd(used_nano) == pytest.approx(2 * cost(100), abs=1e-7)


async def test_concurrent_callers_cannot_overspend():
    model = router(TimedModel(answer(100), delays=[0.01]), budgets=Budget(0.0205))

    async def one():
        try:
            return await model.ainvoke("hi")
        except BudgetExceededError:
            return None

    answers = await asyncio.gather(*(one() for _ in range(60)))
    n = sum(a is not None for a in answers)
    assert n * cost(100) <= 0.0205
    assert used(model) == pytest.approx(n * cost(100), abs=1e-6)
    assert n >= 15
