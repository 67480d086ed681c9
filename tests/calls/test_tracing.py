"""What a trace shows: the router as one run, the decision as its own, every token once."""

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.globals import set_debug
from langchain_core.runnables.config import get_callback_manager_for_config
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import collect_runs, register_configure_hook
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith import Client
from langsmith.run_helpers import tracing_context
from langsmith.utils import get_env_var

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.calls.tracing import has_no_handlers
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.fakes import CapableModel, make_outcomes

SECRET = "the prompt nobody should find in a log"


def candidates(*verdicts: str) -> list[Candidate]:
    named = zip(("small", "middle", "large"), (*verdicts, "Correct"), strict=False)
    return [
        Candidate(name, CapableModel(model=f"tiny-{name}", verdict=verdict), Price(1, 2))
        for name, verdict in named
    ]


def cascade(*verdicts: str, **kwargs) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=candidates(*verdicts),
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=2),
        **kwargs,
    )


def one_shot(**kwargs) -> ChatLLMRouter:
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    pool = [c for c in candidates("Correct", "Correct") if c.name != "middle"]
    return ChatLLMRouter(candidates=pool, estimator=estimator, policy=Utility(cost=1.0), **kwargs)


ONE_SHOT = """\
[chain] llm_router
  [chain] decide: ask large
  [llm] large"""


def traced(fake: FakeLangSmith, run) -> None:
    client = Client(api_url=fake.url, api_key="lsv2_sk_secret")
    run({"callbacks": [LangChainTracer(client=client)]})
    client.flush()
    client.cleanup()


async def atraced(fake: FakeLangSmith, run) -> None:
    client = Client(api_url=fake.url, api_key="lsv2_sk_secret")
    await run({"callbacks": [LangChainTracer(client=client)]})
    client.flush()
    client.cleanup()


@pytest.mark.parametrize("multipart", [False, True])
def test_a_one_shot_trace_shows_the_decision_and_one_model_run(multipart):
    with FakeLangSmith(multipart=multipart) as fake:
        traced(fake, lambda config: one_shot().invoke("question", config))
        assert fake.tree() == ONE_SHOT
        (root,) = fake.children(None)
        decision, model = fake.children(root)
    assert decision["outputs"]["scores"].keys() == {"small", "large"}
    assert decision["outputs"]["scores"]["large"].keys() == {"quality", "cost_usd", "utility"}
    assert decision["outputs"]["reason"].startswith("highest utility")
    assert [arm["candidate"] for arm in decision["inputs"]["arms"]] == ["small", "large"]
    assert "question" not in str(decision["inputs"])
    metadata = fake.metadata(model)
    assert metadata["ls_provider"] == "fake"
    assert metadata["ls_model_name"] == "tiny-large"
    assert metadata["llm_router_candidate"] == "large"
    assert "llm_router:candidate:large" in model["tags"]
    shown = fake.metadata(root)
    assert shown["llm_router_candidate"] == "large"
    assert shown["llm_router_cost_usd"] > 0
    assert shown["llm_router_decision_id"] == metadata["llm_router_decision_id"]


def test_the_decision_can_be_left_out_of_the_trace():
    with FakeLangSmith() as fake:
        traced(fake, lambda config: one_shot(trace_decision=False).invoke("q", config))
        assert "decide" not in fake.tree()


async def test_streams_and_their_async_twins_leave_the_same_tree():
    router = one_shot()
    with FakeLangSmith() as fake:
        traced(fake, lambda config: list(router.stream("q", config)))
        assert fake.tree() == ONE_SHOT
    with FakeLangSmith() as fake:
        await atraced(fake, lambda config: router.ainvoke("q", config))
        assert fake.tree() == ONE_SHOT

    async def drain(config):
        async for _ in router.astream("q", config):
            pass

    with FakeLangSmith() as fake:
        await atraced(fake, drain)
        assert fake.tree() == ONE_SHOT


def test_a_cascades_trace_groups_the_verdicts_and_keeps_drafts_quiet():
    with FakeLangSmith() as fake:
        traced(fake, lambda config: cascade("Incorrect", "Correct").invoke("q", config))
        tree = fake.tree()
        (root,) = fake.children(None)
        children = fake.children(root)
    assert [line for line in tree.splitlines() if line.startswith("  [")] == [
        "  [chain] decide: ask small",
        "  [llm] small",
        "  [llm] self_evaluate ×2 → 0.000",
        "  [chain] decide: ask middle (P 0.000 < 0.600)",
        "  [llm] middle",
        "  [llm] self_evaluate ×2 → 1.000",
        "  [chain] decide: accept middle (P 1.000 > 0.600)",
    ]
    assert "nostream" in children[1]["tags"]
    assert children[3]["outputs"]["confidence"] == 0.0
    assert len(tree.splitlines()) == 8


