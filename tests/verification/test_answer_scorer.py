"""The scorer that learns from answers which ones are good."""

import numpy as np
import pytest

from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.evaluation.metrics import auc
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from langchain_llm_router.verification import (
    AnswerScorer,
)
from tests.support.verifying import case, run

NARROW = LexicalEmbeddings(width=256)


def answers(n=200, seed=0):
    """Answers that hedge are wrong more often."""
    rng = np.random.default_rng(seed)
    good = rng.random(n) < 0.5
    hedges = rng.random(n) < np.where(good, 0.1, 0.8)
    said = [f"perhaps it is {i % 7}" if h else f"it is {i % 7}" for i, h in enumerate(hedges)]
    return [f"question number {i % 50}" for i in range(n)], said, good.astype(float)


def test_the_scorer_tells_good_from_poor_on_rows_it_has_not_seen():
    scorer = AnswerScorer(NARROW).fit(*answers(seed=0))
    queries, said, good = answers(seed=1)
    assert auc(scorer.score(queries, said), good) > 0.75


def test_held_out_scores_are_as_good_as_those_of_new_rows_and_training_scores_are_not():
    rng = np.random.default_rng(0)
    queries = [f"about {' '.join(map(str, rng.integers(0, 900, 6)))}" for _ in range(150)]
    said, noise = ["yes"] * 150, (rng.random(150) < 0.5).astype(float)
    scorer = AnswerScorer(NARROW, l2=0.01).fit(queries, said, noise)
    assert auc(scorer.score(queries, said), noise) > 0.95  # learned by heart
    assert 0.35 < auc(scorer.held_out_scores_, noise) < 0.65  # there is nothing to learn


def test_equal_questions_stay_in_one_fold():
    queries = ["same"] * 10 + [f"q{i}" for i in range(10)]
    said = [f"a{i}" for i in range(20)]
    good = np.array([1.0] * 10 + [0.0] * 10)
    scorer = AnswerScorer(n_folds=2).fit(queries, said, good)
    assert (scorer.held_out_scores_[:10] < 0.5).all()  # fitted on the others only, all poor


def test_constant_labels_and_a_single_row_are_safe():
    for n in (1, 5):
        scorer = AnswerScorer().fit(["q"] * n, ["a"] * n, np.ones(n))
        assert 0.5 < scorer.score(["q"], ["a"])[0] < 1


def test_the_scorer_minimizes_its_penalized_log_loss():
    queries, said, good = answers(60)
    scorer = AnswerScorer(NARROW, l2=2.0).fit(queries, said, good)
    vectors = scorer._vectors([f"{q} {a}" for q, a in zip(queries, said, strict=True)])
    excess = 1 / (1 + np.exp(-(vectors @ scorer.weights_ + scorer.intercept_))) - good
    slope = vectors.T @ excess + 2.0 * scorer.weights_
    assert np.abs(slope).max() < 1e-2


def test_a_saved_scorer_scores_the_same(tmp_path):
    queries, said, good = answers(100)
    scorer = AnswerScorer().fit(queries, said, good)
    again = AnswerScorer.load(scorer.save(tmp_path / "scorer"))
    np.testing.assert_array_equal(again.score(queries, said), scorer.score(queries, said))
    np.testing.assert_array_equal(again.held_out_scores_, scorer.held_out_scores_)
    (tmp_path / "scorer" / "arrays.npz").write_bytes(b"cut off")
    with pytest.raises(ArtifactError, match="corrupted"):
        AnswerScorer.load(tmp_path / "scorer")


def test_an_unfitted_scorer_says_what_to_do():
    with pytest.raises(NotFittedError, match="fit"):
        run(AnswerScorer(), case())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["q"], ["a", "b"], [1.0]), "same length"),
        (([], [], []), "at least 1"),
        ((["q"], ["a"], [float("nan")]), "without NaN"),
        ((["q"], ["a"], [2.0]), r"\[0, 1\]"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnswerScorer().fit(*arguments)
