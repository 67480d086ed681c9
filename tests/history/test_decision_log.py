"""The decision log: one entry per request, written whole, without secrets."""

import asyncio
import json
import math
import multiprocessing
import os
import stat
import threading

import pytest
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_llm_router import (
    ChatLLMRouter,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.live import Live
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    RandomMix,
    Threshold,
)
from tests.support.fakes import (
    JudgeModel,
    ScriptedModel,
    TimedModel,
)
from tests.support.logged_routers import ESTIMATOR, cascade, pool, read


def fail():
    return ScriptedModel(RuntimeError("it is down"))


async def drain(stream):
    return [chunk async for chunk in stream]


async def test_every_way_of_asking_writes_exactly_one_entry(log):
    for router in (
        ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log),
        cascade(log, ["no"]),
    ):
        ids = [route_of(router.invoke("q"))["decision_id"]]
        ids.append(route_of(await router.ainvoke("q"))["decision_id"])
        ids.append(route_of(list(router.stream("q"))[-1])["decision_id"])
        ids.append(route_of((await drain(router.astream("q")))[-1])["decision_id"])
        ids += [route_of(answer)["decision_id"] for answer in router.batch(["q", "r"])]
        entries = read(log).entries[-6:]
        assert sorted(entry.decision_id for entry in entries) == sorted(ids)
        assert {entry.outcome for entry in entries} == {"answered"}
    assert len(log.path.read_text().splitlines()) == 12


async def test_a_request_that_everybody_fails_is_an_entry_with_the_error(log):
    router = ChatLLMRouter(
        candidates=pool(fail(), fail()), policy=Threshold(2.0), estimator=ESTIMATOR, log=log
    )
    with pytest.raises(RuntimeError):
        router.invoke("q")
    with pytest.raises(RuntimeError):
        await router.ainvoke("q")
    with pytest.raises(RuntimeError):
        list(router.stream("q"))
    with pytest.raises(RuntimeError):
        await drain(router.astream("q"))
    history = read(log)
    assert [e.outcome for e in history.entries] == ["failed"] * 4
    for entry in history.entries:
        assert entry.error == "RuntimeError: it is down"
        assert [a["candidate"] for a in entry.attempts] == ["small", "large"]
        assert entry.candidate is None
    assert replay_log(history, Threshold(2.0)).n_identical == 4


async def test_a_failure_that_is_not_handled_is_an_entry_too(log):
    router = ChatLLMRouter(
        candidates=pool(fail()), policy=Always("small"), log=log, exceptions_to_handle=(KeyError,)
    )
    with pytest.raises(RuntimeError):
        router.invoke("q")
    with pytest.raises(RuntimeError):
        await router.ainvoke("q")
    history = read(log)
    assert [e.error for e in history.entries] == ["RuntimeError: it is down"] * 2
    assert [[s.candidate for s in e.steps] for e in history.entries] == [["small"]] * 2
    assert replay_log(history, Always("small")).n_identical == 2


def test_an_answer_that_breaks_off_in_the_stream_is_a_failed_entry(log):
    model = TimedModel("cut: here it ends")
    router = ChatLLMRouter(candidates=pool(model), policy=Always("small"), log=log)
    with pytest.raises(ConnectionResetError):
        list(router.stream("q"))
    (entry,) = read(log).entries
    assert (entry.outcome, entry.error) == ("failed", "ConnectionResetError: the line went dead")


def facts(entry) -> list[tuple]:
    names = ("candidate", "error", "abandoned", "cost_usd")
    return [tuple(attempt.get(name) for name in names) for attempt in entry.attempts]


LEFT = ("small", "the caller left before its answer", True, None)
DEAD = ("small", "ConnectionResetError: the line went dead", None, None)


