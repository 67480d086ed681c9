"""Tables on disk: read back as they were, refused by line."""

import gzip
import signal

import numpy as np
import pytest

from langchain_llm_router.data import Battles, Outcomes, row_files
from tests.support.small_tables import outcomes


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_outcomes_come_back_from_disk_as_they_were(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    table = outcomes(
        [[0, 1], [0.25, 1]], cost_usd=[[1e-4, np.nan], [2e-4, 1e-2]], groups=["a", "b"]
    )
    again = Outcomes.load(table.save(tmp_path / f"table.{suffix}"))
    assert (again.queries, again.candidates, again.groups) == (
        table.queries,
        table.candidates,
        table.groups,
    )
    np.testing.assert_array_equal(again.quality, table.quality)
    np.testing.assert_array_equal(again.cost_usd, table.cost_usd)


@pytest.mark.parametrize("text", ["two\u2028lines", "next\x85line", "lone \ud800 surrogate"])
def test_a_text_with_odd_characters_stays_one_row(tmp_path, text):
    table = Outcomes([text, "b"], ("x",), [[1.0], [0.0]])
    assert Outcomes.load(table.save(tmp_path / "table.jsonl")).queries == (text, "b")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_save_that_fails_midway_leaves_the_old_file(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / f"votes{suffix}"
    Battles(["old"] * 5, ["a"] * 5, ["b"] * 5, [1] * 5).save(path)
    path.chmod(0o640)
    names = np.random.default_rng(0).integers(10**12, size=20_000).astype(str)
    many = Battles(names, ["a"] * 20_000, ["b"] * 20_000, [0] * 20_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            many.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(Battles.load(path)) == 5
    many.save(path)
    assert len(Battles.load(path)) == 20_000
    assert [it.name for it in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o640


def test_saving_over_a_link_keeps_the_link(tmp_path):
    path, link = tmp_path / "votes.jsonl", tmp_path / "link.jsonl"
    votes = Battles(["old"], ["a"], ["b"], [1])
    votes.save(path)
    link.symlink_to(path)
    votes.take([]).save(link)
    assert link.is_symlink()
    assert len(Battles.load(path)) == 0


def test_a_broken_file_names_the_line_or_row(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text('{"query": "a", "quality": {"x": 1}}\n{"query": \n')
    with pytest.raises(
        ValueError, match=r"table\.jsonl line 2 is not a JSON object: '{\"query\":'"
    ):
        Outcomes.load(path)
    path.write_text('{"query": "a", "quality": {"x": 1}}\n{"quality": {"x": 1}}\n')
    with pytest.raises(ValueError, match="line 2 has no `query`"):
        Outcomes.load(path)
    path.write_text('{"query": "a", "quality": {"x": 1}}\n{"query": "b", "quality": {"y": 1}}\n')
    with pytest.raises(ValueError, match="line 2: `quality` must have the candidates"):
        Outcomes.load(path)
    path.write_text("")
    with pytest.raises(ValueError, match="at least one row"):
        Outcomes.load(path)
    with pytest.raises(ValueError, match="must end in"):
        Outcomes.load(tmp_path / "table.csv")


def test_a_small_compressed_file_of_endless_rows_is_refused(tmp_path, monkeypatch):
    row = b'{"query": "q", "quality": {"a": 1}}\n'
    path = tmp_path / "table.jsonl.gz"
    path.write_bytes(gzip.compress(row * 10_000))
    assert len(Outcomes.load(path)) == 10_000
    monkeypatch.setattr(row_files, "_MOST_UNPACKED_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"table\.jsonl\.gz unpacks to more than 100,000 bytes"):
        Outcomes.load(path)


def test_no_table_is_written_to_a_compressed_file(tmp_path):
    table = outcomes([[0, 1]])
    with pytest.raises(ValueError, match="must be a plain file"):
        table.save(tmp_path / "table.jsonl.gz")
