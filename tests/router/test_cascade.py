"""The cascade as a LangGraph state machine."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llm_router import Candidate, Price, SelfEvaluator, create_cascade, route_of
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.support.fakes import JudgeModel, ScriptedModel

DIAGRAM = """
graph TD;
	__start__ --> predict;
	decide -. &nbsp;accept&nbsp; .-> __end__;
	decide -. &nbsp;2 escalate&nbsp; .-> large;
	decide -. &nbsp;verify&nbsp; .-> self_evaluate;
	decide -. &nbsp;1 ask&nbsp; .-> small;
	large --> decide;
	predict --> decide;
	self_evaluate --> decide;
	small --> decide;
"""


def build(small, large=None, policy=None):
    candidates = [
        Candidate("small", small, Price(1, 2)),
        Candidate("large", large or ScriptedModel("large says"), Price(10, 20)),
    ]
    policy = policy or ConfidenceThreshold(threshold=0.6)
    return create_cascade(candidates, policy=policy, verifier=SelfEvaluator(n_samples=2))


def ask(graph, text="question?", **kwargs):
    return graph.invoke({"messages": [("human", text)]}, **kwargs)["messages"][-1]


def test_the_graph_reads_like_its_picture():
    graph = build(JudgeModel("draft")).compile()
    assert graph.get_graph().draw_mermaid(with_styles=False).strip() == DIAGRAM.strip()


def test_a_convinced_cascade_ends_with_the_draft():
    answer = ask(build(JudgeModel("draft", verdicts=["yes"])).compile())
    assert answer.content == "draft"
    assert [s["action"] for s in route_of(answer)["steps"]] == ["ask", "verify", "accept"]


async def test_an_unconvinced_cascade_escalates_sync_and_async():
    graph = build(JudgeModel("draft", verdicts=["no"])).compile()
    assert ask(graph).content == "large says"
    state = await graph.ainvoke({"messages": [("human", "question?")]})
    assert state["messages"][-1].content == "large says"
    assert [a["candidate"] for a in route_of(state["messages"][-1])["attempts"]] == [
        "small",
        "large",
    ]


def test_verifying_the_last_candidate_is_not_paid_for():
    large = JudgeModel("large says")
    ask(build(JudgeModel("draft", verdicts=["no"]), large).compile())
    assert large.judged == []


def test_a_one_shot_policy_plugs_into_the_same_graph():
    graph = build(JudgeModel("draft"), policy=Always("large")).compile()
    assert ask(graph).content == "large says"
    assert "self_evaluate" not in graph.get_graph().nodes


def test_a_second_turn_on_a_thread_answers_the_second_question(monkeypatch):
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    small = JudgeModel("first", "second", verdicts=["yes"])
    graph = build(small).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    assert ask(graph, "one?", config=config).content == "first"
    assert ask(graph, "two?", config=config).content == "second"
    state = graph.get_state(config).values
    assert [m.text for m in state["messages"]] == ["one?", "first", "two?", "second"]
    assert len(state["trace"]) == 1


@pytest.mark.parametrize(("verdict", "says"), [("yes", "draft one"), ("no", "large says")])
def test_rejected_drafts_and_verdicts_never_reach_the_token_stream(verdict, says):
    graph = build(JudgeModel("draft one", verdicts=[verdict])).compile()
    stream = graph.stream({"messages": [("human", "question?")]}, stream_mode="messages")
    assert "".join(str(chunk.content) for chunk, _ in stream) == says


def test_a_failing_last_candidate_leaves_the_answer_held():
    graph = build(JudgeModel("draft", verdicts=["no"]), ScriptedModel(TimeoutError("slow")))
    answer = ask(graph.compile())
    assert answer.content == "draft"
    assert route_of(answer)["attempts"][1]["error"] == "TimeoutError: slow"


def test_if_no_candidate_answers_the_candidates_own_error_comes_out():
    graph = build(ScriptedModel(ConnectionError("down")), ScriptedModel(TimeoutError("slow")))
    with pytest.raises(TimeoutError, match="slow"):
        ask(graph.compile())


def test_options_reach_the_policy_through_the_config():
    graph = build(JudgeModel("draft", verdicts=["yes"])).compile()
    config = {"configurable": {"llm_router": {"force": "large"}}}
    assert ask(graph, config=config).content == "large says"


def test_a_cascade_is_a_node_of_a_larger_graph():
    from langgraph.graph import END, START, MessagesState, StateGraph

    inner = build(JudgeModel("draft", verdicts=["yes"])).compile()
    outer = StateGraph(MessagesState)
    outer.add_node("router", inner)
    outer.add_edge(START, "router")
    outer.add_edge("router", END)
    assert ask(outer.compile()).content == "draft"


def test_names_of_the_graphs_own_nodes_are_refused():
    with pytest.raises(ValueError, match="rename these candidates"):
        create_cascade([Candidate("decide", ScriptedModel("x"))], policy=Always("decide"))
    with pytest.raises(ValueError, match="verifies answers"):
        create_cascade([Candidate("a", ScriptedModel("x"))], policy=ConfidenceThreshold())
