"""From a verifier's score to P(good): densities, counts, and what must never break them."""

import json

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
def test_nothing_to_learn_from_is_said(make, tmp_path):
    with pytest.raises(ValueError, match="every verdict is missing"):
        make().fit([np.nan, np.nan], [True, False])
    with pytest.raises(ValueError, match="same length"):
        make().fit([0.5], [True, False])
    with pytest.raises(NotFittedError, match="fit"):
        make().p_good(0.5)
    with pytest.raises(NotFittedError, match="fit"):
        make().save(tmp_path / "unfitted")
    with pytest.raises(NotFittedError, match="fit"):
        KernelDensity().trust(0.5)


@kinds
@pytest.mark.parametrize(
    ("label", "shown"), [(np.nan, "nan"), (0.1, r"0\.1"), ("no", "'no'"), (None, "None")]
)
def test_a_label_that_is_neither_good_nor_poor_is_refused(make, label, shown):
    with pytest.raises(ValueError, match=rf"`good` must be True or 1 .* got {shown}: of qualities"):
        make().fit([0.1, 0.2, 0.8, 0.9], [label, 0, 1, 1])


@kinds
def test_the_label_of_a_row_without_a_verdict_does_not_count(make):
    fitted = make().fit([np.nan, 0.2, 0.8], np.array([np.nan, 0.0, 1.0]))
    assert fitted.base_rate_ == 0.5


@kinds
@pytest.mark.parametrize("share", [float("nan"), -0.1, 2.0])
@pytest.mark.parametrize("name", ["prior", "missing"])
def test_a_share_outside_of_its_range_is_refused(make, name, share):
    model = make().fit([0.2, 0.8], [False, True])
    for score in (0.5, None):
        with pytest.raises(ValueError, match=rf"`{name}` must lie in \[0, 1\], got {share}"):
            model.p_good(score, **{name: share})


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


# The article's way, one option away


def test_the_article_s_picture_comes_out_to_three_digits():
    model = KernelDensity.article()
    assert model.likelihoods(0.6) == pytest.approx((3.579, 4.540), abs=5e-4)
    assert model.p_good(0.6) == pytest.approx(0.441, abs=5e-4)
    assert model.trust(0.2) == 0.0
    assert model.p_good(0.2) == 0.0


def test_the_article_s_model_is_scipy_s_and_reads_scores_of_one_s_own_after_fit():
    from scipy.stats import gaussian_kde

    rng = np.random.default_rng(3)
    poor, good = rng.beta(3, 4, 40), rng.beta(6, 2, 60)
    model = KernelDensity.article().fit(np.r_[poor, good], np.repeat([False, True], [40, 60]))
    at = np.linspace(0, 1, 1001)
    for density, scores in ((model.density_good_, good), (model.density_poor_, poor)):
        np.testing.assert_allclose(density, gaussian_kde(scores, bw_method=0.3)(at))
    total = gaussian_kde(np.r_[good, poor], bw_method=0.3)(at)
    trusted = total / total.max() > 0.1
    assert 0.2 < trusted.mean() < 1
    assert [model.trust(float(s)) == 1.0 for s in at] == trusted.tolist()


@pytest.mark.parametrize("rule", ["scott", "silverman", 0.3, 1.0])
def test_a_rule_for_the_bandwidth_is_scipy_s_own(rule):
    from scipy.stats import gaussian_kde

    scores = np.random.default_rng(0).normal(0.55, 0.02, 50)
    model = KernelDensity(bw_method=rule, reflect=False).fit(scores, [True] * 50)
    expected = gaussian_kde(scores, bw_method=rule)([0.5, 0.55, 0.6])
    found = [model.likelihoods(x)[0] for x in (0.5, 0.55, 0.6)]
    np.testing.assert_allclose(found, expected)


def test_a_fixed_bandwidth_is_the_standard_deviation_of_every_kernel():
    from scipy.stats import norm

    scores = [0.3, 0.5, 0.55, 0.9]
    model = KernelDensity(bandwidth=0.05, reflect=False).fit(scores, [True] * 4)
    for x in (0.3, 0.52, 0.7):
        expected = np.mean([norm.pdf(x, mean, 0.05) for mean in scores])
        assert model.likelihoods(x)[0] == pytest.approx(expected)


def test_cross_validation_finds_the_width_under_which_each_score_is_most_likely_given_the_others():
    scores = np.random.default_rng(1).normal(0.5, 0.1, 80).clip(0, 1).round(3)
    model = KernelDensity(bw_method="cv", reflect=False)

    def left_out(width: float) -> float:
        rest = [np.delete(scores, i) for i in range(len(scores))]
        kernels = [
            np.exp(-(((x - r) / width) ** 2) / 2) / width for x, r in zip(scores, rest, strict=True)
        ]
        return float(np.sum([np.log(k.mean()) for k in kernels]))

    best = max(np.geomspace(0.01, 0.5, 300), key=left_out)
    assert model.kernel_width(scores) == pytest.approx(best, rel=0.15)
    # Scores that are equal would be the likelier the narrower the kernel.
    assert model.kernel_width(np.array([0.25, 0.5, 0.5, 0.75] * 20)) == 0.02
    for few in ([0.5], [0.5, 0.5], []):
        assert model.kernel_width(np.array(few)) == 0.02


def test_a_fixed_bandwidth_and_a_rule_for_it_exclude_each_other():
    with pytest.raises(ValueError, match=r"`bandwidth` \(0.05, .*`bw_method` \(0.3, .*one of them"):
        KernelDensity(bandwidth=0.05, bw_method=0.3)
    for wrong in ({"bandwidth": 0.0}, {"bw_method": -0.3}, {"bw_method": "wide"}, {"hard_gate": 2}):
        with pytest.raises(ValueError, match="must"):
            KernelDensity(**wrong)


def test_the_hard_gate_refuses_where_the_soft_one_only_scales():
    soft, hard = article(gate=0.1), article(gate=0.0, hard_gate=0.1)
    shares = soft.density_total_ / soft.density_total_.max()
    at = np.linspace(0, 1, 1001)
    sparse = at[(shares > 0.05) & (shares < 0.095)]
    assert len(sparse) > 5
    for score in sparse.tolist():
        assert hard.p_good(score) == 0.0 < soft.p_good(score)
    for score in at[shares > 0.105].tolist():
        assert hard.p_good(score) == soft.p_good(score)


@pytest.mark.parametrize("rule", ["scott", "silverman", "cv", 0.3])
@pytest.mark.parametrize(("scores", "good"), ODD.values(), ids=ODD.keys())
def test_odd_training_scores_give_probabilities_by_every_rule(rule, scores, good):
    model = KernelDensity(bw_method=rule, hard_gate=0.1).fit(scores, good)
    for score in np.linspace(0, 1, 33):
        assert 0 <= model.p_good(float(score)) <= 1


def test_a_model_of_an_earlier_version_keeps_its_lower_bound(tmp_path):
    model = article(min_bandwidth=0.07)
    path = model.save(tmp_path / "old") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"] = {"base_rate": True, "gate": 0.05, "bandwidth": 0.07, "reflect": True}
    path.write_text(json.dumps(manifest))
    assert KernelDensity.load(tmp_path / "old").likelihoods(0.6) == model.likelihoods(0.6)
    fixed = KernelDensity.load(article(bandwidth=0.05, hard_gate=0.2).save(tmp_path / "new"))
    assert (fixed.bandwidth, fixed.bw_method, fixed.hard_gate) == (0.05, None, 0.2)


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
