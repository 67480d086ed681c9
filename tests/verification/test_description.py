"""A verifier as plain data: what it was is known, compared and built again."""

import json
from functools import partial

import pytest

from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Candidate
from langchain_llm_router.verification import (
    Agreement,
    AnswerGroups,
    AnswerLogprob,
    ByCandidate,
    Checks,
    SelfEvaluator,
    TokenProbability,
    YesNo,
    finished,
)
from langchain_llm_router.verification.description import (
    build_verifier,
    describe_verifier,
    same_verifier,
    verifier_name,
)

JUDGE = Candidate("judge", ScriptedChatModel("Yes", model="strict-1"))
POOL = {"judge": JUDGE, "small": Candidate("small", ScriptedChatModel("Yes"))}


@pytest.mark.parametrize(
    "verifier",
    [
        YesNo(4),
        YesNo(2, judge=JUDGE, question="Right?"),
        SelfEvaluator(3, adaptive=True, risk=0.1),
        SelfEvaluator(2, judge=JUDGE, expected=(1.0, 2.0, 3.0)),
        AnswerLogprob(last_tokens=5),
        TokenProbability(top_logprobs=5),
        ByCandidate({"small": YesNo(4)}, default=AnswerLogprob()),
        Agreement([JUDGE]),
        AnswerGroups(),
        AnswerGroups(judge=JUDGE, max_chars=40, most_compared=2),
    ],
    ids=lambda verifier: type(verifier).__name__,
)
def test_a_verifier_is_built_again_from_its_description_as_json(verifier):
    described = json.loads(json.dumps(describe_verifier(verifier)))
    built = build_verifier(described, POOL)
    assert type(built) is type(verifier)
    assert describe_verifier(built) == described


def test_what_changes_the_meaning_of_a_score_makes_another_verifier_and_cheaper_calls_do_not():
    eight = describe_verifier(SelfEvaluator(8))
    assert same_verifier(eight, describe_verifier(SelfEvaluator(8, adaptive=True, risk=0.2)))
    assert not same_verifier(eight, describe_verifier(SelfEvaluator(4)))
    assert not same_verifier(eight, describe_verifier(YesNo(8)))
    assert not same_verifier(eight, describe_verifier(SelfEvaluator(8, judge=JUDGE)))


def test_a_judge_of_two_answers_has_a_prompt_and_comparing_texts_has_none():
    assert describe_verifier(AnswerGroups())["prompt"] is None
    judged = describe_verifier(AnswerGroups(judge=JUDGE))
    assert judged["prompt"] is not None
    assert same_verifier(judged, describe_verifier(AnswerGroups(judge=JUDGE, most_compared=9)))


def test_a_judge_is_known_by_its_model_and_not_by_the_name_that_it_has_here():
    renamed = Candidate("referee", JUDGE.model)
    other = Candidate("judge", ScriptedChatModel("Yes", model="kind-2"))
    described = describe_verifier(YesNo(judge=JUDGE))
    assert same_verifier(described, describe_verifier(YesNo(judge=renamed)))
    assert not same_verifier(described, describe_verifier(YesNo(judge=other)))


def test_the_name_shows_the_samples_the_judge_and_what_differs():
    plain, asked = describe_verifier(YesNo(4)), describe_verifier(YesNo(4, question="Right?"))
    assert verifier_name(plain) == "YesNo(n_samples=4)"
    assert "question='Right?'" in verifier_name(asked, plain)
    assert "judge=judge" in verifier_name(describe_verifier(YesNo(judge=JUDGE)))


def test_one_of_your_own_parts_cannot_be_built_and_the_message_names_it():
    for verifier in (Checks([finished]), Agreement([JUDGE], same=lambda a, b: a == b)):
        with pytest.raises(ValueError, match=r"cannot be built .* your own"):
            build_verifier(describe_verifier(verifier), POOL)
    with pytest.raises(ValueError, match=r"its model 'judge' is not one of the candidates"):
        build_verifier(describe_verifier(YesNo(judge=JUDGE)), {})


def test_another_prompt_under_the_same_parameters_is_refused():
    described = {**describe_verifier(YesNo(4)), "prompt": "0" * 16}
    with pytest.raises(ValueError, match="had another prompt"):
        build_verifier(described, POOL)


class Shorter:
    """A check of a user's own that says nothing of itself."""

    def __call__(self, case):
        return len(case.answer.text) < 9


def test_where_a_check_lies_in_memory_does_not_define_it():
    for check in (Shorter, lambda: partial(finished)):
        one, other = check(), check()
        described = describe_verifier(Checks([one]))
        assert one is not other
        assert same_verifier(described, describe_verifier(Checks([other])))
        assert "0x" not in json.dumps(described)
    assert not same_verifier(describe_verifier(Checks([Shorter()])), described)
