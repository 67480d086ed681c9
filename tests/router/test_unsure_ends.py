"""How a request ends that no answer is good enough for: in chat, in a graph, streamed, logged."""

from dataclasses import replace

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.history import replay_log
from langchain_llm_router.plots import decision_path
from langchain_llm_router.policies import ConfidenceThreshold, Unsure
from langchain_llm_router.router.endings import find_answer
from langchain_llm_router.types import Decision
from tests.support.fakes import JudgeModel, ScriptedModel
from tests.support.logged_routers import read

QUESTION = {"messages": [("human", "question?")]}
THREAD = {"configurable": {"thread_id": "t"}}
REFUSAL = "No answer is sure enough."
STEPS = [
    ("ask", "small"),
    ("verify", "small"),
    ("ask", "large"),
    ("verify", "large"),
    ("abstain", "small"),
]
SAID = {"refuse": REFUSAL, "flag": "a draft", "hold": "a draft"}


def parts(do="refuse", *, verdicts=("no", "no"), cost_usd=2.0, **kwargs):
    small = JudgeModel("a draft", verdicts=list(verdicts))
    large = JudgeModel("the large answer", verdicts=["no"])
    policy = Unsure(
        ConfidenceThreshold(threshold=0.6),
        0.4,
        do=do,
        cost_usd=cost_usd,
        verify_last=True,
        message=REFUSAL,
    )
    return {
        "candidates": [
            Candidate("small", small, Price(1, 2)),
            Candidate("large", large, Price(10, 20)),
        ],
        "policy": policy,
        "verifier": SelfEvaluator(n_samples=2),
        **kwargs,
    }


def graph(**kwargs):
    given = parts(**kwargs)
    return create_cascade(given.pop("candidates"), **given)


def check(message, do):
    record = route_of(message)
    assert message.content == SAID[do]
    assert [(step["action"], step["candidate"]) for step in record["steps"]] == STEPS
    assert record["unsure"] == {"do": do, "cost_usd": 2.0}
    assert record["confidence"] == 0.0
    assert record["cost_usd"] > 2.0
    assert message.response_metadata.get("unsure") == (True if do == "flag" else None)
    assert decision_path(record) is not None


@pytest.mark.parametrize("do", SAID)
async def test_a_chat_model_ends_as_it_was_told(do):
    check(ChatLLMRouter(**parts(do)).invoke("question?"), do)
    check(await ChatLLMRouter(**parts(do)).ainvoke("question?"), do)


@pytest.mark.parametrize("do", SAID)
async def test_a_stream_shows_the_end_alone(do):
    chunks = list(ChatLLMRouter(**parts(do)).stream("question?"))
    assert "".join(chunk.text for chunk in chunks) == SAID[do]
    assert route_of(chunks[-1])["unsure"]["do"] == do
    router = ChatLLMRouter(**parts(do))
    later = [chunk async for chunk in router.astream("question?")]
    assert "".join(chunk.text for chunk in later) == SAID[do]


@pytest.mark.parametrize("do", SAID)
async def test_a_graph_ends_as_it_was_told(do):
    built = graph(do=do)
    check(built.compile().invoke(QUESTION)["messages"][-1], do)
    check((await graph(do=do).compile().ainvoke(QUESTION))["messages"][-1], do)
    shown = [step for step in graph(do=do).compile().stream(QUESTION, stream_mode="updates")]
    assert shown[-1]["decide"]["messages"][0].content == SAID[do]
    drawn = built.compile().get_graph().edges
    assert "abstain" in {edge.data for edge in drawn}


async def test_a_person_is_asked_in_a_graph_and_the_answer_is_recorded_with_its_price():
    built = graph(do="interrupt").compile(checkpointer=InMemorySaver())
    (stop,) = built.invoke(QUESTION, THREAD)["__interrupt__"]
    assert stop.value["question"] == "question?"
    assert (stop.value["candidate"], stop.value["draft"]) == ("small", "a draft")
    assert (stop.value["confidence"], stop.value["cost_usd"]) == (0.0, 2.0)
    answer = built.invoke(Command(resume="It is 42."), THREAD)["messages"][-1]
    assert answer.content == "It is 42."
    record = route_of(answer)
    assert record["unsure"] == {"do": "interrupt", "cost_usd": 2.0, "answered_by": "person"}
    assert record["cost_usd"] > 2.0
    assert ("decide", "person") in {(edge.source, edge.target) for edge in built.get_graph().edges}
    for reply, said in (
        ({"answer": "yes"}, "yes"),
        (AIMessage("said"), "said"),
        ({"answer": None}, REFUSAL),
    ):
        again = graph(do="interrupt").compile(checkpointer=InMemorySaver())
        await again.ainvoke(QUESTION, THREAD)
        state = await again.ainvoke(Command(resume=reply), THREAD)
        assert state["messages"][-1].content == said
        assert state["messages"][-1].response_metadata["llm_router"]["unsure"]["do"] == "interrupt"


