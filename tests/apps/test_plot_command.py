"""`llm-router plot`."""

import os

import pytest

from tests.support.commands import last_json

pytest.importorskip("typer")

pytest.importorskip("rich")


def test_plot_draws_every_figure_that_applies(run):
    pytest.importorskip("matplotlib")
    code, out, err = run("plot", "route", "--data", "run.jsonl", "--out", "a", "--json")
    assert code == 0, err
    assert sorted(last_json(out)["pictures"]) == ["cost_quality", "reliability", "verifiers"]
    code, out, err = run("plot", "cascade", "--data", "run.jsonl", "--out", "b", "--json")
    assert code == 0, err
    pictures = last_json(out)["pictures"]
    assert {"cost_quality", "separability_small", "p_good_curve_small"} <= set(pictures)
    assert all(os.path.getsize(path) > 5000 for path in pictures.values())
