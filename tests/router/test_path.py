"""How far a reader walks to follow one call, held to its bars; see `tests/benchmarks/path.py`."""

import pytest

from tests.benchmarks.path import BARS, contenders, situations, walk

BAR_OF = {
    "one-shot": BARS[0][1],
    "cascade as chat": BARS[1][1],
    "cascade as graph": BARS[2][1],
}


@pytest.mark.parametrize("call", BAR_OF)
def test_a_call_changes_files_no_more_often_than_its_bar(call):
    found = walk(contenders()[call]).as_data()
    assert found["changes"] <= BAR_OF[call]
    assert found["frames_to_model"] <= 3


def test_a_request_makes_its_situation_once_and_again_only_after_an_approval():
    made = situations()
    assert made.pop("graph, approved by a person") == 2
    assert set(made.values()) == {1}
