"""A cascade of agents whose process is killed by `kill -9` goes on in another one.

`tests/support/killed_agents.py` kills processes in the middle of a model's call, a tool, a check or
a hook. What had ended is not done again, and its cost is in the checkpoint. Of a model's call that
was in flight the worst case is booked beside that.
"""

import json

import pytest

from langchain_llm_router.budgets.ledgers import to_nano
from tests.support.forks import run_forked
from tests.support.killed_agents import EVENTS

CALLS = ["cheap 1", "cheap 2", "strong 1", "strong 2"]
COST_USD = {"cheap": 2 * (10 * 10 + 5 * 20) / 1e6, "strong": 2 * (10 * 100 + 5 * 200) / 1e6}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What came of every case."""
    folder = tmp_path_factory.mktemp("kill")
    code = "from tests.support.killed_agents import main; main()"
    done = run_forked(code, folder, cwd=folder, LANGSMITH_TRACING="false")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unsure_usd(case, name: str) -> float:
    (attempt,) = [a for a in case["record"]["attempts"] if a["candidate"] == name]
    return attempt["unsure_usd"]


def test_without_a_kill_each_event_happens_once(cases):
    assert cases["whole"]["events"] == EVENTS
    assert (cases["whole"]["answer"], cases["whole"]["file"]) == ("strong is done", "good")


@pytest.mark.parametrize("event", EVENTS)
def test_killed_in_it_only_what_was_killed_is_done_again(event, cases):
    case = cases["killed"][event]
    again = EVENTS.index(event) + 1
    assert case["events"] == [*EVENTS[:again], *EVENTS[again - 1 :]]
    assert (case["answer"], case["file"]) == ("strong is done", "good")


@pytest.mark.parametrize("event", EVENTS)
def test_every_call_that_ended_is_counted_once_whichever_process_made_it(event, cases):
    attempts = cases["killed"][event]["record"]["attempts"]
    assert {a["candidate"]: a["calls"] for a in attempts} == {
        "cheap": 2 + (event in CALLS[:2]), "strong": 2 + (event in CALLS[2:]),
    }  # fmt: skip
    for attempt in attempts:
        assert attempt["cost_usd"] == pytest.approx(COST_USD[attempt["candidate"]])


@pytest.mark.parametrize("event", CALLS)
def test_the_call_that_was_in_flight_is_booked_at_its_worst_case(event, cases):
    case, name = cases["killed"][event], event.split()[0]
    one_answer = 50 * {"cheap": 20, "strong": 200}[name] / 1e6
    assert one_answer < unsure_usd(case, name) < 5 * one_answer
    charged = case["record"]["budget"]["charged_usd"]
    assert charged == pytest.approx(sum(COST_USD.values()) + unsure_usd(case, name))


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in CALLS])
def test_nothing_is_booked_beside_where_no_model_was_asked(event, cases):
    charged = cases["killed"][event]["record"]["budget"]["charged_usd"]
    assert charged == pytest.approx(sum(COST_USD.values()))


def test_a_ledger_that_processes_share_keeps_what_was_reserved_for_the_run(cases):
    case = cases["shared"]
    assert case["used_nano"] == to_nano(0.2 + COST_USD["strong"])
    assert case["record"]["budget"]["charged_usd"] < 0.2
