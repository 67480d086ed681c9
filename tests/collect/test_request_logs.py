"""Logs of requests as a start: what was answered is not asked again, and a judge compares."""

import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.collect import (
    Limits,
    NumberMatch,
    PairwiseJudge,
    Watcher,
    collect,
    load_journal,
    read_request_log,
)
from langchain_llm_router.collect.log_formats import UnknownFormatError, UnusableError, read_call
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.policies import Always
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.fakes import GradingModel

POOL = [
    Candidate("small", ScriptedChatModel("Lima", model="gpt-4o-mini"), Price(1, 2)),
    Candidate("large", ScriptedChatModel("Lima.", model="gpt-4o"), Price(10, 20)),
]
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Peru?"}]
CONTEXT = (("system", "Be brief."),)
COMPLETION = {
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Lima it is."}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24},
}
RESPONSE = {
    "model": "gpt-4o",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Lima it is."}]},
    ],
    "usage": {"input_tokens": 20, "output_tokens": 4},
}
USAGE_COST = (20 * 10 + 4 * 20) / 1e6


class Traced(LangChainTracer):
    """LangSmith's tracer, which keeps its runs instead of sending them."""

    runs: ClassVar[list] = []

    def _persist_run_single(self, run):
        pass

    def _update_run_single(self, run):
        self.runs.append(run)


def langsmith_run(**fields):
    """A run as LangSmith gets and exports it, made by LangChain's own tracer."""
    usage = {"input_tokens": 20, "output_tokens": 4, "total_tokens": 24}
    model = ScriptedChatModel(AIMessage("Lima it is.", usage_metadata=usage), model="gpt-4o")
    asked = [SystemMessage("Be brief."), HumanMessage("Peru?")]
    client = Client("http://127.0.0.1:1", api_key="none", auto_batch_tracing=False)
    model.invoke(asked, config={"callbacks": [Traced(client=client)]})
    names = ("id", "name", "run_type", "inputs", "outputs", "extra", "start_time", "end_time")
    run = {name: getattr(Traced.runs[-1], name) for name in names}
    return {**json.loads(json.dumps(run, default=str)), "error": None, **fields}


FORMATS = {
    "a traced run of LangSmith": [langsmith_run()],
    "a run of LangSmith's wrapper of OpenAI": [
        {
            "run_type": "llm",
            "inputs": {"messages": ASKED, "model": "gpt-4o"},
            "outputs": COMPLETION,
            "extra": {"metadata": {"ls_model_name": "gpt-4o"}},
        }
    ],
    "a run of LangSmith with messages": [
        {
            "run_type": "llm",
            "inputs": {"messages": ASKED},
            "outputs": {"messages": [{"role": "assistant", "content": "Lima it is."}]},
            "extra": {"invocation_params": {"model": "gpt-4o"}},
            "prompt_tokens": 20,
            "completion_tokens": 4,
        }
    ],
    "a request and its response": [
        {"request": {"model": "gpt-4o", "messages": ASKED}, "response": COMPLETION}
    ],
    "bodies of HTTP": [
        {
            "request": {"body": {"model": "gpt-4o", "messages": ASKED}},
            "response": {"status_code": 200, "body": COMPLETION},
        }
    ],
    "the responses interface": [
        {
            "request": {"model": "gpt-4o", "instructions": "Be brief.", "input": "Peru?"},
            "response": RESPONSE,
        }
    ],
    "the files of a batch": [
        {
            "custom_id": "r1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o", "messages": ASKED},
        },
        {"id": "b", "custom_id": "r1", "response": {"body": COMPLETION}, "error": None},
    ],
    "a stored completion": [{**COMPLETION, "model": "gpt-4o", "messages": ASKED}],
    "messages and completion": [
        {
            "messages": ASKED,
            "completion": {**COMPLETION, "model": "gpt-4o"},
        }
    ],
    "LiteLLM's payload": [
        {
            "id": "x",
            "call_type": "acompletion",
            "status": "success",
            "model": "openai/gpt-4o",
            "messages": ASKED,
            "response": COMPLETION,
            "response_cost": USAGE_COST,
            "prompt_tokens": 20,
            "completion_tokens": 4,
            "startTime": 100.0,
            "endTime": 101.5,
            "completionStartTime": 100.25,
        }
    ],
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, *rows, **settings):
    return read_request_log(write(path, *rows), candidates=POOL, **settings)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_question_answer_and_cost(tmp_path, name):
    log = read(tmp_path / "log.jsonl", *FORMATS[name])
    (question,), (answer,) = log.questions, log.answers
    assert (question.query, question.context, question.reference) == ("Peru?", CONTEXT, None)
    assert (answer["candidate"], answer["text"]) == ("large", "Lima it is.")
    assert answer["cost_usd"] == pytest.approx(USAGE_COST)
    assert (answer["input_tokens"], answer["output_tokens"]) == (20, 4)
    assert log.n_estimated == 0


