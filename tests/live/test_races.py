"""Hedging: a slow call gets a twin, and the first answer wins."""

import time

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.live import (
    Resilience,
)
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Endpoint
from tests.support.asking import ask, router, ways
from tests.support.fakes import TimedModel


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
