"""Every row is answered by routers that were fitted on other rows."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Utility
from langchain_llm_router.training.contenders import Tables, contenders
from langchain_llm_router.training.cross_fit import cross_fit, fold_rows
from langchain_llm_router.types.progress import Progress
from tests.support.fakes import make_evaluations, make_outcomes

LAMBDAS = np.array([0.0, 20.0, 200.0])


class Spy(NearestNeighbors):
    """k-NN that notes what it was fitted on and what it predicts."""

    fits: list[tuple[set[str], list[str]]] = []  # noqa: RUF012 - one list for all

    def fit(self, data):
        self.seen = set(data.queries)
        return super().fit(data)

    def predict(self, queries):
        self.fits.append((self.seen, list(queries)))
        return super().predict(queries)


def tables(outcomes, evaluations=None):
    return Tables(outcomes, evaluations or {}, {"near": Spy})


def tried(given, seed=0):
    folds = fold_rows(given, 5, seed)
    n = len(list(contenders(given)))
    return cross_fit(given, LAMBDAS, folds, Progress(None, n)), folds


def test_no_row_is_answered_by_a_router_that_saw_its_question():
    outcomes = make_outcomes(60, ("small", "large"))
    twice = outcomes.take(np.concatenate([np.arange(60), np.arange(20)]))
    Spy.fits.clear()
    _, folds = tried(tables(twice))
    assert sorted(np.concatenate(folds)) == list(range(80))
    assert len(Spy.fits) == 5
    for seen, asked in Spy.fits:
        assert not seen & set(asked)
        assert seen | set(asked) == set(twice.queries)


def test_labels_that_are_noise_help_no_router():
    rng = np.random.default_rng(0)
    quality = (rng.random((400, 2)) < 0.5).astype(float)
    outcomes = Outcomes(
        [f"question {i} {rng.random()}" for i in range(400)], ("small", "large"), quality,
        np.tile([0.001, 0.01], (400, 1)),
    )  # fmt: skip
    found, _ = tried(tables(outcomes))
    assert abs(found.trials.quality.mean() - 0.5) < 0.06


def test_routing_all_rows_at_once_is_the_same_as_row_by_row():
    outcomes = make_outcomes(80, ("small", "medium", "large"))
    given = tables(outcomes)
    found, folds = tried(given)
    everything = np.arange(80)
    for rows in folds:
        training = np.setdiff1d(everything, rows)
        predicted = given.estimator("near", training).predict(outcomes.take(rows).queries)
        for k, lambda_ in enumerate(LAMBDAS):
            done = replay(
                Utility(cost=float(lambda_)), predicted, outcomes.take(rows),
                expected_cost_usd=outcomes.take(training).mean_cost_usd,
            )  # fmt: skip
            np.testing.assert_array_equal(found.accepted[k, rows], done.accepted)
            np.testing.assert_array_equal(found.trials.quality[k, rows], done.quality)
            np.testing.assert_array_equal(found.trials.strong[k, rows], done.asked[:, -1])


def test_cascades_count_the_verification_and_the_drafts():
    outcomes = make_outcomes(60, ("small", "large"))
    found, _ = tried(tables(outcomes, {"self": make_evaluations(outcomes)}))
    names = [contender.name for contender in found.contender]
    asked_both = [i for i, name in enumerate(names) if name.startswith("POMDP")]
    assert asked_both
    both = outcomes.cost_usd.sum(axis=1)
    assert (found.trials.cost_usd[asked_both] <= both + 1).all()
    assert (found.trials.cost_usd >= outcomes.cost_usd.min(axis=1) - 1e-12).all()


def test_too_few_questions_or_folds_are_refused():
    outcomes = make_outcomes(60, ("small", "large"))
    with pytest.raises(ValueError, match="at least 2 different queries, got 1"):
        fold_rows(tables(outcomes.take([0, 0])), 5, 0)
    with pytest.raises(ValueError, match="n_folds"):
        fold_rows(tables(outcomes), 1, 0)
    assert len(fold_rows(tables(outcomes.take([0, 1, 2])), 5, 0)) == 3