@pytest.mark.parametrize("live", [None, Live()], ids=["plain", "live"])
async def test_the_attempt_that_was_streaming_is_recorded_however_it_ends(log, live):
    dies = TimedModel("cut: here it ends")
    router = ChatLLMRouter(candidates=pool(dies), policy=Always("small"), log=log, live=live)
    with pytest.raises(ConnectionResetError):
        list(router.stream("q"))
    with pytest.raises(ConnectionResetError):
        await drain(router.astream("q"))
    stream = router.stream("q")
    next(stream)
    stream.close()
    chunks = router.astream("q")
    await anext(chunks)
    await chunks.aclose()
    history = read(log)
    assert [facts(entry) for entry in history.entries] == [[DEAD], [DEAD], [LEFT], [LEFT]]
    assert all(entry.cost_usd is None for entry in history.entries)
    assert replay_log(history, Always("small")).n_identical == 4


async def test_a_call_that_is_cancelled_is_recorded_in_chat_and_graph(log):
    late = pool(TimedModel("late", delays=[30.0]))
    router = ChatLLMRouter(candidates=late, policy=Always("small"), log=log)
    graph = create_cascade(late, policy=Always("small"), log=log).compile()
    for asked in (router.ainvoke("q"), graph.ainvoke({"messages": "q"})):
        task = asyncio.create_task(asked)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [facts(entry) for entry in read(log).entries] == [[LEFT]] * 2


async def test_a_graph_whose_stream_dies_records_the_attempt(log):
    dies = pool(TimedModel("cut: here it ends"))
    graph = create_cascade(dies, policy=Always("small"), log=log).compile()
    with pytest.raises(ConnectionResetError):
        list(graph.stream({"messages": "q"}, stream_mode="messages"))
    with pytest.raises(ConnectionResetError):
        await drain(graph.astream({"messages": "q"}, stream_mode="messages"))
    assert [facts(entry) for entry in read(log).entries] == [[DEAD]] * 2


