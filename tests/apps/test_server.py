"""The server: OpenAI's interface over a router, tested over real HTTP on loopback."""

import importlib
import json
from collections.abc import Iterator

import httpx
import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from tests.support.fakes import CapableModel, JudgeModel, ScriptedModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve

TOOL_CALL = AIMessage(
    "", tool_calls=[{"name": "weather", "args": {"city": "Bern"}, "id": "call_1"}]
)


def pool(**models):
    prices = [Price(1, 2), Price(10, 20)]
    return [Candidate(n, m, p) for (n, m), p in zip(models.items(), prices, strict=False)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    candidates = pool(small=ScriptedModel("small says hello"), large=ScriptedModel("large says"))
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=Utility(cost=1e4))
    yield from serve(create_app(router))


@pytest.fixture(scope="module")
def openai():
    """The official client, loaded by the first test that needs it: it takes a second."""
    return importlib.import_module("openai")


@pytest.fixture
def client(url):
    with connected(url) as it:
        yield it


def connected(url, key="any"):
    """Use it in a `with`: an open socket would be complained of in any later test."""
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def ask(client, model="router", **kwargs):
    messages = [{"role": "user", "content": "hello?"}]
    return client.chat.completions.create(model=model, messages=messages, **kwargs)


def test_the_official_client_gets_an_answer_usage_and_the_decision(client):
    answer = ask(client)
    assert answer.choices[0].message.content == "small says hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 3
    assert answer.model == "small"
    assert answer.llm_router["candidate"] == "small"


def test_the_official_client_streams_token_by_token_with_the_usage_at_the_end(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert words == ["small ", "says ", "hello"]
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].llm_router["candidate"] == "small"


def test_the_models_name_routes(client):
    assert ask(client, "large").choices[0].message.content == "large says"
    assert ask(client, "router@models:large").choices[0].message.content == "large says"
    header = {"x-llm-router-options": json.dumps({"force": "large"})}
    assert ask(client, extra_headers=header).choices[0].message.content == "large says"
    assert {m.id for m in client.models.list()} == {"router", "small", "large"}


def test_the_decision_stands_in_the_headers(client):
    messages = [{"role": "user", "content": "hello?"}]
    raw = client.chat.completions.with_raw_response.create(model="router", messages=messages)
    assert raw.headers["x-llm-router-candidate"] == "small"
    answer = raw.parse()
    assert raw.headers["x-llm-router-decision-id"] == answer.llm_router["decision_id"]


def test_the_units_of_the_line_form_are_per_dollar_and_milliseconds(client, openai):
    assert ask(client, "router@c:0").llm_router["candidate"] == "large"
    assert ask(client, "router@c:10000").llm_router["candidate"] == "small"
    with pytest.raises(openai.BadRequestError, match=r"itl None does not meet itl<0\.02s"):
        ask(client, "router@itl<20")


def test_a_response_format_reaches_the_candidate():
    model = CapableModel(reply="{{}}")
    router = ChatLLMRouter(candidates=pool(small=model), policy=Utility(quality=0.0))
    for url in serve(create_app(router)):
        with connected(url) as client:
            answer = ask(client, response_format={"type": "json_object"})
        assert answer.choices[0].message.content == "{}"
    assert model.calls[-1][1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        ({"model": "huge"}, "NotFoundError", r"Unknown model 'huge'.*'router'"),
        ({"model": "router@zzz:1"}, "BadRequestError", "Unknown part 'zzz:1'"),
        ({"temperature": 9}, "BadRequestError", "temperature"),
        ({"extra_headers": {"x-llm-router-options": "{"}}, "BadRequestError", "must be JSON"),
    ],
)
def test_a_clients_mistake_is_an_openai_error_that_says_what_is_allowed(
    client, openai, kwargs, error, says
):
    with pytest.raises(getattr(openai, error), match=says):
        ask(client, **kwargs)


def test_langchains_own_openai_model_works_against_it(url):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=f"{url}/v1", api_key="any", model="router")
    assert model.invoke("hello?").content == "small says hello"
    assert "".join(str(c.content) for c in model.stream("hello?")) == "small says hello"


def test_health_readiness_metrics_and_the_page_answer(url):
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{url}/ready").json()["candidates"] == ["small", "large"]
    assert 'llm_router_answers_total{candidate="small"}' in httpx.get(f"{url}/metrics").text
    assert "<title>llm-router</title>" in httpx.get(url).text


def test_moving_lambda_moves_the_choice(url):
    body = {"question": "hello?"}
    choices = httpx.post(f"{url}/live/choices", json=body).json()
    assert [arm["candidate"] for arm in choices["arms"]] == ["small", "large"]
    assert choices["lambda"] == 1e4
    assert choices["curve"][0]["candidate"] == "large"
    assert choices["curve"][-1]["candidate"] == "small"


def events(response) -> list[tuple[str, dict]]:
    blocks = [block.splitlines() for block in response.text.strip().split("\n\n")]
    return [(b[0].removeprefix("event: "), json.loads(b[1].removeprefix("data: "))) for b in blocks]


def test_the_page_watches_a_cascade_think():
    candidates = pool(small=JudgeModel("draft", verdicts=["no"]), large=ScriptedModel("large says"))
    router = ChatLLMRouter(
        candidates=candidates,
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=2),
    )
    for url in serve(create_app(router)):
        seen = events(httpx.post(f"{url}/live/ask", json={"question": "hello?"}))
        kinds = [data.get("event") for kind, data in seen if kind == "step"]
        assert {"decision", "draft", "verdict"} <= set(kinds)
        kind, last = seen[-1]
        assert (kind, last["text"]) == ("answer", "large says")
        assert last["baseline"]["candidate"] == "large"
        assert last["record"]["cost_usd"] > last["baseline"]["cost_usd"]


def test_tools_go_there_and_back():
    class ToolModel(ScriptedModel):
        def bind_tools(self, tools, **kwargs):
            return self.bind(**kwargs)

    router = ChatLLMRouter(candidates=pool(small=ToolModel(TOOL_CALL)), policy=Utility(quality=0.0))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    for url in serve(create_app(router)):
        with connected(url) as client:
            answer = ask(client, tools=[tool])
        assert answer.choices[0].finish_reason == "tool_calls"
        call = answer.choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "weather",
            {"city": "Bern"},
        )


def test_a_candidates_failure_is_a_bad_gateway_and_a_key_is_asked_for(openai):
    router = ChatLLMRouter(
        candidates=pool(small=ScriptedModel(ConnectionError("down"))), policy=Utility(quality=0.0)
    )
    for url in serve(create_app(router, api_keys=["sesame"])):
        with (
            connected(url, "wrong") as wrong,
            pytest.raises(openai.AuthenticationError, match="Incorrect API key"),
        ):
            ask(wrong)
        with connected(url, "sesame") as right:
            with pytest.raises(openai.InternalServerError, match="down") as failed:
                ask(right)
            assert failed.value.status_code == 502
            with pytest.raises(openai.InternalServerError, match="down"):
                list(ask(right, stream=True))
