"""A pool of answers through every driver: the same steps, answer, bill and log."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.data.recorded_model import RecordedChatModel
from langchain_llm_router.evaluation import replay
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.policies import AnswerPool
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.verification import AnswerGroups
from tests.support.drivers import DRIVERS, Drivers, facts, timeless
from tests.support.pools import make_pool

NAMES = ("small", "medium", "large")
TABLE, GROUPS = make_pool(150, NAMES)
POLICY = AnswerPool(20.0, n_classes=3, n_beliefs=12).fit(TABLE, GROUPS)
ASKS_ALL = POLICY.with_knob(0.0)
PRICES = {"small": Price(1, 2), "medium": Price(4, 8), "large": Price(10, 20)}


def answers_of(j: int) -> dict[str, str]:
    """Texts that are equal where the table has equal groups."""
    rows = GROUPS.answer_groups[:, j].tolist()
    return {q: "" if g < 0 else str(g) for q, g in zip(TABLE.queries, rows, strict=True)}


def recorded_pool() -> list[Candidate]:
    costs = TABLE.mean_cost_usd
    return [
        Candidate(
            name,
            RecordedChatModel(
                answers_of(j),
                usage={q: (1, int(n)) for q, n in zip(
                    TABLE.queries, TABLE.output_tokens[:, j], strict=True
                )},
                model=name,
            ),
            Price(0, 2),
            expected_cost_usd=float(costs[j]),
        )
        for j, name in enumerate(NAMES)
    ]  # fmt: skip


def scripted(*texts: Any, **kwargs: Any) -> list[Candidate]:
    return [
        Candidate(name, ScriptedChatModel(*text) if isinstance(text, tuple)
                  else ScriptedChatModel(text), PRICES[name], **kwargs)
        for name, text in zip(NAMES, texts, strict=True)
    ]  # fmt: skip


def router(*texts: Any, policy: AnswerPool = ASKS_ALL, **kwargs: Any) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=scripted(*texts), policy=policy, verifier=AnswerGroups(), **kwargs
    )


def graph_of(*texts: Any, policy: AnswerPool = ASKS_ALL, **kwargs: Any):
    built = create_cascade(scripted(*texts), policy=policy, verifier=AnswerGroups(), **kwargs)
    return built.compile(checkpointer=InMemorySaver())


def readable_rows(n: int) -> list[int]:
    """Rows without an empty answer, which a live router asks for again elsewhere."""
    return [i for i in range(len(TABLE)) if (GROUPS.answer_groups[i] >= 0).all()][:n]


def test_chat_graph_agent_and_a_replay_of_the_table_take_the_same_steps():
    drivers = Drivers(recorded_pool, policy=POLICY, verifier=AnswerGroups())
    rows = readable_rows(8)
    done = replay(
        POLICY, None, TABLE.take(rows), evaluations=GROUPS.take(rows),
        expected_cost_usd=TABLE.mean_cost_usd,
    )  # fmt: skip
    n_steps = set()
    for i, row in enumerate(rows):
        question = TABLE.queries[row]
        expected = facts(drivers.ask("chat", question))
        for driver in (*DRIVERS, "chat, streamed"):
            assert facts(drivers.ask(driver, question)) == expected, driver
        assert expected["candidate"] == NAMES[done.accepted[i]]
        assert expected["reason"] == done.decisions[i].reason
        n_steps.add(len(expected["steps"]))
    assert len(n_steps) > 1


async def test_async_and_streamed_they_do_the_same():
    drivers = Drivers(recorded_pool, policy=POLICY, verifier=AnswerGroups())
    for row in readable_rows(3):
        question = TABLE.queries[row]
        expected = facts(drivers.ask("chat", question))
        for driver in (*DRIVERS, "chat, streamed"):
            assert facts(await drivers.aask(driver, question)) == expected, driver


def test_a_log_of_pooled_answers_replays_bit_for_bit(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    chat = ChatLLMRouter(
        candidates=recorded_pool(), policy=POLICY, verifier=AnswerGroups(), log=log
    )
    rows = readable_rows(12)
    records = [route_of(chat.invoke(TABLE.queries[row])) for row in rows]
    log.flush()
    done = replay_log(read_log(log.path), POLICY)
    assert done.n_identical == len(rows)
    assert [row.went.candidate for row in done.rows] == [r["candidate"] for r in records]
    # At another λ the groups of the record are still those of the answers.
    dear = replay_log(read_log(log.path), POLICY.with_knob(1e6))
    assert dear.n_identical < len(rows)


def test_equal_answers_have_one_group_and_the_cheapest_of_them_is_returned():
    answer = router("The answer is 4.", "The answer is 5.", "The result is 4").invoke("2 + 2?")
    record = route_of(answer)
    groups = {a["candidate"]: a["answer_group"] for a in record["attempts"] if a.get("verified")}
    assert min(groups.values()) == 0
    assert groups["small"] != groups["medium"]
    assert groups.get("large", groups["small"]) == groups["small"]
    assert answer.text in ("The answer is 4.", "The result is 4")


def test_the_answer_that_is_accepted_in_any_case_arrives_word_by_word():
    told = "It is four, and here is why that is so."
    chunks = list(router("1", "2", told, policy=POLICY.with_knob(0.0)).stream("2 + 2?"))
    record = route_of(chunks[-1])
    text = "".join(chunk.text for chunk in chunks)
    assert text == {"small": "1", "medium": "2", "large": told}[record["candidate"]]
    if record["steps"][-2]["action"] == "ask":
        assert sum(1 for chunk in chunks if chunk.content) == len(text.split())


def test_a_graph_that_is_interrupted_in_the_middle_resumes_with_its_groups():
    texts = ("It is 4.", "It is 5.", "4")
    whole = graph_of(*texts)
    asked = {"messages": [("human", "2 + 2?")]}
    config = {"configurable": {"thread_id": "1"}}
    expected = route_of(whole.invoke(asked, config)["messages"][-1])
    for n in range(1, 6):
        graph, config = graph_of(*texts), {"configurable": {"thread_id": str(n)}}
        steps = graph.stream(asked, config)
        for _ in range(n):
            next(steps)
        steps.close()
        found = route_of(graph.invoke(None, config)["messages"][-1])
        assert found["steps"] == expected["steps"], n
        assert list(map(timeless, found["attempts"])) == list(map(timeless, expected["attempts"]))


def test_a_failed_candidate_says_nothing_and_the_others_are_compared():
    texts: list[Any] = ["4", "It is 4.", "The result is 4"]
    first = route_of(router(*texts).invoke("2 + 2?"))["attempts"][0]["candidate"]
    texts[["small", "medium", "large"].index(first)] = ConnectionError("down")
    record = route_of(router(*texts).invoke("2 + 2?"))
    assert record["candidate"] != first
    failed = next(a for a in record["attempts"] if a["candidate"] == first)
    assert failed["error"] is not None
    assert failed.get("answer_group") is None


def test_if_every_candidate_fails_the_last_error_is_raised():
    down = ConnectionError("down")
    with pytest.raises((LlmRouterError, ConnectionError)):
        router(down, down, down).invoke("2 + 2?")


def test_a_request_sets_its_own_lambda():
    texts = ("1", "2", "3")
    n_asked = []
    for lambda_ in (0.0, 1e6):
        config = {"configurable": {"llm_router": {"lambda": lambda_}}}
        record = route_of(router(*texts, policy=POLICY).invoke("q", config))
        n_asked.append(len(record["attempts"]))
        graph = graph_of(*texts, policy=POLICY)
        config["configurable"]["thread_id"] = "1"
        same = route_of(graph.invoke({"messages": [("human", "q")]}, config)["messages"][-1])
        assert same["steps"] == record["steps"]
    assert n_asked[0] > n_asked[1] == 1


def test_a_candidate_beyond_the_cost_limit_of_a_request_is_not_asked():
    # Expected are 0.0005, 0.002 and 0.005 USD.
    config = {"configurable": {"llm_router": {"max_cost_usd": 0.003}}}
    texts = ("1", "2", "3")
    record = route_of(router(*texts).invoke("q", config))
    assert {attempt["candidate"] for attempt in record["attempts"]} <= {"small", "medium"}
    assert record["cost_usd"] <= 0.003
    assert len(route_of(router(*texts).invoke("q"))["attempts"]) == 3
    config["configurable"]["thread_id"] = "1"
    same = graph_of(*texts).invoke({"messages": [("human", "q")]}, config)["messages"][-1]
    assert route_of(same)["steps"] == record["steps"]


def test_a_tool_call_is_compared_as_well_and_reaches_the_caller_whole():
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 2, "b": 2}, "id": "1"}])
    bound = router(call, call, call).bind_tools([add])
    answer = bound.invoke("2 + 2?")
    assert answer.tool_calls[0]["name"] == "add"
    assert answer.tool_calls[0]["args"] == {"a": 2, "b": 2}
    streamed = list(bound.stream("2 + 2?"))
    whole = streamed[0]
    for chunk in streamed[1:]:
        whole = whole + chunk
    assert whole.tool_calls[0]["args"] == {"a": 2, "b": 2}
