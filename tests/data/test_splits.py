"""Rows parted into disjoint sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.data import split_indices


@given(st.integers(1, 60), st.integers(0, 5))
def test_parts_of_a_split_are_disjoint_and_together_everything(n, seed):
    parts = split_indices(n, (0.5, 0.3, 0.2), seed=seed)
    together = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(together, np.arange(n))


def test_rows_of_one_group_stay_on_one_side():
    groups = [str(i // 4) for i in range(40)]
    left, right = split_indices(40, (0.5, 0.5), groups=groups)
    assert {groups[i] for i in left}.isdisjoint({groups[i] for i in right})
    with pytest.raises(ValueError, match="fractions"):
        split_indices(4, (0.9, 0.3))
