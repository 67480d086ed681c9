"""Whatever is sent, the server answers, and never with a 5xx while its models are well."""

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Utility
from tests.support.fakes import CapableModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve


def make_app():
    names = ("small", "large")
    candidates = [
        Candidate(name, CapableModel(), Price(i, 2 * i)) for i, name in enumerate(names, start=1)
    ]
    estimator = Constant().fit(make_outcomes(candidates=names))
    router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=Utility(cost=1e4))
    return create_app(router)


TEXT = st.sampled_from(["", "hello?", "What is 2 + 2?", "\x00", "ü\n"]) | st.text(max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)


def record(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


PART = record({"type": st.just("text"), "text": TEXT}) | JUNK
CALL = record({"id": TEXT, "type": st.just("function"),
               "function": record({"name": TEXT, "arguments": st.just("{}") | JUNK})})  # fmt: skip
MESSAGE = st.one_of(
    record({"role": st.just("user"), "content": TEXT}),
    record(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "who"]),
            "content": TEXT | st.lists(PART, max_size=2) | JUNK,
        },
        tool_calls=st.lists(CALL, max_size=2) | JUNK,
        tool_call_id=TEXT | JUNK,
        name=TEXT | JUNK,
    ),
)
SCHEMA = st.just({"type": "object", "properties": {"city": {"type": "string"}}})
FUNCTION = record({"name": st.just("weather"), "parameters": SCHEMA | JUNK})
TOOL = record({"type": st.just("function"), "function": FUNCTION})
BODY = record(
    {
        "model": st.sampled_from(["router", "small", "router@c:40", "router@itl<20", "nobody"]),
        "messages": st.lists(MESSAGE, min_size=1, max_size=3),
    },
    stream=st.booleans(),
    stream_options=record({}, include_usage=st.booleans()) | JUNK,
    temperature=st.floats(0, 2),
    max_tokens=st.integers(-1, 2**70),
    stop=TEXT | st.lists(TEXT, max_size=2) | JUNK,
    tools=st.lists(TOOL | JUNK, max_size=2),
    tool_choice=st.sampled_from(["auto", "none", "required", "weather"]) | JUNK,
    response_format=st.just({"type": "json_object"}) | JUNK,
    seed=st.integers(-(2**70), 2**70) | JUNK,
)
OPTION = st.sampled_from(["force", "lambda", "candidates", "filters", "weights", "sticky", "x"])
HEADER = st.none() | st.builds(json.dumps, st.dictionaries(OPTION, JUNK, max_size=2) | JUNK)


def test_no_body_and_no_header_makes_the_server_fail():
    transport = httpx.ASGITransport(make_app(), raise_app_exceptions=False)
    seen: Counter[int] = Counter()

    async def post(body, header) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"content-type": "application/json"}
            if header is not None:
                headers["x-llm-router-options"] = header
            path = "/v1/chat/completions"
            return await client.post(path, content=json.dumps(body), headers=headers)

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(BODY, HEADER)
    def fuzz(body, header):
        answer = asyncio.run(post(body, header))
        seen[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        assert "upstream_error" not in answer.text
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]

    fuzz()
    # The bodies are not so wild that no candidate is ever asked.
    assert seen[200] > 10
    assert seen[400] > 15


SCHEMATHESIS = os.environ.get("LLM_ROUTER_SCHEMATHESIS") or shutil.which("schemathesis")


@pytest.mark.slow
@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed")
def test_schemathesis_finds_no_server_error_behind_the_schema():
    for url in serve(make_app()):
        done = subprocess.run(
            [SCHEMATHESIS, "run", f"{url}/openapi.json", "--checks", "not_a_server_error",
             "--max-examples", "50", "--seed", "1", "--no-color"],
            capture_output=True, text=True, check=False, timeout=580,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert "7 selected / 7 total" in done.stdout
