"""Candidates added from a few answers: the mix, what it is fitted to, and what is refused."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import (
    Abstaining,
    AddedCandidates,
    Constant,
    Ensemble,
    Linear,
    NearestNeighbors,
    QualityEstimator,
)
from langchain_llm_router.estimators.added_candidates import _fit_mix
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.fakes import make_outcomes

TABLE = make_outcomes(400)
KNOWN = TABLE.select(["small", "large"])
QUESTIONS = make_outcomes(200, seed=9).queries


class Half(Constant):
    """An estimator of a user's own."""


def renamed(table: Outcomes, old: str, new: str = "new") -> Outcomes:
    """The table with a column under another name, beside the other columns."""
    names = [new if name == old else name for name in table.candidates]
    return Outcomes(table.queries, names, table.quality)


def twin(name: str, table: Outcomes) -> Outcomes:
    """The answers of a new candidate that answers as a known one does."""
    return Outcomes(table.queries, ["new"], table.select([name]).quality)


@pytest.fixture(scope="module")
def near() -> QualityEstimator:
    return NearestNeighbors().fit(KNOWN)


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_candidate_that_answers_like_a_known_one_is_predicted_like_it(near, name):
    rows = np.arange(100)
    answers = Outcomes(
        [TABLE.queries[i] for i in rows],
        ["new", "small", "large"],
        np.column_stack([TABLE.select([name]).quality[rows], KNOWN.quality[rows]]),
    )
    predicted = near.add_candidate("new", answers).predict(QUESTIONS)
    other = predicted[:, 1 - ["small", "large"].index(name)]
    same = predicted[:, ["small", "large"].index(name)]
    assert np.abs(predicted[:, 2] - same).mean() < 0.1
    assert np.abs(predicted[:, 2] - same).mean() < 0.5 * np.abs(predicted[:, 2] - other).mean()


def test_without_the_known_columns_the_predictions_explain_it(near):
    added = near.add_candidate("new", twin("small", TABLE.take(np.arange(100))))
    predicted = added.predict(QUESTIONS)
    assert np.corrcoef(predicted[:, 0], predicted[:, 2])[0, 1] > 0.9


def test_the_known_candidates_are_predicted_as_before(near):
    before = near.predict(QUESTIONS)
    added = near.add_candidate("new", twin("small", TABLE.take(np.arange(20))))
    again = added.add_candidate("newer", Outcomes(QUESTIONS, ["newer"], np.ones((200, 1))))
    assert near.fitted_candidates == ("small", "large")
    assert added.fitted_candidates == ("small", "large", "new")
    assert again.fitted_candidates == ("small", "large", "new", "newer")
    np.testing.assert_array_equal(added.predict(QUESTIONS)[:, :2], before)
    np.testing.assert_allclose(again.predict(QUESTIONS)[:, :3], added.predict(QUESTIONS))
    assert len({each.data_hash_ for each in (near, added, again)}) == 3


def test_the_mix_solves_its_ridge_regression():
    rng = np.random.default_rng(0)
    seen, quality = rng.random((30, 4)), rng.random(30)
    mix, offset = _fit_mix(seen, quality)
    off = seen - seen.mean(axis=0)

    def loss(weights):
        error = quality - quality.mean() - off @ weights
        return error @ error + 20 * np.square(weights - 1 / 4).sum()

    for step in 1e-3 * np.vstack([np.eye(4), -np.eye(4)]):
        assert loss(mix) < loss(mix + step)
    assert offset == pytest.approx((quality.mean() - seen.mean(axis=0) @ mix) * 30 / 33)


def test_one_answer_moves_a_candidate_little_and_many_move_it_to_their_mean(near):
    level = near.predict(QUESTIONS).mean(axis=1)
    one = near.add_candidate("new", Outcomes(QUESTIONS[:1], ["new"], [[0.0]]))
    assert np.abs(one.predict(QUESTIONS)[:, 2] - level).max() < 0.3
    many = near.add_candidate("new", Outcomes(QUESTIONS, ["new"], np.full((200, 1), 0.3)))
    assert many.predict(QUESTIONS)[:, 2].mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    "inner", [Half(), Ensemble([Half(), Linear(n_surface=16)]), Abstaining(Half())]
)
def test_an_estimator_of_your_own_is_saved_within_it(inner, tmp_path):
    few = TABLE.take(np.arange(40))
    added = inner.fit(KNOWN).add_candidate("new", renamed(few, "medium"))
    added.report_ = {"apgr": 0.6}
    loaded = AddedCandidates.load(added.save(tmp_path / "it"))
    np.testing.assert_array_equal(loaded.predict(QUESTIONS), added.predict(QUESTIONS))
    assert loaded.report_ == added.report_
    assert loaded.fitted_candidates == added.fitted_candidates
    again = loaded.add_candidate("newer", Outcomes(few.queries, ["newer"], np.ones((40, 1))))
    assert again.predict(QUESTIONS).shape == (200, 4)


def test_rows_on_which_it_abstains_are_left_out():
    abstaining = Abstaining(NearestNeighbors(), p_query=0.05).fit(KNOWN)
    strange = Outcomes(["∀∃ qqq zzz xxx"] * 3, ["new"], np.zeros((3, 1)))
    assert np.isnan(abstaining.predict(strange.queries)).all()
    with pytest.raises(ValueError, match="abstains on all 3 questions of 'new'"):
        abstaining.add_candidate("new", strange)
    few = twin("large", TABLE.take(np.arange(30)))
    both = Outcomes([*few.queries, *strange.queries], ["new"], np.vstack([few.quality, [[0]] * 3]))
    predicted = abstaining.add_candidate("new", both).predict([few.queries[0], strange.queries[0]])
    assert predicted[0, 2] > 0.5
    assert np.isnan(predicted[1]).all()


def test_what_cannot_be_added_is_said(near):
    with pytest.raises(ValueError, match="must be a new candidate, got 'small'"):
        near.add_candidate("small", TABLE)
    with pytest.raises(ValueError, match=r"got \['absent'\]"):
        near.add_candidate("absent", TABLE)
    with pytest.raises(ValueError, match="must have at least 1 row"):
        near.add_candidate("medium", TABLE.take(np.zeros(400, bool)))
    with pytest.raises(NotFittedError):
        NearestNeighbors().add_candidate("medium", TABLE)


def test_an_artifact_with_other_mixes_than_candidates_is_refused(near, tmp_path):
    added = near.add_candidate("medium", TABLE)
    added.mix_ = added.mix_[:, :1]
    with pytest.raises(ArtifactError, match="the mixes have shape"):
        AddedCandidates.load(added.save(tmp_path / "it"))
