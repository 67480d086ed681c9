"""Ids and scores as columns: the same means as those of the objects."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.history import Feedback, History
from langchain_llm_router.history.log_columns import ScoreColumns, last_of_each, to_ids

FEW = st.sampled_from(["", "a", "b", "c", "\0", "a\0"])
SCORES = st.floats(0, 1) | st.integers(0, 1)
FEEDBACK = st.lists(
    st.builds(
        Feedback,
        decision_id=FEW,
        score=SCORES,
        key=st.sampled_from(["user", "thumb"]),
        id=st.none() | FEW,
        candidate=st.none() | FEW,
    ),
    max_size=30,
)


def as_history(items):
    feedback = {}
    for item in items:
        feedback.setdefault(item.decision_id, {})[item.name] = item
    return History((), feedback)


@given(FEEDBACK, st.sampled_from([None, "user", "thumb"]), st.integers(0, 30))
def test_the_mean_score_of_a_request_is_that_of_the_history_to_the_last_bit(items, key, cut):
    requests = ["c", "", "a", "nothing", "\0", "a\0"]
    parts = [ScoreColumns.of(part, key) for part in (items[:cut], items[cut:])]
    found = ScoreColumns.joined(parts).mean_by_request(to_ids(requests))
    expected = [as_history(items).score(request, key) for request in requests]
    assert [None if np.isnan(mean) else mean for mean in found.tolist()] == expected


def test_without_requests_or_scores_there_are_no_means():
    nothing = ScoreColumns.of([], None)
    assert np.isnan(nothing.mean_by_request(to_ids(["a"]))).tolist() == [True]
    assert ScoreColumns.of([Feedback("a", 1.0)], None).mean_by_request(to_ids([])).tolist() == []


@given(st.lists(FEW))
def test_the_last_of_each_id_is_found_and_no_two_ids_are_one(values):
    last = {value: i for i, value in enumerate(values)}
    assert last_of_each(to_ids(values)).tolist() == sorted(last.values())


def test_an_id_that_is_no_text_differs_from_the_text_that_it_looks_like():
    assert len(set(to_ids([1, "1", None, "None"]).tolist())) == 4
