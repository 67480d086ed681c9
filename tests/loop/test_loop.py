"""What a policy may decide: each step can be carried out, and what is paid is in its attempt."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_llm_router import Candidate, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.history import DecisionLog, read_log
from langchain_llm_router.policies import ConfidenceThreshold, Policy
from langchain_llm_router.types import Decision
from langchain_llm_router.types.errors import PolicyError
from langchain_llm_router.verification import Evaluation, SelfEvaluator, Verifier
from tests.support.drivers import DRIVERS, Drivers
from tests.support.fakes import JudgeModel, ScriptedModel

QUESTION = {"messages": [("human", "q")]}


def pool():
    return [
        Candidate("small", JudgeModel("a draft"), Price(1, 2), max_output_tokens=100),
        Candidate("large", ScriptedModel("large says"), Price(10, 20), max_output_tokens=100),
    ]


class Scripted(Policy):
    """Takes the given steps one after the other, whatever is seen."""

    verifies = True

    def __init__(self, *steps):
        self.steps = steps

    def decide(self, situation):
        seen = len(situation.attempts) + sum(a.get("verified", False) for a in situation.attempts)
        step = self.steps[min(seen, len(self.steps) - 1)]
        return step if not isinstance(step, tuple) else Decision(*step, "Scripted", "because")


IMPOSSIBLE = {
    "asks the same again": ([("ask", "small")], "has been asked already"),
    "asks an unknown one": ([("ask", "zork")], "this request can ask"),
    "verifies what was not asked": ([("verify", "small")], "did not return an answer"),
    "verifies twice": ([("ask", "small"), ("verify", "small")], "verified already"),
    "accepts what was not asked": ([("accept", "large")], "has given no answer"),
    "does something else": ([("ponder", "small")], "the action must be one of"),
    "decides nothing": ([None], "must return a `Decision`"),
    "decides in words": (["small"], "must return a `Decision`"),
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("steps", "says"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_decision_that_cannot_be_carried_out_ends_in_an_error_and_in_the_log(
    steps, says, driver, tmp_path
):
    drivers = Drivers(
        pool, policy=Scripted(*steps), verifier=SelfEvaluator(n_samples=1), folder=tmp_path
    )
    with pytest.raises(PolicyError, match=says) as raised:
        drivers.ask(driver, "q")
    assert "Scripted" in str(raised.value)
    (entry,) = drivers.entries(driver)
    assert entry.outcome == "failed"
    assert says in entry.error


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_is_paid_that_the_ledger_does_not_hold(driver):
    small = JudgeModel("a draft")
    spent = Budgets([Budget(1.0)])
    drivers = Drivers(
        lambda: [Candidate("small", small, Price(1, 2), max_output_tokens=100), pool()[1]],
        policy=Scripted(("ask", "small")),
        verifier=SelfEvaluator(n_samples=1),
        budgets=lambda: spent,
    )
    for _ in range(3):
        with pytest.raises(PolicyError):
            drivers.ask(driver, "q")
    assert len(small.seen) == 3
    used = spent.ledger.used_nano(spent.budgets[0].account({}, 0.0))
    assert used > 0


class Odd(Verifier):
    """Gives a score that is none."""

    def __init__(self, score):
        self.score = score

    def evaluate(self, case):
        return Evaluation(self.score)
        yield


@pytest.mark.parametrize("score", [7, -1, float("nan")])
def test_a_score_outside_its_range_is_a_missing_verdict_that_says_so(score):
    graph = create_cascade(pool(), policy=ConfidenceThreshold(), verifier=Odd(score)).compile()
    record = route_of(graph.invoke(QUESTION)["messages"][-1])
    assert record["attempts"][0]["confidence"] is None
    assert "must lie in [0, 1]" in record["attempts"][0]["verification_errors"][0]
    assert record["candidate"] == "large"


# Interrupts are pauses


class Asking(ScriptedModel):
    """A candidate that asks a person before it answers."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        assert interrupt("really?") is True
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.mark.parametrize("extra", [{}, {"max_retries": 1}, {"timeout": 30.0}], ids=str)
def test_an_interrupt_inside_a_candidate_pauses_the_graph(extra, tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    candidates = [Candidate("small", Asking("a draft")), pool()[1]]
    graph = create_cascade(
        candidates, policy=ConfidenceThreshold(threshold=0.0), verifier=Odd(1.0), log=log, **extra
    ).compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    assert graph.invoke(QUESTION, thread)["__interrupt__"][0].value == "really?"
    log.flush()
    assert not log.path.exists()
    answer = graph.invoke(Command(resume=True), thread)["messages"][-1]
    assert answer.content == "a draft"
    log.flush()
    assert [entry.outcome for entry in read_log(log.path).entries] == ["answered"]


@pytest.mark.parametrize("reply", ["no", "reject", {"approved": True}, [], 1])
def test_an_approval_is_true_or_false_and_nothing_else(reply):
    graph = create_cascade(
        pool(), policy=ConfidenceThreshold(threshold=0.7), verifier=Odd(0.1), approve=True
    ).compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    graph.invoke(QUESTION, thread)
    with pytest.raises(TypeError, match="Resume the graph with True, False"):
        graph.invoke(Command(resume=reply), thread)


async def test_who_is_asked_for_approval_is_said_by_a_plain_function():
    async def later(proposal):
        return True

    for approve in ("no", later, 1):
        with pytest.raises(
            TypeError, match="`approve` must be True, False or a synchronous function"
        ):
            create_cascade(pool(), verifier=Odd(0.1), approve=approve)
