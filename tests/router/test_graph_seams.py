"""Seams of the graph: nodes of one's own, edges of one's own, names that LangGraph reserves."""

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from langchain_llm_router import Candidate, Price, create_cascade, route_of, routing_edge
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.types import Decision
from langchain_llm_router.verification import Evaluation, SelfEvaluator
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes

QUESTION = {"messages": [("human", "q")]}


def pool(verdict="no"):
    return [
        Candidate(
            "small", JudgeModel("a draft", verdicts=[verdict]), Price(1, 2), max_output_tokens=9
        ),
        Candidate("large", ScriptedModel("large says"), Price(10, 20), max_output_tokens=9),
    ]


def cascade(nodes, verdict="no", **fields):
    fields = {
        "policy": ConfidenceThreshold(threshold=0.7),
        "verifier": SelfEvaluator(n_samples=1),
        **fields,
    }
    return create_cascade(pool(verdict), nodes=nodes, **fields)


def ask(nodes, verdict="no", **fields):
    return cascade(nodes, verdict, **fields).compile().invoke(QUESTION)["messages"][-1]


# Nodes


@pytest.mark.parametrize(
    "verdict", [0.9, True, {"confidence": 0.9}, Evaluation(0.9), {"confidence": 1, "verdicts": []}]
)
def test_a_verdict_of_ones_own_replaces_self_evaluation(verdict):
    def trusts(state):
        assert state["trace"][-1]["message"].content == "a draft"
        return verdict

    answer = ask({"self_evaluate": trusts})
    assert answer.content == "a draft"
    record = route_of(answer)
    assert [step["action"] for step in record["steps"]] == ["ask", "verify", "accept"]
    assert record["attempts"][0]["verified"] is True
    assert record["nodes"] == {"self_evaluate": f"{__name__}.{trusts.__qualname__}"}


def test_no_verdict_is_one_too():
    assert ask({"self_evaluate": lambda state: None}, "yes").content == "large says"


def test_an_answer_of_ones_own_replaces_a_candidate_and_is_priced():
    usage = {"input_tokens": 1_000_000, "output_tokens": 1, "total_tokens": 1_000_001}

    def writes(state, config):
        assert config["configurable"] is not None
        return AIMessage("mine", usage_metadata=usage)

    answer = ask({"large": writes})
    assert answer.content == "mine"
    assert route_of(answer)["attempts"][1]["cost_usd"] == pytest.approx(10, rel=1e-3)


def test_a_failing_node_in_the_place_of_a_candidate_is_a_failed_candidate():
    def fails(state):
        raise TimeoutError("slow")

    record = route_of(ask({"small": fails}))
    assert record["attempts"][0]["error"] == "TimeoutError: slow"
    assert record["candidate"] == "large"


def test_a_decision_of_ones_own_replaces_the_policy():
    def decides(state):
        if not state["trace"]:
            return Decision("ask", "large", "mine", "because", final=True)
        return {"action": "accept", "candidate": "large", "reason": "it is there"}

    record = route_of(ask({"decide": decides}))
    assert [step["reason"] for step in record["steps"]] == ["because", "it is there"]
    assert list(record["nodes"]) == ["decide"]


def test_qualities_of_ones_own_replace_the_estimator():
    chosen = {}
    for best in ("small", "large"):
        qualities = {"small": 0.5, "large": 0.5, best: 0.9}
        answer = ask({"predict": lambda state, q=qualities: q}, policy=Utility())
        chosen[best] = route_of(answer)["candidate"]
    assert chosen == {"small": "small", "large": "large"}


def test_a_reply_of_ones_own_replaces_the_person():
    for reply, content in ((True, "large says"), (False, "a draft")):
        answer = ask({"approve": lambda state, reply=reply: reply}, approve=True)
        assert answer.content == content


async def test_async_nodes_run_and_are_refused_where_they_cannot():
    async def trusts(state):
        return 1.0

    graph = cascade({"self_evaluate": trusts}).compile()
    answer = (await graph.ainvoke(QUESTION))["messages"][-1]
    assert answer.content == "a draft"
    with pytest.raises(TypeError, match="async: run the graph with `ainvoke`"):
        graph.invoke(QUESTION)


def test_a_function_around_a_node_calls_it_itself():
    seen = []

    def watches(state, config, node):
        update = node.invoke(state, config)
        seen.append(update["trace"][-1]["attempt"]["candidate"])
        return update

    answer = ask({"large": watches, "small": watches})
    assert seen == ["small", "large"]
    assert set(route_of(answer)["nodes"]) == {"small", "large"}


