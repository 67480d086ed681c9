"""A decision model's guesses: what it is asked, how few labels mend it, saved without its model."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.special import expit, logit

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.yes_probabilities import (
    YesNoRequest,
    ask_probabilities,
    decision_model_name,
)
from langchain_llm_router.estimators import DecisionModelEstimator
from langchain_llm_router.policies import Utility
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import ScriptedModel, StatingModel, make_outcomes

PAIR = ("small", "large")
HARD, EASY = "prove hard theorem", "add easy numbers"

needs_decisions = pytest.mark.skipif(
    find_spec("langchain_core.decisions") is None, reason="langchain-core is older than 1.8"
)


def skewed(p: dict[str, float], n: int = 60) -> Outcomes:
    """Labels whose means differ from what the model states."""
    table = make_outcomes(n, candidates=PAIR)
    rng = np.random.default_rng(0)
    quality = rng.random((n, 2)) < [p[name] for name in PAIR]
    return Outcomes(table.queries, PAIR, quality.astype(float))


def test_without_a_label_the_model_is_taken_at_its_word():
    estimator = DecisionModelEstimator(StatingModel()).for_candidates(PAIR)
    np.testing.assert_allclose(estimator.predict([HARD, EASY]), [[0.3, 0.8], [0.9, 0.9]])
    assert estimator.fitted_candidates == PAIR


def test_one_call_asks_about_all_candidates_and_tells_what_they_are():
    model = StatingModel()
    told = {"small": "3B parameters"}
    DecisionModelEstimator(model, told).for_candidates(PAIR).predict([HARD])
    (asked,) = model.asked
    assert "'small' (3B parameters)" in asked
    assert "'large'" in asked
    assert HARD in asked


def test_few_labels_move_each_candidate_to_its_own_level():
    before = DecisionModelEstimator(StatingModel()).for_candidates(PAIR)
    table = skewed({"small": 0.2, "large": 0.95})
    fitted = DecisionModelEstimator(StatingModel()).fit(table)
    off = np.abs(fitted.predict(table.queries).mean(axis=0) - table.quality.mean(axis=0))
    was = np.abs(before.predict(table.queries).mean(axis=0) - table.quality.mean(axis=0))
    assert off.max() < 0.06
    assert was.max() > 0.3


def test_labels_that_contradict_the_model_make_it_ignored_and_not_turned_around():
    table = make_outcomes(200, candidates=PAIR)
    fitted = DecisionModelEstimator(StatingModel()).fit(
        Outcomes(table.queries, PAIR, 1 - table.quality)
    )
    assert 0 <= fitted.slope_ < 0.1


def test_the_calibration_is_at_the_minimum_of_its_loss():
    table = skewed({"small": 0.4, "large": 0.7})
    fitted = DecisionModelEstimator(StatingModel()).fit(table)
    stated = logit(DecisionModelEstimator(StatingModel()).for_candidates(PAIR).predict(
        table.queries
    ))  # fmt: skip

    def loss(slope, offsets):
        p = expit(slope * stated + offsets)
        cross = -table.quality * np.log(p) - (1 - table.quality) * np.log(1 - p)
        return cross.sum() + 5 * (slope - 1) ** 2 + (offsets @ offsets)

    best = loss(fitted.slope_, fitted.offsets_)
    for step in ([0.01, 0, 0], [-0.01, 0, 0], [0, 0.01, 0], [0, -0.01, 0], [0, 0, 0.01]):
        assert best < loss(fitted.slope_ + step[0], fitted.offsets_ + step[1:])


def test_what_the_model_does_not_state_is_unknown_and_not_0():
    table = make_outcomes(40, candidates=PAIR)
    some = Outcomes([*table.queries, "unknown"], PAIR, np.vstack([table.quality, [[0, 0]]]))
    fitted = DecisionModelEstimator(StatingModel()).fit(some)
    only = DecisionModelEstimator(StatingModel()).fit(table)
    np.testing.assert_allclose(fitted.offsets_, only.offsets_, atol=1e-4)
    assert np.isnan(fitted.predict(["unknown"])).all()


def test_it_is_saved_without_its_model_and_loaded_with_it(tmp_path):
    model = StatingModel()
    fitted = DecisionModelEstimator(model, {"small": "tiny"}).fit(make_outcomes(40))
    folder = fitted.save(tmp_path / "it")
    loaded = DecisionModelEstimator.load(folder, model=model)
    np.testing.assert_allclose(loaded.predict([HARD]), fitted.predict([HARD]))
    assert loaded.descriptions == {"small": "tiny"}
    with pytest.raises(ArtifactError, match=r"must be the one of the fit, 'StatingModel scripted'"):
        DecisionModelEstimator.load(folder, model=StatingModel(model="another"))
    bare = DecisionModelEstimator.load(folder)
    with pytest.raises(ValueError, match="`model` is not set: set it to StatingModel scripted"):
        bare.predict([HARD])
    bare.model = model
    np.testing.assert_allclose(bare.predict([HARD]), fitted.predict([HARD]))


async def test_a_saved_router_routes_by_it_once_its_model_is_set(tmp_path):
    model = StatingModel()
    estimator = DecisionModelEstimator(model).for_candidates(PAIR)
    SavedRouter(PAIR, Utility(cost=100.0), estimator, expected_cost_usd=dict.fromkeys(PAIR, 1e-3))\
        .save(tmp_path / "it")  # fmt: skip
    saved = SavedRouter.load(tmp_path / "it")
    saved.estimator.model = model
    live = {name: Candidate(name, ScriptedModel(script=[name])) for name in PAIR}
    router = ChatLLMRouter(**saved.arguments(live))
    for answer in (router.invoke(HARD), await router.ainvoke(HARD)):
        assert route_of(answer)["candidate"] == "large"


def test_wrong_settings_and_models_are_named():
    with pytest.raises(ValueError, match="`max_concurrency` must be >= 1, got 0"):
        DecisionModelEstimator(StatingModel(), max_concurrency=0)
    with pytest.raises(TypeError, match="`model` must be a decision model"):
        DecisionModelEstimator("gpt").for_candidates(PAIR).predict([HARD])
    with pytest.raises(ValueError, match="`model` is not set"):
        DecisionModelEstimator().fit(make_outcomes(10))


@needs_decisions
async def test_a_decision_model_is_asked_in_its_own_terms_sync_and_async():
    from tests.support.decisions import FakeDecisions

    asked = ask_probabilities(FakeDecisions(model="fake-1"))
    request = YesNoRequest("add easy numbers", {"q": "Is it?"})
    for found in (asked.invoke(request), await asked.ainvoke(request)):
        assert found.yes == {"q": 0.9}
        assert found.usage["total_tokens"] == 8
    assert decision_model_name(FakeDecisions(model="fake-1")) == "FakeDecisions fake-1"
    estimator = DecisionModelEstimator(FakeDecisions(model="fake-1")).for_candidates(PAIR)
    np.testing.assert_allclose(estimator.predict([EASY, HARD]), [[0.9, 0.9], [0.2, 0.2]])


def test_openai_s_decisions_are_asked_in_theirs():
    decisions = pytest.importorskip("langchain_openai.decisions")
    from langchain_core.runnables import RunnableLambda

    from langchain_llm_router.data import yes_probabilities as module

    request = YesNoRequest("text", {"q": "Is it?"})
    sent = module._openai_request(request)
    assert sent["input"] == "text"
    assert sent["questions"]["q"].instructions == "Is it?"
    answer = decisions.PredicateAnswer(type="predicate", probability=0.7)
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    response = decisions.DecisionResponse(model="m", answers={"q": answer}, usage=usage)
    found = RunnableLambda(module._read_openai).invoke(response)
    assert found.yes == {"q": 0.7}
    with warnings.catch_warnings():
        # LangChain says once per process that it is in beta.
        warnings.simplefilter("ignore")
        model = decisions.OpenAIDecisions(model="m", api_key="none")
    assert len(ask_probabilities(model).steps) == 3
