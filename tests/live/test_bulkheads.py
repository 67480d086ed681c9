"""Bulkheads: no more calls at once than an endpoint has places."""

import asyncio
import threading
import time

import pytest

from langchain_llm_router.live import (
    BulkheadFullError,
)
from langchain_llm_router.live.bulkheads import Bulkhead
from tests.support.asking import router
from tests.support.fakes import TimedModel


async def test_a_bulkhead_keeps_calls_within_their_places_and_in_order():
    first = TimedModel("x", delays=[0.05])
    model = router(first, max_concurrent=3, queue_s=5)
    answers = await asyncio.gather(*(model.ainvoke("hi") for _ in range(12)))
    assert [a.content for a in answers] == ["x"] * 12
    assert first.most_under_way == 3


async def test_a_full_bulkhead_sends_callers_on_and_counts_as_no_failure():
    first = TimedModel("x", delays=[0.5])
    model = router(first, max_concurrent=1, queue_s=0.05)
    one, two = await asyncio.gather(model.ainvoke("hi"), model.ainvoke("hi"))
    assert {one.content, two.content} == {"x", "second says"}
    assert sum(model.live.telemetry.report()["first"]["counts"].values()) == 1


def test_a_bulkhead_serves_threads_and_survives_those_who_leave():
    bulkhead = Bulkhead("m", 1)
    bulkhead.enter(0)
    with pytest.raises(BulkheadFullError, match="max_concurrent"):
        bulkhead.enter(0.01)
    got = threading.Event()

    def wait():
        bulkhead.enter(5)
        got.set()

    async def impatient():
        task = asyncio.create_task(bulkhead.aenter(5))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(impatient())
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    assert not got.is_set()
    bulkhead.leave()
    thread.join(5)
    assert got.is_set()
    bulkhead.leave()
    bulkhead.enter(0)


async def test_a_reader_that_stops_reading_frees_the_place():
    model = router(TimedModel("one two three four"), max_concurrent=1, queue_s=0.2)
    stream = model.astream("hi")
    async for _ in stream:
        break
    await stream.aclose()
    await asyncio.sleep(0)
    assert (await model.ainvoke("hi")).content == "one two three four"
