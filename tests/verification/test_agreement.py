"""Agreement with peers, and what failures do to belief."""

import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.policies.observation import BetaBinomial, KernelDensity
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import (
    Agreement,
    Reply,
)
from tests.support.verifying import ARMS, case, observed, run


def test_a_peer_that_fails_is_missing_not_disagreeing():
    peers = [Candidate("a"), Candidate("b"), Candidate("c")]
    replies = [Reply(AIMessage("paris.")), Reply(error="TimeoutError"), Reply(AIMessage("Lyon"))]
    evaluation, batches = run(Agreement(peers), case("Paris"), replies)
    assert batches == [3]
    assert evaluation.verdicts == (True, None, False)
    assert evaluation.confidence == 0.5


def test_peers_that_say_nothing_or_are_cut_off_neither_agree_nor_differ():
    peers = [Candidate("a"), Candidate("b"), Candidate("c")]
    cut_off = AIMessage("Paris", response_metadata={"finish_reason": "length"})
    said = [AIMessage("I don't know."), cut_off, AIMessage("Paris")]
    evaluation, _ = run(Agreement(peers), case("Paris"), [Reply(one) for one in said])
    assert evaluation.verdicts == (None, None, True)
    replies = [Reply(AIMessage("I don't know."))] * 3
    assert run(Agreement(peers), case("I don't know."), replies)[0].confidence is None


@pytest.mark.parametrize("kind", [KernelDensity(), BetaBinomial(8)])
def test_failed_verdicts_widen_the_belief(kind):
    model = observed(kind)
    few = [model.p_good(0.9, prior=0.5, missing=m) for m in (0.0, 0.5, 0.75)]
    assert few == sorted(few, reverse=True)
    assert few[-1] > 0.5
    policy = ConfidenceThreshold(model)
    situation = begin("q", ARMS)
    whole = Attempt(candidate="small", confidence=1.0, verdicts=[True] * 8)
    patchy = Attempt(candidate="small", confidence=1.0, verdicts=[True] * 2 + [None] * 6)
    assert policy.p_good(situation, whole) > policy.p_good(situation, patchy) > model.base_rate_
