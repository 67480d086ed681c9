"""The recorded runs of agents that ship with the package."""

import numpy as np
import pytest

from langchain_llm_router.data import OpenHandsIndex
from tests.support.paths import PACKAGE
from tests.support.shared_data import shared_data


@pytest.fixture(scope="module")
def table():
    return OpenHandsIndex.load()


def test_every_benchmark_has_complete_labels_and_unknown_costs_are_never_zero(table):
    sizes = {name: it.quality.shape for name, it in table.outcomes.items()}
    assert sizes == {"swe-bench": (500, 30), "swt-bench": (433, 23), "gaia": (165, 32)}
    for outcomes in table.outcomes.values():
        assert set(np.unique(outcomes.quality)) == {0.0, 1.0}
        assert np.nanmin(outcomes.cost_usd) > 0
        assert set(outcomes.candidates) <= set(table.prices)
        mean = np.nanmean(outcomes.cost_usd, axis=0)
        assert (np.diff(mean) >= 0).all()


def test_a_perfect_check_would_let_the_cheap_agent_save_half_and_gain_three_points(table):
    pair = table.outcomes["swe-bench"].select(["DeepSeek-V4-Pro", "claude-opus-4-8"])
    cheap, strong = pair.quality.T
    assert (cheap.mean(), strong.mean()) == (pytest.approx(0.732), pytest.approx(0.838))
    assert np.where(cheap == 1, cheap, strong).mean() == pytest.approx(0.870)
    spent = pair.cost_usd[:, 0] + (1 - cheap) * pair.cost_usd[:, 1]
    assert spent.mean() == pytest.approx(0.363, abs=0.001)
    assert pair.cost_usd[:, 1].mean() == pytest.approx(0.742, abs=0.001)


def test_coding_tasks_are_grouped_by_their_repository(table):
    outcomes = table.outcomes["swe-bench"]
    assert outcomes.queries[0] == "astropy__astropy-12907"
    assert outcomes.groups[0] == "astropy/astropy"
    assert len(set(outcomes.groups)) == 12
    assert table.outcomes["gaia"].groups is None


def test_the_table_is_small():
    assert (PACKAGE / "data" / "openhands_index.json.gz").stat().st_size < 150_000


def test_the_builder_makes_the_shipped_table(monkeypatch, tmp_path):
    from tests.support.builders import openhands_index as builder

    source = shared_data("openhands_index")
    monkeypatch.setattr(builder, "TARGET", tmp_path / "made.json.gz")
    builder.main(source)
    shipped = (PACKAGE / "data" / "openhands_index.json.gz").read_bytes()
    assert (tmp_path / "made.json.gz").read_bytes()[10:] == shipped[10:]
