"""All ways in which the answers of a pool can agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

from langchain_llm_router.policies.answer_partitions import (
    NOT_ASKED,
    UNREADABLE,
    Members,
    answer_partitions,
    canonical,
    canonical_rows,
    count_members,
)


@pytest.mark.parametrize(
    ("n", "expected"), [(1, 3), (2, 10), (3, 37), (4, 151), (5, 674), (6, 3263)]
)
def test_there_are_as_many_states_as_counted_by_hand(n, expected):
    assert len(answer_partitions(n)) == expected
    assert len(answer_partitions(n).index) == expected


@pytest.mark.parametrize("n", [0, 7])
def test_a_pool_that_is_too_large_is_refused_with_what_to_do(n):
    with pytest.raises(ValueError, match=rf"1 to 6 candidates, got {n}.*choose_pool"):
        answer_partitions(n)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_state_but_the_first_follows_from_another_by_one_answer(n):
    partitions = answer_partitions(n)
    reached = {partitions.index[(NOT_ASKED,) * n]}
    for state, children in zip(partitions.states, partitions.children, strict=True):
        for j, following in enumerate(children):
            after = following[following < len(partitions)]
            if state[j] != NOT_ASKED:
                assert len(after) == 0
                continue
            # Unreadable, equal to one of the groups, or new.
            assert len(set(after)) == len(after) == max(state.max(), -1) + 3
            assert (partitions.n_asked[after] == (state != NOT_ASKED).sum() + 1).all()
            assert partitions.states[after[0], j] == UNREADABLE
            reached.update(after)
    assert reached == set(range(len(partitions)))


def test_the_members_of_a_group_are_those_with_its_number():
    partitions = answer_partitions(4)
    state = partitions.index[(0, NOT_ASKED, 1, 0)]
    assert partitions.right[state, 0].tolist() == [True, False, False, True]
    assert partitions.right[state, 1].tolist() == [False, False, True, False]
    assert partitions.possible[state].tolist() == [True, True, False, False, True]


groups = st.lists(st.integers(-2, 4), min_size=1, max_size=5)


@given(st.lists(st.lists(st.integers(-2, 4), min_size=4, max_size=4), min_size=1, max_size=5))
def test_rows_are_numbered_as_single_rows_are(rows):
    assert canonical_rows(np.array(rows)).tolist() == [list(canonical(row)) for row in rows]


@given(groups)
def test_the_state_of_a_row_is_found_for_every_set_of_candidates(row):
    partitions, n = answer_partitions(len(row)), len(row)
    asked = [UNREADABLE if g == NOT_ASKED else g for g in row]
    (found,) = partitions.after(canonical_rows(np.array([asked])))
    for chosen in range(2**n):
        seen = [g if chosen >> j & 1 else NOT_ASKED for j, g in enumerate(asked)]
        assert tuple(partitions.states[found[chosen]]) == canonical(seen)


@pytest.mark.parametrize("theta", [0.3, 8.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_probabilities_of_all_partitions_of_wrong_answers_sum_to_one(n, theta):
    partitions = answer_partitions(n)
    complete = partitions.states[(partitions.states >= 0).all(axis=1)]
    members = count_members(complete, np.ones(complete.shape, dtype=bool))
    np.testing.assert_allclose(np.exp(members.log_probability(np.array([theta]))).sum(), 1)


def test_wrong_answers_collide_as_in_a_chinese_restaurant():
    members = Members(np.array([3.0]), np.array([2.0]), np.array([gammaln(2)]))
    # The second answer is equal to the first, the third is new.
    expected = 1 / (1 + 4.0) * (4.0 / (2 + 4.0))
    np.testing.assert_allclose(np.exp(members.log_probability(np.array([4.0]))), [[expected]])
