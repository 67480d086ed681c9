"""Figures come out, as files of a sensible size, and leave nothing behind."""

import sys

import numpy as np
import pytest

from langchain_llm_router import plots
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.sweeps import utility_sweep
from tests.fakes import make_outcomes


def size_of(path):
    """Width and height that a PNG file declares."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure):
    return [text.get_text().strip() for ax in figure.axes for text in ax.texts]


def readable(figure, tmp_path):
    """Save it, check that it is a PNG of sensible size with something on it."""
    path = plots.save(figure, tmp_path / "made" / "figure.png")
    width, height = size_of(path)
    assert 600 <= width <= 3000
    assert 400 <= height <= 3000
    assert path.stat().st_size > 10_000
    return figure


def test_the_cost_quality_curve_names_strategies_models_mix_and_oracle(tmp_path):
    outcomes = make_outcomes(n=300)
    noise = np.random.default_rng(0).normal(0, 0.3, outcomes.quality.shape)
    predicted = np.clip(outcomes.quality + noise, 0, 1)
    figure = readable(
        plots.cost_quality_curve(
            [
                *plots.sweep_points("router", utility_sweep(predicted, outcomes, n_points=20)),
                plots.replay_point("one λ", replay(Utility(cost=10.0), predicted, outcomes)),
            ],
            singles=plots.single_points(outcomes),
            oracle=plots.oracle_point(outcomes),
        ),
        tmp_path,
    )
    shown = texts(figure)
    for name in ("router", "one λ", "small", "large", "random mix of single models"):
        assert name in shown
    assert any("same quality" in text and "cheaper" in text for text in shown)
    assert figure.axes[0].get_xscale() == "log"


def test_costs_of_one_magnitude_are_drawn_on_a_linear_axis():
    points = [plots.StrategyPoint("a", 0.001, 0.5), plots.StrategyPoint("b", 0.002, 0.6)]
    assert plots.cost_quality_curve(points).axes[0].get_xscale() == "linear"


def test_a_router_that_saves_nothing_gets_no_arrow():
    outcomes = make_outcomes(n=300)
    figure = plots.cost_quality_curve(
        [plots.replay_point("always", replay(Always("small"), None, outcomes))],
        singles=plots.single_points(outcomes),
    )
    assert not any("cheaper" in text for text in texts(figure))


def test_free_models_and_a_single_point_can_be_drawn(tmp_path):
    point = plots.StrategyPoint("free", 0.0, 1.0, 0.9, 1.0)
    readable(plots.cost_quality_curve([point]), tmp_path)
    readable(plots.cost_quality_curve([], singles=[point]), tmp_path)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.cost_quality_curve([])


def test_many_models_leave_out_names_rather_than_cover_each_other():
    rng = np.random.default_rng(1)
    singles = [
        plots.StrategyPoint(f"a-model-with-a-long-name-{i}", *pair)
        for i, pair in enumerate(rng.uniform([1e-4, 0.5], [1e-2, 0.9], (60, 2)))
    ]
    figure = plots.cost_quality_curve([], singles=singles)
    ax = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts if text.get_text()]
    assert 5 < len(boxes) < 60
    overlaps = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert overlaps <= 2


def test_no_global_state_of_matplotlib_is_touched():
    assert "matplotlib.pyplot" not in sys.modules
