"""From data to a router in one call, saved, reported and brought to life."""

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, route_of
from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.errors import ArtifactError
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.fitting import fit_router
from langchain_llm_router.fitting.report import write_report
from langchain_llm_router.observation import KernelDensity
from langchain_llm_router.policies import Always, ConfidenceThreshold, Policy, Utility
from langchain_llm_router.saved_router import SavedRouter
from tests.fakes import JudgeModel, ScriptedModel, make_outcomes

NAMES = ("small", "medium", "large")


def oracle_evaluations(outcomes, seed=0, trust=0.9):
    """A verifier that mostly knows."""
    rng = np.random.default_rng(seed)
    right = rng.random(outcomes.quality.shape) < trust
    scores = np.where(right, outcomes.quality, 1 - outcomes.quality)
    scores = np.clip(scores + rng.normal(0, 0.05, scores.shape), 0, 1)
    return SelfEvaluations(outcomes.candidates, scores, np.zeros_like(scores))


@pytest.fixture(scope="module")
def outcomes():
    return make_outcomes(n=400)


@pytest.fixture(scope="module")
def fitted(outcomes):
    return fit_router(outcomes, {"self": oracle_evaluations(outcomes)})


def test_a_verifier_that_knows_makes_a_cascade_win(fitted):
    assert fitted.router.verifier == "self"
    assert fitted.worth_it
    assert fitted.gain.low > 0
    assert fitted.replay.mean_quality > fitted.test.quality[:, 0].mean()
    utilities = [standing.utility for standing in fitted.standings]
    assert utilities == sorted(utilities, reverse=True)


def test_without_verifiers_the_queries_words_decide(outcomes):
    fitted = fit_router(outcomes)
    assert fitted.router.estimator is not None
    assert isinstance(fitted.router.policy, Utility)


def test_candidates_that_do_not_differ_are_not_worth_routing():
    rng = np.random.default_rng(1)
    quality = np.repeat((rng.random((200, 1)) < 0.7).astype(float), 2, axis=1)
    table = Outcomes([f"q{i}" for i in range(200)], ("a", "b"), quality, [[1e-3, 1e-2]] * 200)
    fitted = fit_router(table, lambda_=1.0)
    assert not fitted.worth_it
    assert fitted.gain.value == pytest.approx(0, abs=1e-9)


def test_the_test_rows_are_never_seen(outcomes):
    first = fit_router(outcomes, seed=3)
    broken = np.array(outcomes.quality)
    rows = [i for i, q in enumerate(outcomes.queries) if q in set(first.test.queries)]
    broken[rows] = 1 - broken[rows]
    again = fit_router(
        Outcomes(outcomes.queries, NAMES, broken, outcomes.cost_usd), seed=3, lambda_=first.lambda_
    )
    assert again.standings == first.standings


def test_unknown_prices_and_too_few_rows_are_refused(outcomes):
    with pytest.raises(ValueError, match="give every candidate a price"):
        fit_router(Outcomes(outcomes.queries, NAMES, outcomes.quality))
    with pytest.raises(ValueError, match="too few"):
        fit_router(outcomes.take([0, 1]))


def test_the_report_says_who_won_and_whether_it_is_worth_it(fitted, tmp_path):
    pytest.importorskip("matplotlib")
    report = write_report(fitted, tmp_path / "router").read_text()
    assert "**Worth routing**" in report
    assert fitted.standings[0].name in report
    assert "large alone" in report
    assert (tmp_path / "router" / "cost_quality.png").stat().st_size > 10_000


def test_the_saved_router_decides_as_the_fitted_one(fitted, tmp_path):
    folder = fitted.save(tmp_path / "router")
    loaded = SavedRouter.load(folder)
    assert loaded.candidates == fitted.router.candidates
    assert loaded.expected_cost_usd == fitted.router.expected_cost_usd
    small = JudgeModel("draft", verdicts=["yes"])
    models = {"small": small, "medium": ScriptedModel("m"), "large": ScriptedModel("l")}
    router = ChatLLMRouter.load(
        folder,
        candidates=[Candidate(name, model) for name, model in models.items()],
        verifier={"self": SelfEvaluator(n_samples=2), "other": SelfEvaluator(1)},
    )
    answer = router.invoke("add easy numbers 1")
    assert route_of(answer)["policy"] == type(fitted.router.policy).__name__
    with pytest.raises(ValueError, match="Fitted on the verifier 'self'"):
        ChatLLMRouter.load(folder, candidates=router.candidates)
    with pytest.raises(ValueError, match=r"fitted with \['"):
        ChatLLMRouter.load(folder, candidates=[], verifier=SelfEvaluator(1))


@pytest.mark.parametrize(
    "policy",
    [
        Always("small"),
        Utility(cost=3.0),
        ConfidenceThreshold(threshold=0.25),
        ConfidenceThreshold(KernelDensity().fit([0.1, 0.9, 0.8], [False, True, True])),
        ConfidenceThreshold(
            {"small": KernelDensity().fit([0.1, 0.9, 0.8], [False, True, True])}, lambda_=2.0
        ),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_every_policy_that_can_win_survives_saving(policy, tmp_path):
    SavedRouter(NAMES, policy).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it").policy
    if getattr(policy, "observation", None) is None:
        assert loaded == policy
        return
    model = policy.observation
    again = loaded.observation
    if isinstance(model, dict):
        model, again = model["small"], again["small"]
    assert again.p_good(0.7) == model.p_good(0.7)
    assert loaded.lambda_ == policy.lambda_


def test_the_estimator_travels_along(outcomes, tmp_path):
    estimator = NearestNeighbors(n_neighbors=5).fit(outcomes)
    SavedRouter(NAMES, Utility(), estimator).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it").estimator
    queries = list(outcomes.queries[:5])
    np.testing.assert_allclose(loaded.predict(queries), estimator.predict(queries))


def test_a_policy_without_save_and_a_broken_folder_are_refused(tmp_path):
    class Mine(Policy):
        def decide(self, situation):
            raise NotImplementedError

    with pytest.raises(ArtifactError, match="Mine cannot be saved"):
        SavedRouter(NAMES, Mine()).save(tmp_path / "it")
    SavedRouter(NAMES, Always("small")).save(tmp_path / "ok")
    (tmp_path / "ok" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a saved artifact"):
        SavedRouter.load(tmp_path / "ok")
