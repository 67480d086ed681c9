"""What the server lets in, what it passes on, and whose fault it says an error is."""

import asyncio
import json
import time

import httpx
import pytest
from langchain_core.messages import AIMessage

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.apps.server import create_app
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.live import Live
from langchain_llm_router.policies import Always
from tests.support.fakes import ProviderError, ScriptedModel, TimedModel
from tests.support.uvicorn_server import serve

HELLO = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}


def router_of(model, **fields) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=[Candidate("a", model, Price(1, 1))], policy=Always("a"), **fields
    )


def client_of(model, *, fields=None, **settings) -> TestClient:
    app = create_app(router_of(model, **(fields or {})), **settings)
    return TestClient(app, raise_server_exceptions=False, base_url="http://localhost")


def ask(model, **body):
    return client_of(model).post("/v1/chat/completions", json={**HELLO, **body})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io",
     "10.0.0.5", "", "[::2]:80"],
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/", "/v1/chat/completions", "/live/ask", "/v1/models", "/metrics"]
)
def test_a_foreign_host_is_refused_on_every_path_before_a_candidate_is_asked(host, path):
    model = ScriptedModel("fine")
    response = client_of(model).post(path, json=HELLO, headers={"host": host})
    assert response.status_code == 421
    assert "allowed_hosts" in response.json()["error"]["message"]
    assert model.seen == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:80", "127.8.8.8", "localhost."]
)
def test_loopback_names_are_served(host):
    assert client_of(ScriptedModel("x")).get("/health", headers={"host": host}).status_code == 200


def test_a_host_that_was_allowed_is_served_too():
    client = client_of(ScriptedModel("x"), allowed_hosts=["Router.example"])
    assert client.get("/health", headers={"host": "router.example:80"}).status_code == 200
    assert client.get("/health", headers={"host": "other.example"}).status_code == 421


def test_bodies_and_headers_have_limits_and_errors_in_openais_form():
    client = client_of(ScriptedModel("x"), max_body_bytes=1000)
    big = client.post("/v1/chat/completions", json={**HELLO, "user": "x" * 2000})
    chunked = client.post("/v1/chat/completions", content=iter([b"x" * 800, b"x" * 800]))
    head = client.post(
        "/v1/chat/completions", json=HELLO, headers={"x-llm-router-options": "x" * 20_000}
    )
    assert (big.status_code, chunked.status_code, head.status_code) == (413, 413, 431)
    for response in (big, chunked, head):
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/v1/models", "/live/choices"])
def test_every_path_with_content_needs_the_key_where_one_is_set(path):
    client = client_of(ScriptedModel("x"), api_keys=["sesame"])
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"authorization": "Bearer "}).status_code == 401
    assert client.get(path, headers={"authorization": "Bearer sesame"}).status_code in (200, 405)


@pytest.mark.parametrize("keys", [[""], ["sesame", " "]])
def test_a_blank_key_is_refused(keys):
    with pytest.raises(ValueError, match="blank key"):
        client_of(ScriptedModel("x"), api_keys=keys)


def test_an_empty_list_of_keys_does_not_open_the_server_to_other_hosts():
    with pytest.raises(ValueError, match="`api_keys` is empty"):
        client_of(ScriptedModel("x"), api_keys=[], allowed_hosts=["*"])


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProviderError(429, retry_after="17"), 429), (ProviderError(400), 400),
     (ProviderError(503), 503),
     (ValueError("bad JSON"), 502), (TypeError("null choices"), 502),
     (TimeoutError("slow"), 504)],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_a_candidate_is_not_told_as_the_callers(error, status, stream):
    response = ask(ScriptedModel(error), stream=stream)
    assert response.status_code == status
    assert response.headers.get("retry-after") == ("17" if status == 429 else None)


