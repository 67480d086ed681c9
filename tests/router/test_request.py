"""A graph's request lives on in its checkpoints: approved, cancelled, taken up elsewhere.

Between two nodes it is plain data. What may change in the meantime, the clock, the money that is
left, the options, must neither break it nor be missed by it.
"""

import asyncio
import dataclasses
import re
import time
from typing import Annotated, Any

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, interrupt
from typing_extensions import TypedDict

from langchain_llm_router import Candidate, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.ledgers import to_nano
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.live import Live
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router import Shadow
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.verification import Evaluation, SelfEvaluator, Verifier
from tests.benchmarks.path import situations
from tests.support.drivers import DRIVERS, Drivers, facts, outcome
from tests.support.fakes import JudgeModel, ScriptedModel, TimedModel

QUESTION = {"messages": [("human", "q")]}
THREAD = {"configurable": {"thread_id": "t"}}
POLICY = ConfidenceThreshold(threshold=0.7)

# One word asked and two said by the small one, and two verdicts of 100 and 10 tokens; the large
# one's two words. In nano-dollars.
DRAFT = 1_000 + 2 * 2_000
VERDICTS = 2 * (100 * 1_000 + 10 * 2_000)
LARGE = 10_000 + 2 * 20_000


def pool(small: Any = None, large: Any = None) -> list[Candidate]:
    return [
        Candidate(
            "small", small or JudgeModel("a draft", verdicts=["no"]), Price(1, 2),
            max_output_tokens=100,
        ),
        Candidate(
            "large", large or ScriptedModel("large says"), Price(10, 20), max_output_tokens=100
        ),
    ]  # fmt: skip


def build(small: Any = None, large: Any = None, *, saver: Any = None, stop: Any = (), **parts: Any):
    """A compiled cascade with a checkpointer; `stop` names the nodes that it stops before."""
    parts = {"policy": POLICY, "verifier": SelfEvaluator(n_samples=2), **parts}
    graph = create_cascade(pool(small, large), **parts)
    return graph.compile(checkpointer=saver or InMemorySaver(), interrupt_before=stop)


def answer(state: dict[str, Any]):
    return state["messages"][-1]


def used_nano(budgets: Budgets) -> int:
    """The amount spent or reserved."""
    account = budgets.budgets[0].account({}, 0.0)
    assert account is not None
    return budgets.ledger.used_nano(account)


def charged_nano(message: Any) -> int:
    """What its record says was spent at most."""
    return to_nano(route_of(message)["budget"]["charged_usd"])


# The situation


def test_the_situation_is_made_once_and_once_more_after_an_approval():
    assert situations() == {
        "chat": 1, "graph": 1, "agent": 1,
        "chat, budgets": 1, "graph, budgets": 1, "agent, budgets": 1,
        "graph, approved by a person": 2,
    }  # fmt: skip


def test_after_an_approval_the_record_shows_what_was_known_before_and_after(tmp_path):
    log, live = DecisionLog(tmp_path / "log.jsonl"), Live()
    graph = build(approve=True, log=log, live=live)
    graph.invoke(QUESTION, THREAD)
    live.telemetry.expect("large", ttft_s=9.0)
    graph.invoke(Command(resume=True), THREAD)
    log.flush()
    (entry,) = read_log(log.path).entries
    before, after = entry.situations[0], entry.situations[-1]
    assert before.arm("large").ttft_s != 9.0
    assert after.arm("large").ttft_s == pytest.approx(9.0)
    assert replay_log([entry], POLICY).n_identical == 1


# Money


@pytest.mark.parametrize("how", ["approve", "interrupt_before"])
def test_no_money_is_held_while_a_graph_waits(how):
    budgets = Budgets([Budget(1.0)])
    if how == "approve":
        graph, resume = build(approve=True, budgets=budgets), Command(resume=True)
    else:
        graph, resume = build(stop=["large"], budgets=budgets), None
    graph.invoke(QUESTION, THREAD)
    assert used_nano(budgets) == DRAFT + VERDICTS
    message = answer(graph.invoke(resume, THREAD))
    assert message.content == "large says"
    assert used_nano(budgets) == charged_nano(message) == DRAFT + VERDICTS + LARGE


def test_a_graph_that_another_process_takes_up_splits_its_bill_between_their_ledgers():
    saver, first, second = InMemorySaver(), Budgets([Budget(1.0)]), Budgets([Budget(1.0)])
    build(saver=saver, stop=["large"], budgets=first).invoke(QUESTION, THREAD)
    message = answer(build(saver=saver, budgets=second).invoke(None, THREAD))
    assert message.content == "large says"
    assert used_nano(first) == DRAFT + VERDICTS
    assert used_nano(second) == LARGE
    assert to_nano(route_of(message)["cost_usd"]) == DRAFT + VERDICTS + LARGE
    # The second process cannot know whether the first one had begun to ask the large one.
    assert charged_nano(message) >= used_nano(first) + used_nano(second)


