"""One request is one thing: in every driver the same steps, attempts, answer, bill and log.

Chat model, graph and agent middleware are driven through recorded situations side by side, for
every policy and verifier of the contract's lists, and must not differ in anything but times. Where
nothing fails and scores are recorded, replaying a table must agree with them as well.
"""

import asyncio
import math
import random
import signal
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from langchain_llm_router import Candidate, Price
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.ledgers import to_nano
from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import Constant
from langchain_llm_router.evaluation import replay
from langchain_llm_router.history import replay_log
from langchain_llm_router.policies import Always, ConfidenceThreshold, Policy, RandomMix
from langchain_llm_router.router import Shadow
from langchain_llm_router.types import Decision
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.verification import SelfEvaluator, Verifier
from tests.support.cases import case
from tests.support.drivers import DRIVERS, Drivers, aoutcome, entry_facts, facts, outcome
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes
from tests.support.recorded_world import NAMES, AsksEverybody, RecordedScores, Row, World
from tests.test_contracts import POLICIES, VERIFIERS, policy_of, verifier_of

RECORDED = "RecordedScores"
PAIRS = [(policy, verifier) for policy in POLICIES for verifier in (*VERIFIERS, RECORDED)]
pairs = pytest.mark.parametrize(("policy", "verifier"), PAIRS, ids=lambda name: name)

# Shared: a world is only ever asked about one row at a time.
WORLD = World(50)

policies = pytest.mark.parametrize("policy", POLICIES)


@cache
def verifier_in_world(name: str) -> Verifier:
    return RecordedScores(WORLD) if name == RECORDED else WORLD.verifier(verifier_of(name))


def verifiers_for(policy: str) -> list[str]:
    """Recorded scores, and others in turn: each stands beside a policy that verifies.

    To a policy that does not verify they are all one, so the scores stand for them.
    """
    if not policy_of(policy).verifies:
        return [RECORDED]
    names, verifying = list(VERIFIERS), [name for name in POLICIES if policy_of(name).verifies]
    first = 2 * verifying.index(policy)
    return [RECORDED, *(names[turn % len(names)] for turn in (first, first + 1))]


def test_every_verifier_has_its_turn_with_a_policy_that_verifies():
    verifying = [name for name in POLICIES if policy_of(name).verifies]
    met = {verifier for policy in verifying for verifier in verifiers_for(policy)}
    assert met == {RECORDED, *VERIFIERS}


def drivers_of(policy: Policy, verifier: str, **books: Any) -> Drivers:
    parts = {
        "policy": policy,
        "verifier": verifier_in_world(verifier),
        "estimator": WORLD.estimator(),
    }
    return Drivers(WORLD.pool, **parts, **books)


def config_of(row: Row) -> dict[str, Any]:
    options = {"llm_router": row.options} if row.options else {}
    # Verdicts one after the other, so that each call gets the same one in every driver.
    return {"configurable": {**options, "row": row.question}, "max_concurrency": 1}


def run(drivers: Drivers, driver: str, row: Row) -> dict[str, Any]:
    """What one driver makes of a row."""
    WORLD.begin(row)
    return outcome(lambda: drivers.ask(driver, row.question, config_of(row)))


async def arun(drivers: Drivers, driver: str, row: Row) -> dict[str, Any]:
    """The same, async."""
    WORLD.begin(row)
    return await aoutcome(drivers.aask(driver, row.question, config_of(row)))


def some_rows(policy: str, verifier: str, n: int) -> list[Row]:
    """So many of the rows, others for each pair."""
    return random.Random(f"{policy} {verifier}").sample(WORLD.rows, n)


# The same steps, attempts and answer


def check_steps(policy: str, verifier: str, rows: list[Row]) -> None:
    drivers = drivers_of(policy_of(policy), verifier)
    for row in rows:
        expected = run(drivers, "chat", row)
        assert run(drivers, "graph", row) == expected, row
        assert run(drivers, "agent", row) == expected, row


@policies
def test_chat_graph_and_agent_take_the_same_steps_to_the_same_answer(policy):
    for verifier in verifiers_for(policy):
        with case(policy, verifier):
            check_steps(policy, verifier, some_rows(policy, verifier, 1))