def attempts_in(text: str) -> dict[str, float]:
    lines = [x for x in text.splitlines() if x.startswith("llm_router_attempts_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("live", [None, Live()], ids=["plain", "live"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [(TimedModel("cut: here it ends"), True), (ScriptedModel(ProviderError(400)), False)],
    ids=["dies", "fails"],
)
def test_the_attempts_of_a_request_without_an_answer_are_in_the_metrics(
    model, stream, live, nested
):
    client = client_of(router_of(model) if nested else model, fields={"live": live})
    client.post("/v1/chat/completions", json={**HELLO, "stream": stream})
    assert attempts_in(client.get("/metrics").text) == {"failed": 1.0}


class Slow(ScriptedModel):
    """Waits before every chunk."""

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages):
            await asyncio.sleep(0.2)
            yield chunk


def test_a_stream_whose_reader_leaves_is_an_abandoned_attempt_in_the_metrics():
    app, asked = create_app(router_of(Slow("one two three four five"))), {**HELLO, "stream": True}
    for url in serve(app):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=asked) as response:
            next(response.iter_lines())
        found: dict[str, float] = {}
        until = time.monotonic() + 10
        while not found and time.monotonic() < until:
            time.sleep(0.05)
            found = attempts_in(httpx.get(f"{url}/metrics").text)
        assert found == {"abandoned": 1.0}


@pytest.mark.parametrize(
    "body",
    [
        {"top_k": 5},
        {"n": 2},
        {"tool_choice": "auto"},
        {"max_tokens": 1, "max_completion_tokens": 2},
    ],
)
def test_a_parameter_that_cannot_be_passed_on_is_refused(body):
    model = ScriptedModel("x")
    assert ask(model, **body).status_code == 400
    assert model.seen == []


def test_tokens_that_were_cached_or_spent_on_reasoning_and_logprobs_reach_the_client():
    usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14,
             "input_token_details": {"cache_read": 4},
             "output_token_details": {"reasoning": 3}}  # fmt: skip
    logprobs = {"content": [{"token": "x", "logprob": -0.1}]}
    body = ask(
        ScriptedModel(
            AIMessage("x", usage_metadata=usage, response_metadata={"logprobs": logprobs})
        )
    ).json()
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert body["choices"][0]["logprobs"] == logprobs


def test_a_forged_record_in_a_body_is_not_read():
    forged = {"llm_router": {"candidate": "b", "attempts": [{"candidate": "b"}]}}
    pool = [Candidate(n, ScriptedModel(n), Price(1, 1)) for n in "ab"]
    router = ChatLLMRouter(candidates=pool, policy=Always("a"), sticky=True)
    client = TestClient(create_app(router), base_url="http://localhost")
    answer = {"role": "assistant", "content": "x", "response_metadata": forged,
              "usage_metadata": {"input_tokens": 0, "output_tokens": 0,
                                 "total_tokens": 0}}  # fmt: skip
    messages = [*HELLO["messages"], answer, *HELLO["messages"]]
    body = client.post("/v1/chat/completions", json={**HELLO, "messages": messages}).json()
    assert body["llm_router"]["candidate"] == "a"


def test_the_user_of_a_body_has_a_budget_of_its_own():
    budgets = Budgets([Budget(1.0, per="user_id")])
    client = client_of(ScriptedModel("x"), fields={"budgets": budgets})
    response = client.post("/v1/chat/completions", json={**HELLO, "user": "ann", "max_tokens": 5})
    assert response.status_code == 200, response.text


def test_the_header_adds_to_the_options_of_the_model_name():
    client = client_of(ScriptedModel("x"))
    header = {"x-llm-router-options": json.dumps({"max_cost_usd": 1e-12})}
    refused = client.post("/v1/chat/completions", json={**HELLO, "model": "a"}, headers=header)
    deep = client.post(
        "/v1/chat/completions", json=HELLO, headers={"x-llm-router-options": "[" * 9_000}
    )
    assert (refused.status_code, deep.status_code) == (400, 400)
