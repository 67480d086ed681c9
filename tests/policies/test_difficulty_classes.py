"""Latent classes of difficulty, fitted with and without knowing which answers are right."""

from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.policies.answer_partitions import answer_partitions
from langchain_llm_router.policies.difficulty_classes import AnswerPatterns, ClassModel
from tests.support.pools import make_pool


def patterns_of(n=300, seed=0, *, labelled=True, **kwargs):
    outcomes, evaluations = make_pool(n, seed=seed, **kwargs)
    return AnswerPatterns.build(
        evaluations.answer_groups, outcomes.quality >= 0.5 if labelled else None
    )


def test_equal_rows_are_counted_once():
    groups = np.array([[7, 7, -1], [3, 3, -1], [0, 1, -1]])
    good = np.array([[True, True, False], [True, True, False], [True, False, False]])
    patterns = AnswerPatterns.build(groups, good)
    assert patterns.n_rows.tolist() == [2, 1]
    assert patterns.rows.tolist() == [0, 0, 1]
    assert patterns.members.n_wrong.tolist() == [0, 1]


def test_a_row_without_labels_is_right_in_one_of_its_groups_or_in_none():
    patterns = AnswerPatterns.build(np.array([[0, 0, 1], [-1, -1, -1]]), None)
    ways = [patterns.kinds[0][patterns.pattern == i].tolist() for i in patterns.rows]
    assert ways == [[[1, 1, 0], [0, 0, 1], [0, 0, 0]], [[0, 0, 0]]]
    assert patterns.kinds[3:].sum() == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["known", "unknown", "both"]), st.integers(1, 5))
def test_a_step_never_lowers_the_posterior(seed, labels, n_classes):
    patterns = patterns_of(120, seed, labelled=labels != "unknown")
    if labels == "both":
        patterns = patterns.join(patterns_of(80, seed + 1, labelled=False))
    found = [
        ClassModel.fit(patterns, n_classes=n_classes, n_steps=n).log_posterior(patterns)
        for n in range(1, 14)
    ]
    assert (np.diff(found) >= -1e-8).all()


def test_joined_tables_count_the_rows_of_both():
    labelled, other = patterns_of(50), patterns_of(70, 1, labelled=False)
    joined = labelled.join(other)
    assert joined.n_rows.sum() == 120
    assert joined.n_rows[joined.rows].shape == (120,)
    shares = ClassModel.fit(joined, n_classes=3).responsibilities(joined)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_the_classes_find_the_hard_questions():
    outcomes, evaluations = make_pool(2_000)
    patterns = AnswerPatterns.build(evaluations.answer_groups, outcomes.quality >= 0.5)
    model = ClassModel.fit(patterns, n_classes=2)
    easy = model.rates[:, :, 0].mean(axis=1).argmax()
    share = model.responsibilities(patterns)[patterns.rows, easy]
    hard = np.array([group == "hard" for group in outcomes.groups])
    assert share[~hard].mean() - share[hard].mean() > 0.4


def test_without_labels_the_order_of_the_candidates_is_found():
    model = ClassModel.fit(patterns_of(3_000, labelled=False), n_classes=3)
    right = model.prior @ model.rates[:, :, 0]
    assert (np.diff(right) > 0).all()


def test_shared_mistakes_make_theta_small():
    alike = ClassModel.fit(patterns_of(2_000, theta=0.2), n_classes=1)
    apart = ClassModel.fit(patterns_of(2_000, theta=50.0), n_classes=1)
    assert alike.theta[0] < 1 < 10 < apart.theta[0]


def test_the_likelihoods_of_all_complete_states_sum_to_one():
    model = ClassModel.from_prices([1.0, 2.0, 30.0])
    partitions = answer_partitions(3)
    joint = model.likelihoods(partitions)
    for n_asked in range(4):
        for asked in {tuple(s) for s in partitions.states != -2 if s.sum() == n_asked}:
            rows = ((partitions.states != -2) == asked).all(axis=1)
            np.testing.assert_allclose(joint[rows].sum(axis=(0, 1)), 1)


def test_unreadable_answers_that_are_right_count():
    groups = np.full((40, 2), -1)
    good = np.tile([[True, False]], (40, 1))
    model = ClassModel.fit(AnswerPatterns.build(groups, good), n_classes=1)
    assert model.right_unread[0, 0] > 0.9
    assert model.right_unread[0, 1] < 0.05


def test_dearer_candidates_are_assumed_to_be_more_able():
    model = ClassModel.from_prices([0.001, 0.03, 0.001, 0.006])
    right = model.prior @ model.rates[:, :, 0]
    assert right[0] == right[2] < right[3] < right[1]
    middle = model.rates[1, :, 0]
    assert middle[[0, 1]].tolist() == pytest.approx([0.5, 0.9])


