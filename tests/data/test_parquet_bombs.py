"""A small Parquet file whose rows would fill the memory ends in an error."""

import pytest

from langchain_llm_router import Outcomes


@pytest.mark.parametrize("n_chars", [20_000, 400_000])
def test_one_long_text_in_very_many_rows_is_refused_before_it_fills_the_memory(tmp_path, n_chars):
    pa = pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    n_rows = 2 * 10**10 // n_chars
    indices = pa.array([0] * n_rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * n_chars]))
    path = tmp_path / "bomb.parquet"
    table = pa.table({"query": texts, "quality.small": [1.0] * n_rows})
    parquet.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="bytes of memory"):
        Outcomes.load(path)
