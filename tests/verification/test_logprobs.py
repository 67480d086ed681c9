"""Scores from log probabilities: a judge's word for Correct, and the answer's own tokens."""

import math

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter, create_cascade, route_of
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import (
    AnswerLogprob,
    Reply,
    TokenProbability,
)
from tests.support.fakes import ScriptedModel
from tests.support.verifying import cascade, case, logprobs, run


def p_correct(*tokens):
    reply = Reply(AIMessage("…", response_metadata=logprobs(*tokens)))
    return run(TokenProbability(), case(), [reply])[0].confidence


def test_one_call_asks_for_log_probabilities_of_a_single_word():
    steps = TokenProbability(top_logprobs=5).evaluate(case())
    (call,) = next(steps)
    assert call.kwargs == {"logprobs": True, "top_logprobs": 5, "max_tokens": 8}
    assert "one word" in call.messages[0].content


def test_the_score_is_the_share_of_correct_in_the_mass_of_both_words():
    assert p_correct({"Correct": 0.6, "Incorrect": 0.2, "The": 0.2}) == pytest.approx(0.75)


def test_words_in_pieces_and_in_other_spellings_are_added_up():
    shares = {"In": 0.3, " correct": 0.3, "CORRECT": 0.2, "incor": 0.1, "Cor": 0.1}
    assert p_correct(shares) == pytest.approx(0.6)


def test_the_verdict_is_found_after_an_introduction():
    verdict_token = {" Incorrect": 0.8, " Correct": 0.2}
    assert p_correct(("Verdict", 0.9), (":", 0.9), verdict_token) == pytest.approx(0.2)


def test_one_word_without_the_other_is_certain():
    assert p_correct(("Incorrect", 1.0)) == 0.0


def test_a_reply_without_a_verdict_is_missing_and_says_what_was_said():
    reply = Reply(AIMessage("Maybe so", response_metadata=logprobs(("Maybe", 0.9), (" so", 0.9))))
    evaluation, _ = run(TokenProbability(), case(), [reply])
    assert evaluation.confidence is None
    assert "Maybe so" in evaluation.errors[0]


def test_a_model_without_log_probabilities_is_named_in_the_attempt():
    record = route_of(cascade(ScriptedModel("Correct"), TokenProbability()).invoke("q?"))
    (attempt, _) = record["attempts"]
    assert attempt["confidence"] is None
    assert "logprobs" in attempt["verification_errors"][0]


def test_token_probability_uses_the_judge():
    judge = Candidate("judge")
    assert next(TokenProbability(judge=judge).evaluate(case()))[0].candidate is judge


def test_the_answer_s_own_log_probability_is_a_geometric_mean():
    answer = AIMessage("a b", response_metadata=logprobs(("a", 0.9), ("b", 0.4)))
    evaluation, batches = run(AnswerLogprob(), case(answer))
    assert evaluation.confidence == pytest.approx(math.sqrt(0.9 * 0.4))
    assert batches == []


def test_the_token_that_ends_an_answer_counts_neither_in_replies_nor_in_streams():
    whole = AIMessage("a", response_metadata=logprobs(("a", 0.5), ("", 1e-8)))
    streamed = AIMessage("a", response_metadata=logprobs(("a", 0.5)))
    scores = [run(AnswerLogprob(), case(answer))[0].confidence for answer in (whole, streamed)]
    assert scores == [pytest.approx(0.5)] * 2


def test_only_the_last_tokens_count_where_that_is_asked_for():
    answer = AIMessage("x", response_metadata=logprobs(("a", 0.1), ("b", 0.5), ("c", 0.5)))
    evaluation, _ = run(AnswerLogprob(last_tokens=2), case(answer))
    assert evaluation.confidence == pytest.approx(0.5)


def test_an_answer_without_log_probabilities_has_no_score():
    for metadata in ({}, {"logprobs": None}, {"logprobs": {"content": None}}):
        answer = AIMessage("x", response_metadata=metadata)
        evaluation, _ = run(AnswerLogprob(), case(answer))
        assert evaluation.confidence is None
        assert "logprobs" in evaluation.errors[0]


class Remembering(ScriptedModel):
    """A scripted model that notes the keyword arguments it was called with."""

    given: list

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.given.append(kwargs)
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_candidates_are_asked_for_log_probabilities_unless_their_answer_is_final():
    sure = AIMessage("sure", response_metadata=logprobs(("sure", 0.2)))
    small, large = Remembering(sure, given=[]), Remembering("large says", given=[])
    candidates = [Candidate("small", small), Candidate("large", large)]
    policy = ConfidenceThreshold(threshold=0.5)
    router = ChatLLMRouter(candidates=candidates, policy=policy, verifier=AnswerLogprob())
    assert router.invoke("q?").content == "large says"
    assert small.given == [{"logprobs": True}]
    assert large.given == [{}]
    graph = create_cascade(candidates, policy=policy, verifier=AnswerLogprob()).compile()
    graph.invoke({"messages": [HumanMessage("q?")]})
    assert small.given[1:] == [{"logprobs": True}]
    assert large.given[1:] == [{}]
