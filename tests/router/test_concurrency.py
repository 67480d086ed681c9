"""Many requests at once: each gets what it asked for, and none of them blocks the event loop."""

import asyncio
import gc
import random
import time

import numpy as np
import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from tests.support.fakes import CapableModel, make_outcomes

NAMES = ("small", "medium", "large")


class Waiting(CapableModel):
    """Answers with what it was asked, after a while."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(random.Random(str(messages[-1].text)).random() * 0.05)
        self.calls.clear()
        model = self.model_copy(update={"reply": f"{{model}}: {messages[-1].text}"})
        return model._generate(messages, **kwargs)


def pool() -> list[Candidate]:
    return [
        Candidate(name, Waiting(model=f"tiny-{name}"), Price(10.0**i, 10.0**i))
        for i, name in enumerate(NAMES)
    ]


@pytest.fixture
def stops(monkeypatch):
    """How long each single callback kept the event loop, in CPU seconds of its thread."""
    # Full collections walk the whole process's heap, pytest's too: not these requests' doing.
    gc.collect()
    gc.disable()
    seconds: list[float] = []
    run = asyncio.events.Handle._run

    def timed(handle):
        started = time.thread_time()
        try:
            return run(handle)
        finally:
            seconds.append(time.thread_time() - started)

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    yield seconds
    gc.enable()


@pytest.mark.parametrize("n", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_interleaved_requests_each_get_their_own_record(stops, n):
    estimator = NearestNeighbors(n_neighbors=5).fit(make_outcomes(n=300))
    router = ChatLLMRouter(candidates=pool(), estimator=estimator, policy=Utility())
    await asyncio.sleep(0)
    stops.clear()  # fitting is the test's own doing

    async def ask(i: int):
        options: dict = {"force": NAMES[i % 3]}
        if i % 2:
            options = {"candidates": [NAMES[i % 3], NAMES[(i + 1) % 3]]}
        usage = UsageMetadataCallbackHandler()
        config = {
            "configurable": {"llm_router": options},
            "callbacks": [usage] if i % 4 == 0 else [],
        }
        answer = await router.ainvoke(f"question {i}", config)
        return i, options, answer, usage

    answers = await asyncio.gather(*(ask(i) for i in range(n)))
    for i, options, answer, usage in answers:
        record = route_of(answer)
        allowed = [options["force"]] if "force" in options else options["candidates"]
        assert record["candidate"] in allowed
        assert answer.content == f"tiny-{record['candidate']}: question {i}"
        assert [a["candidate"] for a in record["attempts"]] == [record["candidate"]]
        if i % 4 == 0:
            assert list(usage.usage_metadata) == [f"tiny-{record['candidate']}"]
    assert len({route_of(answer)["decision_id"] for _, _, answer, _ in answers}) == n
    assert len(stops) > n
    assert max(stops) < 0.05


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_sum_of_all_calls_is_what_the_record_says(asynchronous):
    candidates = [
        Candidate(name, CapableModel(model=f"tiny-{name}", verdict="Incorrect"), Price(1, 2))
        for name in NAMES
    ]
    router = ChatLLMRouter(
        candidates=candidates,
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=3),
    )
    usage = UsageMetadataCallbackHandler()
    config = {"callbacks": [usage]}
    if asynchronous:
        answer = await router.ainvoke("a hard question", config)
    else:
        answer = router.invoke("a hard question", config)
    record = route_of(answer)
    assert [a["candidate"] for a in record["attempts"]] == list(NAMES)
    assert sum(len(a.get("verdicts", [])) for a in record["attempts"]) == 2 * 3
    counted = list(usage.usage_metadata.values())
    expected = [Price(1, 2).cost_usd(u) for u in counted]
    assert record["cost_usd"] == pytest.approx(np.sum(expected))
    drafts = [a["cost_usd"] + (a.get("verification_cost_usd") or 0) for a in record["attempts"]]
    assert record["cost_usd"] == pytest.approx(np.sum(drafts))
    assert answer.usage_metadata["output_tokens"] == record["attempts"][-1]["output_tokens"]
