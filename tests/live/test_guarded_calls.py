"""Guarded calls: timeouts, retries, streams that break off, deadlines."""

import asyncio
import time

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.live import (
    DeadlineError,
    Resilience,
)
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.router.chat import route_of
from tests.support.asking import ask, router, ways
from tests.support.fakes import ProviderError, ScriptedModel, TimedModel


@ways
def test_without_limits_an_answer_is_just_recorded(way):
    model = router(TimedModel("all is well"))
    content, record = ask(model, way)
    assert content == "all is well"
    assert "failures" not in record["attempts"][0]
    assert model.live.telemetry.report()["first"]["counts"]["answered"] == 1


@ways
def test_a_slow_candidate_is_left_for_the_next_one(way):
    slow = TimedModel("late", delays=[3.0])
    started = time.monotonic()
    content, record = ask(router(slow, timeout_s=0.15), way)
    assert time.monotonic() - started < 2
    assert content == "second says"
    error = record["attempts"][0]["error"]
    assert error.startswith("TimeoutError: 'first' did not return")
    assert error.endswith("within 0.15 s.")
    assert record["attempts"][0]["failures"][0]["may_be_billed"]


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_the_first_token_has_its_own_timeout(way):
    content, record = ask(router(TimedModel("x", delays=[3.0]), first_token_timeout_s=0.1), way)
    assert content == "second says"
    assert "first token" in record["attempts"][0]["error"]


@ways
def test_a_rate_limit_is_waited_for_as_long_as_it_asks(way):
    first = TimedModel(ProviderError(429, retry_after="0.3"), "now it works")
    content, record = ask(router(first, retries=1), way)
    assert content == "now it works"
    assert first.started[1] - first.started[0] >= 0.3
    failure = record["attempts"][0]["failures"][0]
    assert failure["error"] == "ProviderError: no"
    assert not failure["may_be_billed"]


@ways
def test_a_longer_wait_than_allowed_is_a_failure_at_once(way):
    first = TimedModel(ProviderError(429, retry_after="60"), "never")
    started = time.monotonic()
    content, _ = ask(router(first, retries=3, longest_wait_s=1.0), way)
    assert content == "second says"
    assert time.monotonic() - started < 1


def test_what_cannot_get_better_is_not_repeated():
    first = TimedModel(ProviderError(400), "never")
    model = router(first, retries=3)
    assert ask(model, "invoke")[0] == "second says"
    assert len(first.seen) == 1
    # the request was refused, which says nothing about the endpoint
    assert model.live.telemetry.report()["first"]["counts"]["error"] == 0


def test_a_second_failure_waits_longer_and_with_jitter():
    rules = Resilience(retries=5, backoff_s=1.0, longest_wait_s=100)
    for n, longest in ((1, 1.0), (2, 2.0), (3, 4.0)):
        pauses = [rules.pause_s(ProviderError(500), n) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert rules.pause_s(ProviderError(500), 6) is None


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_breaks_off_is_an_error_and_never_glued_to_another_answer(way):
    model = router(TimedModel("cut: one two three"))
    seen = []

    def consume():
        for chunk in model.stream("hi"):
            seen.append(chunk.content)

    async def aconsume():
        async for chunk in model.astream("hi"):
            seen.append(chunk.content)

    with pytest.raises(ConnectionResetError, match="went dead"):
        consume() if way == "stream" else asyncio.run(aconsume())
    assert "second" not in "".join(seen)
    assert model.live.telemetry.report()["first"]["counts"]["cut"] == 1


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_fails_before_its_first_token_starts_again_elsewhere(way):
    content, record = ask(router(TimedModel(ConnectionResetError("dead"))), way)
    assert content == "second says"
    assert record["attempts"][0]["error"] == "ConnectionResetError: dead"


@ways
def test_the_deadline_covers_the_fallbacks_and_the_candidates_own_error_is_raised(way):
    model = router(
        TimedModel("x", delays=[9.0]), TimedModel("y", delays=[9.0]), deadline_s=0.3, retries=2
    )
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="'first' did not return") as raised:
        ask(model, way)
    assert time.monotonic() - started < 2
    assert not isinstance(raised.value, DeadlineError)


class SlowJudge(TimedModel):
    """Judges what it is shown after as long as it takes for anything else."""

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def judge(messages):
            said = self.invoke(messages)
            return {"raw": said, "parsed": schema(rationale="x", verdict="Correct")}

        async def ajudge(messages):
            said = await self.ainvoke(messages)
            return {"raw": said, "parsed": schema(rationale="x", verdict="Correct")}

        return RunnableLambda(judge, ajudge)


@ways
def test_a_judge_that_hangs_does_not_outlast_the_deadline(way):
    judge = Candidate("judge", SlowJudge("ok", delays=[20.0]), Price(1.0, 1.0))
    live = Live(resilience=Resilience(timeout_s=5.0), deadline_s=0.3)
    router = ChatLLMRouter(
        candidates=[Candidate("a", ScriptedModel("first")), Candidate("b", ScriptedModel("last"))],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=2, judge=judge),
        live=live,
    )
    started = time.monotonic()
    record = ask(router, way)[1]
    assert time.monotonic() - started < 3.0
    assert record["attempts"][0]["confidence"] is None
    assert record["attempts"][0]["verification_unsure"]
    assert "did not return" in record["attempts"][0]["verification_errors"][0]


def test_a_verdict_is_measured_apart_from_answers_and_asked_for_again():
    judge = SlowJudge(ProviderError(503, "busy"), "ok")
    live = Live(resilience=Resilience(retries=1, backoff_s=0.001))
    router = ChatLLMRouter(
        candidates=[Candidate("a", ScriptedModel("first")), Candidate("b", ScriptedModel("last"))],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=1, judge=Candidate("judge", judge, Price(1.0, 1.0))),
        live=live,
    )
    record = route_of(router.invoke("q"))
    assert record["candidate"] == "a"
    assert record["attempts"][0]["confidence"] == 1.0
    assert record["attempts"][0]["verification_unsure"], "a server error may have been billed"
    assert record["attempts"][0]["verification_errors"] == ["ProviderError: busy"]
    counts = live.telemetry.report()["judge (judging)"]["counts"]
    assert (counts["answered"], counts["error"]) == (1, 1)


async def test_a_caller_that_goes_away_is_no_evidence_against_the_endpoint():
    first = TimedModel("x", delays=[5.0])
    model = router(first, timeout_s=30, max_concurrent=1)
    task = asyncio.create_task(model.ainvoke("hi"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    report = model.live.telemetry.report()["first"]
    assert report["in_flight"] == 0
    assert sum(report["counts"].values()) == 0
    # its place is free again
    first.delays = [0.0]
    assert (await model.ainvoke("hi")).content == "x"
