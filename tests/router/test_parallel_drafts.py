"""Two candidates asked at the same time in the graph, where the pool will probably ask both."""

import asyncio
import time
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llm_router import Candidate, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.policies import AnswerPool, ConfidenceThreshold
from langchain_llm_router.verification import AnswerGroups
from tests.support.drivers import timeless
from tests.support.fakes import ScriptedModel

COSTS = {"small": 0.0001, "medium": 0.0002, "large": 0.003}
PRICES = {"small": Price(1, 2), "medium": Price(4, 8), "large": Price(10, 20)}
FREE = "A long story of a fox that wanted grapes, " * 10
POOL = AnswerPool.from_prices(COSTS)


class SlowModel(ScriptedModel):
    """A scripted model that takes its time."""

    delay_s: float = 0.0

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        entry = self.script[min(len(self.seen), len(self.script) - 1)]
        time.sleep(self.delay_s)
        if isinstance(entry, KeyboardInterrupt):
            self.seen.append(messages)
            raise entry
        return super()._generate(messages, *args, **kwargs)

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        await asyncio.sleep(self.delay_s)
        return super()._generate(messages)


def candidates(*texts: Any, delay_s: float = 0.0) -> list[Candidate]:
    return [
        Candidate(name, SlowModel(text, delay_s=delay_s), PRICES[name],
                  expected_cost_usd=COSTS[name], max_output_tokens=50)
        for name, text in zip(COSTS, texts, strict=True)
    ]  # fmt: skip


def graph_of(pool: list[Candidate], *, parallel: int = 2, **kwargs: Any) -> Any:
    built = create_cascade(pool, policy=POOL, verifier=AnswerGroups(), parallel=parallel, **kwargs)
    return built.compile(checkpointer=InMemorySaver())


def ask(graph: Any, thread: str = "1", question: str = "2 + 2?") -> dict[str, Any]:
    config = {"configurable": {"thread_id": thread}}
    return route_of(graph.invoke({"messages": [("human", question)]}, config)["messages"][-1])


def comparable(record: dict[str, Any]) -> list[dict[str, Any]]:
    attempts = [timeless(attempt) for attempt in record["attempts"]]
    return [{k: v for k, v in attempt.items() if k != "alongside"} for attempt in attempts]


@pytest.mark.parametrize("texts", [("4", "It is 4.", "5"), ("4", "5", "4"), ("1", "2", "3")])
def test_the_answer_and_the_record_are_those_of_one_call_after_the_other(texts):
    one = ask(graph_of(candidates(*texts), parallel=1))
    two = ask(graph_of(candidates(*texts)))
    assert two["candidate"] == one["candidate"]
    assert two["steps"] == one["steps"]
    assert comparable(two) == comparable(one)
    assert two["cost_usd"] == one["cost_usd"]
    assert two["attempts"][0]["alongside"] == two["attempts"][1]["candidate"]


def test_two_answers_take_about_the_time_of_one():
    pool = candidates("4", "4", "5", delay_s=0.4)
    started = time.perf_counter()
    record = ask(graph_of(pool))
    assert len(record["attempts"]) == 2
    assert time.perf_counter() - started < 0.4 * 1.7


async def test_asked_async_and_streamed_they_stay_hidden_until_one_is_accepted():
    graph = graph_of(candidates("4", "It is 4.", "5", delay_s=0.3))
    config = {"configurable": {"thread_id": "1"}}
    started, shown = time.perf_counter(), []
    async for chunk, _ in graph.astream(
        {"messages": [("human", "2 + 2?")]}, config, stream_mode="messages"
    ):
        shown.append(str(chunk.text))
    assert time.perf_counter() - started < 0.3 * 1.8
    assert "".join(shown) == "4"


def test_attempts_stand_in_the_order_of_asking_also_if_the_second_is_faster():
    pool = candidates("4", "4", "5")
    pool[0].model.delay_s = 0.3
    record = ask(graph_of(pool))
    assert [attempt["candidate"] for attempt in record["attempts"]] == ["small", "medium"]


def test_an_answer_that_turns_out_not_to_be_needed_is_paid_for_and_used():
    # An unreadable first answer leads to the dearest candidate at once.
    texts = (FREE, "4", "4")
    assert [a["candidate"] for a in ask(graph_of(candidates(*texts), parallel=1))["attempts"]] == [
        "small",
        "large",
    ]
    record = ask(graph_of(candidates(*texts)))
    assert [a["candidate"] for a in record["attempts"]] == ["small", "medium", "large"]
    asked = [s for s in record["steps"] if s["action"] == "ask"]
    assert asked[1]["reason"] == "it was asked at the same time as small"
    assert record["cost_usd"] == pytest.approx(sum(a["cost_usd"] for a in record["attempts"]))


