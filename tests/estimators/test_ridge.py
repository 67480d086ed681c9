"""Ridge and logistic regression: closed forms against brute force, few rows and many."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import expit

from langchain_llm_router.estimators import ridge
from langchain_llm_router.estimators.ridge import NormalEquations, Spectrum

shapes = pytest.mark.parametrize(("n", "width"), [(12, 5), (12, 30)], ids=["tall", "wide"])


def problem(n, width, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)).astype(np.float32)
    features -= features.mean(axis=0)
    targets = rng.normal(size=(n, 2))
    return features, targets - targets.mean(axis=0)


@shapes
def test_ridge_solves_the_normal_equations(n, width):
    features, targets = problem(n, width)
    solved = Spectrum(features)
    found = solved.on_features(solved.ridge(0.7, targets), features)
    gram = features.T @ features + 0.7 * np.eye(width)
    np.testing.assert_allclose(found, np.linalg.solve(gram, features.T @ targets), atol=1e-4)


@shapes
def test_leave_one_out_equals_refitting_without_each_row(n, width):
    features, targets = problem(n, width)
    errors = []
    for i in range(n):
        rest = np.arange(n) != i
        x, y = features[rest].astype(np.float64), targets[rest]
        middle, level = x.mean(axis=0), y.mean(axis=0)
        gram = (x - middle).T @ (x - middle) + 0.7 * np.eye(width)
        weights = np.linalg.solve(gram, (x - middle).T @ (y - level))
        errors.append(targets[i] - level - (features[i] - middle) @ weights)
    expected = np.mean(np.square(errors))
    found = Spectrum(features).loo_error(0.7, targets, np.ones(n))
    assert found == pytest.approx(expected, rel=1e-3)


@shapes
def test_rows_that_stand_for_several_are_left_out_at_once(n, width):
    features, targets = problem(n, width)
    counts = np.arange(n) % 3 + 1.0
    features = features - np.average(features, axis=0, weights=counts)
    targets = targets - np.average(targets, axis=0, weights=counts)
    expected = 0.0
    for i in range(n):
        rows = np.repeat(np.arange(n), counts.astype(int))
        rest = rows[rows != i]
        x, y = features[rest].astype(np.float64), targets[rest]
        middle, level = x.mean(axis=0), y.mean(axis=0)
        gram = (x - middle).T @ (x - middle) + 0.7 * np.eye(width)
        weights = np.linalg.solve(gram, (x - middle).T @ (y - level))
        missed = targets[i] - level - (features[i] - middle) @ weights
        expected += counts[i] * np.square(missed).mean() / n
    roots = np.sqrt(counts)[:, None]
    solved = Spectrum((features * roots).astype(np.float32))
    assert solved.loo_error(0.7, targets * roots, counts) == pytest.approx(expected, rel=1e-3)


@shapes
def test_logistic_regression_is_at_the_minimum_of_its_loss(n, width):
    features, _ = problem(n, width)
    target = (np.random.default_rng(1).random(n) < 0.6).astype(float)
    solved = Spectrum(features)
    weights, intercept = solved.logistic(0.5, target)
    p = target.mean()
    penalty = 0.5 * p * (1 - p)
    misses = expit(solved.scores @ weights + intercept) - target
    np.testing.assert_allclose(solved.scores.T @ misses + penalty * weights, 0, atol=1e-3)
    assert misses.sum() == pytest.approx(0, abs=1e-3)


@pytest.fixture
def many(monkeypatch):
    """Equations of a sparse, a nearly full and a dense block, summed in seven batches."""
    monkeypatch.setattr(ridge, "_BATCH", 30)
    rng = np.random.default_rng(2)
    words = rng.normal(size=(200, 40)) * (rng.random((200, 40)) < 0.05)
    blocks = [words, rng.normal(size=(200, 6)) + 3, rng.normal(size=(200, 4)) * 7]
    blocks = [block.astype(np.float32) for block in blocks]
    targets = rng.normal(size=(200, 3))
    targets -= targets.mean(axis=0)

    def read(rows):
        return [csr_array(blocks[0][rows]), csr_array(blocks[1][rows]), blocks[2][rows]]

    equations = NormalEquations(read, targets, [0.5, 0.3, 0.2])
    features = (np.hstack(blocks) - equations.means) * equations.scales
    return equations, features, targets


def test_the_sums_of_many_rows_center_and_scale_every_block(many):
    _, features, _ = many
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    lengths = (features**2).mean(axis=0)
    parts = [lengths[:40].sum(), lengths[40:46].sum(), lengths[46:].sum()]
    np.testing.assert_allclose(parts, [0.5, 0.3, 0.2], rtol=1e-5)


def test_the_sums_of_many_rows_have_the_same_solution_as_the_rows(many):
    equations, features, targets = many
    gram = features.T @ features + 0.7 * np.eye(50)
    expected = np.linalg.solve(gram, features.T @ targets[:, 1:])
    np.testing.assert_allclose(equations.ridge(0.7, slice(1, None)), expected, atol=1e-5)


def test_logistic_regression_of_many_rows_is_at_the_minimum_of_its_loss(many):
    equations, features, _ = many
    target = (np.random.default_rng(1).random(200) < 0.6).astype(float)
    weights, intercept = equations.logistic(0.5, target)
    p = target.mean()
    misses = expit(features @ weights + intercept) - target
    slope = features.T @ misses + 0.5 * p * (1 - p) * weights
    np.testing.assert_allclose(slope, 0, atol=1e-2)
    assert misses.sum() == pytest.approx(0, abs=1e-2)


def test_a_block_that_never_varies_gets_no_weight():
    rng = np.random.default_rng(0)
    varying = rng.normal(size=(50, 3)).astype(np.float32)
    target = varying[:, :1] + rng.normal(size=(50, 1))
    equations = NormalEquations(
        lambda rows: [varying[rows], np.full((len(rows), 2), 0.7071, np.float32)],
        target - target.mean(),
        [0.5, 0.5],
    )
    np.testing.assert_array_equal(equations.scales[3:], 0)
    assert np.abs(equations.ridge(1.0, slice(None))[:3]).max() > 0.1
