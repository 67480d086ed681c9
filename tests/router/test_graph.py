"""The cascade in LangGraph's own ways: approval by a person, checkpoints, time travel, tools."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_llm_router import Candidate, Price, SelfEvaluator, create_cascade, route_of
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.fakes import CapableModel, JudgeModel, ScriptedModel

QUESTION = {"messages": [("human", "question?")]}
THREAD = {"configurable": {"thread_id": "t"}}


def build(verdict="no", small=None, large=None, **kwargs):
    candidates = [
        Candidate("small", small or JudgeModel("a draft", verdicts=[verdict]), Price(1, 2)),
        Candidate("large", large or ScriptedModel("the large answer"), Price(10, 20)),
    ]
    return create_cascade(
        candidates,
        policy=kwargs.pop("policy", ConfidenceThreshold(threshold=0.6)),
        verifier=SelfEvaluator(n_samples=2),
        **kwargs,
    )


def test_a_person_is_asked_before_an_escalation_and_may_approve_it():
    graph = build(approve=True).compile(checkpointer=InMemorySaver())
    state = graph.invoke(QUESTION, THREAD)
    (stop,) = state["__interrupt__"]
    assert stop.value["candidate"] == "large"
    assert stop.value["draft"] == "a draft"
    assert stop.value["confidence"] == 0.0
    assert stop.value["expected_cost_usd"] == pytest.approx(256 * 20 / 1e6, rel=0.1)
    answer = graph.invoke(Command(resume=True), THREAD)["messages"][-1]
    assert answer.content == "the large answer"
    assert len(route_of(answer)["attempts"]) == 2


@pytest.mark.parametrize("reply", [False, {"approve": False}])
async def test_a_person_may_decline_and_keep_the_draft(reply):
    large = ScriptedModel("the large answer")
    graph = build(approve=True, large=large).compile(checkpointer=InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD)
    state = await graph.ainvoke(Command(resume=reply), THREAD)
    record = route_of(state["messages"][-1])
    assert state["messages"][-1].content == "a draft"
    assert record["reason"] == "a person declined the escalation"
    assert record["steps"][-1]["action"] == "accept"
    assert large.seen == []


def test_only_what_is_worth_asking_about_is_asked_about():
    def dear(proposal):
        return proposal["expected_cost_usd"] > 1.0

    graph = build(approve=dear).compile(checkpointer=InMemorySaver())
    assert graph.invoke(QUESTION, THREAD)["messages"][-1].content == "the large answer"
    graph = build("yes", approve=True).compile(checkpointer=InMemorySaver())
    assert graph.invoke(QUESTION, THREAD)["messages"][-1].content == "a draft"


def test_declining_with_nothing_in_hand_is_an_error():
    down = ScriptedModel(ConnectionError("down"))
    graph = build(small=down, approve=True).compile(checkpointer=InMemorySaver())
    graph.invoke(QUESTION, THREAD)
    with pytest.raises(NoCandidateError, match="Asking 'large' was declined"):
        graph.invoke(Command(resume=False), THREAD)


def test_the_picture_shows_the_stop():
    edges = build(approve=True).compile(checkpointer=InMemorySaver()).get_graph().edges
    assert {(e.source, e.target) for e in edges} >= {
        ("decide", "approve"), ("approve", "large"), ("approve", "__end__"),
    }  # fmt: skip


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")


def two_turns(graph):
    """Two turns on a thread, the first with a stop for approval, restored each time."""
    assert "__interrupt__" in graph.invoke(QUESTION, THREAD)
    first = graph.invoke(Command(resume=True), THREAD)["messages"][-1]
    assert first.content == "the large answer"
    graph.invoke({"messages": [("human", "and now?")]}, THREAD)
    second = graph.invoke(Command(resume=False), THREAD)["messages"]
    assert [m.text for m in second] == [
        "question?", "the large answer", "and now?", "a draft",
    ]  # fmt: skip
    assert len(graph.get_state(THREAD).values["trace"]) == 1


def test_a_thread_survives_in_memory_under_strict_serialization(strict):
    two_turns(build(approve=True).compile(checkpointer=InMemorySaver()))


def test_a_thread_survives_in_sqlite(strict, tmp_path):
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite", reason="no sqlite checkpointer")
    with sqlite.SqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        two_turns(build(approve=True).compile(checkpointer=saver))
    with sqlite.SqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        graph = build(approve=True).compile(checkpointer=saver)
        assert len(graph.get_state(THREAD).values["messages"]) == 4


@pytest.fixture(scope="module")
def postgres_url():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if shutil.which("psql") else []
    if not found:
        pytest.skip("PostgreSQL's server programs are not installed")
    with tempfile.TemporaryDirectory() as folder:
        as_postgres = _unprivileged(Path(folder))
        data = Path(folder) / "data"
        options = f"-k {folder} -c listen_addresses=''"
        as_postgres(found[-1] / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N")
        as_postgres(found[-1] / "pg_ctl", "-D", data, "-o", options, "-w", "-l",
                    Path(folder) / "log", "start")  # fmt: skip
        yield f"postgresql://postgres@/postgres?host={folder}"
        as_postgres(found[-1] / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def _unprivileged(folder: Path):
    """A way to run PostgreSQL's programs, which refuse to be run as root."""
    import os
    import pwd

    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("running as root without a `postgres` user")
        os.chown(folder, user.pw_uid, user.pw_gid)

    def run(*command: object) -> None:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            capture_output=True,
            timeout=60,
            cwd=folder,
            user=None if user is None else user.pw_uid,
        )

    return run