@pytest.mark.slow
@pairs
def test_they_do_so_in_every_recorded_situation(policy, verifier):
    check_steps(policy, verifier, WORLD.rows)


@policies
async def test_async_and_streamed_they_do_the_same(policy):
    # What has been streamed is out, so a refusal is then kept; here nothing is refused.
    rows = [row for row in WORLD.rows if not any(told.refuses for told in row.told.values())]
    turn = list(POLICIES).index(policy) % len(rows)
    both = ((RECORDED, rows[turn]), ("SelfEvaluator", rows[turn - 1]))
    for verifier, row in both if policy_of(policy).verifies else both[:1]:
        drivers = drivers_of(policy_of(policy), verifier)
        expected = run(drivers, "chat", row)
        assert run(drivers, "chat, streamed", row) == expected, row
        for driver in (*DRIVERS, "chat, streamed"):
            assert await arun(drivers, driver, row) == expected, (driver, row)


# The same bill, log and shadow


def check_books(policy: str, verifier: str, rows: list[Row], folder: Path) -> None:
    drivers = drivers_of(
        policy_of(policy), verifier, folder=folder,
        budgets=lambda: Budgets([Budget(2.0, per="row"), Budget(0.5, per="call")]),
        shadow=Shadow(ConfidenceThreshold(threshold=0.3), name="bolder"),
    )  # fmt: skip
    for row in rows:
        left_usd = 10 ** random.Random(row.question).uniform(-4, 0)
        bills, found = {}, {}
        for driver in DRIVERS:
            budgets = drivers.budgets[driver]
            spent = spend(budgets, row, 2.0 - left_usd)
            found[driver] = run(drivers, driver, row)
            bills[driver] = used_nano(budgets, row) - spent
            if "error" not in found[driver]:
                assert bills[driver] == to_nano(found[driver]["budget"]["charged_usd"]), row
        assert found["graph"] == found["chat"], row
        assert found["agent"] == found["chat"], row
        assert bills["graph"] == bills["agent"] == bills["chat"], row
    entries = {driver: drivers.entries(driver) for driver in DRIVERS}
    kept = {driver: list(map(entry_facts, lines)) for driver, lines in entries.items()}
    assert kept["graph"] == kept["agent"] == kept["chat"]
    for lines in entries.values():
        replayed = replay_log(lines, policy_of(policy))
        assert replayed.n_identical == len(lines) - replayed.n_undecided


def spend(budgets: Budgets, row: Row, usd: float) -> int:
    """Have so much spent already on a row's account, in nano-dollars."""
    account, nano = account_of(budgets, row), to_nano(usd)
    hold = budgets.ledger.reserve([account], nano, nano)
    assert hold is not None
    budgets.ledger.settle(hold, nano)
    return nano


def used_nano(budgets: Budgets, row: Row) -> int:
    return budgets.ledger.used_nano(account_of(budgets, row))


def account_of(budgets: Budgets, row: Row):
    return budgets.budgets[0].account({"configurable": {"row": row.question}}, 0.0)


@policies
def test_bill_log_and_shadow_are_the_same_and_each_log_replays(policy, tmp_path):
    for verifier in verifiers_for(policy)[:2]:
        with case(policy, verifier):
            check_books(policy, verifier, some_rows(policy, verifier, 2), tmp_path / verifier)


@pytest.mark.slow
@pairs
def test_they_are_so_in_every_recorded_situation(policy, verifier, tmp_path):
    check_books(policy, verifier, WORLD.rows, tmp_path)


# The same in a table


@cache
def judged(verifier: str) -> tuple[list[Row], Outcomes, SelfEvaluations]:
    """A few rows that a table can hold, with what the verifier says of every answer."""
    drivers = drivers_of(AsksEverybody(), verifier)
    rows = [row for row in WORLD.rows if row.whole][:2]
    attempts = [
        {attempt["candidate"]: attempt for attempt in run(drivers, "chat", row)["attempts"]}
        for row in rows
    ]

    def table(key: str) -> list[list[float]]:
        values = [[one[name][key] for name in NAMES] for one in attempts]
        return [[math.nan if value is None else value for value in line] for line in values]

    quality = [[0.5] * len(NAMES) for _ in rows]
    outcomes = Outcomes([row.question for row in rows], NAMES, quality, table("cost_usd"))
    groups = [[it[name].get("answer_group", -1) for name in NAMES] for it in attempts]
    said = SelfEvaluations(
        NAMES, table("confidence"), table("verification_cost_usd"), answer_groups=groups
    )
    return rows, outcomes, said