def test_every_token_is_counted_once_and_the_sum_is_the_record():
    with FakeLangSmith() as fake:
        answers = []
        router = cascade("Incorrect", "Incorrect")
        with get_usage_metadata_callback() as usage:
            traced(fake, lambda config: answers.append(router.invoke("a question", config)))
        counted = fake.tokens()
    record = route_of(answers[0])
    assert [a["candidate"] for a in record["attempts"]] == ["small", "middle", "large"]
    by_callback = sum(u["total_tokens"] for u in usage.usage_metadata.values())
    assert counted == by_callback
    price = Price(1, 2)
    cost = sum(price.cost_usd(u) for u in usage.usage_metadata.values())
    assert record["cost_usd"] == pytest.approx(cost)
    last = record["attempts"][-1]
    assert answers[0].usage_metadata["output_tokens"] == last["output_tokens"]


def test_the_graphs_trace_has_the_nodes_the_models_and_the_same_tokens():
    graph = create_cascade(
        candidates("Incorrect", "Correct"),
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=2),
    ).compile()
    with FakeLangSmith() as fake, get_usage_metadata_callback() as usage:
        traced(fake, lambda config: graph.invoke({"messages": [("human", "q")]}, config))
        (root,) = fake.children(None)
        names = [child["name"] for child in fake.children(root)]
        counted = fake.tokens()
    assert names == [
        "predict", "decide: ask small", "small", "decide: verify small", "self_evaluate",
        "decide: ask middle (P 0.000 < 0.600)", "middle", "decide: verify middle", "self_evaluate",
        "decide: accept middle (P 1.000 > 0.600)",
    ]  # fmt: skip
    assert counted == sum(u["total_tokens"] for u in usage.usage_metadata.values())


def test_candidates_are_children_and_the_routers_own_callbacks_hear_them():
    collector = RunCollectorCallbackHandler()
    router = one_shot(callbacks=[collector], tags=["mine"], metadata={"team": "a"})
    router.invoke("q")
    (run,) = collector.traced_runs
    assert [child.run_type for child in run.child_runs] == ["chain", "llm"]
    assert "mine" in run.tags
    assert run.extra["metadata"]["team"] == "a"


def test_no_prompt_and_no_key_reaches_the_log(caplog):
    with caplog.at_level(logging.DEBUG):
        with FakeLangSmith() as fake:
            traced(fake, lambda config: cascade("Incorrect").invoke(SECRET, config))
        cascade("Incorrect").invoke(SECRET)
    ours = [r for r in caplog.records if r.name.startswith("langchain_llm_router")]
    assert SECRET not in caplog.text
    assert "lsv2_sk_secret" not in caplog.text
    assert [r for r in ours if r.levelno > logging.DEBUG] == []


def test_langsmiths_own_exporter_turns_the_trace_into_opentelemetry_spans():
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with FakeLangSmith() as fake:
        client = Client(
            api_url=fake.url, api_key="x", otel_tracer_provider=provider, tracing_mode="otel"
        )
        answer = one_shot().invoke("question", {"callbacks": [LangChainTracer(client=client)]})
        client.flush()
        client.cleanup()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"llm_router", "decide: ask large", "large"}
    root = spans["llm_router"]
    # langsmith repeats a chain's last answer's usage on the chain: count only the llm spans.
    usages = {
        name: span.attributes.get("gen_ai.usage.total_tokens")
        for name, span in spans.items()
        if span.attributes["langsmith.span.kind"] == "llm"
    }
    assert usages == {"large": answer.usage_metadata["total_tokens"]}
    assert {s.parent.span_id for n, s in spans.items() if n != "llm_router"} == {
        root.context.span_id
    }
    assert root.attributes["langsmith.metadata.llm_router_candidate"] == "large"
    assert spans["large"].attributes["gen_ai.request.model"] == "tiny-large"


@contextmanager
def debug_mode():
    set_debug(True)
    try:
        yield
    finally:
        set_debug(False)


@contextmanager
def a_hook_with_a_handler():
    handler: ContextVar[Any] = ContextVar("handler", default=None)
    register_configure_hook(handler, inheritable=True)
    token = handler.set(RunCollectorCallbackHandler())
    try:
        yield
    finally:
        handler.reset(token)


@pytest.mark.parametrize(
    "listening",
    [
        collect_runs,
        get_usage_metadata_callback,
        debug_mode,
        a_hook_with_a_handler,
    ],
)
async def test_every_handler_gets_all_events_wherever_it_comes_from(listening):
    router = one_shot()
    assert has_no_handlers({})
    assert has_no_handlers({"callbacks": []})
    assert not has_no_handlers({"callbacks": [RunCollectorCallbackHandler()]})
    with listening():
        assert not has_no_handlers({})
        assert get_callback_manager_for_config({}).handlers
    with collect_runs() as collected:
        router.invoke("q")
        await router.ainvoke("q")
    assert [run.name for run in collected.traced_runs] == ["llm_router"] * 2


def test_langsmiths_context_and_environment_variable_are_seen(monkeypatch):
    with tracing_context(enabled=True):
        assert not has_no_handlers({})
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    get_env_var.cache_clear()
    assert not has_no_handlers({})
    monkeypatch.undo()
    get_env_var.cache_clear()
    assert has_no_handlers({})