def test_times_are_read_where_they_are_known(tmp_path):
    log = read(tmp_path / "log.jsonl", *FORMATS["LiteLLM's payload"])
    assert (log.answers[0]["latency_s"], log.answers[0]["ttft_s"]) == (1.5, 0.25)
    run = langsmith_run(
        start_time="2026-01-01T00:00:00", end_time="2026-01-01T00:00:02", total_cost="0.5"
    )
    (answer,) = read(tmp_path / "log.jsonl", run).answers
    assert (answer["latency_s"], answer["cost_usd"]) == (2.0, 0.5)


def test_a_text_without_usage_has_a_cost_estimated_from_its_length(tmp_path):
    row = {"model": "gpt-4o", "messages": ASKED, "completion": "Lima it is."}
    log = read(tmp_path / "log.jsonl", row)
    assert 0 < log.answers[0]["cost_usd"] < 1e-3
    assert log.answers[0]["input_tokens"] is None
    assert log.n_estimated == 1
    assert "The cost of 1 is estimated from the length of the texts." in log.sentence


def test_a_recorded_model_of_another_name_must_be_said_to_be_a_candidate(tmp_path):
    row = {"request": {"messages": ASKED}, "response": COMPLETION}
    words = r"\['gpt-4o-2024-08-06'\].*\['small', 'large'\].*--recorded gpt-4o-2024-08-06=large"
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "log.jsonl", row)
    log = read(tmp_path / "log.jsonl", row, recorded={"gpt-4o-2024-08-06": "large"})
    assert log.recorded == {"large": 1}
    with pytest.raises(ValueError, match="`recorded` must name a candidate"):
        read(tmp_path / "log.jsonl", row, recorded={"gpt-4o-2024-08-06": "huge"})


def test_what_cannot_be_asked_again_is_counted_by_its_reason(tmp_path):
    good = {"model": "gpt-4o", "messages": ASKED, "completion": "Lima it is."}
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    log = read(
        tmp_path / "log.jsonl",
        good,
        good,
        {**good, "messages": image},
        {**good, "model": "other"},
        {**good, "completion": {"choices": [{"message": call}]}},
        {**good, "tools": [{"type": "function"}]},
        {"request": {"messages": ASKED}, "response": None, "error": "timeout"},
        {"run_type": "chain", "inputs": {"question": "Peru?"}, "outputs": {}},
        {"custom_id": "r9", "response": {"body": COMPLETION}},
    )
    assert len(log.questions) == 1
    assert log.n_requests == 9
    assert log.left_out == {
        "that were asked and answered before": 1,
        "with images, files or other content that is no text": 1,
        "of 'other', which is no candidate": 1,
        "whose answer is a tool call": 1,
        "with tools": 1,
        "that failed": 1,
        "of another kind than a model's call": 1,
        "whose `custom_id` is in no file of requests (pass that file too)": 1,
    }
    assert log.sentence.startswith("9 requests give 1 questions, with 1 of 'large' recorded")