# An adaptive verifier's score depends on the policy, and the bill of a judge of two answers on what
# was asked before, so no table of scores stands for them.
UNTABLED = {"SelfEvaluator (adaptive)", "AnswerGroups (judge)"}
TABLED = [name for name in (*VERIFIERS, RECORDED) if name not in UNTABLED]


@policies
def test_replaying_a_table_ends_with_the_same_answer_reason_and_bill(policy):
    """Every call has a price of its own, so equal bills are equal attempts and verdicts."""
    for verifier in verifiers_for(policy):
        if verifier in TABLED:
            with case(policy, verifier):
                check_replay(policy, verifier)


@pytest.mark.slow
@pairs
def test_replaying_a_table_does_so_for_every_verifier_as_well(policy, verifier):
    if verifier in TABLED:
        check_replay(policy, verifier)


def check_replay(policy: str, verifier: str) -> None:
    rows, outcomes, said = judged(verifier)
    drivers = drivers_of(policy_of(policy), verifier)
    costs = [[a.cost_usd for a in drivers.chat.situation(row.question).arms] for row in rows]
    quality = [row.quality for row in rows]
    replayed = replay(
        policy_of(policy), quality, outcomes, evaluations=said, expected_cost_usd=costs
    )
    for i, row in enumerate(rows):
        found, decision = run(drivers, "chat", row), replayed.decisions[i]
        assert NAMES[replayed.accepted[i]] == found["candidate"], row
        assert decision.ends
        for key in ("candidate", "policy", "reason"):
            assert getattr(decision, key) == found[key], row
        unseen = replayed.streamed[i] and policy_of(policy).verifies
        assert found["confidence"] == ("unverified" if unseen else decision.confidence), row
        asked = {attempt["candidate"] for attempt in found["attempts"]}
        assert {name for j, name in enumerate(NAMES) if replayed.asked[i, j]} == asked
        cost = float(replayed.cost_usd[i])
        assert (None if math.isnan(cost) else cost) == found["cost_usd"], row


# Two candidates, each of them up or down


def pool(small: Any = "a draft", large: Any = "large says", verdict: str = "no"):
    """Makes a pool whose models answer a text or raise an error."""

    def model(says: Any, verdict: str):
        return ScriptedModel(says) if isinstance(says, Exception) else JudgeModel(
            says, verdicts=[verdict]
        )  # fmt: skip

    return lambda: [
        Candidate("small", model(small, verdict), Price(1, 2), max_output_tokens=100),
        Candidate("large", model(large, "yes"), Price(10, 20), max_output_tokens=100),
    ]


TWO = {
    "Always": {"policy": Always("large")},
    "RandomMix": {"policy": RandomMix({"small": 0.5, "large": 0.5}, seed=1)},
    "cascade": {
        "policy": ConfidenceThreshold(threshold=0.7),
        "verifier": SelfEvaluator(n_samples=1),
    },
}


@pytest.mark.parametrize("large", ["large says", TimeoutError("slow")], ids=["up", "down"])
@pytest.mark.parametrize("small", ["a draft", ConnectionError("down")], ids=["up", "down"])
@pytest.mark.parametrize(
    ("kind", "verdict"),
    # Only a cascade asks for a verdict.
    [("Always", "no"), ("RandomMix", "no"), *(("cascade", v) for v in ("yes", "no", "garbage"))],
)
def test_two_candidates_up_or_down_fare_the_same_in_every_driver(
    kind, verdict, small, large, tmp_path
):
    parts = TWO[kind]
    shadow = Shadow(Always("small"))
    drivers = Drivers(pool(small, large, verdict), folder=tmp_path, shadow=shadow, **parts)
    found, lines = {}, {}
    for driver in DRIVERS:
        found[driver] = outcome(lambda driver=driver: drivers.ask(driver, "q"))
        (entry,) = drivers.entries(driver)
        assert replay_log([entry], parts["policy"]).n_identical == 1
        lines[driver] = entry_facts(entry)
    assert found["graph"] == found["agent"] == found["chat"]
    assert lines["graph"] == lines["agent"] == lines["chat"]