def test_when_others_took_the_money_in_between_the_draft_is_kept():
    saver, empty = InMemorySaver(), Budgets([Budget(1e-6)])
    build(saver=saver, stop=["large"], budgets=Budgets([Budget(1.0)])).invoke(QUESTION, THREAD)
    large = ScriptedModel("large says")
    message = answer(build(large=large, saver=saver, budgets=empty).invoke(None, THREAD))
    assert message.content == "a draft"
    assert route_of(message)["attempts"][1]["error"].startswith("BudgetExceededError")
    assert large.seen == []
    assert used_nano(empty) == 0


@pytest.mark.parametrize("limit_usd", [1e-4, 0.001, 0.0028, 0.01, 0.1])
def test_a_limit_per_call_leads_to_the_same_steps_in_every_driver(limit_usd):
    drivers = Drivers(
        pool, budgets=lambda: Budgets([Budget(limit_usd, per="call")]),
        policy=POLICY, verifier=SelfEvaluator(n_samples=1),
    )  # fmt: skip
    found = [outcome(lambda name=name: drivers.ask(name, "q")) for name in DRIVERS]
    assert found[1:] == found[:1] * 2


@pytest.mark.parametrize("node", ["small", "large"])
def test_a_node_that_is_tried_again_is_charged_for_the_try_that_failed(node):
    flaky = {"small": JudgeModel(ConnectionError("lost"), "a draft", verdicts=["no"])}
    flaky["large"] = ScriptedModel(ConnectionError("lost"), "large says")
    budgets = Budgets([Budget(1.0)])
    graph = create_cascade(
        pool(**{node: flaky[node]}), policy=POLICY, verifier=SelfEvaluator(n_samples=2),
        budgets=budgets, exceptions_to_handle=(ValueError,),
    )  # fmt: skip
    retry_policy = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=False)
    graph.set_node_defaults(retry_policy=retry_policy)
    message = answer(graph.compile().invoke(QUESTION))
    assert message.content == "large says"
    assert used_nano(budgets) > DRAFT + VERDICTS + LARGE
    assert charged_nano(message) == used_nano(budgets)


# The clock


async def test_a_request_whose_time_is_up_ends_the_same_way_in_every_driver():
    def slow() -> list[Candidate]:
        return pool(TimedModel("a draft", delays=[5.0]), ScriptedModel("large says"))

    drivers = Drivers(slow, policy=POLICY, verifier=SelfEvaluator(n_samples=2), **deadline(0.1))
    found = [outcome(lambda name=name: drivers.ask(name, "q")) for name in DRIVERS]
    assert all("error" in one for one in found), found
    kinds = {one["error"].split(":")[0] for one in found}
    assert len(kinds) == 1, found


def deadline(seconds: float) -> dict[str, Any]:
    return {"live": Live(deadline_s=seconds)}


def test_a_draft_in_hand_is_the_answer_when_time_is_up_in_every_driver():
    def slow() -> list[Candidate]:
        return pool(large=TimedModel("large says", delays=[5.0]))

    for name in DRIVERS:
        drivers = Drivers(
            slow, policy=POLICY, verifier=SelfEvaluator(n_samples=1), **deadline(0.5)
        )  # fmt: skip
        found = facts(drivers.ask(name, "q"))
        assert found["text"] == "a draft"
        assert [(s["action"], s["candidate"]) for s in found["steps"]] == [
            ("ask", "small"), ("verify", "small"), ("ask", "large"), ("accept", "small"),
        ]  # fmt: skip
        assert found["attempts"][1]["error"] is not None


@pytest.mark.parametrize("how", ["approve", "interrupt_before"])
def test_a_person_may_think_longer_than_the_deadline(how):
    if how == "approve":
        graph, resume = build(approve=True, **deadline(0.4)), Command(resume=True)
    else:
        graph, resume = build(stop=["large"], **deadline(0.4)), None
    graph.invoke(QUESTION, THREAD)
    time.sleep(0.5)
    message = answer(graph.invoke(resume, THREAD))
    assert message.content == "large says"
    assert all(attempt["error"] is None for attempt in route_of(message)["attempts"])


# Stopped and taken up again


