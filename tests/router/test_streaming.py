"""Streams show one answer, whole and once, whatever was drafted and rejected on the way."""

import numpy as np
import pytest
from langchain_core.messages import AIMessageChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Outcomes,
    Price,
    create_cascade,
    route_of,
)
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix
from langchain_llm_router.verification import Evaluation, SelfEvaluator, Verifier
from tests.support.fakes import CapableModel, JudgeModel, ScriptedModel


def cascade(verdict="yes", **kwargs) -> ChatLLMRouter:
    small = kwargs.pop("small", None) or JudgeModel("a small draft", verdicts=[verdict])
    large = kwargs.pop("large", None) or ScriptedModel("the large answer")
    return ChatLLMRouter(
        candidates=[Candidate("small", small, Price(1, 2)), Candidate("large", large, Price(9, 9))],
        policy=kwargs.pop("policy", ConfidenceThreshold(threshold=0.6)),
        verifier=kwargs.pop("verifier", SelfEvaluator(n_samples=2)),
        **kwargs,
    )


def text(chunks) -> str:
    return "".join(str(chunk.content) for chunk in chunks)


def parts(chunks) -> int:
    return sum(1 for chunk in chunks if chunk.content)


def in_a_node(router):
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [router.invoke(state["messages"])]})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile()


QUESTION = {"messages": [("human", "question?")]}


@pytest.mark.parametrize("mode", ["buffer", "commit", "events"])
@pytest.mark.parametrize(
    ("verdict", "says"), [("yes", "a small draft"), ("no", "the large answer")]
)
async def test_no_mode_mixes_two_answers(mode, verdict, says):
    router = cascade(verdict, streaming_mode=mode)
    chunks = list(router.stream("q"))
    assert text(chunks) == says
    assert [c.chunk_position for c in chunks].count("last") == 1
    assert [route_of(c) is not None for c in chunks].count(True) == 1
    assert text([c async for c in router.astream("q")]) == says
    graph = in_a_node(router)
    shown = [c for c, _ in graph.stream(QUESTION, stream_mode="messages")]
    assert text(shown) == says


@pytest.mark.parametrize(
    ("verdict", "says"), [("yes", "a small draft"), ("no", "the large answer")]
)
def test_the_accepted_answer_is_counted_once_by_langgraph(verdict, says):
    graph = in_a_node(cascade(verdict))
    chunks = [c for c, _ in graph.stream(QUESTION, stream_mode="messages")]
    assert text(chunks) == says
    state = graph.invoke(QUESTION)
    assert [m.text for m in state["messages"]] == ["question?", says]


def test_a_one_shot_route_in_a_graph_streams_token_by_token():
    router = ChatLLMRouter(candidates=[Candidate("a", CapableModel())], policy=Always("a"))
    chunks = [c for c, _ in in_a_node(router).stream(QUESTION, stream_mode="messages")]
    assert text(chunks) == "Hello there, this is tiny-one speaking."
    assert parts(chunks) == 6


def hopeful(quality: float, **kwargs) -> ChatLLMRouter:
    """A cascade whose estimator expects this quality of everybody."""
    outcomes = Outcomes(["q"], ("small", "large"), np.array([[quality, quality]]))
    estimator = Constant().fit(outcomes)
    return cascade("no", estimator=estimator, streaming_mode="commit", commit_at=0.8, **kwargs)


def test_commit_streams_a_draft_that_is_expected_to_be_good_and_spares_the_verifier():
    router = hopeful(0.9)
    chunks = list(router.stream("q"))
    assert text(chunks) == "a small draft"
    assert parts(chunks) == 3
    record = route_of(chunks[-1])
    assert record["attempts"][0]["committed"] is True
    assert "streamed" in record["reason"]
    assert router.candidates[0].model.judged == []


def test_commit_holds_a_draft_back_that_is_not():
    router = hopeful(0.7)
    assert text(router.stream("q")) == "the large answer"
    assert len(router.candidates[0].model.judged) == 2


def test_commit_is_about_streams_and_changes_no_other_call():
    assert hopeful(0.9).invoke("q").content == "the large answer"


class WordCount(Verifier):
    """Trusts an answer the more, the more of it there is."""

    def evaluate(self, case):
        yield from ()
        return Evaluation(0.0)

    def score_so_far(self, answer: AIMessageChunk) -> float:
        return len(answer.text.split()) / 3


