"""RouteLLM's matrix factorization: gradients against finite differences, and what it learns."""

import numpy as np
import pytest

from langchain_llm_router.data import Battles
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import MatrixFactorization
from langchain_llm_router.estimators import matrix_factorization as module
from langchain_llm_router.estimators.preference import IndexedBattles
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes


def two_topics(n=400, seed=0):
    """On topic 0 a wins against b and c, on topic 1 c does; the vectors tell the topic."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(2, size=n)
    vectors = np.eye(2)[topic] + rng.normal(0, 0.15, (n, 2))
    table = {f"q{i}": v.tolist() for i, v in enumerate(vectors)}
    strength = np.array([[2.0, 0.0, -2.0], [-2.0, 0.0, 2.0]])
    a, b = np.array([rng.choice(3, 2, replace=False) for _ in range(n)]).T
    p = 1 / (1 + np.exp(strength[topic, b] - strength[topic, a]))
    names = np.array(["a", "b", "c"])
    score = (rng.random(n) < p).astype(float)
    table |= {"zero": [1.0, 0.0], "one": [0.0, 1.0]}
    return TableEmbeddings(table), Battles(list(table)[:n], names[a], names[b], score)


def fitted(**kwargs):
    embeddings, battles = two_topics()
    arguments = {"n_factors": 8, "n_epochs": 60, "learning_rate": 0.01, **kwargs}
    return MatrixFactorization(embeddings, candidates=("a", "b", "c"), **arguments).fit(battles)


def test_it_learns_who_wins_where():
    estimator = fitted()
    quality = estimator.predict(["zero", "one"])
    assert quality[0].argmax() == 0
    assert quality[1].argmax() == 2
    assert quality[0, 0] - quality[0, 2] > 0.4
    strengths = estimator.predict_strengths(["zero"])[0]
    assert 1 / (1 + np.exp(strengths[1] - strengths[0])) == pytest.approx(0.88, abs=0.12)


def test_the_gradient_is_the_finite_difference_of_the_loss():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 5)).astype(np.float32)
    battles = IndexedBattles(
        [f"q{i}" for i in range(6)], ["a", "b", "c"], np.array([0, 1, 2, 3, 4, 5, 0]),
        np.array([0, 1, 2, 0, 2, 1, 1]), np.array([1, 2, 0, 2, 1, 0, 2]),
        np.array([1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 0.5]),
    )  # fmt: skip
    batch = module._Batches(battles, np.arange(7), by_query=True).of(np.arange(7))
    weights = {
        name: value.astype(np.float64)
        for name, value in module._initial_weights(rng, 5, 4, 3).items()
    }
    gradient = module._gradient(weights, vectors, battles, batch)
    for name, value in weights.items():
        for _ in range(6):
            place = tuple(rng.integers(n) for n in value.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = {k: v.copy() for k, v in weights.items()}
                moved[name][place] += step
                ends.append(module._loss(moved, vectors, battles, batch))
            slope = (ends[0] - ends[1]) / 2e-5
            assert gradient[name][place] == pytest.approx(slope, rel=2e-3, abs=1e-5), name


def test_the_formula_is_the_papers():
    """δ(M, q) = w₂ᵀ (v̂_M ⊙ (W₁ᵀ v_q + b)) written out (equation 5)."""
    estimator = fitted(n_epochs=2)
    weights = estimator.weights_
    q = np.array([1.0, 0.0])
    for column in range(3):
        delta = sum(
            weights["output"][d]
            * weights["models"][column, d]
            * (weights["projection"][:, d] @ q + weights["bias"][d])
            for d in range(8)
        )
        assert estimator.predict_strengths(["zero"])[0, column] == pytest.approx(delta, rel=1e-4)
    np.testing.assert_allclose(np.linalg.norm(weights["models"], axis=1), 1, rtol=1e-5)


def test_adam_takes_a_step_of_the_learning_rate_first():
    weights = {"w": np.array([1.0, -2.0], np.float32)}
    adam = module._Adam(weights, 0.1, 0.0)
    moved = adam.step(weights, {"w": np.array([3.0, -0.2], np.float32)})
    np.testing.assert_allclose(moved["w"], [0.9, -1.9], atol=1e-5)


def test_dropped_ties_leave_the_win_rate_of_decided_battles():
    n = 3000
    rng = np.random.default_rng(0)
    score = np.where(rng.random(n) < 0.6, 0.5, np.where(rng.random(n) < 0.9, 1.0, 0.0))
    battles = Battles([f"q{i}" for i in range(n)], ["a"] * n, ["b"] * n, score)
    embeddings = TableEmbeddings({}, fallback=[1.0, 0.0])
    kwargs = {"n_factors": 4, "learning_rate": 0.02, "n_epochs": 40, "noise": 0.0}
    rates = {}
    for ties in ("half", "drop"):
        estimator = MatrixFactorization(embeddings, ties=ties, **kwargs).fit(battles)
        a, b = estimator.predict(["x"])[0]
        rates[ties] = (1 + a - b) / 2
    assert rates["half"] == pytest.approx(score.mean(), abs=0.05)
    assert rates["drop"] == pytest.approx(score[score != 0.5].mean(), abs=0.05)


def test_only_ties_dropped_or_no_battles_between_two_say_nothing_and_stay_finite():
    battles = Battles(["q", "r"], ["a", "a"], ["b", "b"], [0.5, 0.5])
    estimator = MatrixFactorization(LexicalEmbeddings(16), ties="drop", n_factors=4).fit(battles)
    assert np.isfinite(estimator.predict(["q"])).all()
    assert len(estimator.held_out_loss_) == 0


def test_training_stops_when_held_out_queries_no_longer_improve():
    embeddings, battles = two_topics()
    noise = Battles(
        battles.queries, battles.candidate_a, battles.candidate_b,
        np.random.default_rng(9).integers(2, size=len(battles)).astype(float),
    )  # fmt: skip
    estimator = MatrixFactorization(embeddings, n_factors=8, n_epochs=500, learning_rate=0.05)
    estimator.fit(noise)
    assert 10 < len(estimator.held_out_loss_) < 200


def test_outcomes_and_battles_fit_the_same_and_the_seed_decides():
    outcomes, embeddings = make_outcomes(), LexicalEmbeddings(32)
    queries = ["prove hard theorem 3"]

    def predicted(data, seed=0):
        kwargs = {"n_factors": 4, "n_epochs": 3, "seed": seed}
        return MatrixFactorization(embeddings, **kwargs).fit(data).predict(queries)

    np.testing.assert_allclose(predicted(outcomes), predicted(outcomes.to_battles()), atol=1e-6)
    assert not np.allclose(predicted(outcomes), predicted(outcomes, seed=1), atol=1e-6)


def test_an_artifact_of_another_shape_is_refused(tmp_path):
    estimator = fitted(n_epochs=1)
    estimator.weights_["bias"] = estimator.weights_["bias"][:-1]
    with pytest.raises(ArtifactError, match="the weights have the shapes"):
        MatrixFactorization.load(estimator.save(tmp_path / "it"), embeddings=two_topics()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_factors": 0}, "`n_factors`"),
        ({"n_epochs": 0}, "`n_epochs`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"noise": -1.0}, "`noise`"),
        ({"ties": "win"}, "`ties` must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MatrixFactorization(**arguments)
