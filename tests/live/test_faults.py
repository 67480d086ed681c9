"""The fault-injection benchmark in small; `tests/benchmarks/faults.py` is the whole of it."""

import pytest


def test_whatever_is_fed_in_ends_in_an_answer_or_a_documented_error():
    from tests.benchmarks.failing.fuzzing import fuzz

    found = fuzz(160)
    assert found["crashes"] == []
    assert found["cases"] >= 160


@pytest.mark.parametrize("spread", [False, True])
def test_a_storm_loses_no_request_and_pays_for_none_twice(spread):
    from tests.benchmarks.failing.storms import storm

    seen = storm(60, 20, spread=spread, timeout_s=1.0)
    assert seen["answered"] == seen["answered_rightly"] == 60
    assert seen["calls_that_failed"] > 0
    assert (seen["lost"], seen["double_billed"], seen["failed_otherwise"]) == (0, 0, 0)
    assert seen["booked_covers_billed"]
    assert seen["within_cap"]
