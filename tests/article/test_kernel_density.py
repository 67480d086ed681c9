"""AutoMix's observations: kernel densities of the self-evaluations of good and of poor answers."""

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from langchain_llm_router import plots
from langchain_llm_router.policies import ConfidenceThreshold, KernelDensity
from langchain_llm_router.types import Arm, Attempt, Situation
from tests.support.article_data import AXIS, self_evaluations
from tests.support.article_rows import row


def fitted(**settings) -> KernelDensity:
    return KernelDensity(**settings).fit(*self_evaluations())


@row(14, "a synthetic data set of 50 poor and twice 50 good self-evaluations, seed 0")
def test_the_articles_data_set_is_what_an_observation_model_is_fitted_to():
    scores, good = self_evaluations()
    model = fitted()
    assert model.base_rate_ == pytest.approx(2 / 3)
    np.testing.assert_array_equal(model.scores_good_, scores[good])
    np.testing.assert_array_equal(model.scores_poor_, scores[~good])
    assert scores[~good].mean() == pytest.approx(0.557, abs=5e-4)


@row(15, "figure: a swarm of all self-evaluations, by true performance")
def test_the_swarm_has_a_dot_for_every_score_good_ones_above_poor_ones():
    scores, good = self_evaluations()
    above, below = (dots.get_offsets() for dots in plots.score_swarm(fitted()).axes[0].collections)
    np.testing.assert_allclose(np.sort(above[:, 0]), np.sort(scores[good]))
    np.testing.assert_allclose(np.sort(below[:, 0]), np.sort(scores[~good]))
    assert above[:, 1].min() > below[:, 1].max()


@row(21, "the trap: at 0.2 the ratio of densities is 100 %, but there is no data")
def test_a_score_of_0_2_has_a_probability_of_100_percent_without_the_gate_and_of_0_with_it():
    assert fitted(base_rate=False, gate=0.0, reflect=False).p_good(0.2) > 0.999999
    assert fitted().p_good(0.2) < 1e-3


@row(22, "figure: the densities of good and of poor answers, each of area 1")
def test_the_figure_has_both_densities():
    model = fitted(base_rate=False)
    good, poor = plots.score_densities(model).axes[0].lines
    np.testing.assert_allclose(good.get_ydata(), model.density_good_)
    np.testing.assert_allclose(poor.get_ydata(), model.density_poor_)
    for line in (good, poor):
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=1e-3)


@row(24, "figure: the density of all self-evaluations, and from where on it is enough")
def test_the_figure_has_the_total_density_and_the_gate():
    model = fitted(gate=0.1)
    density, gate = plots.total_density(model).axes[0].lines
    np.testing.assert_allclose(density.get_ydata(), model.density_total_)
    assert set(gate.get_ydata()) == {0.1 * model.density_total_.max()}
    assert model.trust(0.2) < 0.1 < 1 == model.trust(0.6)


