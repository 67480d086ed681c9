"""What all verifiers share: one per candidate, and the two drivers of their calls."""

import asyncio
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import (
    AnswerLogprob,
    ByCandidate,
    Case,
    Evaluation,
    SelfEvaluator,
    Verifier,
    evaluated,
    standard_error,
)
from tests.support.fakes import JudgeModel
from tests.support.verifying import case, logprobs, run, verdict


def test_each_candidate_can_have_its_own_verifier():
    sure = AIMessage("x", response_metadata=logprobs(("x", 0.5)))
    verifier = ByCandidate({"small": AnswerLogprob()}, default=SelfEvaluator(1))
    assert run(verifier, case(sure))[0].confidence == pytest.approx(0.5)
    assert verifier.answer_kwargs("small") == {"logprobs": True}
    assert verifier.answer_kwargs("other") == {}
    other = Case([HumanMessage("q")], sure, Candidate("other"))
    assert run(verifier, other, [verdict(True)])[0].confidence == 1.0


def test_a_candidate_without_a_verifier_gets_no_verdict():
    evaluation, _ = run(ByCandidate({"large": SelfEvaluator()}), case())
    assert evaluation.confidence is None
    assert "small" in evaluation.errors[0]


@dataclass(frozen=True)
class TwoRounds(Verifier):
    """Asks twice, to see that both drivers go on until the end."""

    def evaluate(self, case):
        first = yield next(SelfEvaluator(1).evaluate(case))
        second = yield next(SelfEvaluator(1).evaluate(case))
        return Evaluation(0.5, tuple(r.parsed.verdict == "Correct" for r in (*first, *second)))


def test_both_drivers_go_on_until_the_verifier_is_done():
    small = Candidate("small", JudgeModel("draft", verdicts=["yes", "no"]))
    about = Case([HumanMessage("q")], AIMessage("a"), small)
    verifying = VerifyOperation(TwoRounds(), about, Attempt(candidate="small"), {})
    assert verifying.perform()["verdicts"] == [True, False]
    assert asyncio.run(verifying.aperform())["verdicts"] == [True, False]


def test_an_attempt_has_the_gaussian_of_its_answer():
    """40 evaluations of the article's riddle with mean 0.575."""
    said = (True,) * 23 + (False,) * 17
    attempt = evaluated(Attempt(candidate="small"), Evaluation(0.575, said))
    assert attempt["confidence"] == 0.575
    assert attempt["standard_error"] == pytest.approx(0.0782, abs=5e-5)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_an_answer_whose_verdicts_all_agree_is_a_spike(score):
    said = (score == 1,) * 8
    assert evaluated(Attempt(), Evaluation(score, said))["standard_error"] == 0.0


def test_only_verdicts_that_could_be_read_count_and_without_any_the_standard_error_is_unknown():
    attempt = evaluated(Attempt(), Evaluation(0.5, (True, None, False, None)))
    assert attempt["standard_error"] == pytest.approx(0.5 / 2**0.5)
    for unknown in (Evaluation(None, (None, None)), Evaluation(0.7), Evaluation(None)):
        assert evaluated(Attempt(), unknown)["standard_error"] is None
    assert standard_error(None, [True]) is None
