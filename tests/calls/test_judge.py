"""The operation that drives a verifier."""

from langchain_core.callbacks import CallbackManager
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_llm_router import Candidate
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import YesNo
from tests.support.fakes import ScriptedModel
from tests.support.verifying import case


def test_a_traced_verifier_is_asked_once_which_calls_it_may_make():
    asked = []

    class Counting(YesNo):
        def most_calls(self, candidate):
            asked.append(candidate.name)
            return super().most_calls(candidate)

    tracer = RunCollectorCallbackHandler()
    operation = VerifyOperation(
        verifier=Counting(2, judge=Candidate("judge", ScriptedModel("Yes"))),
        case=case(),
        attempt=Attempt(candidate="small"),
        config={"callbacks": CallbackManager([tracer])},
    )
    assert operation.perform()["confidence"] == 1.0
    assert operation.unfinished_usd == 0.0
    assert len(tracer.traced_runs) == 1
    assert asked == ["small"]
