"""A log that is decided again in batches: the same figures as in one piece, to the last bit."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.evaluation import off_policy, off_policy_of_logs
from langchain_llm_router.history import Changes, DecisionLog, log_batches, read_log
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    RandomMix,
    Threshold,
    Unsure,
    Utility,
)
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.logged_routers import ESTIMATOR, NAMES, cascade, pool
from tests.support.ray_processes import processes, ray_commands

PATIENCE_S = 240
MIX = RandomMix({"small": 0.6, "large": 0.4}, seed=4)


@pytest.fixture(scope="module")
def one_shot(tmp_path_factory):
    """A log of every kind of line: torn, superseded, undecided, scored once, often or never."""
    log = DecisionLog(tmp_path_factory.mktemp("one_shot") / "log.jsonl")
    router = ChatLLMRouter(candidates=pool(), policy=MIX, estimator=ESTIMATOR, log=log)
    for i in range(90):
        answer = router.invoke(f"{'prove a theorem' if i % 3 else 'add numbers'} {i}")
        decision_id = answer.response_metadata["llm_router"]["decision_id"]
        for j in range(i % 5):
            log.feedback(decision_id, (i * 7 + j) % 10 / 9, key=f"key{j % 4}", id=str(j % 3))
        log.feedback(decision_id, 0.5, candidate="small")
    options = {"configurable": {"llm_router": {"filters": ["quality>2"]}}}
    with pytest.raises(NoCandidateError):
        router.invoke("no candidate may answer this", options)
    log.flush()
    lines = log.path.read_bytes().splitlines(keepends=True)
    decided = [line for line in lines if b'"kind":"decision"' in line]
    again = json.loads(decided[3]) | {"outcome": "failed"}
    log.path.write_bytes(
        json.dumps(again).encode() + b"\n" + b"".join(lines) + decided[5] + b'\n{"kind": "dec\n\n'
    )
    return log.path


@pytest.fixture(scope="module")
def cascaded(tmp_path_factory):
    log = DecisionLog(tmp_path_factory.mktemp("cascaded") / "log.jsonl")
    router = cascade(log, ["yes", "no", "garbage", "yes"])
    for i in range(40):
        answer = router.invoke(f"question {i}")
        log.feedback(answer.response_metadata["llm_router"]["decision_id"], i % 3 / 2)
    log.flush()
    return log.path


def told(found):
    """Everything that an estimate says."""
    again = found.replay
    return {
        "estimates": [found.overlap, found.logged, found.ips, found.snips, found.dr, found.bounds],
        "text": str(found.overlap),
        "counts": [len(again), again.n_undecided, again.n_torn, again.n_identical],
        "n_answered": again.n_answered,
        "usd": [again.recorded_cost_usd, again.cost_usd],
        "shares": [again.share_on_record, again.share_agreeing, again.shares()],
    }


POLICIES = [
    (MIX, Changes()),
    (Always("large"), Changes()),
    (Threshold(0.6), Changes(threshold=0.4)),
    (Utility(cost=40.0), Changes(lambda_=4000.0)),
    (Utility(), Changes(ESTIMATOR)),
    (Unsure(ConfidenceThreshold(threshold=0.7), 0.9), Changes()),
]


@pytest.mark.parametrize(("policy", "changes"), POLICIES, ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("batch_bytes", [1, 5000, 1 << 22])
@pytest.mark.parametrize("key", [None, "key1"])
def test_a_log_in_batches_has_the_figures_of_the_whole(
    one_shot, policy, changes, batch_bytes, key, monkeypatch
):
    monkeypatch.setattr(log_batches, "_BATCH_BYTES", batch_bytes)
    whole = off_policy(read_log(one_shot), policy, changes=changes, key=key)
    assert len(whole.replay) == 90
    assert (whole.replay.n_undecided, whole.replay.n_torn) == (1, 1)
    assert whole.overlap.n > 40
    found = off_policy_of_logs([one_shot], policy, changes=changes, key=key)
    assert told(found) == told(whole)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 2.0])
def test_cascades_in_batches_have_the_figures_of_the_whole(cascaded, threshold, monkeypatch):
    monkeypatch.setattr(log_batches, "_BATCH_BYTES", 3000)
    policy = ConfidenceThreshold(threshold=threshold)
    whole = off_policy(read_log(cascaded), policy)
    found = off_policy_of_logs([cascaded], policy)
    assert told(found) == told(whole)
    assert found.overlap.n == 40


def test_several_files_are_one_log(one_shot, cascaded):
    policy = Always("large")
    paths = [cascaded, one_shot]
    assert told(off_policy_of_logs(paths, policy)) == told(off_policy(read_log(*paths), policy))


def test_progress_is_told_in_batches(one_shot, monkeypatch):
    monkeypatch.setattr(log_batches, "_BATCH_BYTES", 10_000)
    steps = []
    off_policy_of_logs([one_shot], MIX, watch=lambda *step: steps.append(step))
    assert {what for what, _, _ in steps} == {"deciding again"}
    assert [done for _, done, _ in steps] == list(range(len(steps)))
    assert all(len(steps) <= total for _, _, total in steps)


def test_a_log_without_lines_has_no_figures(tmp_path):
    (tmp_path / "log").touch()
    found = off_policy_of_logs([tmp_path / "log"], MIX)
    assert len(found.replay) == 0
    assert found.replay.cost_usd is None
    assert found.replay.shares() == {}
    assert np.isnan(found.replay.share_agreeing)
    assert found.overlap.n == 0


def test_what_is_no_log_is_refused(tmp_path, one_shot):
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(ValueError, match="'other' must be a decision log"):
        off_policy_of_logs([one_shot, tmp_path / "other"], MIX)
    with pytest.raises(ValueError, match="`n_workers` must be at least 1, got 0"):
        off_policy_of_logs([one_shot], MIX, n_workers=0)


def test_an_error_of_the_policy_counts_only_where_a_request_has_a_score(one_shot):
    class Lots(Utility):
        def choose(self, situation):
            return replace(super().choose(situation), propensity=0.5)

    with pytest.raises(NotImplementedError, match="chance"):
        off_policy_of_logs([one_shot], Lots())
    assert off_policy_of_logs([one_shot], Lots(), key="no such key").overlap.n == 0


@pytest.mark.slow
def test_any_number_of_workers_has_the_same_figures(one_shot, monkeypatch):
    monkeypatch.setattr(log_batches, "_BATCH_BYTES", 7000)
    expected = told(off_policy_of_logs([one_shot], MIX, changes=Changes(ESTIMATOR)))
    for n_workers in (2, 3):
        found = off_policy_of_logs([one_shot], MIX, changes=Changes(ESTIMATOR), n_workers=n_workers)
        assert told(found) == expected


@pytest.mark.slow
def test_an_error_of_a_worker_is_that_of_one_process(one_shot, tmp_path, monkeypatch):
    monkeypatch.setattr(log_batches, "_BATCH_BYTES", 7000)
    lines = map(json.loads, one_shot.read_bytes().splitlines()[:50])
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(line | {"query": None}) + "\n" for line in lines))
    with pytest.raises(ValueError, match="written with `texts='full'`"):
        off_policy_of_logs([path], MIX, n_workers=2)


# On a local Ray


def grown(log: Path, n_bytes: int) -> None:
    """Repeat the requests of a log under other ids."""
    lines = log.read_text().splitlines()
    kept = [line for line in lines if line.startswith('{"kind":"')]
    with log.open("w") as file:
        i = 0
        while file.tell() < n_bytes:
            for line in kept:
                file.write(line.replace('"decision_id":"', f'"decision_id":"{i}-', 1) + "\n")
            i += 1


@pytest.fixture
def start(tmp_path):
    """Start `replay` in a folder; neither it nor its Ray outlives the test."""
    pytest.importorskip("typer")
    with ray_commands(tmp_path, "replay", "log.jsonl", "--router", "router") as command:
        yield command


@pytest.mark.slow
def test_on_ray_with_a_worker_killed_every_decision_is_that_of_one_process(
    start, tmp_path, one_shot
):
    log = tmp_path / "log.jsonl"
    log.write_bytes(one_shot.read_bytes())
    grown(log, 40 << 20)
    SavedRouter(NAMES, Threshold(0.6), ESTIMATOR).save(tmp_path / "router")
    alone = start("--workers", "1", "--json")
    out, said = alone.communicate(timeout=PATIENCE_S)
    assert alone.returncode == 0, said
    process = start("--ray", "--json")
    deadline = time.monotonic() + PATIENCE_S
    killed = None
    while killed is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        working = [p for p, name in processes(process.pid).items() if "ray::_call" in name]
        if working:
            killed = working[0]
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.02)
    on_ray, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    # Ray says on standard output, too, that a worker died.
    assert on_ray.endswith(out)
    assert json.loads(out.splitlines()[-1])["n_requests"] > 20_000