async def test_commit_follows_a_verifier_that_reads_along():
    draft = ScriptedModel("one two three four five")
    router = cascade(
        small=draft, verifier=WordCount(), streaming_mode="commit", commit_at=0.9, commit_after=1
    )
    chunks = list(router.stream("q"))
    assert text(chunks) == "one two three four five"
    assert parts(chunks) == 5
    assert text([c async for c in router.astream("q")]) == "one two three four five"
    short = cascade(
        small=ScriptedModel("one"),
        verifier=WordCount(),
        streaming_mode="commit",
        commit_at=0.9,
        commit_after=1,
    )
    assert text(short.stream("q")) == "the large answer"


def test_events_in_a_graph_tell_of_drafts_verdicts_and_decisions():
    graph = in_a_node(cascade("no", streaming_mode="events"))
    events = list(graph.stream(QUESTION, stream_mode="custom"))
    assert [(e["event"], e["candidate"]) for e in events] == [
        ("decision", "small"),
        ("draft", "small"),
        ("decision", "small"),
        ("verdict", "small"),
        ("decision", "large"),
        ("draft", "large"),
        ("decision", "large"),
    ]
    assert events[1]["text"] == "a small draft"
    assert events[3]["verdicts"] == [False, False]
    assert len({e["decision_id"] for e in events}) == 1


async def test_events_outside_of_a_graph_are_custom_events():
    router = cascade("yes", streaming_mode="events")
    seen = [e async for e in router.astream_events("q", version="v2")]
    custom = [e["data"]["event"] for e in seen if e["event"] == "on_custom_event"]
    assert custom == ["decision", "draft", "decision", "verdict", "decision"]


def test_the_cascade_graph_tells_of_its_steps_unasked():
    graph = create_cascade(
        cascade("no").candidates, policy=ConfidenceThreshold(), verifier=SelfEvaluator(n_samples=2)
    ).compile()
    events = [e["event"] for e in graph.stream(QUESTION, stream_mode="custom")]
    assert events == ["decision", "draft", "decision", "verdict", "decision", "draft", "decision"]


async def test_event_streams_show_the_routers_answer_in_its_own_run():
    router = cascade("yes")
    events = [e async for e in router.astream_events("q", version="v2")]
    mine = [e for e in events if e["name"] == "llm_router"]
    said = [e["data"]["chunk"] for e in mine if e["event"] == "on_chain_stream"]
    assert text(said) == "a small draft"
    assert mine[-1]["event"] == "on_chain_end"


async def test_typed_streams_give_the_accepted_answer_with_its_record():
    for verdict, says in (("yes", "a small draft"), ("no", "the large answer")):
        router = cascade(verdict)
        stream = router.stream_events("q", version="v3")
        assert "".join(stream.text) == says
        assert stream.output.text == says
        assert stream.output.usage_metadata["output_tokens"] == 3
        astream = await router.astream_events("q", version="v3")
        assert (await astream).text == says


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_typed_streams_of_a_graph_have_the_accepted_answer_once():
    for verdict, says in (("yes", "a small draft"), ("no", "the large answer")):
        graph = in_a_node(cascade(verdict))
        stream = graph.stream_events(QUESTION, version="v3")
        assert [str(message.text) for message in stream.messages] == [says]
        astream = await graph.astream_events(QUESTION, version="v3")
        assert [str(await message.text) async for message in astream.messages] == [says]


async def test_a_typed_stream_hands_on_the_failure():
    router = ChatLLMRouter(
        candidates=[Candidate("a", ScriptedModel(ConnectionError("down")))], policy=Always("a")
    )
    with pytest.raises(ConnectionError, match="down"):
        _ = router.stream_events("q", version="v3").output
    stream = await router.astream_events("q", version="v3")
    with pytest.raises(ConnectionError, match="down"):
        await stream.output


class Breaking(ScriptedModel):
    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in super()._stream(messages):
            yield chunk
            raise ConnectionError("cut off")


