"""Never more than the limit: whatever is said, reported, refused, cut or cancelled, in any driver.

A provider bills by rules of its own. After each of many random requests what is booked covers what
was billed, and what was billed is within the limit.
"""

import asyncio
import contextlib
import random
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.ledgers import to_usd
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.billing import LONGEST, Bill, BillingModel
from tests.support.drivers import Drivers
from tests.support.fakes import ProviderError, ScriptedModel

LIMIT = 0.05


def booked(budgets: Budgets) -> float:
    (budget,) = budgets.budgets
    return to_usd(budgets.ledger.used_nano(budget.account({}, budgets.clock())))


def some_price(rng: random.Random) -> Price:
    if rng.random() < 0.1:
        return Price(0.0, 0.0)
    low = rng.uniform(0.1, 3)
    return Price(
        low,
        low * rng.uniform(1, 5),
        rng.choice([None, low / 10]),
        rng.choice([None, low * 1.25]),
        request_usd=rng.choice([0.0, 1e-4]),
    )


def question(rng: random.Random) -> list[HumanMessage]:
    text = "".join(rng.choices("aé字 🙂", k=rng.randint(1, 300)))
    blocks: list[Any] = [{"type": "text", "text": text}]
    for _ in range(rng.choice([0, 0, 1, 2])):
        url = rng.choice(["https://x.y/a.png", f"data:image/png;base64,{'A' * 40_000}"])
        blocks.append({"type": "image_url", "image_url": {"url": url}})
    return [HumanMessage(rng.choice([text, blocks]))]  # type: ignore[list-item]


def parts(seed: int, bill: Bill, **model: Any) -> tuple[list[Candidate], dict[str, Any]]:
    """A pool and what else a router has, at random."""
    rng = random.Random(seed)
    pool = []
    for i in range(3):
        price = some_price(rng)
        billing = BillingModel(seed=10 * seed + i, price=price, bill=bill, **model)
        pool.append(
            Candidate(
                f"c{i}", billing, price, max_output_tokens=LONGEST, media_tokens={"image": 1_000}
            )
        )
    rest: dict[str, Any] = {"policy": Always("c0")}
    if rng.random() < 0.6:
        judge = rng.choice([None, pool[2]])
        rest = {
            "policy": ConfidenceThreshold(threshold=0.5),
            "verifier": SelfEvaluator(n_samples=2, judge=judge),
        }
    if rng.random() < 0.5:
        rules = Resilience(retries=rng.randint(0, 2), backoff_s=0.0001)
        rest["live"] = Live(resilience=rules)
    return pool[:2] if "verifier" in rest else pool, rest


def check(bill: Bill, budgets: Budgets) -> None:
    assert booked(budgets) >= bill.usd - 1e-9
    assert bill.usd <= LIMIT + 1e-9


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "astream", "graph", "agent"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_booked_covers_what_was_billed_and_the_limit_holds(seed, how):
    bill, budgets, rng = Bill(), Budgets([Budget(LIMIT)]), random.Random(seed)
    pool, rest = parts(seed, bill)
    router = ChatLLMRouter(candidates=pool, budgets=budgets, **rest)
    graph = create_cascade(pool, budgets=budgets, **rest).compile()
    agent = Drivers(lambda: pool, budgets=lambda: budgets, **rest).agent
    ways = {
        "invoke": router.invoke,
        "stream": lambda messages: list(router.stream(messages)),
        "ainvoke": lambda messages: asyncio.run(router.ainvoke(messages)),
        "astream": lambda messages: asyncio.run(_collected(router, messages)),
        "graph": lambda messages: graph.invoke({"messages": messages}),
        "agent": lambda messages: agent.invoke({"messages": messages}),
    }
    for _ in range(25):
        with contextlib.suppress(Exception):
            ways[how](question(rng))
        check(bill, budgets)


async def _collected(router: ChatLLMRouter, messages: Any) -> list[Any]:
    return [chunk async for chunk in router.astream(messages)]


@pytest.mark.parametrize("how", ["ainvoke", "astream", "graph"])
@pytest.mark.parametrize("seed", range(6))
async def test_cancelled_calls_are_booked_where_they_may_have_been_billed(seed, how):
    bill, budgets, rng = Bill(), Budgets([Budget(LIMIT)]), random.Random(seed)
    pool, rest = parts(seed, bill, waits_s=0.002)
    router = ChatLLMRouter(candidates=pool, budgets=budgets, **rest)
    graph = create_cascade(pool, budgets=budgets, **rest).compile()

    async def ask(messages: Any) -> None:
        if how == "graph":
            await graph.ainvoke({"messages": messages})
        elif how == "ainvoke":
            await router.ainvoke(messages)
        else:
            await _collected(router, messages)

    for _ in range(20):
        task = asyncio.create_task(ask(question(rng)))
        await asyncio.sleep(rng.uniform(0, 0.01))
        task.cancel()
        with contextlib.suppress(BaseException):
            await task
        # A generator that LangChain left is closed by the loop, and settled then; until then the
        # worst case stays reserved.
        for _ in range(100):
            if booked(budgets) >= bill.usd:
                break
            await asyncio.sleep(0.01)
        check(bill, budgets)