@pytest.mark.parametrize("row", [{"foo": 1, "bar": 2}, {"prompt": "x", "text": "y"}])
def test_an_unknown_format_is_refused_with_line_and_fields(tmp_path, row):
    good = {"model": "gpt-4o", "messages": ASKED, "completion": "Lima it is."}
    with pytest.raises(ValueError, match=r"log\.jsonl line 2: the fields \['") as caught:
        read(tmp_path / "log.jsonl", good, row)
    assert all(name in str(caught.value) for name in row)
    assert "\n" not in str(caught.value)


def test_our_own_log_gives_questions_but_keeps_no_answers(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    models = [Candidate(name, ScriptedChatModel("Lima")) for name in ("small", "large")]
    router = ChatLLMRouter(candidates=models, policy=Always("small"), log=log)
    router.invoke("Peru?")
    log.flush()
    read = read_request_log(tmp_path / "decisions.jsonl", candidates=POOL)
    assert [question.query for question in read.questions] == ["Peru?"]
    assert read.answers == []
    assert "with no recorded answers" in read.sentence


def test_only_the_others_are_asked_and_a_judge_compares(tmp_path):
    small = ScriptedChatModel("Lima", model="gpt-4o-mini")
    large = ScriptedChatModel("not asked", model="gpt-4o")
    pool = [Candidate("small", small, Price(1, 2)), Candidate("large", large, Price(10, 20))]
    log = read(tmp_path / "log.jsonl", *FORMATS["a request and its response"])
    judge = GradingModel(grades=[{"better": "B"}, {"better": "A"}])
    grader = PairwiseJudge(Candidate("judge", judge))
    journal = tmp_path / "run.jsonl"
    for _ in range(2):
        done = collect(log.questions, pool, journal=journal, grader=grader, recorded=log.answers)
        assert done.answers == [{"small": "Lima", "large": "Lima it is."}]
        assert done.outcomes.quality.tolist() == [[0.0, 1.0]]
        assert done.outcomes.cost_usd[0, 1] == pytest.approx(USAGE_COST)
    assert (len(small.calls), len(large.calls)) == (1, 0)
    # The candidates are asked what the model of the log was asked, and the judge sees it.
    assert [m.text for m in small.calls[0].messages] == ["Be brief.", "Peru?"]
    assert "<question>\nsystem: Be brief.\n\nhuman: Peru?\n</question>" in judge.prompts[0]
    assert "<reference>" not in judge.prompts[0]
    assert load_journal(journal).outcomes.queries == ("Peru?",)


def test_a_recorded_answer_is_not_in_the_quote_and_not_in_the_budget(tmp_path):
    class Asked(Watcher):
        def confirm(self, quote):
            self.calls = {(p.kind, p.candidate): p.expected.calls for p in quote.parts}
            return True

    row = {"model": "gpt-4o", "messages": ASKED, "completion": "7", "cost_usd": 5.0}
    log = read(tmp_path / "log.jsonl", row, references=True)
    assert log.questions[0].reference == "7"
    watcher = Asked()
    done = collect(
        log.questions,
        [
            Candidate("small", ScriptedChatModel("7"), Price(1, 2)),
            Candidate("large", ScriptedChatModel("not asked"), Price(1, 2)),
        ],
        journal=tmp_path / "run.jsonl",
        grader=NumberMatch(),
        recorded=log.answers,
        limits=Limits(budget_usd=1.0),
        watcher=watcher,
    )
    assert watcher.calls == {("answers", "small"): 1, ("answers", "large"): 0}
    assert done.outcomes.cost_usd[0, 1] == 5.0


NAMES = st.sampled_from(
    ["messages", "request", "response", "inputs", "outputs", "run_type", "custom_id", "body",
     "kind", "choices", "message", "content", "role", "type", "kwargs", "id", "extra", "metadata",
     "usage", "generations", "output", "completion", "response_cost", "call_type", "query", "data"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["user", "llm", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(row=st.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
def test_any_line_is_read_or_refused_and_never_fails_otherwise(row):
    try:
        call = read_call(row, {})
    except (UnusableError, UnknownFormatError):
        return
    assert call is None or all(isinstance(part, str) for pair in call.messages for part in pair)