async def test_a_caller_who_leaves_or_is_cancelled_abandons(log):
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    stream = router.stream("q")
    next(stream)
    stream.close()
    slow = ChatLLMRouter(
        candidates=pool(TimedModel("late", delays=[30.0])), policy=Always("small"), log=log
    )
    task = asyncio.create_task(slow.ainvoke("q"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry.outcome for entry in read(log).entries] == ["abandoned"] * 2


def test_wrong_options_and_refused_budgets_are_entries_without_a_decision(log):
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    with pytest.raises(ValueError, match="nobody"):
        router.invoke("q", config={"configurable": {"llm_router": {"force": "nobody"}}})
    (entry,) = read(log).entries
    assert entry.outcome == "failed"
    assert entry.error.startswith("ValueError: Unknown candidate 'nobody'")
    assert replay_log([entry], Always("small")).n_undecided == 1
    poor = ChatLLMRouter(
        candidates=pool(max_output_tokens=1000),
        policy=Always("small"),
        budgets=Budgets([Budget(1e-9)]),
        log=log,
    )
    with pytest.raises(BudgetExceededError):
        poor.invoke("q")
    assert read(log).entries[-1].error.startswith("BudgetExceededError")


async def test_the_graph_writes_one_entry_per_turn_also_on_failure(log):
    graph = create_cascade(
        pool(JudgeModel("draft", verdicts=["no"])),
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(n_samples=1),
        log=log,
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    state = graph.invoke({"messages": [("human", "one?")]}, config)
    first = route_of(state["messages"][-1])["decision_id"]
    state = await graph.ainvoke({"messages": [("human", "two?")]}, config)
    second = route_of(state["messages"][-1])["decision_id"]
    broken = create_cascade(pool(fail(), fail()), policy=Always("small"), log=log).compile()
    with pytest.raises(RuntimeError, match="it is down"):
        broken.invoke({"messages": [("human", "q")]})
    with pytest.raises(RuntimeError, match="it is down"):
        await broken.ainvoke({"messages": [("human", "q")]})
    history = read(log)
    assert [e.decision_id for e in history.entries[:2]] == [first, second]
    assert [e.outcome for e in history.entries] == ["answered"] * 2 + ["failed"] * 2
    assert history.entries[2].error == "RuntimeError: it is down"
    assert len(history.entries[2].attempts) == 1
    assert replay_log(history.entries[2:], Always("small")).n_identical == 2
    assert len(log.path.read_text().splitlines()) == 4


def test_a_person_s_no_is_on_record_and_does_not_spoil_the_replay(log):
    policy = ConfidenceThreshold(threshold=0.7)
    graph = create_cascade(
        pool(JudgeModel("draft", verdicts=["no"])),
        policy=policy,
        verifier=SelfEvaluator(n_samples=1),
        approve=True,
        log=log,
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    graph.invoke({"messages": [("human", "q")]}, config)
    log.flush()
    assert not log.path.exists()
    graph.invoke(Command(resume=False), config)
    (entry,) = read(log).entries
    assert entry.declined
    assert entry.candidate == "small"
    assert replay_log([entry], policy).n_identical == 1


def test_keys_never_reach_the_log(log):
    key = "sk-abcdefghijklmnopqrstuvwx"
    model = ScriptedModel(RuntimeError(f"bad key {key}"))
    router = ChatLLMRouter(candidates=pool(model), policy=Always("small"), log=log)
    with pytest.raises(RuntimeError):
        router.invoke(f"what is {key}?")
    (entry,) = read(log).entries
    assert key not in log.path.read_text()
    assert entry.query == "what is [redacted]?"
    assert not entry.query_whole


def test_without_texts_nothing_of_the_prompt_is_kept_and_it_still_replays(tmp_path):
    secret = "the prompt nobody should find"
    for texts in ("hash", "none"):
        log = DecisionLog(tmp_path / texts, texts=texts, hash_key=b"k")
        small = JudgeModel("draft", verdicts=["no"])
        large = ScriptedModel(RuntimeError(f"cannot answer {secret}"))
        router = ChatLLMRouter(
            candidates=pool(small, large),
            policy=ConfidenceThreshold(threshold=0.7),
            verifier=SelfEvaluator(n_samples=1),
            log=log,
        )
        router.invoke(secret)
        log.feedback(route_of(router.invoke(secret))["decision_id"], 1.0, comment=secret)
        history = read(log)
        assert "nobody" not in log.path.read_text()
        assert history.entries[0].attempts[1]["error"] == "RuntimeError"
        assert replay_log(history, router.policy).n_identical == 2
        with pytest.raises(ValueError, match="does not have their texts"):
            replay_log(history, RandomMix({"small": 1.0}))
        hashes = {entry.query_hash for entry in history.entries}
        assert len(hashes) == 1
        assert (hashes == {None}) == (texts == "none")


def test_what_a_judge_or_a_check_said_is_kept_with_full_texts_only(tmp_path):
    said = {"verdicts": [False], "rationales": ["It says: Ann."], "check_outputs": ["Ann failed"]}
    for texts, kept in (("full", True), ("hash", False), ("none", False)):
        log = DecisionLog(tmp_path / texts, texts=texts)
        log.append({"kind": "decision", "query": "who?", "attempts": [said]})
        log.flush()
        (written,) = json.loads(log.path.read_text())["attempts"]
        assert written["verdicts"] == [False]
        assert ("rationales" in written) == ("check_outputs" in written) == kept
        assert ("Ann" in log.path.read_text()) == kept


def test_the_file_is_its_owner_s_alone(log):
    ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log).invoke("q")
    log.flush()
    assert stat.S_IMODE(os.stat(log.path).st_mode) == 0o600


def test_many_threads_and_processes_write_whole_lines(log):
    def write(who: int) -> None:
        for i in range(50):
            log.append(
                {"kind": "feedback", "decision_id": f"{who}-{i}", "score": 1.0, "key": "k" * 5000}
            )

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    processes = [
        multiprocessing.get_context("fork").Process(target=write, args=(who,))
        for who in range(4, 8)
    ]
    for worker in [*processes, *threads]:
        worker.start()
    for worker in [*processes, *threads]:
        worker.join()
    history = read(log)
    assert history.n_torn == 0
    assert len(history.feedback) == 400


def test_a_process_that_ends_at_once_writes_everything_first(tmp_path):
    import subprocess
    import sys

    code = (
        "from langchain_llm_router.history import DecisionLog\n"
        f"log = DecisionLog({str(tmp_path / 'log')!r})\n"
        "for i in range(1000): log.feedback(str(i), 1.0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(read_log(tmp_path / "log").feedback) == 1000


def test_a_line_that_a_crash_tore_takes_no_other_with_it(log):
    log.feedback("a", 1.0)
    log.flush()
    with log.path.open("ab") as file:
        file.write(b'{"kind":"decision","decision_id":"tor')
    log.feedback("b", 0.0)
    history = read(log)
    assert set(history.feedback) == {"a", "b"}
    assert history.n_torn == 1


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").write_text("hello\n{}\n")
    with pytest.raises(ValueError, match="must be a decision log"):
        read_log(tmp_path / "other")


def test_a_failing_disk_loses_no_answer_and_is_reported_once(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    log = DecisionLog(blocked / "log.jsonl", most_waiting=5)
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    for _ in range(3):
        assert router.invoke("q").content == "small says"
        with pytest.raises(OSError, match="blocked"):
            log.flush()
    assert isinstance(log.failure, OSError)
    assert log.n_waiting == 3
    assert len(caplog.records) == 1
    for _ in range(4):
        router.invoke("q")
    with pytest.raises(OSError, match="blocked"):
        log.flush()
    assert (log.n_waiting, log.n_lost) == (5, 2)
    blocked.unlink()
    # The disk is back: what waited is written with the next line.
    router.invoke("q")
    assert len(read(log)) == 5
    assert log.failure is None
    assert log.n_lost == 3


async def test_a_stalled_disk_does_not_stop_the_event_loop(log, monkeypatch):
    write, again, n_written = os.write, threading.Event(), []

    def stalled(file, data):
        again.wait(30)
        n_written.append(write(file, data))
        return n_written[-1]

    monkeypatch.setattr(os, "write", stalled)
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    for _ in range(5):
        await router.ainvoke("q")
    assert n_written == []
    again.set()
    await asyncio.to_thread(log.flush)
    assert len(read_log(log.path)) == 5


def test_what_json_cannot_hold_is_counted_and_harms_nothing(log, caplog):
    log.append({"kind": "decision", "thing": object()})
    log.feedback("a", 1.0)
    assert set(read(log).feedback) == {"a"}
    assert log.n_lost == 1
    assert "cannot be written as JSON: TypeError" in caplog.text


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_a_score_out_of_range_is_refused(log, score):
    with pytest.raises(ValueError, match="score"):
        log.feedback("a", score)


def test_the_runs_ids_are_on_record_for_langsmith(log):
    from langsmith import Client

    from tests.support.fake_langsmith import FakeLangSmith

    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    with FakeLangSmith() as fake:
        client = Client(api_url=fake.url, api_key="x")
        router.invoke("q", {"callbacks": [LangChainTracer(client=client)]})
        client.flush()
        client.cleanup()
        (root,) = fake.children(None)
    (entry,) = read(log).entries
    assert entry.run_id == root["id"]
    assert entry.trace_id == root["trace_id"]


def test_every_line_is_plain_json(log):
    cascade(log, ["no"]).invoke(
        "q", config={"configurable": {"llm_router": "router@q:1|itl<20"}}
    ) if 0 else cascade(log, ["no"]).invoke("q")
    for line in log_lines(log):
        json.loads(line, parse_constant=pytest.fail)


def log_lines(log):
    log.flush()
    return log.path.read_text().splitlines()


@pytest.mark.parametrize(
    "query", ["half \ud800 of it", "\udc00", "a backslash \\\ud83d", "\\ud800"]
)
def test_half_a_character_leaves_the_log_in_utf_8(tmp_path, query):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"), log=log)
    router.invoke(query)
    log.flush()
    [line] = log.path.read_bytes().decode("utf-8").splitlines()
    assert json.loads(line)["query"] == query
    assert [entry.query for entry in read_log(log.path).entries] == [query]
