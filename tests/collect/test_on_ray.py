"""`llm-router collect --ray`: in shards on a local Ray, with the journal of a plain run."""

import asyncio
import json
import math
import os
import signal
import time

import numpy as np
import pytest

from langchain_llm_router import Candidate, Price
from langchain_llm_router.collect import Limits, Question, collect_on_ray, load_journal
from langchain_llm_router.collect.graders import ExactMatch, Judge, PairwiseJudge
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.on_ray import Wire
from langchain_llm_router.collect.quote import Workload
from langchain_llm_router.collect.run import make_workload
from langchain_llm_router.collect.shards import split_into_shards
from langchain_llm_router.verification import YesNo
from tests.support.fakes import GradingModel, ScriptedModel
from tests.support.local_server import LocalServer
from tests.support.questions import pool, write_questions
from tests.support.ray_processes import processes, ray_commands

PATIENCE_S = 240
QUESTIONS = [Question(f"q{i}", f"What is {i} + {i}?", str(2 * i)) for i in range(7)]
POOL = tuple(Candidate(name, ScriptedModel("0"), Price(1.0, 2.0)) for name in ("weak", "strong"))
WORK = Workload(QUESTIONS, POOL, ExactMatch(), {"self": YesNo(2)}, verify_last=True)


def known(*ids, names=("weak", "strong")):
    """A journal's record in which these questions are done."""
    record = Record()
    for id in ids:
        for name in names:
            where = {"id": id, "candidate": name}
            record.add({"kind": "answer", **where, "text": "0", "cost_usd": 0.25})
            record.add({"kind": "grade", **where, "quality": 1.0})
            record.add({"kind": "evaluation", **where, "verifier": "self", "confidence": 1.0})
    return record


# Dealing


@pytest.mark.parametrize("n_shards", [1, 2, 3, 5])
def test_every_question_that_is_not_done_is_dealt_to_one_shard(n_shards):
    shards = split_into_shards(WORK, known("q0", "q4"), Limits(), n_shards)
    dealt = [question.id for shard in shards for question in shard.questions]
    assert sorted(dealt) == ["q1", "q2", "q3", "q5", "q6"]
    assert len(shards) == n_shards
    assert all(len(shard.questions) > 0 for shard in shards)


def test_there_are_no_more_shards_than_questions_and_none_when_all_is_done():
    ids = [question.id for question in QUESTIONS]
    assert len(split_into_shards(WORK, known(*ids[:5]), Limits(), 4)) == 2
    assert split_into_shards(WORK, known(*ids), Limits(), 4) == []


@pytest.mark.parametrize("lacking", ["answers", "grades", "evaluations"])
def test_a_question_that_lacks_anything_is_not_done(lacking):
    record = known("q0")
    assert WORK.is_done(QUESTIONS[0], record)
    getattr(record, lacking).popitem()
    assert not WORK.is_done(QUESTIONS[0], record)


def test_a_question_without_its_duels_is_not_done():
    work = Workload(QUESTIONS, POOL, PairwiseJudge(POOL[0]), {})
    record = known("q0")
    assert not work.is_done(QUESTIONS[0], record)
    record.add({"kind": "battle", "id": "q0", "a": "weak", "b": "strong", "score_a": 0.0})
    assert work.is_done(QUESTIONS[0], record)


@pytest.mark.parametrize("concurrency", [3, 8, {"weak": 3, "judge": 4}])
def test_the_calls_in_flight_of_all_shards_are_those_of_one_run(concurrency):
    judge = Candidate("judge", GradingModel(grades=[]), Price(1.0, 2.0))
    limits = Limits(concurrency)
    shards = split_into_shards(Workload(QUESTIONS, POOL, Judge(judge), {}), Record(), limits, 3)
    for name in ("weak", "strong", "judge"):
        parts = [shard.limits.concurrency_of(name) for shard in shards]
        assert sum(parts) == limits.concurrency_of(name)
        assert min(parts) >= 1


def test_what_is_left_of_the_budget_is_divided_by_the_calls_that_are_left():
    limits = Limits(budget_usd=2.0)
    record = known("q0", "q1")
    shards = split_into_shards(WORK, record, limits, 2)
    assert [len(shard.questions) for shard in shards] == [3, 2]
    assert [shard.limits.budget_usd for shard in shards] == [pytest.approx(x) for x in (0.6, 0.4)]
    # Half of q2 is there: its shard has spent that, and a smaller part of what is left.
    for table in ("answers", "grades", "evaluations"):
        getattr(record, table).update(getattr(known("q2", names=("weak",)), table))
    record.spent_usd += 0.25
    first, second = split_into_shards(WORK, record, limits, 2)
    assert first.select(record).spent_usd == 0.25
    parts = first.limits.budget_usd - 0.25, second.limits.budget_usd
    assert parts == (pytest.approx(0.75 * 15 / 27), pytest.approx(0.75 * 12 / 27))
    assert sum(parts) == pytest.approx(limits.budget_usd - record.spent_usd)


@pytest.mark.parametrize("n_shards", [0, 3])
def test_more_shards_than_calls_to_share_are_refused(tmp_path, n_shards):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    limits = Limits({"strong": 2})
    words = f"must be 1 to 2 because the concurrency of 'strong' is 2, got {n_shards}"
    with pytest.raises(ValueError, match=words):
        collect_on_ray(
            QUESTIONS,
            lambda: {"candidates": POOL},
            journal=tmp_path / "run.jsonl",
            n_shards=n_shards,
            limits=limits,
        )
    assert not (tmp_path / "run.jsonl").exists()


