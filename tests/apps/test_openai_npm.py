"""The official `openai` client for Node against the server: whole, streamed, tools, errors.

It is installed once with npm into a folder of the temporary directory (or of
`LLM_ROUTER_NPM_CACHE`); where that is not possible the test says so and is skipped.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Utility
from tests.support.fakes import CapableModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve

NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = pytest.mark.slow

SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "sesame", maxRetries: 0 });
const messages = [{ role: "user", content: "hello?" }];
const told = {};
const whole = await client.chat.completions.create({ model: "router", messages });
const said = whole.choices[0].message.content;
told.whole = [said, whole.llm_router.candidate, whole.usage.total_tokens > 0];
const asking = client.chat.completions.create({ model: "router", messages });
const { response } = await asking.withResponse();
told.header = response.headers.get("x-llm-router-candidate");
const stream = await client.chat.completions.create(
  { model: "large", messages, stream: true, stream_options: { include_usage: true } });
told.words = []; told.usage = null;
for await (const chunk of stream) {
  const piece = chunk.choices[0]?.delta?.content; if (piece) told.words.push(piece);
  if (chunk.usage) told.usage = chunk.usage.total_tokens > 0;
}
const tools = [{ type: "function", function: { name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const called = await client.chat.completions.create({ model: "router", messages, tools });
told.call = called.choices[0].message.tool_calls[0].function.name;
told.finish = called.choices[0].finish_reason;
const streamed = client.chat.completions.stream({ model: "router", messages, tools });
const [choice] = (await streamed.finalChatCompletion()).choices;
told.streamedCall = choice.message.tool_calls[0].function.name;
told.models = []; for await (const model of client.models.list()) told.models.push(model.id);
try { await client.chat.completions.create({ model: "huge", messages }); }
catch (error) { told.error = [error.constructor.name, error.status, error.message]; }
console.log(JSON.stringify(told));
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    if NODE is None or NPM is None:
        pytest.skip("node and npm are not installed")
    cache = os.environ.get("LLM_ROUTER_NPM_CACHE")
    home = Path(cache) if cache else Path(tempfile.gettempdir()) / "llm-router-npm"
    if not (home / "node_modules" / "openai").is_dir():
        home.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [NPM, "install", "--no-audit", "--no-fund", "--prefix", str(home), "openai"],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"npm cannot install `openai`: {done.stderr.strip()[:200]}")
    return home


def test_the_official_node_client_works_against_it(folder):
    candidates = [
        Candidate(name, CapableModel(reply=f"{name} says hello"), Price(i, 2 * i))
        for i, name in enumerate(("small", "large"), start=1)
    ]
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=Utility(cost=1e6))
    script = folder / "ask.mjs"
    script.write_text(SCRIPT, encoding="utf-8")
    for url in serve(create_app(router, api_keys=["sesame"])):
        done = subprocess.run(
            [NODE, str(script), url], capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["whole"] == ["small says hello", "small", True]
    assert told["header"] == "small"
    assert told["words"] == ["large ", "says ", "hello"]
    assert told["usage"] is True
    assert (told["call"], told["streamedCall"], told["finish"]) == (
        "weather", "weather", "tool_calls",
    )  # fmt: skip
    assert told["models"] == ["router", "small", "large"]
    name, status, message = told["error"]
    assert (name, status) == ("NotFoundError", 404)
    assert "Unknown model 'huge'" in message