@pytest.mark.parametrize("down", [0, 1])
def test_a_failure_of_one_does_not_lose_the_other(down):
    texts: list[Any] = ["4", "4", "4"]
    texts[down] = ConnectionError("down")
    pool = candidates(*texts)
    record = ask(graph_of(pool))
    failed = [a["candidate"] for a in record["attempts"] if a["error"] is not None]
    assert failed == [list(COSTS)[down]]
    assert record["attempts"][1 - down]["error"] is None
    assert all(len(candidate.model.seen) <= 1 for candidate in pool)


def test_if_all_fail_the_request_fails_with_the_error_of_the_last():
    down = ConnectionError("down")
    with pytest.raises(ConnectionError, match="down"):
        ask(graph_of(candidates(down, down, down)))


def test_a_draft_of_an_earlier_turn_is_not_taken_for_one_of_this_turn():
    pool = candidates("4", "4", "5")
    graph = graph_of(pool)
    ask(graph)
    for candidate in pool:
        candidate.model.script = ["7"]
    record = ask(graph, question="3 + 4?")
    assert record["attempts"][1]["candidate"] == "medium"
    assert [len(candidate.model.seen) for candidate in pool] == [2, 2, 0]


@pytest.mark.parametrize("interrupted", range(1, 7))
def test_resumed_from_any_checkpoint_it_asks_nothing_twice(interrupted):
    pool = candidates("4", "5", "4")
    graph, config = graph_of(pool), {"configurable": {"thread_id": "1"}}
    expected = ask(graph_of(candidates("4", "5", "4")))
    steps = graph.stream({"messages": [("human", "2 + 2?")]}, config)
    for _ in range(interrupted):
        next(steps)
    steps.close()
    record = route_of(graph.invoke(None, config)["messages"][-1])
    assert record["steps"] == expected["steps"]
    assert comparable(record) == comparable(expected)


def test_what_has_finished_when_the_other_call_is_killed_is_not_asked_again():
    pool = candidates("4", "4", "5")
    graph, config = graph_of(pool), {"configurable": {"thread_id": "1"}}
    pool[0].model.script, pool[0].model.delay_s = [KeyboardInterrupt()], 0.3
    with pytest.raises(KeyboardInterrupt):
        graph.invoke({"messages": [("human", "2 + 2?")]}, config)
    pool[0].model.script = ["4"]
    record = route_of(graph.invoke(None, config)["messages"][-1])
    assert [a["candidate"] for a in record["attempts"]] == ["small", "medium"]
    assert [len(candidate.model.seen) for candidate in pool] == [2, 1, 0]


def test_the_budget_holds_for_both_calls_together():
    budgets = Budgets([Budget(1.0)])
    record = ask(graph_of(candidates("4", "4", "5"), budgets=budgets))
    account = budgets.budgets[0].account({}, 0.0)
    spent = budgets.ledger.used_nano(account) / 1e9
    assert spent == pytest.approx(record["cost_usd"])
    assert record["budget"]["charged_usd"] == pytest.approx(record["cost_usd"])


def test_a_second_call_beyond_the_limit_of_a_request_is_not_made():
    graph = graph_of(candidates("4", "4", "5"))
    config = {"configurable": {"thread_id": "1", "llm_router": {"max_cost_usd": 0.00025}}}
    message = graph.invoke({"messages": [("human", "2 + 2?")]}, config)["messages"][-1]
    assert "alongside" not in route_of(message)["attempts"][0]


def test_its_log_replays_bit_for_bit(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    for i, texts in enumerate([("4", "4", "5"), (FREE, "4", "4"), ("1", "2", "3")]):
        ask(graph_of(candidates(*texts), log=log), str(i))
    log.flush()
    history = read_log(tmp_path / "log.jsonl")
    replayed = replay_log(history, POOL)
    assert replayed.n_identical == len(replayed) == 3


def test_another_policy_that_is_replayed_need_not_take_the_second_answer(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    ask(graph_of(candidates("4", "4", "5"), log=log))
    log.flush()
    replayed = replay_log(read_log(tmp_path / "log.jsonl"), POOL.with_knob(1e6))
    assert replayed.rows[0].went.candidate == "small"
    assert len([s for s in replayed.rows[0].went.steps if s.action == "ask"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": ConfidenceThreshold()}, "ConfidenceThreshold does not say"),
        ({"approve": True}, "before a person approves"),
        ({"nodes": {"decide": lambda state: None}}, "a function decides"),
        ({"parallel": 3}, "must be 1 or 2, got 3"),
    ],
)
def test_where_it_cannot_be_honoured_it_is_refused_in_words(arguments, message):
    given = {"policy": POOL, "verifier": AnswerGroups(), "parallel": 2, **arguments}
    with pytest.raises(ValueError, match=message):
        create_cascade(candidates("4", "4", "5"), **given)