def test_a_stream_that_its_reader_leaves_is_booked_at_the_worst_case_of_one_call():
    bill, budgets = Bill(), Budgets([Budget(LIMIT)])
    price = Price(1.0, 2.0)
    model = BillingModel(seed=1, price=price, bill=bill, ends=["answer"])
    candidate = Candidate("a", model, price, max_output_tokens=LONGEST)
    rules = Resilience(retries=5)
    for live in (None, Live(resilience=rules)):
        before = booked(budgets)
        router = ChatLLMRouter(
            candidates=[candidate], policy=Always("a"), budgets=budgets, live=live
        )
        stream = router.stream("hi")
        next(stream)
        stream.close()
        worst_call = price.estimate_usd(input_tokens=34, output_tokens=LONGEST)
        assert booked(budgets) - before == pytest.approx(worst_call, abs=2e-9)
        check(bill, budgets)


FREE = [ProviderError(429), ProviderError(401), ProviderError(400), ConnectionRefusedError("no")]
UNSURE = [ProviderError(500), ProviderError(529), TimeoutError("slow"), ConnectionResetError("cut")]


@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=0))], ids=["", "live"])
@pytest.mark.parametrize("how", ["chat", "graph"])
@pytest.mark.parametrize("error", [*FREE, *UNSURE], ids=repr)
def test_a_failed_call_costs_nothing_or_its_worst_case(error, how, live):
    budgets = Budgets([Budget(1.0)])
    pool = [Candidate("a", ScriptedModel(error), Price(0, 1000), max_output_tokens=100)]
    fields: dict[str, Any] = {"policy": Always("a"), "budgets": budgets, "live": live}
    chat = ChatLLMRouter(candidates=pool, **fields)
    graph = create_cascade(pool, **fields).compile()
    with pytest.raises(type(error)):
        chat.invoke("hi") if how == "chat" else graph.invoke({"messages": "hi"})
    assert booked(budgets) == pytest.approx(0.0 if error in FREE else 0.1)


def test_free_models_need_no_money_and_no_length():
    pool = [Candidate("a", ScriptedModel("x"), Price(0, 0), max_output_tokens=9)]
    budgets = Budgets([Budget(0.0)])
    router = ChatLLMRouter(candidates=pool, policy=Always("a"), budgets=budgets)
    assert router.invoke("hi").content == "x"
    assert booked(budgets) == 0.0


def test_an_empty_answer_of_no_usage_is_booked_at_its_worst_case():
    budgets = Budgets([Budget(1.0)])
    pool = [Candidate("a", ScriptedModel(AIMessage("")), Price(0, 1000), max_output_tokens=100)]
    ChatLLMRouter(candidates=pool, policy=Always("a"), budgets=budgets).invoke("hi")
    assert booked(budgets) == pytest.approx(0.1)


class Reporting(AsyncCallbackHandler):
    """A handler that connects to a service of its own when an answer is complete."""

    async def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        await self._connect()

    async def _connect(self) -> None:
        await asyncio.sleep(5)


@pytest.mark.parametrize("live", [None, Live()])
async def test_a_call_is_booked_that_is_cancelled_while_handlers_hear_of_its_answer(live):
    model = ScriptedChatModel("hello", max_tokens=10)
    budgets = Budgets([Budget(LIMIT)])
    router = ChatLLMRouter(
        candidates=[Candidate("a", model, Price(100, 100), max_output_tokens=10)],
        policy=Always("a"), budgets=budgets, live=live,
    )  # fmt: skip
    task = asyncio.create_task(router.ainvoke("hi", {"callbacks": [Reporting()]}))
    while not model.calls:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert booked(budgets) > 0


async def test_a_stream_whose_reader_is_cancelled_is_settled_at_once():
    budgets = Budgets([Budget(LIMIT)])
    candidate = Candidate("a", ScriptedChatModel("one two three"), Price(1, 1))
    router = ChatLLMRouter(
        candidates=[candidate], policy=Always("a"), budgets=budgets, max_tokens=10
    )
    for n_turns in range(12):
        before, chunks = booked(budgets), router.astream("hi")
        assert (await anext(chunks)).text == "one "
        following = asyncio.create_task(anext(chunks))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        assert booked(budgets) > before, n_turns


class Stubborn(ScriptedModel):
    """A model whose stream fails when it is closed."""

    async def astream(self, *args, **kwargs):
        try:
            async for chunk in super().astream(*args, **kwargs):
                yield chunk
        finally:
            raise ValueError("closing failed")


async def test_a_stream_is_booked_that_fails_when_it_is_closed():
    budgets = Budgets([Budget(LIMIT)])
    candidate = Candidate("a", Stubborn("one two three"), Price(1, 1), max_output_tokens=10)
    router = ChatLLMRouter(candidates=[candidate], policy=Always("a"), budgets=budgets)
    chunks = router.astream("hi")
    await anext(chunks)
    with contextlib.suppress(asyncio.CancelledError, ValueError):
        await chunks.athrow(asyncio.CancelledError())
    assert booked(budgets) > 0
