"""Live numbers kept on disk."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.live import Snapshots, Telemetry
from langchain_llm_router.types.errors import ArtifactError
from tests.support.timed_calls import call, make


def test_a_snapshot_on_disk_is_what_was_there_and_ages_on_the_way(tmp_path):
    telemetry, clock = make()
    for _ in range(20):
        call(telemetry, clock, ttft=0.3)
    telemetry.began("b").failed("error")
    telemetry.save(tmp_path / "live.json")
    again = Telemetry(clock=clock)
    again.load(tmp_path / "live.json")
    assert again.look(["a", "b"]) == telemetry.look(["a", "b"])
    assert again.quantile_s("a", 0.95) == telemetry.quantile_s("a", 0.95)
    assert list(tmp_path.iterdir()) == [tmp_path / "live.json"]


def test_snapshots_are_written_on_the_way_and_read_at_the_start(tmp_path):
    path = tmp_path / "live.json"
    telemetry = Telemetry()
    with Snapshots(telemetry, path, every_s=0.02):
        telemetry.began("a").answered(7)
        until = time.monotonic() + 5
        again = Telemetry()
        while time.monotonic() < until and "a" not in again.report():
            # what a process leaves that is killed at this moment
            if path.exists():
                again.load(path)
    assert again.report()["a"]["counts"]["answered"] == 1
    third = Telemetry()
    with Snapshots(third, path):
        assert third.report()["a"]["counts"]["answered"] == 1


def test_a_snapshot_that_cannot_be_read_or_written_stops_nothing(tmp_path):
    broken = tmp_path / "live.json"
    broken.write_text("{")
    with Snapshots(Telemetry(), broken) as snapshots:
        assert "not a snapshot" in snapshots.last_error
    assert snapshots.last_error is None
    (tmp_path / "file").touch()
    nowhere = Snapshots(Telemetry(), tmp_path / "file" / "live.json")
    assert not nowhere.write()
    assert "Error" in nowhere.last_error
    with pytest.raises(ValueError, match="every_s"):
        Snapshots(Telemetry(), broken, every_s=0)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema_version": 99, "arms": {}}', '{"schema_version": 1, "arms": [1]}',
     '{"schema_version": 1, "arms": {"a": {}}}', '{"schema_version": 1, "arms": {"a": 3}}'],
)  # fmt: skip
def test_a_broken_snapshot_is_refused_and_changes_nothing(tmp_path, content):
    telemetry, clock = make()
    call(telemetry, clock)
    before = telemetry.state()
    (tmp_path / "live.json").write_text(content)
    with pytest.raises(ArtifactError, match="not a snapshot"):
        telemetry.load(tmp_path / "live.json")
    with pytest.raises(ArtifactError, match="not a snapshot"):
        telemetry.load(tmp_path / "missing.json")
    assert telemetry.state() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=60)
def test_an_edited_snapshot_is_refused_or_harmless(data):
    telemetry, clock = make()
    call(telemetry, clock)
    telemetry.began("a").failed("error")
    state = telemetry.state()
    arm = state["arms"]["a"]
    key = data.draw(st.sampled_from(sorted(arm)))
    if isinstance(arm[key], list) and data.draw(st.booleans()):
        arm[key][data.draw(st.integers(0, 2))] = data.draw(JSON)
    elif isinstance(arm[key], dict) and data.draw(st.booleans()):
        arm[key][data.draw(st.sampled_from(sorted(arm[key])))] = data.draw(JSON)
    else:
        arm[key] = data.draw(JSON)
    fresh = Telemetry(clock=clock)
    try:
        fresh.restore(state)
    except ValueError:
        return
    stats = fresh.look(["a"])["a"]
    assert math.isfinite(stats.ttft_s)
    assert 0 <= stats.error_rate <= 1 if stats.error_rate is not None else True
    call(fresh, clock)
    fresh.report()
    json.dumps(fresh.state(), allow_nan=False)