async def test_who_sends_waits_until_the_other_side_has_dealt_with_it():
    wire = Wire()
    sending = [asyncio.create_task(wire.send(thing)) for thing in "ab"]
    assert await wire.receive() == ["a", "b"]
    await asyncio.sleep(0)
    assert not any(task.done() for task in sending)
    receiving = asyncio.create_task(wire.receive())
    await asyncio.gather(*sending)
    last = asyncio.create_task(wire.send("c"))
    assert await receiving == ["c"]
    assert not last.done()
    last.cancel()


def test_a_misspelled_name_in_a_setup_is_an_error():
    with pytest.raises(TypeError, match="Did you mean `verifiers`"):
        make_workload([{"query": "a?"}], {"candidates": [], "verifier": {}})


def test_a_record_knows_what_it_holds_and_can_be_parted():
    record = known("q0", "q1")
    fact = {"kind": "answer", "id": "q0", "candidate": "weak", "text": "1"}
    assert record.holds(fact)
    assert not record.holds({**fact, "id": "q2"})
    assert not record.holds({"kind": "question", "id": "q0", "query": "?"})
    part = record.part({"q1", "q2"})
    assert list(part.answers) == [("q1", "weak"), ("q1", "strong")]
    assert len(part.grades) == len(part.evaluations) == 2
    assert part.spent_usd == 0.5


# On a local Ray


@pytest.fixture
def start(tmp_path):
    """Start `collect` in an empty folder; neither it nor its Ray outlives the test."""
    with ray_commands(tmp_path, "collect", "q.jsonl", "--yes") as command:
        yield command


def ended(process):
    """Exit code, standard output, and standard error by lines."""
    out, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, said.strip().splitlines()


def lines(path, kind):
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
    return [row for row in map(json.loads, whole) if row["kind"] == kind]


def wait_for_answers(process, path, n):
    deadline = time.monotonic() + PATIENCE_S
    while len(lines(path, "answer")) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_ray_or_without_and_repeats_nothing(start, tmp_path):
    write_questions(tmp_path / "q.jsonl", 60)
    journal = tmp_path / "run.jsonl"
    at_once = ("--concurrency", "3", "--samples", "2")
    on_ray = ("--ray", "--shards", "2")
    with LocalServer(delay_s=0.05) as server:
        told = (*at_once, *pool(server.url))
        assert ended(start("--journal", "alone.jsonl", *told))[0] == 0
        once = dict(server.calls)
        server.calls.clear()
        server.most_at_once.clear()
        for arguments, n in (((), 15), (on_ray, 45)):
            killed = start(*arguments, *told)
            wait_for_answers(killed, journal, n)
            killed.kill()
            killed.communicate()
        # At once, with a worker that is lost on the way, while the first Ray may not be gone yet.
        again = start(*on_ray, *told)
        wait_for_answers(again, journal, 75)
        lost = next(p for p, name in processes(again.pid).items() if "_collect_shard" in name)
        os.kill(lost, signal.SIGKILL)
        code, out, said = ended(again)
        assert code == 0, said
        assert "strong: quality 1.000" in out
        calls = server.calls.total()
        assert ended(start(*told))[0] == 0
        assert server.calls.total() == calls
    # What was in flight when a process was killed is asked again: at most 3 calls to either model.
    assert sum(once.values()) <= calls <= sum(once.values()) + 3 * 6
    assert max(server.most_at_once.values()) <= 3
    keys = [(row["id"], row["candidate"]) for row in lines(journal, "answer")]
    assert len(keys) == len(set(keys)) == 120
    found, expected = load_journal(journal), load_journal(tmp_path / "alone.jsonl")
    assert found.ids == expected.ids
    assert found.answers == expected.answers
    assert found.outcomes.candidates == expected.outcomes.candidates
    assert found.outcomes.quality.tolist() == expected.outcomes.quality.tolist()
    assert found.outcomes.cost_usd.tolist() == expected.outcomes.cost_usd.tolist()
    said, heard = found.evaluations["self"], expected.evaluations["self"]
    # The last candidate is not judged: NaN.
    np.testing.assert_array_equal(said.confidence, heard.confidence)


@pytest.mark.slow
def test_a_wrong_key_ends_in_one_line_on_ray_too(start, tmp_path):
    write_questions(tmp_path / "q.jsonl", 4)
    with LocalServer(key="right") as server:
        code, _, said = ended(start("--ray", "--shards", "2", *pool(server.url)))
    assert code == 1
    assert said[-1].startswith("llm-router: Candidate '")
    assert "Incorrect API key provided" in said[-1]
    assert "0 of 8 answers are in run.jsonl; the same call resumes from there." in said[-1]
    assert not any("Error" in line for line in said[:-1]), said


@pytest.mark.slow
def test_the_budget_holds_over_all_shards(start, tmp_path):
    write_questions(tmp_path / "q.jsonl", 20)
    budget = ("--budget", "0.0015", "--samples", "0")
    with LocalServer() as server:
        code, _, said = ended(start("--ray", "--shards", "2", *budget, *pool(server.url)))
    assert code == 1
    assert said[-1].startswith("llm-router: The next answer would exceed the budget. ")
    assert "of $0.0015 are spent" in said[-1]
    answers = lines(tmp_path / "run.jsonl", "answer")
    assert 0 < len(answers) < 40
    assert 0 < math.fsum(row["cost_usd"] for row in answers) <= 0.0015
