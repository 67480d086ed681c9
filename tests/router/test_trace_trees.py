"""What a trace of each way to route reads like: one sentence, every token and dollar once."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import collect_runs
from langsmith import Client

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.router.nodes import merge_entries
from langchain_llm_router.verification import YesNo
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.fakes import CapableModel, ScriptedModel, make_outcomes

PRICE = Price(1, 2)
QUESTION = {"messages": [("human", "What is 1 + 2?")]}


def pool(verdict: str) -> list[Candidate]:
    return [
        Candidate("small", CapableModel(model="tiny-small", verdict=verdict), PRICE),
        Candidate("large", CapableModel(model="tiny-large"), PRICE),
    ]


def parts(n: int = 8, **kwargs):
    return {
        "policy": ConfidenceThreshold(threshold=0.79),
        "verifier": SelfEvaluator(n_samples=n),
        **kwargs,
    }


def one_shot():
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(
        candidates=pool("Correct"), estimator=estimator, policy=Utility(cost=1.0)
    )
    return router, "What is 1 + 2?"


def chat(verdict="Incorrect", **kwargs):
    return ChatLLMRouter(candidates=pool(verdict), **parts(**kwargs)), "What is 1 + 2?"


def graph(verdict="Incorrect", **kwargs):
    return create_cascade(pool(verdict), **parts(**kwargs)).compile(), QUESTION


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent(verdict="Incorrect"):
    router, _ = chat(verdict)
    middleware = LLMRouterMiddleware(router)
    return create_agent(CapableModel(), [add], middleware=[middleware]), QUESTION


ONE_SHOT = """\
[chain] llm_router
  [chain] decide: ask large
  [llm] large"""

ACCEPTED = """\
[chain] llm_router
  [chain] decide: ask small
  [llm] small
  [llm] self_evaluate ×8 → 1.000
  [chain] decide: accept small (P 1.000 > 0.790)"""

ESCALATED = """\
[chain] llm_router
  [chain] decide: ask small
  [llm] small
  [llm] self_evaluate ×8 → 0.000
  [chain] decide: ask large (P 0.000 < 0.790)
  [llm] large"""

GRAPH = """\
[chain] llm_router
  [chain] predict
  [chain] decide: ask small
  [chain] small
    [llm] CapableModel
  [chain] decide: verify small
  [chain] self_evaluate
    [llm] self_evaluate ×8 → 0.000
  [chain] decide: ask large (P 0.000 < 0.790)
  [chain] large
    [llm] CapableModel
  [chain] decide: accept large"""

AGENT = """\
[chain] LangGraph
  [chain] model
    [chain] LLMRouterMiddleware.wrap_model_call
      [chain] decide: ask small
      [llm] small
      [chain] decide: accept small
  [chain] tools
    [tool] add
  [chain] model
    [chain] LLMRouterMiddleware.wrap_model_call
      [chain] decide: ask small
      [llm] small
      [llm] self_evaluate ×8 → 0.000
      [chain] decide: ask large (P 0.000 < 0.790)
      [llm] large"""

WAYS = {
    "one-shot": (one_shot, ONE_SHOT, 12),
    "cascade as chat": (chat, ESCALATED, 12),
    "cascade as graph": (graph, GRAPH, 12),
    "agent with middleware": (agent, AGENT, 20),
}


def traced(way, *, synchronous=True):
    """The fake that a traced run has filled, the answer, and the tokens a callback has counted."""
    runnable, given = way()
    fake = FakeLangSmith()
    with fake, get_usage_metadata_callback() as usage:
        client = Client(api_url=fake.url, api_key="lsv2_sk_secret")
        config = {"callbacks": [LangChainTracer(client=client)]}
        if synchronous:
            answer = runnable.invoke(given, config)
        else:
            answer = asyncio.run(runnable.ainvoke(given, config))
        client.flush()
        client.cleanup()
    message = answer if not isinstance(answer, dict) else answer["messages"][-1]
    return fake, message, usage.usage_metadata


@pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("name", WAYS)
def test_a_trace_reads_as_a_sentence(name, synchronous):
    way, tree, most_lines = WAYS[name]
    fake, _, _ = traced(way, synchronous=synchronous)
    print(f"\n{name}\n{fake.tree()}")
    assert fake.tree().replace(".awrap", ".wrap") == tree
    assert len(tree.splitlines()) <= most_lines


def test_an_accepted_draft_says_by_how_much_it_passed():
    fake, _, _ = traced(lambda: chat("Correct"))
    assert fake.tree() == ACCEPTED


@pytest.mark.parametrize("name", WAYS)
def test_tokens_and_cost_are_counted_once(name):
    fake, answer, usage = traced(WAYS[name][0])
    assert fake.tokens() == sum(it["total_tokens"] for it in usage.values())
    llms = [run for run in fake.runs.values() if run["run_type"] == "llm"]
    cost = sum(PRICE.cost_usd(fake.metadata(run)["usage_metadata"]) for run in llms)
    if name != "agent with middleware":
        # Of an agent's steps, the record is about one.
        assert route_of(answer)["cost_usd"] == pytest.approx(cost)


@pytest.mark.parametrize("name", WAYS)
def test_every_run_of_a_step_has_the_id_of_its_decision(name):
    fake, answer, _ = traced(WAYS[name][0])
    ids = {
        fake.metadata(run).get("llm_router_decision_id")
        for run in fake.runs.values()
        if run["name"].startswith(("decide:", "self_evaluate", "small", "large"))
    }
    assert route_of(answer)["decision_id"] in ids
    assert None not in ids
    assert len(ids) == (2 if name == "agent with middleware" else 1)


@pytest.mark.parametrize("way", [chat, graph])
def test_the_root_has_the_outcome(way):
    fake, answer, _ = traced(way)
    (root,) = fake.children(None)
    record, shown = route_of(answer), fake.metadata(root)
    for name in ("candidate", "policy", "reason", "confidence", "decision_id", "cost_usd"):
        assert shown[f"llm_router_{name}"] == record[name]
    assert shown["llm_router_asked"] == ["small", "large"]


def test_a_node_of_the_graph_shows_only_the_step_that_it_has_added():
    fake, _, _ = traced(graph)
    (root,) = fake.children(None)
    nodes = fake.children(root)
    decided = [run["outputs"]["steps"] for run in nodes if run["name"].startswith("decide")]
    assert [[step["action"] for step in steps] for steps in decided] == [
        ["ask"], ["verify"], ["ask"], ["accept"],
    ]  # fmt: skip
    asked = [run["outputs"]["trace"] for run in nodes if run["name"] in ("small", "large")]
    assert [[entry["attempt"]["candidate"] for entry in trace] for trace in asked] == [
        ["small"], ["large"],
    ]  # fmt: skip


def test_the_one_run_of_a_verification_has_a_line_for_each_verdict():
    fake, _, _ = traced(lambda: chat("Incorrect", n=2))
    (run,) = [run for run in fake.runs.values() if run["name"].startswith("self_evaluate")]
    (generation,) = run["outputs"]["generations"][0]
    assert generation["text"] == "Incorrect: a rationale\nIncorrect: a rationale"
    assert fake.metadata(run)["ls_model_name"] == "tiny-small"
    assert fake.metadata(run)["llm_router_verifier"] == "SelfEvaluator"
    assert fake.metadata(run)["llm_router_cost_usd"] > 0


@pytest.mark.parametrize("way", [chat, graph])
def test_the_calls_behind_the_verdicts_are_shown_on_demand(way):
    fake, _, usage = traced(lambda: way("Incorrect", n=2, trace_verdicts=True))
    assert fake.tree().count("[chain] verdict") == 2
    assert "[chain] self_evaluate ×2 → 0.000" in fake.tree()
    assert fake.tokens() == sum(it["total_tokens"] for it in usage.values())


def test_where_tracing_is_switched_on_for_the_process_the_verdicts_are_still_one_run(monkeypatch):
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    router, given = chat(n=2)
    with collect_runs() as collected:
        fake, _, _ = traced(lambda: (router, given))
    assert fake.tree() == ESCALATED.replace("×8", "×2")
    assert [run.name for run in collected.traced_runs][-1] == "llm_router"


def test_a_judge_that_cannot_be_reached_leaves_a_run_that_says_so():
    verifier = YesNo(n_samples=1, judge=Candidate("judge", ScriptedModel(ConnectionError("down"))))
    fake, _, _ = traced(lambda: chat(verifier=verifier))
    assert "[llm] self_evaluate → no verdict" in fake.tree()
    (run,) = [run for run in fake.runs.values() if run["name"].startswith("self_evaluate")]
    assert "ConnectionError" in run["outputs"]["generations"][0][0]["text"]


def test_a_name_of_the_router_or_the_call_is_kept():
    router, given = chat()
    fake, _, _ = traced(lambda: (router.with_config(run_name="mine"), given))
    assert fake.tree().startswith("[chain] mine")
    assert create_cascade(pool("Correct"), **parts()).compile(name="other").name == "other"


@pytest.mark.parametrize(
    ("update", "after"),
    [
        ([{"n": 2, "a": 3}], [1, 2, 3]),
        ([{"n": 1, "a": 9}], [1, 9]),
        ([{"a": 7}, {"a": 8}], [7, 8]),
        ([], []),
    ],
    ids=["added", "changed", "without places", "a new turn"],
)
def test_an_update_replaces_the_list_from_the_place_of_its_first_entry_on(update, after):
    before = [{"n": 0, "a": 1}, {"n": 1, "a": 2}]
    assert [entry["a"] for entry in merge_entries(before, update)] == after
