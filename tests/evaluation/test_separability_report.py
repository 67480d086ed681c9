"""Separability: what an embedding knows of who answers best, or that it knows nothing."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Random
from langchain_llm_router.evaluation import Resampling, closeness, separability
from tests.support.fakes import TableEmbeddings, make_outcomes

FAST = Resampling(100)


def test_an_embedding_that_knows_carries_a_signal():
    found = separability(make_outcomes(200, ("weak", "strong")), resampling=FAST)
    assert found.carries_signal
    assert found.sentence.startswith("This embedding carries a signal")
    assert found.neighbor_agreement > found.chance_agreement
    assert found.predictor_auc.value > 0.5


def test_an_embedding_of_noise_is_called_so():
    outcomes = make_outcomes(200, ("weak", "strong"))
    rng = np.random.default_rng(0)
    noise = TableEmbeddings({query: rng.normal(size=8).tolist() for query in outcomes.queries})
    found = separability(outcomes, embeddings=noise, resampling=FAST)
    assert not found.carries_signal
    assert "no reliable signal" in found.sentence
    assert found.pair_auc == pytest.approx(0.5, abs=0.03)


def test_histograms_of_four_points_by_hand():
    """Pairs a-a and b-b have cosine 1, the four mixed ones 0."""
    table = {"a1": [1.0, 0.0], "a2": [1.0, 0.0], "b1": [0.0, 1.0], "b2": [0.0, 1.0]}
    outcomes = Outcomes(list(table), ("x", "y"), [[1, 0], [1, 0], [0, 1], [0, 1]])
    found = separability(outcomes, embeddings=TableEmbeddings(table), n_bins=2, resampling=FAST)
    np.testing.assert_allclose(found.edges, [0, 0.5, 1])
    np.testing.assert_allclose(found.same, [0, 1])
    np.testing.assert_allclose(found.different, [1, 0])
    assert found.pair_auc == 1
    assert found.predictor_auc is None


def test_the_closeness_of_one_query_by_hand():
    """To the first query one of its label has cosine 1, one 0.6; the other label has 0."""
    table = {"a1": [1.0, 0.0], "a2": [1.0, 0.0], "a3": [0.6, 0.8], "b1": [0.0, 1.0]}
    outcomes = Outcomes(list(table), ("x", "y"), [[1, 0], [1, 0], [1, 0], [0, 1]])
    found = closeness(outcomes, 0, embeddings=TableEmbeddings(table), n_bins=2)
    assert found.query == "a1"
    np.testing.assert_allclose(found.edges, [0, 0.5, 1])
    np.testing.assert_allclose(found.same, [0, 1])
    np.testing.assert_allclose(found.different, [1, 0])
    lonely = closeness(outcomes, 3, embeddings=TableEmbeddings(table))
    assert (lonely.same == 0).all()
    with pytest.raises(ValueError, match="got 4 for 4 rows"):
        closeness(outcomes, 4)


def test_a_predictor_of_ones_own_is_judged():
    outcomes = make_outcomes(150, ("weak", "strong"))
    found = separability(outcomes, predictor=Random(), resampling=FAST)
    assert found.predictor_auc.low < 0.5 < found.predictor_auc.high


def test_many_candidates_are_labeled_by_the_first_of_the_best():
    assert separability(make_outcomes(100), resampling=FAST).chance_agreement > 0


def test_one_label_alone_cannot_be_separated():
    outcomes = Outcomes(["a", "b", "c"], ("x", "y"), [[0, 1]] * 3)
    with pytest.raises(ValueError, match="2 labels"):
        separability(outcomes)
