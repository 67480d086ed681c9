"""Routers that write a decision log."""

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
)
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.history import DecisionLog, read_log
from langchain_llm_router.policies import (
    ConfidenceThreshold,
)
from tests.support.fakes import (
    JudgeModel,
    ScriptedModel,
    make_outcomes,
)

NAMES = ("small", "large")


def pool(small=None, large=None, **kwargs):
    return [
        Candidate("small", small or ScriptedModel("small says"), Price(1, 2), **kwargs),
        Candidate("large", large or ScriptedModel("large says"), Price(10, 20), **kwargs),
    ]


def cascade(log, verdicts=("yes", "no"), policy=None, **kwargs) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=pool(JudgeModel("a draft", verdicts=list(verdicts))),
        policy=policy or ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(n_samples=1),
        log=log,
        **kwargs,
    )


def read(log: DecisionLog):
    log.flush()
    return read_log(log.path)


ESTIMATOR = NearestNeighbors(n_neighbors=7).fit(make_outcomes(candidates=NAMES))
