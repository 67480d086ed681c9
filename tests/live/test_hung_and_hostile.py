"""A thread that hangs gives its place back, and a hostile snapshot ends in one clear error."""

import json
import os
import threading
import time

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.live import Resilience, Telemetry
from langchain_llm_router.live.live import Live
from langchain_llm_router.live.snapshots import Snapshots
from langchain_llm_router.policies import Always
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import ScriptedModel


class HangingModel(ScriptedModel):
    """Hangs in its first call until the test ends."""

    def _generate(self, *args, **kwargs):
        if not self.seen:
            self.seen.append(None)
            RELEASE.wait(30)
        return super()._generate(*args, **kwargs)


RELEASE = threading.Event()


def test_the_place_of_a_thread_that_hangs_comes_back():
    rules = Resilience(timeout_s=0.4, max_concurrent=1, queue_s=2.0)
    router = ChatLLMRouter(
        candidates=[Candidate("a", HangingModel("fine"))],
        policy=Always("a"),
        live=Live(resilience=rules),
    )
    with pytest.raises(TimeoutError):
        router.invoke("hi")
    # As long again as the call had, at most.
    time.sleep(0.5)
    assert router.invoke("hi").content == "fine"
    RELEASE.set()
    # The thread's own end does not free a second place.
    time.sleep(0.2)
    (bulkhead,) = router.live._bulkheads.values()
    assert bulkhead._taken == 0


def snapshot() -> dict:
    telemetry = Telemetry()
    telemetry.began("a").answered(5)
    return telemetry.state()


def changed(path: list, value) -> str:
    state = snapshot()
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(state)


HOSTILE = {
    "nothing": "",
    "nesting": "[" * 200_000,
    "list": "[]",
    "nan": changed(["arms", "a", "ttft"], [float("nan")] * 3),
    "infinite": changed(["arms", "a", "last_began_s"], float("inf")),
    "not a time": changed(["arms", "a", "last_began_s"], float("nan")),
    "huge number": changed(["arms", "a", "counts"], {"answered": "9" * 100_000}),
    "huge count": changed(["arms", "a", "counts"], {"answered": 1e300}),
    "negative bin": changed(["arms", "a", "whole", "bins"], {"0": -5.0}),
    "far bin": changed(["arms", "a", "whole", "bins"], {"999999999": 1.0}),
    "text": changed(["arms", "a", "breaker"], "open"),
    "arms": changed(["arms"], ["a"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_snapshot_ends_in_one_error_and_changes_nothing(name, tmp_path):
    path = tmp_path / "live.json"
    path.write_text(HOSTILE[name])
    telemetry = Telemetry()
    telemetry.began("b").answered(5)
    before = json.dumps(telemetry.state())
    with pytest.raises(ArtifactError, match="is not a snapshot"):
        telemetry.load(path)
    assert json.dumps(telemetry.state()) == before


def test_a_pipe_or_a_folder_in_place_of_a_snapshot_does_not_stop_the_router(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        snapshots = Snapshots(Telemetry(), tmp_path / name, every_s=60).start()
        assert "is not a snapshot" in snapshots.last_error
        snapshots._writing.stop()
