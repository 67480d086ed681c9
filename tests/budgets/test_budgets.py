"""Budgets: hard, shared, and paced."""

import asyncio
import multiprocessing
import queue
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.budgets import (
    Budget,
    BudgetExceededError,
    Budgets,
    bounded,
    prompt_bound,
    worst_cost_usd,
)
from langchain_llm_router.budgets.ledgers import (
    Account,
    InProcessLedger,
    Reservation,
    to_nano,
    to_usd,
)
from langchain_llm_router.budgets.pacer import Pacer
from langchain_llm_router.budgets.redis_ledger import RedisLedger
from langchain_llm_router.live import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix, Utility
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Arm, Endpoint
from langchain_llm_router.verification import (
    Agreement,
    AnswerLogprob,
    ByCandidate,
    Checks,
    TokenProbability,
    YesNo,
)
from tests.support.fakes import JudgeModel, ProviderError, ScriptedModel, TimedModel
from tests.support.redis_server import RedisServer
from tests.support.spending import spend

PRICE = Price(1.0, 10.0)


def answer(tokens: int, text: str = "fine") -> AIMessage:
    usage = UsageMetadata(input_tokens=10, output_tokens=tokens, total_tokens=10 + tokens)
    return AIMessage(text, usage_metadata=usage)


def cost(tokens: int) -> float:
    return PRICE.estimate_usd(input_tokens=10, output_tokens=tokens)


def router(*models, budgets, policy=None, **kwargs) -> ChatLLMRouter:
    names = ["first", "second", "third"]
    return ChatLLMRouter(
        candidates=[
            Candidate(name, model, PRICE, max_output_tokens=100)
            for name, model in zip(names, models, strict=False)
        ],
        policy=policy or RandomMix({"first": 1.0}),
        budgets=budgets if isinstance(budgets, Budgets) else Budgets([budgets]),
        **kwargs,
    )


def used(model: ChatLLMRouter, config=None) -> float:
    budgets = model.budgets
    account = budgets.budgets[0].account(config or {}, budgets.clock())
    return to_usd(budgets.ledger.used_nano(account))


@given(st.floats(0, 1e5))
def test_nano_dollars_never_charge_too_little_and_never_a_cent_too_much(usd):
    assert -1e-10 < to_usd(to_nano(usd)) - usd < 2e-9


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
        (TokenProbability(), 1),
        (SelfEvaluator(n_samples=5), 5),
        (YesNo(n_samples=3), 3),
        (Agreement(peers=[Candidate("b", ScriptedModel("x"))], n_resamples=2), 3),
        (ByCandidate({"a": SelfEvaluator(n_samples=4)}), 4),
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


def test_nobody_is_asked_who_could_break_the_budget():
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
    # nobody named is one subject too, never without a limit
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


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=60), st.integers(0, 500))
@settings(deadline=None)
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


def drive_pacer(start: float, seed: int = 0, surge: bool = False):
    """A day of traffic: quality gain and extra cost per query; λ decides who gets the large one."""
    rng = np.random.default_rng(seed)
    period, n = 1000.0, 20_000
    pacer = Pacer(10.0, period, start)
    at = np.sort(rng.random(n) * period if not surge else rng.beta(2, 5, n) * period)
    gain, price = rng.random(n), rng.lognormal(-5.5, 0.7, n)
    used, quality, last = 0.0, 0.0, 0.0
    for t, g, p in zip(at, gain, price, strict=True):
        if g > pacer.observe(used, t) * p and used + p <= 10.0:
            used, quality, last = used + p, quality + g, t
    # the best fixed λ in hindsight
    order = np.argsort(-gain / price)
    best = gain[order][np.cumsum(price[order]) <= 10.0].sum()
    return used, quality / best, last / period


@pytest.mark.parametrize("start", [0.1, 100.0, 1e5])
@pytest.mark.parametrize("surge", [False, True])
def test_a_paced_budget_lasts_for_the_period_and_is_used(start, surge):
    used, share, last = drive_pacer(start, surge=surge)
    assert used <= 10.0
    # pacing by time leaves money where the traffic comes early, and never runs dry
    assert used > (7.5 if surge else 9.9)
    assert last > (0.85 if surge else 0.99)
    assert share > (0.7 if surge else 0.9)


def test_pacing_sets_the_policys_lambda():
    now = [0.0]
    budgets = Budgets([Budget(0.01, period_s=1000.0, pace=50.0)], clock=lambda: now[0])
    seen = []

    class Watching(Utility):
        def choose(self, situation):
            seen.append(situation.options.lambda_)
            return super().choose(situation)

    from langchain_llm_router.estimators import Constant
    from tests.support.fakes import make_outcomes

    estimator = Constant().fit(make_outcomes(candidates=("first",)))
    model = router(
        ScriptedModel(answer(100)), budgets=budgets, policy=Watching(), estimator=estimator
    )
    for _ in range(5):
        model.invoke("hi")
        now[0] += 10
    assert seen[0] == pytest.approx(50.0)
    assert seen[-1] > 100
    config = {"configurable": {"llm_router": {"lambda": 1e6}}}
    model.invoke("hi", config)
    assert seen[-1] == 1e6


@pytest.mark.parametrize(
    "build",
    [lambda: Budget(-1), lambda: Budget(1, period_s=0), lambda: Budget(1, pace=1.0),
     lambda: Budget(1, per="user_id", period_s=5, pace=1.0), lambda: Budgets([]),
     lambda: Pacer(0, 1), lambda: RedisLedger("redis://x", escrow=2)],
)  # fmt: skip
def test_budgets_that_make_no_sense_are_refused(build):
    with pytest.raises(ValueError, match=r"must|needs|empty"):
        build()


# Through a real Redis


@pytest.fixture
def redis_server(tmp_path):
    server = RedisServer(tmp_path, sync="everysec")
    yield server
    server.kill()


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
    time.sleep(0.1)
    hold = ledger.reserve([account], 5000, 5000)
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
        time.sleep(0.1)
        assert ledger.reserve([account], 5000, 5000) is None
        hold = ledger.reserve([account], 3000, 3000)
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
