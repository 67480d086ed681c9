"""Failing well: timeouts, retries, hedges, bulkheads, streams that break off."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from langchain_core.runnables import RunnableLambda

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.live import (
    BulkheadFullError,
    DeadlineError,
    Resilience,
    failure_kind,
    is_callers_fault,
    is_retryable,
    may_be_billed,
    retry_after_s,
    status_of,
)
from langchain_llm_router.live.bulkheads import Bulkhead
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Endpoint
from tests.support.fakes import ProviderError, ScriptedModel, TimedModel


def router(first, second="second says", **kwargs) -> ChatLLMRouter:
    second = second if isinstance(second, ScriptedModel) else TimedModel(second)
    deadline = kwargs.pop("deadline_s", None)
    per = kwargs.pop("per_candidate", {})
    return ChatLLMRouter(
        candidates=[
            Candidate("first", first, Price(1, 1)),
            Candidate("second", second, Price(1, 1)),
        ],
        policy=RandomMix({"first": 1.0}),
        live=Live(resilience=Resilience(**kwargs), deadline_s=deadline, per_candidate=per),
    )


def ask(model, way: str):
    """Ask in one of the four ways; the answer's text and record."""
    if way == "invoke":
        answer = model.invoke("hi")
        return answer.content, route_of(answer)
    if way == "ainvoke":
        answer = asyncio.run(model.ainvoke("hi"))
        return answer.content, route_of(answer)
    if way == "stream":
        chunks = list(model.stream("hi"))
    else:

        async def collect():
            return [chunk async for chunk in model.astream("hi")]

        chunks = asyncio.run(collect())
    return "".join(str(c.content) for c in chunks), route_of(chunks[-1])


WAYS = ["invoke", "ainvoke", "stream", "astream"]
ways = pytest.mark.parametrize("way", WAYS)


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


def used_to(telemetry, arm: str, seconds: float) -> None:
    """Have an arm known for answers after so many seconds."""
    now = time.time() - 100
    telemetry.clock = lambda: now
    for _ in range(12):
        live = telemetry.began(arm, streamed=True)
        now += seconds
        live.got_first_token()
        live.answered(1)
    telemetry.clock = time.time


@ways
def test_a_call_slower_than_usual_is_hedged_and_the_first_answer_wins(way):
    first = TimedModel("hello", delays=[3.0, 0.01])
    model = router(first, hedge_after=0.95)
    used_to(model.live.telemetry, "first", 0.2)
    started = time.monotonic()
    content, record = ask(model, way)
    assert time.monotonic() - started < 2.5
    assert content == "hello"
    lost = record["attempts"][0]["failures"]
    assert [entry["error"] for entry in lost] == ["Hedged: the other call answered first"]
    assert len(first.started) == 2
    report = model.live.telemetry.report()["first"]
    assert report["counts"]["answered"] == 13
    assert report["in_flight"] == 0


def test_a_hedge_goes_to_another_endpoint_of_the_same_model_and_is_priced_there():
    slow, quick = TimedModel("slow", delays=[3.0]), TimedModel("quick")
    model = ChatLLMRouter(
        candidates=[
            Candidate(
                "m",
                endpoints=[
                    Endpoint("slow", slow, Price(1, 1)),
                    Endpoint("quick", quick, Price(5, 5)),
                ],
            )
        ],
        policy=Always("m"),
        live=Live(resilience=Resilience(hedge_after=0.9)),
    )
    used_to(model.live.telemetry, "m@slow", 0.2)
    answer = model.invoke("hi", {"configurable": {"llm_router": {"force": "m@slow"}}})
    attempt = route_of(answer)["attempts"][0]
    assert answer.content == "quick"
    assert attempt["answered_by"] == "m@quick"
    assert attempt["cost_usd"] == pytest.approx(2 * 5 / 1e6)