def test_nearly_equal_prices_mean_nearly_equal_ability():
    right = ClassModel.from_prices([1.0, 1.2]).rates[1, :, 0]
    assert 0 < right[1] - right[0] < 0.05
    assert len(set(ClassModel.from_prices([2.0, 2.0, 2.0]).rates[1, :, 0])) == 1


def test_far_cheaper_candidates_are_assumed_to_be_far_less_able():
    middle = ClassModel.from_prices([1.0, 10.0, 300.0]).rates[1, :, 0]
    assert middle.tolist() == pytest.approx([0.229, 0.5, 0.9], abs=0.002)
    assert ClassModel.from_prices([1e-9, 1.0]).rates[1, 0, 0] == pytest.approx(0.1)


def test_free_candidates_count_as_a_thirtieth_of_the_dearest_or_as_the_cheapest():
    free = ClassModel.from_prices([0.0, 0.0, 10.0, 30.0]).rates
    np.testing.assert_array_equal(free, ClassModel.from_prices([1.0, 1.0, 10.0, 30.0]).rates)
    free = ClassModel.from_prices([0.0, 1.0, 300.0]).rates
    np.testing.assert_array_equal(free, ClassModel.from_prices([1.0, 1.0, 300.0]).rates)


@pytest.mark.parametrize("prices", [[], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_prices_that_order_nothing_are_refused(prices):
    with pytest.raises(ValueError, match="must be numbers >= 0"):
        ClassModel.from_prices(prices)


def test_a_hundred_thousand_rows_are_fitted_in_seconds():
    outcomes, evaluations = make_pool(2_000)
    rows = np.random.default_rng(0).integers(0, 2_000, 100_000)
    start = process_time()
    patterns = AnswerPatterns.build(evaluations.answer_groups[rows], outcomes.quality[rows] >= 0.5)
    ClassModel.fit(patterns)
    assert process_time() - start < 10


def test_without_judgements_a_partly_judged_table_is_an_unjudged_one():
    groups = np.array([[0, 0, 1], [0, -1, 0], [-2, 0, -1]])
    unknown = AnswerPatterns.build_partly(groups, np.full(groups.shape, np.nan))
    np.testing.assert_array_equal(unknown.kinds, AnswerPatterns.build(groups, None).kinds)


def test_a_judgement_leaves_the_ways_that_agree_with_it():
    nan = np.nan
    right = AnswerPatterns.build_partly(np.array([[0, 0, 1]]), np.array([[1.0, nan, nan]]))
    assert right.kinds[0].tolist() == [[1, 1, 0]]
    wrong = AnswerPatterns.build_partly(np.array([[0, 0, 1]]), np.array([[0.0, nan, nan]]))
    assert wrong.kinds[0].tolist() == [[0, 0, 1], [0, 0, 0]]
    unread = AnswerPatterns.build_partly(np.array([[-1, -2, -1]]), np.array([[1.0, nan, 0.0]]))
    assert unread.kinds[3:].tolist() == [[[1, 0, 0]], [[0, 0, 1]]]
    both = AnswerPatterns.build_partly(np.array([[0, 1, 2]]), np.array([[1.0, 1.0, nan]]))
    assert both.kinds.shape[1] == 4


def test_a_judged_answer_that_was_not_compared_tells_how_able_its_candidate_is():
    prior = ClassModel.from_prices([1.0, 1.5, 25.0])
    groups, nan = np.array([[0, 1, -2]] * 200), np.nan
    patterns = {
        score: AnswerPatterns.build_partly(groups, np.array([[nan, nan, score]] * 200))
        for score in (nan, 0.0, 1.0)
    }
    ability = {
        score: (model.prior @ model.rates[:, 2, 0])
        for score, each in patterns.items()
        for model in [prior.learned(each, strength=1000.0)]
    }
    unjudged = prior.learned(patterns[nan], strength=1000.0)
    assert ability[0.0] < unjudged.prior @ unjudged.rates[:, 2, 0] < ability[1.0]


def test_each_step_of_learning_raises_the_posterior_with_uncompared_answers_too():
    rng = np.random.default_rng(0)
    groups = np.where(rng.random((300, 3)) < 0.3, -2, rng.integers(-1, 2, (300, 3)))
    quality = np.where(rng.random((300, 3)) < 0.5, rng.integers(0, 2, (300, 3)), np.nan)
    patterns = AnswerPatterns.build_partly(groups, quality)
    prior = ClassModel.from_prices([1.0, 1.5, 25.0])
    # With so weak a prior the likelihood is nearly all that is maximized.
    found = [
        float(
            patterns.n_rows
            @ prior.learned(patterns, strength=1e-6, n_steps=n)._explain(patterns)[1]
        )
        for n in range(8)
    ]
    assert (np.diff(found) > -1e-3).all()
