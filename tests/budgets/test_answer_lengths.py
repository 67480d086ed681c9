"""The length that a budget counts with is the one that the provider is told, wherever it stands."""

from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.types.answer_lengths import tell_limit
from langchain_llm_router.verification import Agreement
from tests.benchmarks.failing.billing_server import BillingServer
from tests.benchmarks.failing.money import booked_usd
from tests.support.fakes import ScriptedModel

LIMIT = 0.05
LENGTHS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # of the client, the candidate and the call
    ({}, {"max_output_tokens": 100}, {}),
    ({}, {"max_output_tokens": 100}, {"max_tokens": None}),
    ({}, {"max_output_tokens": 100}, {"max_tokens": 10}),
    ({"max_tokens": 100}, {}, {"max_tokens": None}),
    ({"max_tokens": 100}, {"max_output_tokens": 10}, {}),
    ({"max_tokens": 10}, {"max_output_tokens": 100}, {}),
    ({"max_tokens": 100}, {}, {"max_completion_tokens": 10}),
    ({"max_tokens": 100}, {"parameters": {"max_completion_tokens": 300}}, {}),
    ({"max_tokens": 100}, {}, {"extra_body": {"max_completion_tokens": 300}}),
    ({"max_tokens": 100}, {}, {"extra_body": {"max_tokens": 10}}),
    ({"max_tokens": 100}, {}, {"extra_body": {"n": 3}}),
    ({"max_tokens": 100, "n": 2}, {}, {"n": 3}),
    ({"extra_body": {"max_tokens": 300}}, {"max_output_tokens": 100}, {}),
    ({"model_kwargs": {"n": 3}, "max_tokens": 50}, {}, {}),
]


def openai(url: str, **client: Any) -> ChatOpenAI:
    return ChatOpenAI(model="small", base_url=url, api_key="none", stream_usage=True, **client)


@pytest.mark.parametrize(
    ("how", "client", "candidate", "call"),
    [
        *(("invoke", *lengths) for lengths in LENGTHS),
        *((how, *lengths) for how in ("stream", "tools", "schema") for lengths in LENGTHS[1:4]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Parameters")
def test_no_length_lets_a_provider_bill_more_than_was_granted(how, client, candidate, call):
    with BillingServer() as server:
        budgets = Budgets([Budget(LIMIT)])
        pool = [Candidate("small", openai(server.url, **client), Price(1, 2), **candidate)]
        router = ChatLLMRouter(candidates=pool, policy=Always("small"), budgets=budgets)
        if how == "stream":
            answer = None
            for chunk in router.stream("What is it?", **call):
                answer = chunk if answer is None else answer + chunk
        elif how == "tools":
            answer = router.bind_tools([{"name": "f", "parameters": {}}]).invoke("Why?", **call)
        elif how == "schema":
            schema = {"title": "T", "type": "object", "properties": {"verdict": {"type": "string"}}}
            asking = router.with_structured_output(schema, include_raw=True)
            answer = asking.invoke("Why?", **call)["raw"]
        else:
            answer = router.invoke("What is it?", **call)
        record = answer.response_metadata["llm_router"]["budget"]
        assert server.calls == 1
        assert server.billed_usd <= record["granted_usd"] + 1e-9
        assert booked_usd(budgets) == pytest.approx(server.billed_usd, abs=1e-9)


@pytest.mark.parametrize("how", ["judge", "self", "peers", "again"])
def test_judges_and_peers_are_told_their_length_too(how):
    with BillingServer() as server:
        budgets = Budgets([Budget(LIMIT)])
        pool = [
            Candidate(name, openai(server.url), Price(1, 2), max_output_tokens=100)
            for name in ("small", "large", "judge")
        ]
        verifiers = {
            "judge": SelfEvaluator(n_samples=2, judge=pool[2]),
            "self": SelfEvaluator(n_samples=2),
            "peers": Agreement(peers=pool[2:]),
            "again": Agreement(n_resamples=2),
        }
        router = ChatLLMRouter(
            candidates=pool[:2],
            policy=ConfidenceThreshold(threshold=0.9),
            verifier=verifiers[how],
            budgets=budgets,
        )
        for _ in range(3):
            router.invoke("What is it?")
        assert server.calls > 3
        assert server.billed_usd < LIMIT
        assert booked_usd(budgets) == pytest.approx(server.billed_usd, abs=1e-9)


def test_a_model_that_has_a_limit_or_no_field_for_one_stays_as_it_is():
    for model in (openai("http://127.0.0.1:9", max_tokens=5), ScriptedModel("x")):
        assert tell_limit(Candidate("a", model, max_output_tokens=9), model) is model
    given = openai("http://127.0.0.1:9")
    assert tell_limit(Candidate("a", given), given) is given
    told = tell_limit(Candidate("a", given, max_output_tokens=9), given)
    assert (told.max_tokens, given.max_tokens) == (9, None)
