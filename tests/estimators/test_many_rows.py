"""Beyond a few thousand rows estimators take other ways, which lead to the same predictions."""

from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_array

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import (
    BradleyTerry,
    Clusters,
    Ensemble,
    Linear,
    MatrixFactorization,
    NearestNeighbors,
    QualityEstimator,
    ensemble,
)
from langchain_llm_router.estimators.neighbors import _spherical_kmeans
from langchain_llm_router.evaluation import brier
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes

TRAIN, TEST = make_outcomes(300, seed=1), make_outcomes(60, seed=2)

# Equations of 4,096 words, the default, take a second to solve.
WORDS = LexicalEmbeddings(256).fit(TRAIN.queries)

SAME = {
    "NearestNeighbors": lambda: NearestNeighbors(n_neighbors=300),
    "Linear": lambda: Linear(n_surface=32),
    "Linear, given ridge": lambda: Linear(WORDS, n_surface=32, alpha=3.0),
    "Linear, logit": lambda: Linear(WORDS, link="logit", n_surface=32),
    "Linear, beside an embedding": lambda: Linear(embeddings=hard_or_not(), n_surface=32),
    "Linear, fitted words": lambda: Linear(LexicalEmbeddings(64).fit(TEST.queries), n_surface=32),
    "BradleyTerry": BradleyTerry,
    "BradleyTerry, leave-one-out": lambda: BradleyTerry(gamma="loo", top_k="loo"),
}
same = pytest.mark.parametrize("name", SAME)


def hard_or_not():
    queries = [*TRAIN.queries, *TEST.queries]
    return TableEmbeddings({query: [float("hard" in query), 1.0] for query in queries})


@pytest.fixture
def few(monkeypatch):
    """Makes everything above twenty rows many."""
    monkeypatch.setattr(QualityEstimator, "_FEW_ROWS", 20)


@cache
def fitted_on_many(name: str) -> QualityEstimator:
    """An estimator for tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QualityEstimator, "_FEW_ROWS", 20)
        return SAME[name]().fit(TRAIN)


@same
def test_the_way_of_many_rows_predicts_what_the_exact_way_does(name, monkeypatch):
    exact = SAME[name]().fit(TRAIN).predict(TEST.queries)
    monkeypatch.setattr(QualityEstimator, "_FEW_ROWS", 20)
    np.testing.assert_allclose(fitted_on_many(name).predict(TEST.queries), exact, atol=2e-3)


@same
def test_what_many_rows_made_is_saved_and_loaded(name, few, tmp_path):
    fitted = fitted_on_many(name)
    folder = fitted.save(tmp_path / "it")
    given = None if isinstance(fitted.embeddings_, LexicalEmbeddings) else hard_or_not()
    loaded = type(fitted).load(folder, embeddings=given)
    np.testing.assert_allclose(
        loaded.predict(TEST.queries), fitted.predict(TEST.queries), atol=1e-6
    )


def test_words_of_many_rows_are_kept_without_their_zeros_and_can_be_extended(few):
    fitted = NearestNeighbors(n_neighbors=1).fit(TRAIN)
    assert isinstance(fitted.memory_.vectors_, csr_array)
    longer = fitted.extended(["a question like no other"], [[0.25, 0.5, 0.75]])
    assert isinstance(longer.memory_.vectors_, csr_array)
    np.testing.assert_allclose(longer.predict(["a question like no other"]), [[0.25, 0.5, 0.75]])


def test_a_memory_saved_with_all_of_its_zeros_is_still_read(tmp_path, few):
    fitted = NearestNeighbors().fit(TRAIN)
    expected = fitted.predict(TEST.queries)
    fitted.memory_.vectors_ = fitted.memory_.vectors_.toarray()
    loaded = NearestNeighbors.load(fitted.save(tmp_path / "it"))
    assert isinstance(loaded.memory_.vectors_, np.ndarray)
    np.testing.assert_allclose(loaded.predict(TEST.queries), expected, atol=1e-6)


def test_a_damaged_memory_without_zeros_is_refused(tmp_path, few):
    fitted = NearestNeighbors().fit(TRAIN)
    fitted.memory_.vectors_.indices[0] = 5000
    with pytest.raises(ArtifactError, match="indices"):
        NearestNeighbors.load(fitted.save(tmp_path / "it"))


def test_matrix_factorization_learns_as_much_from_queries_as_from_battles(monkeypatch):
    def learned():
        made = MatrixFactorization(LexicalEmbeddings(64), n_factors=8, n_epochs=30)
        return made.fit(TRAIN).predict(TEST.queries)

    hard = np.array([group == "hard" for group in TEST.groups])
    battles = learned()
    monkeypatch.setattr(QualityEstimator, "_FEW_ROWS", 20)
    queries = learned()
    for predicted in (battles, queries):
        assert (predicted[hard, 2] - predicted[hard, 0]).mean() > 0.2
    np.testing.assert_allclose(queries, battles, atol=0.2)


def test_an_ensemble_of_many_rows_is_weighed_on_some_of_them(monkeypatch):
    whole = Ensemble([Linear(n_surface=32), NearestNeighbors()]).fit(TRAIN)
    monkeypatch.setattr(ensemble, "_STACKED_ROWS", 200)
    some = Ensemble([Linear(n_surface=32), NearestNeighbors()]).fit(TRAIN)
    assert not np.allclose(some.weights_, whole.weights_)
    apart = brier(some.predict(TEST.queries), TEST.quality)
    assert apart == pytest.approx(brier(whole.predict(TEST.queries), TEST.quality), abs=0.01)


def test_many_queries_are_predicted_some_after_others(few):
    fitted = fitted_on_many("Linear")
    alone = [fitted.predict([query])[0] for query in TEST.queries]
    np.testing.assert_allclose(fitted.predict(TEST.queries), alone, atol=1e-6)


def test_clusters_of_sparse_rows_are_those_of_the_full_ones():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 12)) * (rng.random((300, 12)) < 0.4) + np.eye(12)[:1]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    full, sparse = (
        _spherical_kmeans(each, 5, np.random.default_rng(1))
        for each in (vectors, csr_array(vectors))
    )
    np.testing.assert_allclose(sparse[0], full[0], atol=1e-5)
    np.testing.assert_array_equal(sparse[1], full[1])


def test_clusters_of_many_rows_are_saved_and_loaded(few, tmp_path):
    fitted = Clusters(n_clusters=4).fit(TRAIN)
    loaded = Clusters.load(fitted.save(tmp_path / "it"))
    np.testing.assert_allclose(
        loaded.predict(TEST.queries), fitted.predict(TEST.queries), atol=1e-6
    )


def test_equal_rows_do_no_harm_among_many(few):
    twice = Outcomes(TRAIN.queries[:40] * 2, TRAIN.candidates, np.tile(TRAIN.quality[:40], (2, 1)))
    for make in SAME.values():
        assert np.isfinite(make().fit(twice).predict(TEST.queries)).all()
