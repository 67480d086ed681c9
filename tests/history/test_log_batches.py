"""A log in batches is the same lines."""

import pytest

from langchain_llm_router.history import log_batches as room
from langchain_llm_router.history.log_batches import count_batches, log_batches


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_the_batches_of_a_log_are_its_lines_in_order(tmp_path, monkeypatch, most):
    monkeypatch.setattr(room, "_BATCH_BYTES", most)
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one\ntwo\nthree \xe2\x80\xa8\n\nlast")
    second.write_bytes(b"four\n")
    batches = list(log_batches([first, second]))
    lines = {i: [line for b in batches if b.file == i for line in b.lines] for i in (0, 1)}
    assert b"".join(lines[0]) == first.read_bytes()
    assert len(lines[0]) == 5
    assert lines[1] == [b"four\n"]
    assert [batch.file for batch in batches] == sorted(batch.file for batch in batches)
    assert all(len(batch.lines) == 1 for batch in batches) == (most == 1)
    assert count_batches([first, second]) >= len(batches)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a file"):
        list(log_batches([tmp_path]))
    with pytest.raises(FileNotFoundError):
        count_batches([tmp_path / "nothing"])
