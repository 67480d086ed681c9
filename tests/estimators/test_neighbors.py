"""Clusters, against topics worked out by hand."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Clusters
from langchain_llm_router.estimators.neighbors import _spherical_kmeans
from tests.support.fakes import TableEmbeddings, make_outcomes

TOPICS = {"a1": [1.0, 0.0], "a2": [0.98, 0.2], "b1": [0.0, 1.0], "b2": [0.2, 0.98]}
QUALITY = np.array([[1, 0], [0.5, 0], [0, 1], [0, 0.5]])


def topics(**settings):
    outcomes = Outcomes(list(TOPICS), ("x", "y"), QUALITY)
    return Clusters(embeddings=TableEmbeddings(TOPICS), **settings).fit(outcomes)


def test_two_topics_become_two_clusters_with_their_mean_quality():
    fitted = topics(n_clusters=2, n_nearest=1, prior_rows=0.0)
    np.testing.assert_allclose(fitted.predict(["a1", "b2"]), [[0.75, 0], [0, 0.75]])
    np.testing.assert_array_equal(np.sort(fitted.counts_), [2, 2])


def test_the_prior_pulls_small_clusters_to_the_mean():
    """Two rows of quality .75 and two prior rows of the mean .375."""
    fitted = topics(n_clusters=2, n_nearest=1, prior_rows=2.0)
    assert fitted.predict(["a1"])[0, 0] == pytest.approx((1.5 + 0.75) / 4)


def test_near_clusters_are_mixed_by_their_softmax():
    fitted = topics(n_clusters=2, n_nearest=2, prior_rows=0.0, sharpness=2.0)
    cosine = np.array(TOPICS["a1"]) @ fitted.centers_.T
    weights = np.exp(2 * cosine) / np.exp(2 * cosine).sum()
    expected = weights[np.argmax(fitted.quality_[:, 0])] * 0.75
    assert fitted.predict(["a1"])[0, 0] == pytest.approx(expected)


def test_there_are_never_more_clusters_than_distinct_vectors():
    fitted = topics(n_clusters=32)
    assert len(fitted.centers_) == 4
    assert fitted.counts_.min() >= 1


def test_kmeans_ends_where_no_row_is_nearer_to_another_center():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centers, member = _spherical_kmeans(vectors, 6, rng)
    np.testing.assert_array_equal((vectors @ centers.T).argmax(axis=1), member)
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-5)
    for cluster, center in enumerate(centers):
        mean = vectors[member == cluster].mean(axis=0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), center, atol=1e-5)


def test_the_same_seed_gives_the_same_clusters():
    outcomes = make_outcomes(60)
    first, second = (Clusters(n_clusters=5, seed=3).fit(outcomes) for _ in range(2))
    np.testing.assert_array_equal(first.centers_, second.centers_)


@pytest.mark.parametrize(
    "wrong", [{"n_clusters": 0}, {"n_nearest": 0}, {"sharpness": -1.0}, {"prior_rows": -1.0}]
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Clusters(**wrong)