def test_a_reply_that_is_no_answer_is_refused_and_another_may_be_given():
    built = graph(do="interrupt").compile(checkpointer=InMemorySaver())
    built.invoke(QUESTION, THREAD)
    (stop,) = built.invoke(Command(resume=7), THREAD)["__interrupt__"]
    assert "a text or an `AIMessage`" in stop.value["problem"]
    assert stop.value["problem"].endswith("got 7.")
    for reply in ({"reply": "42"}, {"answer": "42", "by": "me"}):
        (stop,) = built.invoke(Command(resume=reply), THREAD)["__interrupt__"]
        assert stop.value["problem"].endswith(f"got {reply!r}.")
    assert built.invoke(Command(resume="42"), THREAD)["messages"][-1].content == "42"


def test_a_graph_without_a_checkpointer_refuses_to_ask_a_person_before_it_spends():
    given = parts("interrupt")
    models = [candidate.model for candidate in given["candidates"]]
    built = create_cascade(given.pop("candidates"), **given)
    with pytest.raises(ValueError, match="needs a checkpointer"):
        built.compile().invoke(QUESTION)
    assert [len(model.seen) for model in models] == [0, 0]


def test_a_function_may_answer_in_a_persons_place_without_a_checkpointer():
    built = graph(do="interrupt", nodes={"person": lambda state: "from the help desk"})
    answer = built.compile().invoke(QUESTION)["messages"][-1]
    assert answer.content == "from the help desk"
    assert route_of(answer)["unsure"]["answered_by"] == "person"


def test_a_chat_model_refuses_to_be_interrupted():
    with pytest.raises(ValueError, match="a chat model cannot be interrupted"):
        ChatLLMRouter(**parts("interrupt"))


def test_a_refusal_in_place_of_an_object_is_a_message_without_one():
    router = ChatLLMRouter(**parts())
    schema = {"title": "Answer", "type": "object", "properties": {"x": {"type": "integer"}}}
    bound = router.with_structured_output(schema, include_raw=True)
    terms, step = router.policy.exit_terms, Decision("abstain", "small", "Unsure", "poor")
    step = replace(step, ending="refuse")
    output = find_answer(step, {}, terms, bound.kwargs, None).output
    assert output["raw"].content == REFUSAL
    assert (output["parsed"], output["parsing_error"]) == (None, None)


def test_an_answer_that_was_not_verified_says_so():
    large = ScriptedModel("the large answer")
    given = parts()
    given["candidates"][1] = Candidate("large", large, Price(10, 20))
    given["policy"] = ConfidenceThreshold(threshold=0.6)
    assert route_of(ChatLLMRouter(**given).invoke("question?"))["confidence"] == "unverified"
    given["policy"] = Unsure(ConfidenceThreshold(threshold=0.6), 0.4)
    shown = list(ChatLLMRouter(**given).stream("question?"))
    assert "".join(chunk.text for chunk in shown) == "the large answer"
    assert route_of(shown[-1])["confidence"] == "unverified"


def test_an_end_is_logged_and_replayed_bit_for_bit(log):
    router = ChatLLMRouter(**parts("hold", verdicts=["no", "yes"], cost_usd=0.25, log=log))
    records = [route_of(router.invoke(f"question {i}")) for i in range(4)]
    replayed = replay_log(read(log), router.policy)
    assert replayed.n_identical == len(replayed) == 4
    assert [row.went.cost_usd for row in replayed.rows] == [r["cost_usd"] for r in records]
    kinds = [row.went.steps[-1].action for row in replayed.rows]
    assert kinds == [record["steps"][-1]["action"] for record in records]
    # With an end that is worth more, another one ends earlier.
    surer = Unsure(ConfidenceThreshold(threshold=0.6), 0.9, do="hold")
    assert replay_log(read(log), surer).n_identical < 4


@pytest.mark.parametrize("do", SAID)
def test_an_agent_with_the_middleware_ends_as_it_was_told(do):
    agents = pytest.importorskip("langchain.agents")
    from langchain_llm_router.router import LLMRouterMiddleware

    router = ChatLLMRouter(**parts(do))
    agent = agents.create_agent(ScriptedModel("unused"), middleware=[LLMRouterMiddleware(router)])
    check(agent.invoke(QUESTION)["messages"][-1], do)
