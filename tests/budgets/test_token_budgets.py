"""Budgets in tokens: reserved, settled and refused like those in USD."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
)
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.live import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.fakes import JudgeModel, ProviderError, ScriptedModel, TimedModel

WORST = 1000


def answer(n_in: int = 10, n_out: int = 90, text: str = "fine") -> AIMessage:
    usage = UsageMetadata(input_tokens=n_in, output_tokens=n_out, total_tokens=n_in + n_out)
    return AIMessage(text, usage_metadata=usage)


def router(*budgets, model=None, price=None, **kwargs) -> ChatLLMRouter:
    model = ScriptedModel(answer()) if model is None else model
    candidates = [Candidate("a", model, price, max_output_tokens=WORST)]
    return ChatLLMRouter(
        candidates=candidates, policy=Always("a"), budgets=Budgets(list(budgets)), **kwargs
    )


def used(model, config=None, i=0) -> int:
    budgets = model.budgets
    return budgets.ledger.used_nano(budgets.budgets[i].account(config or {}, budgets.clock()))


@pytest.mark.parametrize("price", [None, Price(0, 0), Price(1, 10)], ids=["none", "free", "known"])
def test_tokens_are_limited_whatever_the_price_is(price):
    model = router(Budget(limit_tokens=WORST + 450), price=price)
    for _ in range(5):
        model.invoke("hi")
    assert used(model) == 500
    with pytest.raises(BudgetExceededError, match=r"tokens.*already spent.*500.* tokens"):
        model.invoke("hi")


async def test_concurrent_callers_never_exceed_a_limit_in_tokens():
    model = router(Budget(limit_tokens=8 * WORST), model=TimedModel(answer(), delays=[0.01]))

    async def ask():
        try:
            return await model.ainvoke("hi")
        except BudgetExceededError:
            return None

    answers = await asyncio.gather(*(ask() for _ in range(60)))
    assert 5 < sum(a is not None for a in answers) < 9
    assert used(model) == 100 * sum(a is not None for a in answers)


def test_dollars_and_tokens_hold_together_and_a_refusal_books_neither():
    both = [Budget(1.0), Budget(limit_tokens=2 * WORST, per="user_id")]
    model = router(*both, price=Price(1, 10))
    for _ in range(9):
        model.invoke("hi", {"configurable": {"user_id": "ann"}})
    spent = used(model), used(model, {"configurable": {"user_id": "ann"}}, 1)
    assert spent[0] == pytest.approx(9 * 910_000, abs=20)
    assert spent[1] == 900
    for _ in range(20):
        try:
            model.invoke("hi", {"configurable": {"user_id": "ann"}})
        except BudgetExceededError:
            break
    refused = used(model), used(model, {"configurable": {"user_id": "ann"}}, 1)
    with pytest.raises(BudgetExceededError, match="tokens"):
        model.invoke("hi", {"configurable": {"user_id": "ann"}})
    assert (used(model), used(model, {"configurable": {"user_id": "ann"}}, 1)) == refused
    model.invoke("hi", {"configurable": {"user_id": "bob"}})


def test_a_limit_in_tokens_per_call_refuses_a_long_answer():
    model = router(Budget(limit_tokens=500, per="call"))
    with pytest.raises(BudgetExceededError, match="500 tokens per call"):
        model.invoke("hi")
    model.invoke("hi", max_tokens=100)


def test_an_answer_whose_usage_is_not_known_counts_as_its_worst_case():
    model = router(Budget(limit_tokens=5 * WORST), model=ScriptedModel(AIMessage("no usage")))
    model.invoke("hi")
    assert WORST < used(model) < 1.2 * WORST


def test_calls_that_failed_and_may_be_billed_count_too():
    flaky = ScriptedModel(ProviderError(500), answer())
    model = router(
        Budget(limit_tokens=10 * WORST), model=flaky, live=Live(resilience=Resilience(retries=1))
    )
    model.invoke("hi")
    assert used(model) >= 100


@given(st.integers(0, 6000), st.lists(st.integers(1, 900), min_size=1, max_size=8))
@settings(max_examples=30)
def test_whatever_answers_take_the_limit_in_tokens_holds(limit, lengths):
    model = router(
        Budget(limit_tokens=limit), model=ScriptedModel(*[answer(10, n) for n in lengths])
    )
    total = 0
    for length in lengths:
        try:
            model.invoke("hi")
        except BudgetExceededError:
            break
        total += 10 + length
        assert total <= limit
        assert used(model) == total


def cascade(kind, budgets):
    small = JudgeModel(answer(text="draft"), verdicts=["no"])
    parts = {
        "candidates": [
            Candidate("small", small, Price(1, 1), max_output_tokens=100),
            Candidate("large", ScriptedModel(answer(text="better")), None, max_output_tokens=100),
        ],
        "policy": ConfidenceThreshold(),
        "verifier": SelfEvaluator(n_samples=2),
        "budgets": budgets,
    }
    if kind == "chat":
        model = ChatLLMRouter(**parts)
        return lambda: model.invoke("hi").content
    graph = create_cascade(**parts).compile()
    return lambda: graph.invoke({"messages": [("user", "hi")]})["messages"][-1].content


@pytest.mark.parametrize("kind", ["chat", "graph"])
def test_drafts_and_verdicts_count_and_the_limit_holds_in_every_driver(kind):
    budgets = Budgets([Budget(limit_tokens=30_000)])
    ask, account = cascade(kind, budgets), budgets.budgets[0].account({}, 0.0)
    assert ask() == "better"
    once = budgets.ledger.used_nano(account)
    assert once >= 200
    used_tokens = [once]
    with contextlib.suppress(NoCandidateError):
        while len(used_tokens) < 500:
            ask()
            used_tokens.append(budgets.ledger.used_nano(account))
    assert max(used_tokens) <= 30_000
    assert 1 < len(used_tokens) < 200


def test_a_graph_settles_what_it_took_and_holds_nothing_between_its_nodes():
    budgets = Budgets([Budget(limit_tokens=10_000)])
    candidates = [Candidate("a", ScriptedModel(answer()), None, max_output_tokens=100)]
    graph = create_cascade(candidates, policy=Always("a"), budgets=budgets).compile()
    for _ in range(3):
        graph.invoke({"messages": [("user", "hi")]})
    assert budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)) == 300


def test_the_record_says_what_answers_and_verdicts_took():
    budgets = Budgets([Budget(limit_tokens=100_000)])
    model = ChatLLMRouter(
        candidates=[
            Candidate("small", JudgeModel(answer(), verdicts=["no"]), None, max_output_tokens=100),
            Candidate("large", ScriptedModel(answer()), None, max_output_tokens=100),
        ],
        policy=ConfidenceThreshold(),
        verifier=SelfEvaluator(n_samples=2),
        budgets=budgets,
    )
    attempts = route_of(model.invoke("hi"))["attempts"]
    verdicts = attempts[0]["verification_tokens"]
    assert verdicts > 0
    assert used(model) == 200 + verdicts


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "limit_usd.*limit_tokens"),
        ({"limit_usd": 1.0, "limit_tokens": 5}, "two budgets"),
        ({"limit_tokens": -1}, "limit_tokens"),
        ({"limit_tokens": 5.5}, "limit_tokens"),
        ({"limit_tokens": 5, "period": "day", "pace": 1.0}, "pace"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_in_words(fields, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Budget(**fields)
