"""Every way to ask a router whose first candidate has its troubles."""

import asyncio

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.live import (
    Resilience,
)
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import RandomMix
from langchain_llm_router.router.chat import route_of
from tests.support.fakes import ScriptedModel, TimedModel


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
