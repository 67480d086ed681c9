"""Saved routers and their tables, as the commands find them."""

from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import CODE
from tests.support.fakes import make_evaluations, make_outcomes
from tests.support.forks import Forked

TABLE = make_outcomes(n=200, candidates=("small", "large"))
SAID = make_evaluations(TABLE)
TAUGHT = 80
COSTS = dict(zip(TABLE.candidates, TABLE.mean_cost_usd.tolist(), strict=True))


def one_shot() -> SavedRouter:
    known = TABLE.take(range(TAUGHT))
    router = SavedRouter(
        TABLE.candidates,
        Utility(cost=20.0),
        NearestNeighbors(n_neighbors=10).fit(known),
        expected_cost_usd=COSTS,
    )
    return router.taught_by(known.queries)


def cascade() -> SavedRouter:
    known, said = TABLE.take(range(TAUGHT)), SAID.take(range(TAUGHT))
    model = KernelDensity().fit(said.confidence[:, 0], known.quality[:, 0] >= 0.5)
    policy = ConfidenceThreshold({"small": model}, threshold=0.6)
    router = SavedRouter(TABLE.candidates, policy, verifier="self", expected_cost_usd=COSTS)
    return router.taught_by(known.queries)


def start(*arguments: str, cwd, **env: str) -> Forked:
    return Forked(CODE, *arguments, cwd=cwd, **env)
