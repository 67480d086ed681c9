"""The router asks with its own retry rule alone: providers' clients do not retry on their own."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.budgets import worst_cost_usd
from langchain_llm_router.calls.chat_models import resolve_candidate
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.live.client_retries import client_retries, without_retries
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.support.fakes import ScriptedModel


@pytest.fixture
def failing():
    """A server that answers every call with a 500, and counts them."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            calls.append(self.path)
            self.send_response(500)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", calls
    server.shutdown()
    server.server_close()


def openai(url: str, **kwargs) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=url, api_key="none", **kwargs)


def ask(router: ChatLLMRouter, how: str) -> None:
    with pytest.raises(Exception, match="500"):
        list(router.stream("hi")) if how == "stream" else router.invoke("hi")


@pytest.mark.parametrize("how", ["invoke", "stream"])
@pytest.mark.parametrize("settings", [{}, {"max_retries": 4}, {"use_responses_api": True}], ids=str)
@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=0))], ids=["", "live"])
def test_one_call_of_the_router_is_one_call_at_the_provider(failing, how, settings, live):
    url, calls = failing
    model = openai(url, **settings)
    given = (model.max_retries, model.root_client.max_retries, model.async_client._client)
    ask(ChatLLMRouter(candidates=[Candidate("a", model)], policy=Always("a"), live=live), how)
    assert len(calls) == 1
    # the user's own object stays as it was
    assert given == (model.max_retries, model.root_client.max_retries, model.async_client._client)


async def test_async_calls_are_not_retried_either(failing):
    url, calls = failing
    router = ChatLLMRouter(candidates=[Candidate("a", openai(url))], policy=Always("a"))
    with pytest.raises(Exception, match="500"):
        await router.ainvoke("hi")
    assert len(calls) == 1


def test_the_routers_own_retries_are_all_that_there_are(failing):
    url, calls = failing
    rules = Resilience(retries=2, backoff_s=0.001)
    router = ChatLLMRouter(
        candidates=[Candidate("a", openai(url))], policy=Always("a"), live=Live(resilience=rules)
    )
    ask(router, "invoke")
    assert len(calls) == 3


def test_a_judge_is_not_asked_behind_the_routers_back(failing):
    url, calls = failing
    router = ChatLLMRouter(
        candidates=[Candidate("a", ScriptedModel("x")), Candidate("b", ScriptedModel("y"))],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=1, judge=Candidate("judge", openai(url))),
    )
    router.invoke("hi")
    assert len(calls) == 1


def test_a_candidate_made_from_a_string_does_not_retry(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    model = resolve_candidate("openai:gpt-4o").model
    assert (model.max_retries, model.root_client.max_retries) == (0, 0)


def test_a_model_that_never_retries_is_asked_itself():
    model = ScriptedModel("x")
    assert without_retries(model) is model
    settled = ChatOpenAI(model="m", api_key="none", max_retries=0)
    assert without_retries(settled) is settled


class Boto(ScriptedModel):
    """A model whose client has retries that no copy can switch off."""

    client: object = None


@pytest.mark.parametrize(
    ("retries", "n"),
    [(None, 4), ({"max_attempts": 2}, 2), ({"total_max_attempts": 1}, 0), ({"mode": "legacy"}, 4)],
    ids=str,
)
def test_retries_that_cannot_be_switched_off_are_part_of_the_worst_case(retries, n):
    config = SimpleNamespace(retries=retries)
    model = Boto("x", client=SimpleNamespace(meta=SimpleNamespace(config=config)))
    candidate = Candidate("a", model, Price(1.0, 10.0))
    assert client_retries(model) == n
    once = Price(1.0, 10.0).estimate_usd(input_tokens=10, output_tokens=100)
    assert worst_cost_usd(candidate, 10, 100) == pytest.approx((1 + n) * once)
