"""Whose fault an error is: the caller's is 4xx, and ours or a service's is 5xx."""

import json

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price
from langchain_llm_router.apps.server import create_app
from langchain_llm_router.budgets import Budget, Budgets, RedisLedger
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import Always, Utility
from tests.support.fakes import ProviderError, ScriptedModel

HELLO = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}


def client_of(model, policy=None, **fields) -> TestClient:
    router = ChatLLMRouter(
        candidates=[Candidate("a", model, Price(1, 1))], policy=policy or Always("a"), **fields
    )
    return TestClient(
        create_app(router), raise_server_exceptions=False, base_url="http://localhost"
    )


def send(client, body, path="/v1/chat/completions"):
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize("stream", [False, True])
def test_accounts_that_cannot_be_read_are_503_and_said_so(stream):
    pytest.importorskip("redis")
    ledger = RedisLedger("redis://:hunter2hunter@127.0.0.1:1")
    budgets = Budgets([Budget(1.0, period="day")], ledger=ledger)
    model = ScriptedModel("x")
    response = send(client_of(model, budgets=budgets), {**HELLO, "stream": stream, "max_tokens": 5})
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["type"] == "server_error"
    assert "is not known" in error["message"]
    assert "hunter2" not in response.text
    assert model.seen == []


class FailingEmbeddings(Embeddings):
    """Embeds the training queries, and raises for any other."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        if text.startswith("known"):
            return [1.0, float(text[-1])]
        raise self.error


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/live/choices"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("No embedding data received"), 502), (TypeError("null data"), 502),
     (ConnectionError("refused"), 502), (TimeoutError("slow"), 504), (ProviderError(503), 503),
     (ProviderError(400), 400)],
)  # fmt: skip
def test_an_error_of_the_embedding_is_not_told_as_the_callers(path, error, status):
    measured = Outcomes(queries=["known 0", "known 1"], candidates=("a",), quality=[[1], [0]])
    estimator = NearestNeighbors(n_neighbors=1, embeddings=FailingEmbeddings(error)).fit(measured)
    client = client_of(ScriptedModel("x"), Utility(cost=1.0), estimator=estimator)
    body = {"question": "hi"} if path.startswith("/live") else HELLO
    assert send(client, body, path).status_code == status


class FailingPolicy(Always):
    def decide(self, situation):
        raise ValueError("wrong settings")


def test_an_error_of_the_policy_is_not_told_as_the_callers():
    assert send(client_of(ScriptedModel("x"), FailingPolicy("a")), HELLO).status_code == 502


def test_an_upstream_that_is_not_there_is_502_and_one_that_is_late_504():
    import httpx
    import openai

    request = httpx.Request("POST", "http://127.0.0.1:1/v1")
    refused = openai.APIConnectionError(request=request)
    assert send(client_of(ScriptedModel(refused)), HELLO).status_code == 502
    late = openai.APITimeoutError(request=request)
    assert send(client_of(ScriptedModel(late)), HELLO).status_code == 504


def test_a_broken_reply_that_langchain_refuses_is_not_told_as_the_callers():
    with pytest.raises(ValueError, match="validation") as refused:
        AIMessage(content=5)
    assert send(client_of(ScriptedModel(refused.value)), HELLO).status_code == 502


def test_half_an_emoji_in_a_question_is_the_callers_fault():
    refused = UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
    assert send(client_of(ScriptedModel(refused)), HELLO).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_half_an_emoji_in_an_answer_reaches_the_client(stream):
    response = send(client_of(ScriptedModel(AIMessage("x \ud83d"))), {**HELLO, "stream": stream})
    assert response.status_code == 200
    assert "\\ud83d" in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_logarithm_of_zero_is_null_for_the_client(stream):
    logprobs = {"content": [{"token": "x", "logprob": -float("inf")}]}
    model = ScriptedModel(AIMessage("x", response_metadata={"logprobs": logprobs}))
    response = send(client_of(model), {**HELLO, "stream": stream})
    assert response.status_code == 200
    assert "Infinity" not in response.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"\xff", b"[" * 300_000, b'{"a":' * 100_000, b"1" * 10_000,
     json.dumps({**HELLO, "logit_bias": {"5": float("nan")}}),
     json.dumps({**HELLO, "temperature": 1}).replace("1", "1e999")],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/live/ask", "/live/choices"])
def test_what_is_not_json_is_refused_in_openais_form(body, path):
    response = send(client_of(ScriptedModel("x")), body, path)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_others_are_served_while_a_long_body_is_parsed():
    import asyncio

    import httpx

    body = b'{"model": "router", "messages": [' + b"{}," * 300_000 + b"{}]}"
    router = ChatLLMRouter(candidates=[ScriptedModel("x")], policy=Always("scripted"))
    transport = httpx.ASGITransport(create_app(router))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        headers = {"content-type": "application/json"}
        long = asyncio.create_task(
            client.post("/v1/chat/completions", content=body, headers=headers)
        )
        n_served = 0
        while not long.done():
            assert (await client.get("/health")).status_code == 200
            await asyncio.sleep(0.001)
            n_served += 1
        assert (await long).status_code == 400
    assert n_served > 5


def test_a_long_body_is_read_as_a_short_one():
    model = ScriptedModel("x")
    text = 'naïve "quotes" 1e5 [' * 20_000
    assert send(client_of(model), {**HELLO, "messages": [{"role": "user", "content": text}]})
    assert model.seen[0][0].content == text
    values = b'{"model": "router", "messages": [' + b"1," * 600_000 + b"1]}"
    assert "more than" in send(client_of(model), values).json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/completions"), ("GET", "/v1/chat/completions"), ("GET", "/v1/models/no"),
     ("DELETE", "/v1/models"), ("POST", "/v1/responses")],
)  # fmt: skip
def test_what_is_not_served_is_refused_in_openais_form(method, path):
    response = client_of(ScriptedModel("x")).request(method, path)
    assert response.status_code in (404, 405)
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("name", ["org/model@v2:x", "router", "é 模"])
def test_every_listed_model_is_listed_once_and_described(name):
    pool = [Candidate(n, ScriptedModel("x"), Price(1, 1)) for n in (name, "b")]
    client = TestClient(create_app(ChatLLMRouter(candidates=pool, policy=Always("b"))))
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert len(names) == len(set(names))
    assert client.get(f"/v1/models/{name}").json()["id"] == name


@pytest.mark.parametrize(
    "body",
    [
        {"stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"include_all": True}},
        {"messages": [{"role": "remove", "id": "x", "content": ""}]},
        {"messages": [{"role": "user", "content": "x"}] * 10_001},
        {"model": "router@sticky:maybe"},
        {"model": "router@c:1|cost:2"},
    ],
)
def test_what_cannot_be_followed_is_refused_before_a_candidate_is_asked(body):
    model = ScriptedModel("x")
    assert send(client_of(model), {**HELLO, **body}).status_code == 400
    assert model.seen == []


def test_what_an_answer_declined_with_stays_in_the_conversation():
    model = ScriptedModel("x")
    declined = {"role": "assistant", "content": None, "refusal": "I cannot."}
    send(client_of(model), {**HELLO, "messages": [*HELLO["messages"], declined]})
    assert model.seen[0][1].content == "I cannot."


def test_a_number_that_is_too_large_is_refused():
    header = {"x-llm-router-options": json.dumps({"lambda": 10**400})}
    response = client_of(ScriptedModel("x")).post(
        "/v1/chat/completions", json=HELLO, headers=header
    )
    assert response.status_code == 400


@pytest.mark.parametrize("host", ["[::1]evil.example", "[localhost]", "[::1", "localhost:evil",
                                  "localhost,evil.example", "evil@localhost"])  # fmt: skip
def test_a_host_is_served_only_if_it_is_written_as_one(host):
    client = client_of(ScriptedModel("x"))
    assert client.get("/health", headers={"host": host}).status_code == 421