@pytest.mark.parametrize("node", ["predict", "decide", "self_evaluate"])
def test_every_node_can_be_wrapped_and_is_then_in_the_record(node):
    graph = cascade({node: lambda state, node: node.invoke(state)})
    compiled = graph.compile(checkpointer=InMemorySaver())
    for _ in range(2):
        state = compiled.invoke(QUESTION, {"configurable": {"thread_id": "t"}})
        assert list(route_of(state["messages"][-1])["nodes"]) == [node]


async def test_an_async_function_stands_around_a_node():
    async def watches(state, node):
        return await node.ainvoke(state)

    graph = cascade({"self_evaluate": watches}).compile()
    answer = (await graph.ainvoke(QUESTION))["messages"][-1]
    assert route_of(answer)["nodes"].keys() == {"self_evaluate"}


@pytest.mark.parametrize(
    ("node", "result", "wanted"),
    [
        ("self_evaluate", "yes", "a confidence in"),
        ("small", "words", "an `AIMessage`"),
        ("decide", "large", "a `Decision`"),
        ("predict", 0.5, "a mapping from"),
    ],
)
def test_a_result_that_cannot_be_read_says_what_is_wanted(node, result, wanted):
    with pytest.raises(TypeError, match=f"must return {wanted}"):
        ask({node: lambda state: result}, exceptions_to_handle=(OSError,))


def test_a_node_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"Unknown node 'verify' in `nodes`: this graph has"):
        cascade({"verify": lambda state: 1.0})
    with pytest.raises(TypeError, match="must be a function of the state"):
        cascade({"decide": 3})
    for function in (lambda: 1, lambda state, other: 1):
        with pytest.raises(TypeError, match=r"`nodes\['decide'\]` must take the state"):
            cascade({"decide": function})


def test_money_is_booked_for_nodes_of_ones_own():
    budgets = Budgets([Budget(1.0)])
    usage = {"input_tokens": 1_000, "output_tokens": 0, "total_tokens": 1_000}
    answer = ask(
        {"large": lambda state: AIMessage("mine", usage_metadata=usage)},
        budgets=budgets,
    )
    account = budgets.budgets[0].account({}, 0.0)
    charged = route_of(answer)["budget"]["charged_usd"]
    assert budgets.ledger.used_nano(account) == pytest.approx(charged * 1e9, abs=2)


# Edges


def fitted():
    return Constant().fit(make_outcomes(candidates=("small", "large")))


def routed(edge, **kwargs):
    graph = StateGraph(MessagesState)
    for name in ("small", "large"):
        graph.add_node(name, lambda state, name=name: {"messages": [("ai", name)]})
        graph.add_edge(name, END)
    graph.add_conditional_edges(START, edge)
    compiled = graph.compile()
    return compiled, compiled.invoke(QUESTION, **kwargs)["messages"][-1].content


def test_every_one_shot_policy_is_an_edge_of_a_graph_of_ones_own():
    names = [Candidate("small", price=Price(1, 2)), Candidate("large", price=Price(10, 20))]
    assert routed(routing_edge(Always("large"), names))[1] == "large"
    assert routed(routing_edge(Utility(), ["small", "large"], estimator=fitted()))[1] == "large"
    dear = routing_edge(Utility(cost=1e6), names, estimator=fitted())
    compiled, content = routed(dear)
    assert content == "small"
    drawn = {(edge.source, edge.target) for edge in compiled.get_graph().edges}
    assert {("__start__", "small"), ("__start__", "large")} <= drawn


def test_an_edge_reads_the_requests_options():
    edge = routing_edge(Always("large"), ["small", "large"])
    config = {"configurable": {"llm_router": {"force": "small"}}}
    assert routed(edge, config=config)[1] == "small"


# Names


def test_reserved_characters_are_legal_in_candidates_and_kept_in_records():
    names = ("a:b", "a_b", "a|b")
    candidates = [Candidate(name, ScriptedModel(f"by {name}")) for name in names]
    for name in names:
        graph = create_cascade(candidates, policy=Always(name)).compile()
        answer = graph.invoke(QUESTION)["messages"][-1]
        assert answer.content == f"by {name}"
        assert route_of(answer)["candidate"] == name
    assert len({*graph.get_graph().nodes} - {"__start__", "__end__", "predict", "decide"}) == 3


def test_a_forbidden_arm_is_decided_again_after_approval():
    graph = cascade(None, approve=True).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    assert "__interrupt__" in graph.invoke(QUESTION, config)
    config["configurable"]["llm_router"] = {"candidates": ["small"]}
    answer = graph.invoke(Command(resume=True), config)["messages"][-1]
    assert answer.content == "a draft"
