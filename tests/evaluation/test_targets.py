"""Targets in the words people use."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Sweep, Target, parse_targets
from langchain_llm_router.evaluation.targets import ALLOWED
from langchain_llm_router.evaluation.trials import Trials


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quality >= best - 1 point", Target("quality", ">=", 1.0, best=True, less=0.01)),
        ("quality >= best-1 point", Target("quality", ">=", 1.0, best=True, less=0.01)),
        ("quality>=best-2pts", Target("quality", ">=", 1.0, best=True, less=0.02)),
        ("quality >= best-0.01", Target("quality", ">=", 1.0, best=True, less=0.01)),
        ("quality ≥ best − 2.5 points", Target("quality", ">=", 1.0, best=True, less=0.025)),
        ("quality >= best - 0.01", Target("quality", ">=", 1.0, best=True, less=0.01)),
        ("at least best", Target("quality", ">=", 1.0, best=True)),
        ("at least 99 % of large", Target("quality", ">=", 0.99, model="large")),
        ("quality at least 99% of best", Target("quality", ">=", 0.99, best=True)),
        ("quality >= gpt-4o - 1 pt", Target("quality", ">=", 1.0, less=0.01, model="gpt-4o")),
        ("no more than 2 points below b", Target("quality", ">=", 1.0, less=0.02, model="b")),
        ("at most 1 point worse than best", Target("quality", ">=", 1.0, best=True, less=0.01)),
        ("quality >= 90 %", Target("quality", ">=", 0.9)),
        ("cost <= half of large", Target("cost_usd", "<=", 0.5, model="large")),
        ("cost at most a third of best", Target("cost_usd", "<=", 1 / 3, best=True)),
        ("cost <= 40 % of large", Target("cost_usd", "<=", 0.4, model="large")),
        ("cost <= $0.002", Target("cost_usd", "<=", 0.002)),
        ("p95 latency <= 2 s", Target("latency_s", "<=", 2.0, percentile=95.0)),
        ("latency <= 800 ms", Target("latency_s", "<=", 0.8)),
        ("strong share <= 30 %", Target("strong share", "<=", 0.3)),
    ],
)  # fmt: skip
def test_a_target_is_read_as_it_is_meant_and_written_as_it_is_read(text, expected):
    found = Target.parse(text)
    assert found == expected
    assert Target.parse(str(found)) == found


@pytest.mark.parametrize("text", ALLOWED)
def test_every_form_that_the_message_lists_is_allowed(text):
    assert Target.parse(str(Target.parse(text))) == Target.parse(text)


def test_several_targets_are_separated_by_and_a_comma_or_a_semicolon():
    for separator in (" and ", ", ", ";"):
        text = f"quality >= best - 1 point{separator}cost <= half of large"
        assert list(map(str, parse_targets(text))) == [
            "quality >= best - 1 point",
            "cost_usd <= 0.5 * large",
        ]


@pytest.mark.parametrize(
    "text",
    [
        "quality <= 0.9", "quality = 0.9", "quality > 0.9", "quality >= -1", "quality >= 95",
        "cost_usd >= 0.002", "strong share = 0.3 * best", "p95 latency <= 2", "latency >= 1 s",
        "", "as good as it gets", "quality >= best - 1", "quality >= best-1", "p0 latency <= 1 s",
    ],
)  # fmt: skip
def test_another_target_is_refused(text):
    with pytest.raises(ValueError, match=r"form such as|\[0, 1\)|\(0, 100\)"):
        parse_targets(text)


@pytest.fixture
def trials():
    outcomes = Outcomes(
        ["a", "b"], ("small", "large"), [[0.0, 1.0], [1.0, 1.0]], [[1.0, 4.0], [1.0, 6.0]]
    )
    sweep = Sweep(np.zeros(1), np.array([[0.0, 1.0]]), np.array([[1.0, 6.0]]))
    return Trials.of_sweep(sweep, outcomes, strong=[[False, True]])


@pytest.mark.parametrize(
    ("text", "margins"),
    [
        ("quality >= best - 10 points", [[0.1, 0.1], [-0.9, 0.1]]),
        ("quality >= large - 10 points", [[-0.9, 0.1]]),
        ("at least half of large", None),
        ("at least 50 % of large", [[-0.5, 0.5]]),
        ("cost <= half of large", [[1.0, -3.0]]),
        ("cost <= 2", [[1.0, -4.0]]),
        ("strong share <= 0.5", [[0.5, -0.5]]),
    ],
)
def test_the_margins_of_a_target_follow_from_the_rows(trials, text, margins):
    if margins is None:
        with pytest.raises(ValueError, match="form such as"):
            Target.parse(text)
        return
    found = Target.parse(text).margins(trials, best=1)
    np.testing.assert_allclose([rows[0] for rows in found], margins)
    low, high = Target.parse(text).bounds(trials, best=1)
    assert all(low <= margin <= high for rows in margins for margin in rows)


def test_a_target_about_an_unknown_model_or_an_unknown_latency_says_what_is_missing(trials):
    with pytest.raises(ValueError, match="names 'huge', but the candidates are"):
        Target.parse("cost <= half of huge").margins(trials, best=1)
    with pytest.raises(ValueError, match="needs latencies"):
        Target.parse("p95 latency <= 2 s").margins(trials, best=1)


@pytest.mark.parametrize(
    ("text", "easier"),
    [
        ("quality >= best - 1 point", "quality >= best - 3 points"),
        ("quality >= best - 3 points", None),
        ("at least 98 % of large", "quality >= large - 3 points"),
        ("at least 90 % of large", None),
        ("quality >= 0.9", "quality >= 0.87"),
        ("quality >= 0.03", None),
        ("cost <= half of large", None),
        ("strong share <= 0.3", None),
    ],
)
def test_an_easier_target_is_named_in_points(trials, text, easier):
    target = Target.parse(text)
    found = target.easier(3)
    assert (None if found is None else str(found)) == easier
    if found is not None:
        margins = np.array([target.margins(trials, 1), found.margins(trials, 1)])
        assert (margins[1] >= margins[0]).all()
