"""From a verifier's score to P(good): densities, counts, and what must never break them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.policies.observation import (
    BetaBinomial,
    KernelDensity,
    score_index,
    score_likelihoods,
)
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.observations import article

KINDS = {"kde": KernelDensity, "beta-binomial": lambda: BetaBinomial(8)}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@pytest.mark.parametrize("base_rate", [True, False])
def test_the_article_s_example_trusts_high_scores_doubts_middling_ones_and_none_unseen(base_rate):
    model = article(base_rate=base_rate)
    assert model.p_good(0.9) > 0.99
    assert 0.2 < model.p_good(0.58) < 0.7
    assert model.p_good(0.2) < 0.01


def test_without_the_gate_an_unseen_score_would_be_trusted():
    """The tails of a wide density beat those of a narrow one: evidence from nowhere."""
    assert article(gate=0.0).p_good(0.2) > 0.9
    assert article().trust(0.2) < 0.01
    assert article().trust(0.9) == 1.0


def test_the_base_rate_moves_the_article_s_rule():
    with_rate, without = article(base_rate=True), article(base_rate=False)
    assert with_rate.base_rate_ == pytest.approx(2 / 3)
    assert with_rate.p_good(0.58) > without.p_good(0.58)
    assert with_rate.p_good(0.58, prior=0.5) == pytest.approx(without.p_good(0.58))


def test_densities_keep_their_mass_inside_the_unit_interval():
    grid = np.linspace(0, 1, 1001)
    ends = KernelDensity().fit([0.0, 0.0, 1.0, 1.0, 0.9], [False, False, True, True, True])
    for density in (ends.density_good_, ends.density_poor_, ends.density_total_):
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.02)
    leaky = KernelDensity(reflect=False).fit([1.0, 1.0, 0.9, 0.0], [True, True, True, False])
    assert np.trapezoid(leaky.density_good_, grid) < 0.9


def test_p_good_is_bayes_rule_on_both_densities():
    model = article()
    good, poor = model.likelihoods(0.6)
    share = model.base_rate_
    expected = share * good / (share * good + (1 - share) * poor)
    assert model.p_good(0.6) == pytest.approx(expected)


ODD = {
    "always one": ([1.0] * 20, [True] * 12 + [False] * 8),
    "a single point": ([0.5], [True]),
    "one of each": ([0.0, 1.0], [False, True]),
    "nearly constant": ([0.5] * 19 + [0.5001], [True] * 10 + [False] * 10),
    "only good": ([0.2, 0.8, 0.9], [True] * 3),
    "only poor": ([0.2, 0.8, 0.9], [False] * 3),
    "mass at both ends": ([0.0] * 10 + [1.0] * 10, [False] * 9 + [True] * 11),
    "missing verdicts": ([np.nan, 0.4, np.nan, 0.9], [True, False, True, True]),
}


@kinds
@pytest.mark.parametrize(("scores", "good"), ODD.values(), ids=ODD.keys())
def test_odd_training_scores_give_probabilities(make, scores, good):
    model = make().fit(scores, good)
    for score in np.linspace(0, 1, 33):
        for prior in (None, 0.0, 0.3, 1.0):
            for missing in (0.0, 0.5, 1.0):
                assert 0 <= model.p_good(float(score), prior=prior, missing=missing) <= 1


@kinds
def test_a_verdict_that_says_the_same_of_everything_says_nothing(make):
    model = make().fit([1.0] * 30, [True] * 20 + [False] * 10)
    assert model.p_good(1.0) == pytest.approx(2 / 3, abs=0.07)


@kinds
def test_no_verdict_leaves_the_prior(make):
    model = make().fit([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert model.p_good(None) == 0.5
    assert model.p_good(None, prior=0.9) == 0.9


@kinds
def test_the_prior_moves_the_posterior_up(make):
    model = make().fit([0.1, 0.2, 0.5, 0.6, 0.8, 0.9], [False, False, False, True, True, True])
    posteriors = [model.p_good(0.55, prior=p) for p in (0.1, 0.4, 0.6, 0.9)]
    assert posteriors == sorted(posteriors)


@kinds
def test_the_more_verdicts_are_missing_the_less_a_score_says(make):
    rng = np.random.default_rng(0)
    good = rng.random(300) < 0.5
    model = make().fit(rng.binomial(8, np.where(good, 0.8, 0.3)) / 8, good)
    high = [model.p_good(1.0, prior=0.5, missing=m) for m in (0.0, 0.25, 0.5, 0.75)]
    low = [model.p_good(0.0, prior=0.5, missing=m) for m in (0.0, 0.25, 0.5, 0.75)]
    assert high == sorted(high, reverse=True)
    assert low == sorted(low)
    assert model.p_good(1.0, prior=0.5, missing=1.0) == pytest.approx(0.5, abs=1e-6)


@kinds
def test_scores_outside_of_the_unit_interval_are_refused(make):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        make().fit([0.5, 1.2], [True, False])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        make().fit([0.2, 0.8], [False, True]).p_good(-0.1)


@kinds
def test_nothing_to_learn_from_is_said(make):
    with pytest.raises(ValueError, match="every verdict is missing"):
        make().fit([np.nan, np.nan], [True, False])
    with pytest.raises(ValueError, match="same length"):
        make().fit([0.5], [True, False])
    with pytest.raises(NotFittedError, match="fit"):
        make().p_good(0.5)


@kinds
def test_a_saved_model_reads_scores_the_same(make, tmp_path):
    rng = np.random.default_rng(1)
    good = rng.random(60) < 0.5
    model = make().fit(rng.binomial(8, np.where(good, 0.8, 0.3)) / 8, good)
    again = type(model).load(model.save(tmp_path / "model"))
    for score in np.linspace(0, 1, 9):
        assert again.p_good(float(score)) == pytest.approx(model.p_good(float(score)))
    (tmp_path / "model" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError):
        type(model).load(tmp_path / "model")


# Beta-binomial


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 8),
)
@settings(max_examples=60)
def test_the_probabilities_of_all_counts_add_up_to_one(rows, count):
    from scipy.stats import betabinom

    scores, good = [c / 8 for c, _ in rows], [g for _, g in rows]
    model = BetaBinomial(8).fit(scores, good)
    both = np.array([model.likelihoods(c / 8) for c in range(9)])
    np.testing.assert_allclose(both.sum(axis=0), 1, atol=1e-9)
    assert (both > 0).all()
    (alpha, beta), _ = model.shapes_
    assert model.likelihoods(count / 8)[0] == pytest.approx(betabinom.pmf(count, 8, alpha, beta))


def test_counts_are_recovered_from_what_was_drawn():
    rng = np.random.default_rng(0)
    drawn = rng.binomial(8, rng.beta(6, 2, 20_000)) / 8
    model = BetaBinomial(8).fit(np.concatenate([drawn, [0.5]]), np.r_[np.ones(20_000), 0])
    (alpha, beta), _ = model.shapes_
    assert alpha == pytest.approx(6, rel=0.1)
    assert beta == pytest.approx(2, rel=0.1)


def test_verdicts_must_be_one_or_more():
    with pytest.raises(ValueError, match=">= 1"):
        BetaBinomial(0)


# Observations as columns of a table


@pytest.mark.parametrize("kind", ["rows", "kde", "beta_binomial"])
def test_what_can_be_observed_on_a_row_adds_up_to_one(kind):
    rng = np.random.default_rng(0)
    quality = rng.random(50)
    scores = np.where(rng.random(50) < 0.1, np.nan, rng.binomial(8, quality) / 8)
    table = score_likelihoods(scores, quality, n_samples=8, kind=kind)
    assert table.shape == (10, 50)
    np.testing.assert_allclose(table.sum(axis=0), 1)
    assert (table > 0).all()
    assert np.ptp(table[-1]) == 0  # a missing verdict tells no rows apart


def test_a_score_is_read_as_the_nearest_count():
    np.testing.assert_array_equal(
        score_index([0.0, 0.06, 0.07, 0.5, 1.0, np.nan], 8), [0, 0, 1, 4, 8, 9]
    )
