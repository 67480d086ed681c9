"""Rows parted into disjoint sets."""

import tracemalloc

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


@given(st.lists(st.text("ab\u00df\u4e00", max_size=3), min_size=1, max_size=30), st.integers(0, 5))
def test_labels_are_drawn_in_their_order_whatever_their_length(groups, seed):
    labels = np.unique(np.array(groups), return_inverse=True)[1]
    expected = split_indices(len(groups), (0.5, 0.5), seed=seed, groups=[f"{i:02}" for i in labels])
    found = split_indices(len(groups), (0.5, 0.5), seed=seed, groups=groups)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_one_long_label_does_not_make_all_take_its_memory():
    groups = ["x" * 1_000_000, *map(str, range(5000))]
    tracemalloc.start()
    split_indices(len(groups), (0.5, 0.5), groups=groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
