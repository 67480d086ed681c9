"""From data to a router in one call, saved, reported and brought to life."""

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, route_of
from langchain_llm_router.apps.cli.fit_report import verdict, write_report
from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    Policy,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import fit_router
from langchain_llm_router.training.contenders import CHEAP_ESTIMATORS, Tables, contenders
from langchain_llm_router.types.errors import ArtifactError, CalibrationError
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes

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


def test_all_that_apply_compete(outcomes):
    evaluations = {"self": oracle_evaluations(outcomes), "other": oracle_evaluations(outcomes, 1)}
    named = [c.name for c in contenders(Tables(outcomes, evaluations, CHEAP_ESTIMATORS))]
    assert len(set(named)) == len(named)
    for name in NAMES:
        assert f"always {name}" in named
    for estimator in ("nearest neighbors", "clusters", "linear", "Bradley-Terry"):
        assert f"utility by {estimator}" in named
    for verifier in evaluations:
        assert f"FrugalGPT on {verifier}" in named
        for kind in ("threshold", "POMDP", "cascade routing"):
            for chain in ("small → medium → large", "small → large", "medium → large"):
                assert f"{kind} on {verifier}: {chain}" in named


def test_everybody_that_competes_stands_in_the_standings(fitted, outcomes):
    tables = Tables(outcomes, {"self": oracle_evaluations(outcomes)}, CHEAP_ESTIMATORS)
    assert fitted.left_out == {}
    assert {s.name for s in fitted.standings} == {c.name for c in contenders(tables)}


def test_a_verifier_of_unknown_cost_does_not_apply_and_the_rest_competes(outcomes):
    known = oracle_evaluations(outcomes)
    unpriced = SelfEvaluations(known.candidates, known.confidence)
    fitted = fit_router(outcomes, {"self": unpriced}, estimators={"near": NearestNeighbors})
    assert len(fitted.standings) == 4
    assert any("cost" in why for why in fitted.left_out.values())


ONE = {"near": NearestNeighbors}


@pytest.fixture(scope="module")
def targeted():
    outcomes = make_outcomes(500, ("small", "large"), seed=1)
    evaluations = {"self": oracle_evaluations(outcomes)}
    return fit_router(outcomes, evaluations, target="quality >= 0.95 * best", estimators=ONE)


def test_a_target_is_met_for_less_than_the_best_model_costs(targeted):
    found = targeted.calibrated
    assert found.target == "quality >= 0.95 * best"
    assert found.holds
    assert found.n_rows == (targeted.n_rows["calibrating"], targeted.n_rows["testing"])
    best = targeted.test.quality.mean(axis=0).max()
    assert targeted.replay.mean_quality >= 0.95 * best
    assert targeted.cost_usd.value < targeted.test.mean_cost_usd[1]
    assert targeted.saved.low > 0
    assert targeted.worth_it
    assert "of the cost at equal quality" in verdict(targeted)


def test_no_row_has_two_jobs(targeted):
    assert list(targeted.n_rows) == ["training", "picking", "calibrating", "testing"]
    assert sum(targeted.n_rows.values()) == 500
    assert len(targeted.replay.quality) == targeted.n_rows["testing"]


def test_a_promise_is_tested_on_rows_that_ordered_nothing():
    outcomes = make_outcomes(500, ("small", "large"), seed=1)
    fitted = fit_router(
        outcomes, {"self": oracle_evaluations(outcomes)}, estimators=ONE,
        target="quality >= 0.8 * best", confidence=0.9,
    )  # fmt: skip
    found = fitted.calibrated
    assert found.confidence == 0.9
    assert found.knob == found.certified[-1]
    assert found.n_rows == (fitted.n_rows["picking"], fitted.n_rows["calibrating"])
    assert fitted.replay.mean_quality > 0.8 * fitted.test.quality.mean(axis=0).max()
    # Only who can fall back on the best model can promise a part of its quality.
    assert all("large" in why for why in fitted.left_out.values())


