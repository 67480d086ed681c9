"""Files are opened for their bytes, compressed by gzip or not."""

import gzip

import pytest

from langchain_llm_router.types.files import open_bytes, refuse_compressed, unpacked_bytes

LINES = b"one\ntwo\n" * 1000


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.jsonl"])
def test_what_gzip_has_compressed_is_known_by_its_content(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES))
    with open_bytes(path) as file:
        assert file.readline() == b"one\n"
        assert file.read() == LINES[4:]
    assert unpacked_bytes(path) == (len(LINES), False)
    with pytest.raises(ValueError, match=f"`gunzip {name}` unpacks it"):
        refuse_compressed(path)


def test_a_plain_file_is_read_whatever_its_name(tmp_path):
    path = tmp_path / "log.gz"
    path.write_bytes(LINES)
    with open_bytes(path) as file:
        assert file.read() == LINES
    assert unpacked_bytes(path) == (len(LINES), True)


def test_a_log_of_several_compressed_parts_is_read_whole(tmp_path):
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(LINES) + gzip.compress(b"last\n"))
    with open_bytes(path) as file:
        assert file.read() == LINES + b"last\n"


@pytest.mark.parametrize("size", [2, 5, 12, 40])
def test_a_compressed_file_that_was_cut_off_or_damaged_is_refused(tmp_path, size):
    path = tmp_path / "log.gz"
    data = gzip.compress(LINES)
    for content in (data[:size], data[:size] + b"\xff" * 50):
        path.write_bytes(content)
        refusal = pytest.raises(ValueError, match=r"'log\.gz' is compressed by gzip, and damaged")
        with refusal, open_bytes(path) as file:
            file.read()
        unpacked_bytes(path)
