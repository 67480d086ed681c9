"""A log that is read again and again has the contents of one that is read at once."""

import json

import pytest

from langchain_llm_router.history import read_log, scored_rows, stream_log
from langchain_llm_router.history import streamed_entries as room
from tests.support.logged_routers import NAMES, cascade


@pytest.fixture
def path(log):
    router = cascade(log, ["yes", "no"])
    for i in range(9):
        answer = router.invoke(f"question {i}")
        if i % 2:
            decision_id = answer.response_metadata["llm_router"]["decision_id"]
            log.feedback(decision_id, i / 9)
    log.flush()
    lines = log.path.read_bytes().splitlines(keepends=True)
    decided = [line for line in lines if b'"kind":"decision"' in line]
    # One line that is superseded, one that is repeated, one of another kind, one that is torn.
    first = json.dumps(json.loads(decided[4]) | {"outcome": "failed"}).encode() + b"\n"
    log.path.write_bytes(first + b"".join(lines) + decided[2] + b'{"kind": "note"}\n{"ki')
    return log.path


@pytest.mark.parametrize("ids_at_once", [2, 4096])
def test_the_contents_are_those_of_a_log_that_is_read_at_once(path, monkeypatch, ids_at_once):
    monkeypatch.setattr(room, "_IDS_AT_ONCE", ids_at_once)
    whole, streamed = read_log(path), stream_log(path)
    assert tuple(streamed.entries) == tuple(streamed.entries) == whole.entries
    assert len(streamed) == len(whole) == 9
    assert streamed.feedback == whole.feedback
    assert streamed.n_torn == whole.n_torn == 1
    assert whole.entries[0] in streamed.entries
    assert None not in streamed.entries
    rows, expected = scored_rows(streamed, NAMES), scored_rows(whole, NAMES)
    assert rows.queries == expected.queries
    assert rows.decision_ids == expected.decision_ids
    assert rows.quality.tobytes() == expected.quality.tobytes()


def test_lines_that_are_appended_later_are_left_out(path):
    whole, streamed = read_log(path, path), stream_log(path, path)
    lines = path.read_bytes().splitlines()
    with path.open("ab") as file:
        # It ends the torn line, so that it can be read, and appends another request.
        file.write(b'nd": "note"}\n' + lines[1].replace(b'"decision_id":"', b'"decision_id":"x'))
    assert tuple(streamed.entries) == whole.entries
    assert len(stream_log(path)) == 10


def test_what_is_no_log_is_refused(tmp_path):
    (tmp_path / "log").write_text("hello\n")
    with pytest.raises(ValueError, match="'log' must be a decision log"):
        stream_log(tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        stream_log(tmp_path / "nothing")