# Always an end


class Loops(Policy):
    """Never accepts anything: asks the first candidate again and again."""

    verifies = True

    def decide(self, situation):
        return Decision("ask", situation.arms[0].candidate, "Loops", "again")


class VerifiesForEver(Loops):
    """Has the first answer verified again and again."""

    def decide(self, situation):
        name = situation.arms[0].candidate
        action = "verify" if situation.attempts else "ask"
        return Decision(action, name, "VerifiesForEver", "are you sure?")


class Raises(Policy):
    """Cannot decide anything."""

    def decide(self, situation):
        msg = "this policy is broken"
        raise ZeroDivisionError(msg)


def named(policy: Policy) -> str:
    return type(policy).__name__


looping = pytest.mark.parametrize("policy", [Loops(), VerifiesForEver()], ids=named)


@contextmanager
def within(seconds: float):
    """Fails what takes longer, instead of hanging for ever."""

    def stop(*_: Any) -> None:
        pytest.fail(f"it did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@looping
@pytest.mark.parametrize("driver", [*DRIVERS, "chat, streamed"])
async def test_a_policy_that_loops_ends_in_an_error_that_names_it(policy, driver):
    drivers = Drivers(pool(), policy=policy, verifier=SelfEvaluator(n_samples=1))
    with within(5), pytest.raises(LlmRouterError, match=type(policy).__name__):
        drivers.ask(driver, "q", {"recursion_limit": 100})
    with within(5), pytest.raises(LlmRouterError, match=type(policy).__name__):
        await drivers.aask(driver, "q", {"recursion_limit": 100})


@looping
def test_a_policy_that_loops_ends_in_a_table_and_over_a_log_as_well(policy, tmp_path):
    outcomes = make_outcomes(n=3, candidates=("small", "large"))
    said = SelfEvaluations(("small", "large"), [[0.5, 0.5]] * 3)
    with within(5), pytest.raises(LlmRouterError, match=type(policy).__name__):
        replay(policy, None, outcomes, evaluations=said)
    drivers = Drivers(pool(), folder=tmp_path, **TWO["cascade"])
    drivers.ask("graph", "q")
    with within(5):
        replayed = replay_log(drivers.entries("graph"), policy)
    assert replayed.n_identical == 0
    assert type(policy).__name__ in str(replayed.rows[0].went.error)


@pytest.mark.parametrize("policy", [Loops(), VerifiesForEver(), Raises()], ids=named)
@pytest.mark.parametrize("driver", [*DRIVERS, "chat, streamed"])
async def test_a_shadow_that_loops_or_raises_harms_no_answer(policy, driver):
    expected = "this policy is broken" if isinstance(policy, Raises) else type(policy).__name__
    drivers = Drivers(pool(), shadow=Shadow(policy), **TWO["cascade"])
    with within(5):
        answers = [drivers.ask(driver, "q"), await drivers.aask(driver, "q")]
    for answer in answers:
        found = facts(answer)
        assert found["text"] == "large says"
        assert expected in found["shadow"]["error"]


class Slow(Constant):
    """Predicts what it was fitted on, for most queries after a while."""

    def _predict(self, queries):
        time.sleep(0 if queries == ["warm up"] else 0.15)
        return super()._predict(queries)


@pytest.mark.parametrize("driver", [*DRIVERS, "chat, streamed"])
async def test_a_shadow_that_thinks_long_does_not_block_the_event_loop(driver):
    slow = Slow().fit(make_outcomes(candidates=("small", "large")))
    drivers = Drivers(pool(), shadow=Shadow(Always("small"), slow), policy=Always("large"))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    await drivers.aask(driver, "warm up")
    heart = asyncio.create_task(beat())
    answer = await drivers.aask(driver, "q")
    heart.cancel()
    assert facts(answer)["shadow"]["candidate"] == "small"
    assert beats >= 5