async def test_a_bulkhead_keeps_calls_within_their_places_and_in_order():
    first = TimedModel("x", delays=[0.05])
    model = router(first, max_concurrent=3, queue_s=5)
    answers = await asyncio.gather(*(model.ainvoke("hi") for _ in range(12)))
    assert [a.content for a in answers] == ["x"] * 12
    assert first.most_under_way == 3


async def test_a_full_bulkhead_sends_callers_on_and_blames_nobody():
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
    assert "verification_unsure" not in record["attempts"][0]
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


async def test_a_reader_that_stops_reading_frees_the_place():
    model = router(TimedModel("one two three four"), max_concurrent=1, queue_s=0.2)
    stream = model.astream("hi")
    async for _ in stream:
        break
    await stream.aclose()
    await asyncio.sleep(0)
    assert (await model.ainvoke("hi")).content == "one two three four"


def test_rules_may_differ_per_candidate_and_strangers_are_refused():
    slow = TimedModel("late but fine", delays=[0.2])
    patient = {"first": Resilience(timeout_s=5)}
    content, _ = ask(router(slow, timeout_s=0.05, per_candidate=patient), "invoke")
    assert content == "late but fine"
    with pytest.raises(ValueError, match=r"Unknown candidates \['third'\]"):
        router(slow, per_candidate={"third": Resilience()})


@pytest.mark.parametrize(
    ("error", "kind", "retry", "billed", "status"),
    [
        (ProviderError(429), "rate_limit", True, False, 429),
        (ProviderError(503), "error", True, False, 503),
        (ProviderError(401), "error", False, False, 401),
        (ProviderError(408), "timeout", True, False, 408),
        (TimeoutError(), "timeout", True, True, None),
        (httpx.ReadTimeout("x"), "timeout", True, True, None),
        (httpx.ConnectError("x"), "error", True, False, None),
        (ConnectionRefusedError("x"), "error", True, False, None),
        (ConnectionResetError("x"), "error", True, True, None),
        (httpx.RemoteProtocolError("x"), "error", True, True, None),
        (ValueError("garbage"), "error", False, True, None),
        (BulkheadFullError("x"), "error", False, False, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_a_failure_means(error, kind, retry, billed, status):
    assert failure_kind(error) == kind
    assert failure_kind(error, started=True) == "cut"
    assert is_retryable(error) is retry
    assert may_be_billed(error) is billed
    assert status_of(error) == status


def test_a_refused_request_is_the_callers_fault():
    assert is_callers_fault(ProviderError(400))
    assert not is_callers_fault(ProviderError(500))


def test_a_connection_never_made_was_not_billed_however_deep_it_is_wrapped():
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = httpx.ConnectError("refused")
    assert not may_be_billed(wrapped)


def test_retry_after_comes_in_seconds_milliseconds_and_dates():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after_s(ProviderError(429, Retry_After="7")) == 7.0
    assert retry_after_s(ProviderError(429, retry_after_ms="250", retry_after="1")) == 0.25
    assert retry_after_s(ProviderError(429, retry_after=later), now.timestamp()) == 90.0
    assert retry_after_s(ProviderError(429, retry_after="-3")) == 0.0
    for nonsense in ("soon", "nan", "inf", ""):
        assert retry_after_s(ProviderError(429, retry_after=nonsense)) is None
    assert retry_after_s(ProviderError(429)) is None
    assert retry_after_s(ValueError()) is None
    response = httpx.Response(429, headers={"Retry-After": "3"})
    error = httpx.HTTPStatusError("x", request=httpx.Request("GET", "http://x"), response=response)
    assert retry_after_s(error) == 3.0


@pytest.mark.parametrize(
    "kwargs",
    [{"timeout_s": 0}, {"first_token_timeout_s": -1}, {"retries": -1}, {"hedge_after": 1.0},
     {"max_concurrent": 0}, {"queue_s": float("inf")}],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Resilience(**kwargs)


def test_a_deadline_must_be_positive():
    with pytest.raises(ValueError, match="deadline_s"):
        Live(deadline_s=0)
