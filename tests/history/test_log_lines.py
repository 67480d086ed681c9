"""Two decisions are identical if they are written the same."""

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.history.log_lines import is_identical, to_json_line
from langchain_llm_router.loop.loop import decision_of, step_data
from langchain_llm_router.types import Decision

NUMBERS = st.sampled_from(
    [0.0, -0.0, 0, 1, 1.0, True, False, 0.1 + 0.2, 0.3, math.nan, math.inf, None, np.float64(0.3)]
)
TEXTS = st.sampled_from(["a", "b", None])
DECISIONS = st.builds(
    Decision,
    action=st.sampled_from(["ask", "accept"]),
    candidate=st.just("a"),
    policy=st.just("P"),
    reason=st.just("r"),
    final=st.booleans(),
    scores=st.dictionaries(
        st.sampled_from("ab"), st.dictionaries(st.sampled_from("xy"), NUMBERS, max_size=2)
    ),
    confidence=NUMBERS,
    propensity=NUMBERS,
    flip=TEXTS,
    decision_id=st.sampled_from(["", "1"]),
    bar=NUMBERS,
)


@given(DECISIONS, DECISIONS)
def test_decisions_are_identical_if_and_only_if_they_are_written_the_same(a, b):
    for one, other in ((a, b), (a, a), (a, decision_of(json.loads(to_json_line(step_data(a)))))):
        expected = _text(one) == _text(other)
        assert is_identical(one, other) == expected


def _text(decision):
    return json.dumps(step_data(decision), sort_keys=True, default=lambda number: number.item())