def test_a_thread_survives_in_postgres(strict, postgres_url):
    postgres = pytest.importorskip(
        "langgraph.checkpoint.postgres", reason="no postgres checkpointer"
    )
    with postgres.PostgresSaver.from_conn_string(postgres_url) as saver:
        saver.setup()
        two_turns(build(approve=True).compile(checkpointer=saver))


def test_time_travel_goes_back_to_the_decision_and_takes_the_other_way():
    small = JudgeModel("a draft", verdicts=["no"])
    graph = build(small=small).compile(checkpointer=InMemorySaver())
    assert graph.invoke(QUESTION, THREAD)["messages"][-1].content == "the large answer"
    before = next(
        state
        for state in graph.get_state_history(THREAD)
        if state.next == ("decide",) and len(state.values["trace"]) == 1
        and state.values["trace"][0]["attempt"]["verified"]
    )  # fmt: skip
    verdict = before.values["trace"][0]
    verdict = {**verdict, "attempt": {**verdict["attempt"], "confidence": 1.0}}
    fork = graph.update_state(before.config, {"trace": [verdict]}, as_node="self_evaluate")
    answer = graph.invoke(None, fork)["messages"][-1]
    assert answer.content == "a draft"
    assert len(small.judged) == 2


def test_a_candidates_node_can_retry_by_itself():
    from langgraph.types import RetryPolicy

    flaky = ScriptedModel(ConnectionError("down"), "up again")
    graph = create_cascade(
        [Candidate("small", flaky)], policy=Always("small"), exceptions_to_handle=()
    )
    policy = RetryPolicy(initial_interval=0.01, max_attempts=2, jitter=False)
    graph.nodes["small"].retry_policy = policy
    assert graph.compile().invoke(QUESTION)["messages"][-1].content == "up again"


def test_tools_are_bound_to_the_candidate_that_is_asked_and_their_loop_is_the_outer_graphs():
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    cascade = build(small=CapableModel(), large=CapableModel(), tools=[add]).compile()
    outer = StateGraph(MessagesState)
    outer.add_node("router", cascade)
    outer.add_node("tools", ToolNode([add]))
    outer.add_edge(START, "router")
    outer.add_conditional_edges("router", tools_condition, ["tools", END])
    outer.add_edge("tools", "router")
    state = outer.compile().invoke({"messages": [("human", "3 and 4?")]})
    assert [m.type for m in state["messages"]] == ["human", "ai", "tool", "ai"]
    answers = [m for m in state["messages"] if isinstance(m, AIMessage)]
    assert [route_of(m)["candidate"] for m in answers] == ["small", "small"]


def test_an_approval_without_a_checkpointer_is_refused_before_anything_is_asked():
    small = ScriptedModel("small")
    pool = [Candidate("small", small), Candidate("large", ScriptedModel("large"))]
    graph = create_cascade(pool, policy=Always("large"), approve=True).compile()
    with pytest.raises(ValueError, match="needs a checkpointer"):
        graph.invoke({"messages": [("human", "x")]})
    assert not small.seen
