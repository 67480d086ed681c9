"""AutoMix's observations: kernel densities of the self-evaluations of good and of poor answers."""

import itertools

import numpy as np
import pytest

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
    model = fitted(base_rate=False, gate=0.1)
    arms = (Arm("small", cost_usd=0.1), Arm("large", cost_usd=1.0))

    def kept(threshold: float) -> np.ndarray:
        policy = ConfidenceThreshold(model, threshold=threshold)
        tried = [Attempt(candidate="small", verified=True, confidence=s) for s in AXIS.tolist()]
        decided = [policy.decide(Situation("q", arms, (attempt,))).action for attempt in tried]
        return np.array(decided) == "accept"

    areas = [kept(i / 10) for i in range(10)]
    for wide, narrow in itertools.pairwise(areas):
        assert (wide | ~narrow).all()
    assert areas[0].all()
    assert 0.2 < areas[5].mean() < 0.4
    upper, lower, *_ = plots.lambda_gradient(model, cost_usd=1.0).axes
    p = np.array([model.p_good(score) for score in np.linspace(0, 1, 1001).tolist()])
    for ax in (upper, lower):
        # The darker, the dearer: 1 is kept whatever a dollar is worth, 0 only where it is dear.
        np.testing.assert_allclose(ax.images[0].get_array()[0], p, atol=1e-9)
