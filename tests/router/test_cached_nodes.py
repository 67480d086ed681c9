"""A cascade's graph whose nodes are cached: every turn has a decision id of its own."""

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tracers.context import collect_runs
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import CachePolicy

from langchain_llm_router import Candidate, SelfEvaluator, create_cascade, route_of
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.support.fakes import CapableModel


def by_text(state, *args) -> str:
    return str(state["messages"][-1].text)


CASCADE = {
    "policy": ConfidenceThreshold(threshold=0.6),
    "verifier": SelfEvaluator(n_samples=1),
}


def compiled(cached: dict[str, CachePolicy] | CachePolicy, **kwargs):
    model = CapableModel(verdict="Incorrect")
    pool = [Candidate("small", model), Candidate("large", CapableModel())]
    graph = create_cascade(pool, **{**CASCADE, **kwargs})
    if isinstance(cached, CachePolicy):
        graph.set_node_defaults(cache_policy=cached)
    else:
        for name, policy in cached.items():
            graph.nodes[name].cache_policy = policy
    return graph.compile(cache=InMemoryCache(), checkpointer=InMemorySaver()), model


def question(thread: str) -> tuple[dict, dict]:
    # The same id in both threads, so that a cache by the whole state has the same key.
    return {"messages": [HumanMessage("Who are you?", id="1")]}, {
        "configurable": {"thread_id": thread}
    }


@pytest.mark.parametrize("nodes", [["predict"], ["small"], ["predict", "small", "large"]])
@pytest.mark.parametrize("live", [None, Live()], ids=["", "live"])
async def test_a_turn_with_cached_nodes_has_its_own_decision_id(nodes, live, tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    policy = CachePolicy(key_func=by_text)
    graph, model = compiled(dict.fromkeys(nodes, policy), live=live, log=log)
    records = []
    for thread in "ab":
        state = graph.invoke(*question(thread))
        records.append(route_of(state["messages"][-1]))
    records.append(route_of((await graph.ainvoke(*question("c")))["messages"][-1]))
    assert len({record["decision_id"] for record in records}) == 3
    assert {record["candidate"] for record in records} == {"large"}
    log.flush()
    n_lines = len((tmp_path / "log.jsonl").read_text().splitlines())
    assert n_lines == 3
    # What the cached node would have asked was asked once.
    drafts = [kwargs for _, kwargs in model.calls if "tools" not in kwargs]
    assert len(drafts) == (1 if "small" in nodes else 3)


def test_a_cache_for_all_nodes_by_the_whole_state_does_not_repeat_a_decision():
    graph, _ = compiled(CachePolicy(), policy=Always("large"), verifier=None)
    ids = {
        route_of(graph.invoke(*question(thread))["messages"][-1])["decision_id"] for thread in "ab"
    }
    assert len(ids) == 2


def test_the_next_turn_of_a_thread_has_a_new_decision_id():
    graph, _ = compiled({"predict": CachePolicy(key_func=by_text)})
    ids = set()
    for _ in range(2):
        state = graph.invoke(*question("a")[:1], {"configurable": {"thread_id": "a"}})
        ids.add(route_of(state["messages"][-1])["decision_id"])
    assert len(ids) == 2


def test_the_runs_of_a_turn_carry_the_decision_id_of_its_record():
    graph, _ = compiled({"predict": CachePolicy(key_func=by_text)})
    for thread in "ab":
        given, config = question(thread)
        with collect_runs() as runs:
            record = route_of(graph.invoke(given, config)["messages"][-1])
        found = set()
        stack = list(runs.traced_runs)
        while stack:
            run = stack.pop()
            stack += run.child_runs
            found.add(run.metadata.get("llm_router_decision_id"))
        assert found - {None} == {record["decision_id"]}
