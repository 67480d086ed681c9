"""A graph whose process is killed by `kill -9` goes on in another one, and asks nothing twice.

`tests/support/killed_graph.py` kills processes of one cascade (draft, verdict, escalation) over an
SQLite checkpointer. What can be known afterwards, and is tested:

* Killed between two nodes, nothing is lost and nothing is asked again.
* Killed in the middle of a call, that one call is made again. The first one may have been billed,
  so the record's `charged_usd` holds its worst case on top of what the rest has cost. A ledger
  that processes share (here a file, usually Redis) still holds the money that the killed process
  had reserved for the call, so it agrees with the record to the nano-dollar. A ledger in memory
  has died with its process: there the record is all that is left.
* The checkpoint of a step that was decided and has no result yet does not tell whether its call was
  begun. Killed just there, the record may charge that one step's worst case, and never less than
  was spent.
"""

import json

import pytest

from langchain_llm_router.budgets.ledgers import to_nano
from tests.support.drivers import timeless
from tests.support.forks import run_forked

CALLS = ["small asked", "small judged", "large asked"]
ACTING = {"small": "small asked", "self_evaluate": "small judged", "large": "large asked"}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What came of every case."""
    folder = tmp_path_factory.mktemp("kill")
    code = "from tests.support.killed_graph import main; main()"
    done = run_forked(code, folder, cwd=folder, LANGSMITH_TRACING="false")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def charged_nano(case) -> int:
    return to_nano(case["record"]["budget"]["charged_usd"])


def same_request(case, whole) -> bool:
    """The same answer after the same steps and attempts, whatever else an attempt may note."""
    attempts = list(map(timeless, case["record"]["attempts"]))
    expected = list(map(timeless, whole["record"]["attempts"]))
    shortened = [
        {key: value for key, value in attempt.items() if key in known}
        for attempt, known in zip(attempts, expected, strict=True)
    ]
    return (case["answer"], case["record"]["steps"], shortened) == (
        whole["answer"], whole["record"]["steps"], expected,
    )  # fmt: skip


def test_a_request_that_was_not_killed_is_a_whole_cascade(cases):
    whole = cases["whole"]
    assert [(step["action"], step["candidate"]) for step in whole["record"]["steps"]] == [
        ("ask", "small"), ("verify", "small"), ("ask", "large"), ("accept", "large"),
    ]  # fmt: skip
    assert whole["calls"] == CALLS
    assert charged_nano(whole) == whole["used_nano"]


def test_killed_between_two_nodes_it_goes_on_and_asks_nothing_twice(cases):
    nodes = [node for case in cases["between"] for node in case["next"]]
    assert {"predict", "decide", *ACTING} <= set(nodes)
    for i, case in enumerate(cases["between"], 1):
        assert same_request(case, cases["whole"]), i
        assert case["calls"] == CALLS, i
        assert case["used_nano"] == cases["whole"]["used_nano"], i


def test_killed_between_two_nodes_it_is_charged_for_at_most_one_call_too_much(cases):
    for i, case in enumerate(cases["between"], 1):
        extra = charged_nano(case) - charged_nano(cases["whole"])
        pending = [ACTING[node] for node in case["next"] if node in ACTING]
        assert extra in {0, *(to_nano(cases["worst_usd"][call]) for call in pending)}, i


@pytest.mark.parametrize("call", CALLS)
def test_killed_in_a_call_it_makes_that_one_again(call, cases):
    case = cases["shared"][call]
    assert same_request(case, cases["whole"])
    assert sorted(case["calls"]) == sorted([*CALLS, call])


@pytest.mark.parametrize("call", CALLS)
def test_a_shared_ledger_keeps_what_was_reserved_for_the_call_that_was_killed(call, cases):
    worst = to_nano(cases["worst_usd"][call])
    assert cases["shared"][call]["used_nano"] == cases["whole"]["used_nano"] + worst


@pytest.mark.parametrize("call", CALLS)
def test_the_record_charges_the_call_that_was_killed_at_its_worst_case(call, cases):
    case, worst = cases["shared"][call], to_nano(cases["worst_usd"][call])
    assert charged_nano(case) == charged_nano(cases["whole"]) + worst
    assert charged_nano(case) == case["used_nano"]


def test_it_does_so_where_the_ledger_died_with_its_process(cases):
    case, worst = cases["own"]["large asked"], to_nano(cases["worst_usd"]["large asked"])
    assert same_request(case, cases["whole"])
    assert charged_nano(case) == charged_nano(cases["whole"]) + worst