async def test_after_the_first_token_a_failure_is_raised_and_no_other_candidate_is_asked():
    large = ScriptedModel("the large answer")
    router = ChatLLMRouter(
        candidates=[Candidate("small", Breaking("half an answer")), Candidate("large", large)],
        policy=RandomMix({"small": 1.0}),
    )
    stream = router.stream("q")
    assert next(stream).content == "half "
    with pytest.raises(ConnectionError, match="cut off"):
        next(stream)
    assert large.seen == []
    with pytest.raises(ConnectionError, match="cut off"):
        async for _ in router.astream("q"):
            pass


def test_before_the_first_token_a_failure_lets_another_candidate_answer():
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel(ConnectionError("down"))),
            Candidate("large", ScriptedModel("the large answer")),
        ],
        policy=RandomMix({"small": 1.0}),
    )
    chunks = list(router.stream("q"))
    assert text(chunks) == "the large answer"
    assert route_of(chunks[-1])["attempts"][0]["error"] == "ConnectionError: down"


def test_a_draft_held_back_that_breaks_off_costs_nothing_but_itself():
    router = hopeful(0.7, small=Breaking("half an answer"))
    assert text(router.stream("q")) == "the large answer"


def test_a_subgraph_of_a_larger_graph_streams_its_answer_once():
    inner = create_cascade(
        cascade("no").candidates, policy=ConfidenceThreshold(), verifier=SelfEvaluator(n_samples=2)
    ).compile()
    outer = StateGraph(MessagesState)
    outer.add_node("router", inner)
    outer.add_edge(START, "router")
    outer.add_edge("router", END)
    stream = outer.compile().stream(QUESTION, stream_mode="messages", subgraphs=True)
    assert text(chunk for _, (chunk, _) in stream) == "the large answer"


def test_commit_waits_for_enough_of_the_draft_to_judge_by():
    draft = ScriptedModel("one two three four five")
    router = cascade(
        small=draft, verifier=WordCount(), streaming_mode="commit", commit_at=0.9, commit_after=9
    )
    assert text(router.stream("q")) == "the large answer"


class Named(BaseModel):
    """A schema with one field."""

    n: int


async def test_streamed_structured_output_with_its_raw_message_carries_the_record():
    model = CapableModel(verdict="Correct")
    router = ChatLLMRouter(candidates=[Candidate("one", model, Price(1, 2))], policy=Always("one"))
    structured = router.with_structured_output(Named, include_raw=True)
    whole = structured.invoke("q")
    for chunks in (list(structured.stream("q")), [c async for c in structured.astream("q")]):
        streamed = sum(chunks[1:], start=chunks[0])
        assert streamed["parsed"] == whole["parsed"] == Named(n=1)
        assert [c["raw"].chunk_position for c in chunks if "raw" in c].count("last") == 1
        record = route_of(streamed["raw"])
        assert record["cost_usd"] == route_of(whole["raw"])["cost_usd"] > 0
        assert record["attempts"][0]["output_tokens"] > 0


async def test_streamed_structured_output_alone_is_the_object_as_the_model_gives_it():
    model = CapableModel(verdict="Correct")
    router = ChatLLMRouter(candidates=[Candidate("one", model)], policy=Always("one"))
    assert list(router.with_structured_output(Named).stream("q")) == [Named(n=1)]
    schema = {"title": "Named", "type": "object", "properties": {"raw": {"type": "integer"}}}
    plain = list(model.with_structured_output(schema).stream("q"))
    assert list(router.with_structured_output(schema).stream("q")) == plain


class WithoutStreamedUsage(ScriptedModel):
    """As a `ChatOpenAI` with a `base_url`: usage with whole answers, none in streams."""

    def _stream(self, *args, **kwargs):
        for chunk in super()._stream(*args, **kwargs):
            chunk.message.usage_metadata = None
            yield chunk


def test_usage_that_a_stream_does_not_report_is_unknown_and_not_nothing():
    model = WithoutStreamedUsage("an answer")
    router = ChatLLMRouter(candidates=[Candidate("one", model, Price(1, 2))], policy=Always("one"))
    record = route_of(list(router.stream("q"))[-1])
    assert record["cost_usd"] is None
    (attempt,) = record["attempts"]
    assert attempt["cost_usd"] is attempt["input_tokens"] is attempt["output_tokens"] is None
    assert attempt["ttft_s"] > 0
    assert route_of(router.invoke("q"))["cost_usd"] > 0
