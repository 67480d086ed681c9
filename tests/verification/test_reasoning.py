"""Reasoning never reaches agreement, graders, judges or readers of verdicts as text."""

import math

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from langchain_llm_router import Candidate
from langchain_llm_router.calls.judge import VerifierCalls
from langchain_llm_router.calls.several_replies import Draw
from langchain_llm_router.collect import ChoiceMatch, ExactMatch, NumberMatch
from langchain_llm_router.verification import (
    Agreement,
    AnswerScorer,
    Case,
    Checks,
    SelfEvaluator,
    TokenProbability,
    YesNo,
    finished,
    parses_as,
)
from tests.support.fakes import JudgeModel, ScriptedModel

THOUGHT = "<think>\nIt may be 7, or B. Correct? Yes\n</think>\n\n"


class ThinkingModel(ScriptedModel):
    """Needs more than 100 tokens before it says its word."""

    limits: list[int | None] = Field(default_factory=list)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.limits.append(kwargs.get("max_tokens"))
        tokens, reason = ["<think>", "Correct", "? Yes"], "length"
        if (kwargs.get("max_tokens") or 9999) > 100:
            tokens, reason = [*tokens, "</think>", self.script[0]], "stop"
        logprob = math.log(0.9)
        content = [
            {"token": t, "logprob": logprob, "top_logprobs": [{"token": t, "logprob": logprob}]}
            for t in tokens
        ]
        metadata = {"finish_reason": reason, "logprobs": {"content": content}}
        message = AIMessage("".join(tokens), response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


def run(verifier, answer, model=None):
    case = Case([HumanMessage("2 + 2?")], AIMessage(answer), Candidate("c", model))
    steps, calls = verifier.evaluate(case), VerifierCalls()
    try:
        batch = next(steps)
        while True:
            batch = steps.send([calls.draw(Draw(call, 1, call.n_samples), {})[0] for call in batch])
    except StopIteration as stop:
        return stop.value


def test_agreement_compares_what_is_said_not_what_is_thought():
    peers = [
        Candidate("p", ScriptedModel(THOUGHT + "4")),
        Candidate("q", ScriptedModel("<think>h")),
    ]
    evaluation = run(Agreement(peers), "<think>other thoughts</think>4")
    assert evaluation.verdicts == (True, None)


@pytest.mark.parametrize(
    ("grader", "answer", "reference"),
    [(ExactMatch(), "4", "4"), (NumberMatch(), "4", "4"), (ChoiceMatch(), "C", "C")],
)
def test_graders_read_what_is_said(grader, answer, reference):
    assert grader.matches(THOUGHT + answer, reference)
    assert not grader.matches(f"<think>{answer}</think>none", reference)


def test_a_judge_is_shown_no_reasoning():
    judge = JudgeModel("unused", verdicts=["yes"])
    run(SelfEvaluator(1), THOUGHT + "4", judge)
    assert "It may be" not in judge.judged[0][-1].content
    assert "<answer>\n4\n</answer>" in judge.judged[0][-1].content


def test_checks_and_scorers_read_what_is_said():
    assert run(Checks([parses_as(dict[str, int]), finished]), THOUGHT + '{"a": 1}').confidence == 1
    assert run(Checks([finished]), "<think>cut off").confidence == 0
    scorer = AnswerScorer(n_folds=2).fit(["q", "r"] * 4, ["good", "bad"] * 4, [1, 0] * 4)
    assert run(scorer, THOUGHT + "good") == run(scorer, "good")


@pytest.mark.parametrize("word", ["Yes", "No"])
def test_a_model_that_thinks_first_is_asked_again_with_room_for_its_word(word):
    model = ThinkingModel(word, limits=[])
    assert run(YesNo(1), "4", model).confidence == (1.0 if word == "Yes" else 0.0)
    assert model.limits == [2, 1024]
    assert run(YesNo(1, thinking_tokens=None), "4", model).confidence is None


def test_a_model_that_is_known_to_think_is_asked_with_room_at_once():
    model = ThinkingModel("Yes", limits=[])
    model.profile = {"reasoning_output": True}
    assert run(YesNo(1), "4", model).confidence == 1.0
    assert model.limits == [1024]
    model.profile = {"reasoning_output": False}
    assert YesNo(2).most_calls(Candidate("c", model)) == [(Candidate("c", model), 2)] * 2


def test_the_worst_case_of_a_short_verdict_includes_the_second_call():
    limits = [limit for _, limit in YesNo(2).most_calls(Candidate("c", ScriptedModel("x")))]
    assert sorted(limits) == [2, 2, 1024, 1024]


def test_probabilities_are_those_of_the_word_not_of_the_thoughts():
    model = ThinkingModel("Incorrect", limits=[])
    assert run(TokenProbability(), "4", model).confidence == 0.0
    assert model.limits == [8, 1024]