def test_too_few_rows_for_a_promise_say_how_many_more(outcomes):
    with pytest.raises(CalibrationError, match=r"label about \d+ more"):
        fit_router(
            outcomes.take(range(100)), target="quality >= 0.9 * best", confidence=0.99,
            estimators=ONE,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "as good as it gets"}, "must have a form such as"),
        ({"confidence": 0.9}, "set `target`"),
        ({"target": "quality >= 0.9", "shares": (0.5, 0.5)}, "4 numbers with a target"),
        ({"shares": (0.5, 0.5)}, "3 numbers without a target"),
    ],
)
def test_senseless_targets_are_refused(outcomes, given, words):
    with pytest.raises(ValueError, match=words):
        fit_router(outcomes, **given)


def test_a_target_that_no_contender_meets_is_refused(outcomes):
    with pytest.raises(CalibrationError, match="No contender can be used: No setting meets"):
        fit_router(outcomes, target="quality >= 1", estimators=ONE)


def test_the_testing_rows_set_no_knob():
    outcomes = make_outcomes(200, ("small", "large"), seed=2)
    kwargs = {"target": "quality >= 0.9 * best", "estimators": ONE, "seed": 3}
    evaluations = {"self": oracle_evaluations(outcomes)}
    first = fit_router(outcomes, evaluations, **kwargs)
    broken = np.array(outcomes.quality)
    rows = [i for i, q in enumerate(outcomes.queries) if q in set(first.test.queries)]
    broken[rows] = 1 - broken[rows]
    spoiled = Outcomes(outcomes.queries, outcomes.candidates, broken, outcomes.cost_usd)
    again = fit_router(spoiled, evaluations, **kwargs)
    assert again.standings == first.standings
    assert again.calibrated.knob == first.calibrated.knob


def test_the_test_rows_are_never_seen(outcomes):
    first = fit_router(outcomes, seed=3)
    broken = np.array(outcomes.quality)
    rows = [i for i, q in enumerate(outcomes.queries) if q in set(first.test.queries)]
    broken[rows] = 1 - broken[rows]
    again = fit_router(Outcomes(outcomes.queries, NAMES, broken, outcomes.cost_usd), seed=3)
    assert again.standings == first.standings


def test_unknown_prices_and_too_few_rows_are_refused(outcomes):
    with pytest.raises(ValueError, match="add prices"):
        fit_router(Outcomes(outcomes.queries, NAMES, outcomes.quality))
    with pytest.raises(ValueError, match="too few"):
        fit_router(outcomes.take([0, 1]))


def test_the_report_says_who_won_and_whether_it_is_worth_it(fitted, tmp_path):
    pytest.importorskip("matplotlib")
    report = write_report(fitted, tmp_path / "router").read_text()
    assert "**Worth routing**" in report
    assert fitted.standings[0].name in report
    assert "large alone" in report
    for name in ("cost_quality", "contest", "shares", "worth"):
        assert f"({name}.png)" in report
        assert (tmp_path / "router" / f"{name}.png").stat().st_size > 10_000


def test_the_report_tells_whether_the_target_was_kept(targeted, tmp_path):
    pytest.importorskip("matplotlib")
    report = write_report(targeted, tmp_path).read_text()
    assert "## The target" in report
    assert "it was kept by" in report
    assert "It is not guaranteed" in report
    assert "miss the target with every setting" in report


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
    with pytest.raises(ValueError, match="fitted with the verifier 'self'"):
        ChatLLMRouter.load(folder, candidates=router.candidates)
    with pytest.raises(ValueError, match="which the router was fitted with"):
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


def test_who_watches_is_told_who_is_taught_and_how_far_it_has_come(outcomes):
    told = []
    fitted = fit_router(outcomes, estimators=ONE, watch=lambda *step: told.append(step))
    names, done, total = zip(*told, strict=True)
    assert set(names[:-1]) == {standing.name for standing in fitted.standings}
    assert names[-1] == f"testing {fitted.standings[0].name}"
    assert list(done) == list(range(len(told)))
    assert set(total) == {len(told)}


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