def test_options_that_changed_while_a_person_thought_may_forbid_what_was_approved():
    large = ScriptedModel("large says")
    graph = build(large=large, approve=True)
    graph.invoke(QUESTION, THREAD)
    options = {"configurable": {"thread_id": "t", "llm_router": {"candidates": ["small"]}}}
    message = answer(graph.invoke(Command(resume=True), options))
    assert message.content == "a draft"
    assert large.seen == []
    steps = [(s["action"], s["candidate"]) for s in route_of(message)["steps"]]
    assert steps[-1] == ("accept", "small")


def test_options_that_changed_may_also_leave_it_as_it_was():
    graph = build(approve=True)
    graph.invoke(QUESTION, THREAD)
    options = {"configurable": {"thread_id": "t", "llm_router": {"threshold": 0.9}}}
    assert answer(graph.invoke(Command(resume=True), options)).content == "large says"


@pytest.mark.parametrize(
    "numbers",
    [
        {"expected_cost_usd": np.float64(0.001)},
        {"expected_output_tokens": np.float64(20)},
        {"ttft_s": np.float64(0.1), "itl_s": np.float32(0.01)},
        {"price": Price(np.float64(1), np.float64(2))},
        {"max_output_tokens": np.int64(100)},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("limit_usd", [1.0, np.float64(1.0)], ids=["float", "NumPy"])
def test_every_checkpointer_can_keep_numbers_that_came_from_numpy(numbers, limit_usd, monkeypatch):
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    graph = create_cascade(
        [dataclasses.replace(candidate, **numbers) for candidate in pool()],
        policy=POLICY, verifier=SelfEvaluator(n_samples=2), approve=True, live=Live(),
        budgets=Budgets([Budget(limit_usd)]), shadow=Shadow(Always("small")),
    ).compile(checkpointer=InMemorySaver())  # fmt: skip
    graph.invoke(QUESTION, THREAD)
    message = answer(graph.invoke(Command(resume=True), THREAD))
    assert message.content == "large says"
    assert numpy_in(graph.get_state(THREAD).values) == []


def numpy_in(value: Any, where: str = "state") -> list[str]:
    """Where NumPy's numbers are in plain data."""
    if isinstance(value, np.generic):
        return [where]
    if isinstance(value, dict):
        return [hit for key, item in value.items() for hit in numpy_in(item, f"{where}.{key}")]
    if isinstance(value, list | tuple):
        return [hit for i, item in enumerate(value) for hit in numpy_in(item, f"{where}.{i}")]
    if hasattr(value, "response_metadata"):
        return numpy_in(value.response_metadata, f"{where}.response_metadata")
    return []


class StateOf01(TypedDict, total=False):
    """What a cascade's state was before the situation was a part of it."""

    messages: Annotated[list[Any], add_messages]
    quality: list[float] | None
    trace: list[Any]
    steps: list[dict[str, Any]]
    decision_id: str


def test_a_thread_of_an_older_version_is_refused_in_words():
    step = {
        "action": "ask", "candidate": "large", "policy": "ConfidenceThreshold", "reason": "doubts",
        "final": True, "scores": {}, "confidence": 0.0, "propensity": 1.0, "flip": None,
        "decision_id": "",
    }  # fmt: skip
    left = {"quality": None, "trace": [], "steps": [step], "decision_id": "0" * 32}
    old = StateGraph(StateOf01)
    old.add_node("predict", lambda state: left)
    old.add_node("large", lambda state: {})
    old.add_edge(START, "predict")
    old.add_edge("predict", "large")
    old.add_edge("large", END)
    saver = InMemorySaver()
    old.compile(checkpointer=saver, interrupt_before=["large"]).invoke(QUESTION, THREAD)
    large = ScriptedModel("large says")
    with pytest.raises((LlmRouterError, ValueError), match=re.compile("version", re.IGNORECASE)):
        build(large=large, saver=saver).invoke(None, THREAD)
    assert large.seen == []


@pytest.mark.parametrize("how", ["approve", "interrupt_before"])
def test_a_new_question_on_a_stopped_thread_starts_afresh(how):
    budgets, small = Budgets([Budget(1.0)]), JudgeModel("one", "two", verdicts=["no"])
    if how == "approve":
        graph, resume = build(small, approve=True, budgets=budgets), Command(resume=True)
    else:
        graph, resume = build(small, stop=["large"], budgets=budgets), None
    graph.invoke(QUESTION, THREAD)
    graph.invoke({"messages": [("human", "and now?")]}, THREAD)
    state = graph.invoke(resume, THREAD)
    assert [message.text for message in state["messages"]] == ["q", "and now?", "large says"]
    record = route_of(answer(state))
    assert [attempt["candidate"] for attempt in record["attempts"]] == ["small", "large"]
    assert [step["action"] for step in record["steps"]] == ["ask", "verify", "ask", "accept"]
    # The ledger has the first question's draft as well, and the second one's record has not.
    first = 1_000 + 1 * 2_000 + VERDICTS
    assert used_nano(budgets) == first + charged_nano(answer(state))


@pytest.mark.parametrize("slow", ["small", "large"])
async def test_a_request_that_was_cancelled_under_way_goes_on_and_counts_the_call(slow):
    models = {
        "small": TimedModel("a draft", delays=[5.0 if slow == "small" else 0.0, 0.0]),
        "large": TimedModel("large says", delays=[5.0 if slow == "large" else 0.0, 0.0]),
    }
    judge = Candidate("judge", JudgeModel("", verdicts=["no"]), Price(1, 2), max_output_tokens=100)
    budgets = Budgets([Budget(1.0)])
    verifier = SelfEvaluator(n_samples=1, judge=judge)
    graph = build(models["small"], models["large"], verifier=verifier, budgets=budgets)
    running = asyncio.create_task(graph.ainvoke(QUESTION, THREAD))
    while not models[slow].started:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    message = answer(await graph.ainvoke(None, THREAD))
    assert message.content == "large says"
    record = route_of(message)
    assert [step["action"] for step in record["steps"]] == ["ask", "verify", "ask", "accept"]
    assert [len(model.started) for model in models.values()] == (
        [2, 1] if slow == "small" else [1, 2]
    )
    assert charged_nano(message) == used_nano(budgets)
    assert used_nano(budgets) > to_nano(record["cost_usd"])


class AsksPerson(Verifier):
    """Has a person say how good an answer is."""

    def most_calls(self, candidate):
        return []

    def evaluate(self, case):
        yield from ()
        return Evaluation(interrupt({"how good is": str(case.answer.text)}))


@pytest.mark.parametrize(("score", "says"), [(0.9, "a draft"), (0.1, "large says")])
async def test_a_person_may_be_the_verifier_and_a_pause_is_no_failure(score, says, tmp_path):
    log, budgets = DecisionLog(tmp_path / "log.jsonl"), Budgets([Budget(1.0)])
    small = JudgeModel("a draft")
    graph = build(small, verifier=AsksPerson(), log=log, budgets=budgets)
    (stop,) = (await graph.ainvoke(QUESTION, THREAD))["__interrupt__"]
    assert stop.value == {"how good is": "a draft"}
    assert used_nano(budgets) == DRAFT
    message = answer(await graph.ainvoke(Command(resume=score), THREAD))
    assert message.content == says
    assert route_of(message)["attempts"][0]["confidence"] == score
    assert charged_nano(message) == used_nano(budgets) == to_nano(route_of(message)["cost_usd"])
    assert len(small.seen) == 1
    log.flush()
    assert [entry.outcome for entry in read_log(log.path).entries] == ["answered"]


def test_going_back_to_an_earlier_checkpoint_asks_only_what_comes_after_it():
    small, large = JudgeModel("a draft", verdicts=["no", "no", "yes", "yes"]), ScriptedModel("l")
    graph = build(small, large)
    assert answer(graph.invoke(QUESTION, THREAD)).content == "l"
    history = list(graph.get_state_history(THREAD))
    (before,) = [state for state in history if state.next == ("self_evaluate",)]
    message = answer(graph.invoke(None, before.config))
    assert message.content == "a draft"
    assert len(small.seen) == 1
    assert [step["action"] for step in route_of(message)["steps"]] == ["ask", "verify", "accept"]


async def test_each_escalation_of_a_longer_cascade_is_approved_by_itself():
    candidates = [
        Candidate(name, JudgeModel(f"{name} says", verdicts=["no"]), Price(1, 2))
        for name in ("small", "medium", "large")
    ]
    graph = create_cascade(
        candidates, policy=POLICY, verifier=SelfEvaluator(n_samples=1), approve=True
    ).compile(checkpointer=InMemorySaver())
    state = await graph.ainvoke(QUESTION, THREAD)
    for name in ("medium", "large"):
        (stop,) = state["__interrupt__"]
        assert stop.value["candidate"] == name
        state = await graph.ainvoke(Command(resume=True), THREAD)
    assert answer(state).content == "large says"
    assert [step["candidate"] for step in route_of(answer(state))["steps"]] == [
        "small", "small", "medium", "medium", "large", "large",
    ]  # fmt: skip