@row(25, "figure: which scores are kept, by ten thresholds from cost to performance")
def test_a_higher_threshold_keeps_fewer_scores_and_the_gradient_shows_from_where_on_each_is_kept():
    model = KernelDensity.article()
    arms = (Arm("small", cost_usd=0.1), Arm("large", cost_usd=1.0))

    def kept(threshold: float) -> np.ndarray:
        policy = ConfidenceThreshold(model, threshold=threshold)
        tried = [Attempt(candidate="small", verified=True, confidence=s) for s in AXIS.tolist()]
        decided = [policy.decide(Situation("q", arms, (attempt,))).action for attempt in tried]
        return np.array(decided) == "accept"

    shares = []
    for threshold in np.arange(1, 10) / 10:
        by_the_article = (articles_curve() > threshold) & (articles_density() > 0.1)
        np.testing.assert_array_equal(kept(threshold), by_the_article)
        shares.append(by_the_article.mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[4] == pytest.approx(0.28, abs=5e-3)
    upper, lower, *_ = plots.lambda_gradient(model, cost_usd=1.0).axes
    p = np.array([model.p_good(score) for score in np.linspace(0, 1, 1001).tolist()])
    for ax in (upper, lower):
        # The darker, the dearer: 1 is kept whatever a dollar is worth, 0 only where it is dear.
        np.testing.assert_allclose(ax.images[0].get_array()[0], p, atol=1e-9)


@row(
    16,
    "figure: a Gaussian on every point, with a standard deviation of 0.05",
    kind="option",
    why="`KernelDensity(bandwidth=0.05)`; by default Scott's rule, 0.0595 for these scores",
)
def test_every_score_is_a_bell_of_the_width_that_was_asked_for():
    scores, good = self_evaluations()
    *bells, _ = plots.evaluation_gaussians(fitted(bandwidth=0.05)).axes[0].lines
    assert len(bells) == 150
    for bell, score in zip(bells, np.sort(scores[good]), strict=False):
        x = bell.get_xdata()
        height = np.exp(-(((x - score) / 0.05) ** 2) / 2)
        np.testing.assert_allclose(bell.get_ydata(), height, atol=1e-9)
    assert fitted().kernel_width(scores[good]) == pytest.approx(0.0595, abs=5e-5)


@row(17, "figure: the sum of all Gaussians, and the same divided by its area")
def test_the_raw_sum_and_its_normalization_are_the_articles():
    scores, good = self_evaluations()
    summed, _, density, _ = plots.bell_sum(fitted(bandwidth=0.05)).axes
    x, y = summed.lines[0].get_data()
    expected = norm.pdf(x[:, None], scores[good][None, :], 0.05).sum(axis=1)
    np.testing.assert_allclose(y, expected, atol=1e-9)
    area = np.trapezoid(y, x)
    assert 97 < area < 100
    np.testing.assert_allclose(density.lines[0].get_ydata(), expected / area, atol=1e-9)
    assert (expected / area).max() == pytest.approx(3.63, abs=0.05)


@row(
    18,
    "gaussian_kde(scores, bw_method=0.3) of good and of poor answers",
    kind="option",
    why="`KernelDensity(bw_method=0.3, reflect=False)`; by default by Scott's rule, reflected at 0 "
    "and 1, where mass would otherwise leave the range of scores",
)
@pytest.mark.parametrize("bw_method", [0.3, "scott", "silverman"])
def test_densities_are_those_of_scipy(bw_method):
    scores, good = self_evaluations()
    model = fitted(bw_method=bw_method, reflect=False)
    for density, values in (
        (model.density_good_, scores[good]),
        (model.density_poor_, scores[~good]),
        (model.density_total_, scores),
    ):
        expected = gaussian_kde(values, bw_method=bw_method)(np.linspace(0, 1, 1001))
        np.testing.assert_allclose(density, expected, atol=1e-9)


@row(
    19,
    "at a score of 0.6 the densities are 3.579 and 4.540, and P(good) is 44 %",
    kind="option",
    why="`KernelDensity.article()`; by default P(good) counts with the share of good answers, "
    "which the article leaves out: 56 % where 2 of 3 answers are good",
)
def test_at_0_6_the_articles_three_numbers_come_out():
    model = KernelDensity.article()
    good, poor = model.likelihoods(0.6)
    assert (round(good, 3), round(poor, 3)) == (3.579, 4.540)
    assert int(100 * model.p_good(0.6)) == 44
    assert fitted().p_good(0.6) == pytest.approx(0.55, abs=0.015)


def articles_curve() -> np.ndarray:
    """P(good) on the article's axis, by scipy."""
    scores, good = self_evaluations()
    dense, poor = (
        gaussian_kde(values, bw_method=0.3)(AXIS) for values in (scores[good], scores[~good])
    )
    return dense / (dense + poor)


def articles_density() -> np.ndarray:
    """The density of all scores, divided by its highest value."""
    total = gaussian_kde(self_evaluations()[0], bw_method=0.3)(AXIS)
    return total / total.max()


@row(
    20,
    "P(good) over the whole axis",
    kind="option",
    why="`KernelDensity(bw_method=0.3, base_rate=False, gate=0, reflect=False)`",
)
def test_the_curve_of_p_good_is_the_articles():
    model = fitted(bw_method=0.3, base_rate=False, gate=0.0, reflect=False)
    ours = [model.p_good(score) for score in AXIS.tolist()]
    np.testing.assert_allclose(ours, articles_curve(), atol=2e-3)


@pytest.mark.parametrize("threshold", [0.1, 0.2])
@row(
    23,
    "a density gate: a score counts only where the density of all scores is above 0.1 (or 0.2)",
    kind="option",
    why="`KernelDensity(hard_gate=0.1)`; by default P(good) falls in proportion below 5 % of the "
    "highest density",
)
def test_a_hard_gate_keeps_exactly_the_scores_that_the_article_keeps(threshold):
    model = fitted(bw_method=0.3, base_rate=False, gate=0.0, reflect=False, hard_gate=threshold)
    kept = np.array([model.p_good(score) > 0.5 for score in AXIS.tolist()])
    by_the_article = (articles_curve() > 0.5) & (articles_density() > threshold)
    np.testing.assert_array_equal(kept, by_the_article)
    assert model.p_good(0.2) == 0.0
