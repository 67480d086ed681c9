"""A fitted cascade streams the answer that it will accept unverified, and commits early."""

import numpy as np
import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import ChatLLMRouter, route_of
from langchain_llm_router.policies import (
    AnswerPool,
    AutoMix,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Pomdp,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Arm, Attempt, Candidate, Price, Situation
from langchain_llm_router.verification import Evaluation, Verifier
from tests.support.fakes import make_evaluations, make_outcomes
from tests.support.pools import make_pool

TABLE = make_outcomes(n=200, candidates=("small", "large"))
SAID = make_evaluations(TABLE)
COSTS = dict(zip(TABLE.candidates, TABLE.mean_cost_usd.tolist(), strict=True))
LARGE = "The answer of the large model is long enough to be read while it is written."

FITTED = {
    "threshold": lambda: ConfidenceThreshold(
        {"small": KernelDensity().fit(SAID.confidence[:, 0], TABLE.quality[:, 0] >= 0.5)},
        threshold=0.6,
    ),
    "POMDP": lambda: Pomdp(1.0, likelihood="kde").fit(TABLE, SAID),
    "POMDP with recall": lambda: Pomdp(1.0, recall=True).fit(TABLE, SAID),
    "cascade routing": lambda: CascadeRouting(1.0).fit(TABLE, SAID),
    "FrugalGPT": lambda: FrugalCascade(n_grid=10).fit(
        TABLE, SAID, max_cost_usd=float(TABLE.mean_cost_usd.sum())
    ),
    "AutoMix": lambda: AutoMix().fit(TABLE, SAID),
    "answer pool": lambda: AnswerPool(1.0).fit(*make_pool(200, ("small", "large"))),
}


class SaysOf(Verifier):
    """Gives every draft the same score, also while it is written."""

    def __init__(self, score: float) -> None:
        self.score = score

    def evaluate(self, case):
        yield from ()
        return Evaluation(self.score)

    def score_so_far(self, answer: AIMessage) -> float | None:
        return self.score


def loaded(policy, folder, score=0.0, **settings) -> ChatLLMRouter:
    SavedRouter(TABLE.candidates, policy, verifier="self", expected_cost_usd=COSTS).save(folder)
    said = {"small": "A small draft of five words.", "large": LARGE}
    pool = [Candidate(name, ScriptedChatModel(text), Price(1, 2)) for name, text in said.items()]
    return ChatLLMRouter.load(folder, candidates=pool, verifier=SaysOf(score), **settings)


def words(chunks) -> int:
    return sum(1 for chunk in chunks if chunk.content)


@pytest.mark.parametrize("name", FITTED)
async def test_the_last_candidate_s_answer_arrives_word_by_word(name, tmp_path):
    router = loaded(FITTED[name](), tmp_path / "it")
    chunks = list(router.stream("q"))
    assert "".join(chunk.text for chunk in chunks) == LARGE
    record = route_of(chunks[-1])
    assert record["candidate"] == "large"
    assert words(chunks) == len(LARGE.split())
    assert words([chunk async for chunk in router.astream("q")]) == len(LARGE.split())


@pytest.mark.parametrize("seed", range(6))
def test_cascade_routing_calls_final_exactly_what_it_then_accepts_unverified(seed):
    rng = np.random.default_rng(seed)
    table = make_outcomes(n=150, seed=seed)
    policy = CascadeRouting(float(rng.choice([0.0, 2.0, 20.0])), max_depth=int(rng.integers(1, 4)))
    policy = policy.fit(table, make_evaluations(table, seed))
    n_final = 0
    for _ in range(40):
        situation = Situation("q", tuple(Arm(name) for name in table.candidates))
        while (step := policy.decide(situation)).action != "accept":
            done = list(situation.attempts)
            if step.action == "verify":
                done[-1] = {**done[-1], "verified": True, "confidence": float(rng.random())}
            else:
                done.append(Attempt(candidate=step.candidate, verified=False))
            situation = Situation("q", situation.arms, attempts=tuple(done))
            then = policy.decide(situation)
            accepted = (then.action, then.candidate) == ("accept", step.candidate)
            if step.action == "ask":
                assert step.final == accepted
                n_final += step.final
    assert n_final > 0


@pytest.mark.parametrize("name", ["POMDP", "cascade routing", "threshold"])
def test_a_fitted_policy_commits_to_a_draft_by_its_own_estimate_and_not_by_the_raw_score(
    name, tmp_path
):
    policy = FITTED[name]()
    arms = tuple(Arm(candidate) for candidate in TABLE.candidates)
    situation = Situation("q", arms)
    good, poor = (
        policy.p_good(situation, Attempt(candidate="small", confidence=score)) for score in (0.6, 0)
    )
    assert good > poor
    assert abs(good - 0.6) > 0.02
    settings = {"streaming_mode": "commit", "commit_after": 0}
    eager = loaded(policy, tmp_path / "a", 0.6, commit_at=good - 0.01, **settings)
    shy = loaded(policy, tmp_path / "b", 0.6, commit_at=min(good + 0.01, 1.0), **settings)
    assert words(eager.stream("q")) == 6
    assert words(shy.stream("q")) in (1, len(LARGE.split()))
