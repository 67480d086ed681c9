"""OpenTelemetry spans without LangSmith: the names of the conventions, every token once."""

import asyncio
import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import TypeAdapter, ValidationError

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.calls.spans import SpanTracer
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import Checks
from tests.support.fakes import CapableModel, ScriptedModel

QUESTION = "What is 1 + 2?"


def parts(small=None):
    small = small or CapableModel(model="tiny-small", verdict="Incorrect", provider="ibm")
    return {
        "candidates": [
            Candidate("small", small, Price(1, 2)),
            Candidate("large", CapableModel(model="tiny-large"), Price(1, 2)),
        ],
        "policy": ConfidenceThreshold(threshold=0.79),
        "verifier": SelfEvaluator(n_samples=8),
    }


def spans_of(call, **kwargs):
    """All spans in the order in which they started, and what the call returned."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    answer = call({"callbacks": [SpanTracer(provider, **kwargs)]})
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time), answer


def chat_spans(small=None, **kwargs):
    router = ChatLLMRouter(**parts(small))
    return spans_of(lambda config: router.invoke(QUESTION, config), **kwargs)


def test_a_request_is_a_workflow_whose_steps_are_its_children():
    (root, *steps), answer = chat_spans()
    assert root.name == "invoke_workflow llm_router"
    assert [span.name for span in steps] == [
        "decide: ask small",
        "chat tiny-small",
        "self_evaluate ×8 → 0.000",
        "decide: ask large (P 0.000 < 0.790)",
        "chat tiny-large",
    ]
    assert {span.parent.span_id for span in steps} == {root.context.span_id}
    assert root.attributes["gen_ai.operation.name"] == "invoke_workflow"
    record = route_of(answer)
    assert root.attributes["llm_router.candidate"] == "large"
    assert root.attributes["llm_router.asked"] == ("small", "large")
    assert root.attributes["llm_router.cost_usd"] == pytest.approx(record["cost_usd"])
    ids = {span.attributes["llm_router.decision_id"] for span in (root, *steps)}
    assert ids == {record["decision_id"]}


def test_a_candidates_call_has_the_names_of_the_conventions():
    (_, _, small, *_), _ = chat_spans()
    assert small.kind is SpanKind.CLIENT
    assert small.attributes["gen_ai.operation.name"] == "chat"
    assert small.attributes["gen_ai.provider.name"] == "ibm.watsonx.ai"
    assert small.attributes["gen_ai.request.model"] == "tiny-small"
    assert small.attributes["gen_ai.response.model"] == "tiny-small"
    assert small.attributes["gen_ai.usage.input_tokens"] > 0
    assert small.attributes["gen_ai.usage.output_tokens"] > 0


def test_tokens_are_on_the_calls_only_and_counted_once():
    spans, answer = chat_spans()
    attempts = route_of(answer)["attempts"]
    counted = sum(
        span.attributes.get(f"gen_ai.usage.{kind}_tokens", 0)
        for span in spans
        for kind in ("input", "output")
    )
    asked = sum(attempt["input_tokens"] + attempt["output_tokens"] for attempt in attempts)
    assert counted == asked + attempts[0]["verification_tokens"]


def test_a_decision_has_its_numbers():
    (_, _, _, _, escalation, _), _ = chat_spans()
    told = escalation.attributes
    assert (told["llm_router.action"], told["llm_router.candidate"]) == ("ask", "large")
    assert (told["llm_router.confidence"], told["llm_router.bar"]) == (0.0, 0.79)
    assert json.loads(told["llm_router.scores"])["small"]["p_good"] == 0.0


@pytest.mark.parametrize("texts", [True, False])
def test_a_verification_is_an_evaluation_with_rationales_if_texts_are_wanted(texts):
    spans, _ = chat_spans(texts=texts)
    (event,) = spans[3].events
    assert event.name == "gen_ai.evaluation.result"
    assert event.attributes["gen_ai.evaluation.name"] == "SelfEvaluator"
    assert event.attributes["gen_ai.evaluation.score.value"] == 0.0
    assert ("gen_ai.evaluation.explanation" in event.attributes) == texts


@pytest.mark.parametrize("verifier", [SelfEvaluator(n_samples=2), Checks([lambda text: True])])
def test_every_verification_is_an_evaluation(verifier):
    router = ChatLLMRouter(**{**parts(), "verifier": verifier}, trace_verdicts=True)
    spans, _ = spans_of(lambda config: router.invoke(QUESTION, config), texts=True)
    named = [(span, event) for span in spans for event in span.events]
    ((span, event),) = [it for it in named if it[1].name == "gen_ai.evaluation.result"]
    assert span.name.startswith("self_evaluate")
    assert event.attributes["gen_ai.evaluation.name"] == type(verifier).__name__
    assert event.attributes["gen_ai.evaluation.score.value"] in (0.0, 1.0)
    assert event.attributes["gen_ai.evaluation.explanation"]


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_request_that_fails_is_the_same_workflow_with_its_error(in_graph):
    names = ("small", "large")
    models = [Candidate(name, ScriptedModel(ConnectionError("down"))) for name in names]
    down = {**parts(), "candidates": models}
    router, given = ChatLLMRouter(**down), "hi"
    if in_graph:
        router, given = create_cascade(**down).compile(), {"messages": [("human", "hi")]}

    def fail(config):
        with pytest.raises(ConnectionError):
            router.invoke(given, config)

    (root, *_), _ = spans_of(fail)
    assert root.name == "invoke_workflow llm_router"
    assert root.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert root.attributes["llm_router.asked"] == names
    assert root.attributes["error.type"] == "ConnectionError"


class SlowModel(ScriptedModel):
    async def _agenerate(self, *args, **kwargs):
        await asyncio.sleep(30)


def test_a_cancelled_request_ends_its_spans_and_leaves_nothing():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = SpanTracer(provider)
    router = ChatLLMRouter(**parts(SlowModel("x")))

    async def cancel():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(router.ainvoke(QUESTION, {"callbacks": [tracer]}), 0.2)

    asyncio.run(cancel())
    assert not any((tracer.run_map, tracer._spans, tracer._asked, tracer._errors))
    root, decision, call = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)
    assert root.name == "invoke_workflow llm_router"
    assert root.attributes["llm_router.asked"] == ("small",)
    assert decision.name == "decide: ask small"
    assert root.attributes["error.type"] == call.attributes["error.type"] == "CancelledError"


def test_a_failed_call_is_an_error_without_its_text():
    spans, _ = chat_spans(small=ScriptedModel(ConnectionError("no route to a secret place")))
    failed = spans[2]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "ConnectionError"
    assert "secret" not in str([span.to_json() for span in spans])


def mistyped() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("a secret answer")
    return caught.value


@pytest.mark.parametrize("texts", [True, False])
def test_an_error_whose_text_has_no_name_does_not_give_an_answer_away(texts):
    spans, _ = chat_spans(small=ScriptedModel(mistyped()), texts=texts)
    assert spans[2].attributes["error.type"] == "ValidationError"
    assert ("a secret answer" in str(spans[2].status.description)) == texts
    assert texts or "secret" not in str([span.to_json() for span in spans])


def test_a_graph_is_the_same_workflow():
    graph = create_cascade(**parts()).compile()
    given = {"messages": [("human", QUESTION)]}
    spans, _ = spans_of(lambda config: graph.invoke(given, config))
    names = [span.name for span in spans]
    assert names[0] == "invoke_workflow llm_router"
    assert "decide: ask large (P 0.000 < 0.790)" in names
    (escalation,) = [span for span in spans if span.name.startswith("decide: ask large")]
    assert escalation.attributes["llm_router.bar"] == 0.79
