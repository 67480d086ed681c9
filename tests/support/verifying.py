"""Verifiers driven by hand: a case, its replies, and what came of it."""

import math

import numpy as np
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.types import Arm, Price
from langchain_llm_router.verification import (
    Case,
    Evaluation,
    Reply,
    Verdict,
    Verifier,
)
from tests.support.fakes import ScriptedModel


def case(answer="Paris", question="What is the capital of France?", **kwargs) -> Case:
    message = answer if isinstance(answer, AIMessage) else AIMessage(answer)
    return Case([HumanMessage(question)], message, Candidate("small"), **kwargs)


def verdict(good: bool | None) -> Reply:
    if good is None:
        return Reply(error="ValueError: unreadable")
    said = "Correct" if good else "Incorrect"
    return Reply(AIMessage(said), Verdict(rationale="because", verdict=said))


def run(verifier: Verifier, about: Case, replies=()) -> tuple[Evaluation, list[int]]:
    """Drive a verifier with scripted replies; the sizes of the batches it asked for."""
    steps, left, batches = verifier.evaluate(about), list(replies), []
    try:
        calls = next(steps)
        while True:
            batches.append(len(calls))
            taken, left = left[: len(calls)], left[len(calls) :]
            calls = steps.send(taken)
    except StopIteration as stop:
        return stop.value, batches


def logprobs(*tokens: tuple[str, float] | dict[str, float]) -> dict:
    """`response_metadata` as OpenAI and llama-server fill it."""
    content = []
    for entry in tokens:
        shares = entry if isinstance(entry, dict) else dict([entry])
        ranked = [{"token": t, "logprob": math.log(p)} for t, p in shares.items()]
        content.append({**ranked[0], "top_logprobs": ranked})
    return {"logprobs": {"content": content}}


ARMS = (Arm("small", cost_usd=0.001), Arm("large", cost_usd=0.1))


def observed(kind):
    rng = np.random.default_rng(3)
    good = rng.random(400) < 0.6
    scores = rng.binomial(8, np.where(good, rng.beta(6, 2, 400), rng.beta(2, 4, 400))) / 8
    return kind.fit(scores, good)


def cascade(small, verifier, *, threshold=0.5):
    return ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(1.0, 2.0)),
            Candidate("large", ScriptedModel("large says"), Price(10.0, 20.0)),
        ],
        policy=ConfidenceThreshold(threshold=threshold),
        verifier=verifier,
    )
