"""Perfect routing where questions were answered several times: luck is not skill."""

import numpy as np
import pytest

from langchain_llm_router.collect import load_journal
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Clusters
from langchain_llm_router.evaluation import Exam, RepeatedRuns
from langchain_llm_router.training import fit_router
from tests.support.journals import write_journal
from tests.support.saved_routers import SAID, TABLE, cascade
from tests.support.shared_data import shared_data

NAMES = ("small", "large")


def repeated(quality, cost=None, n_runs=4):
    """`n_runs` rows per question, one after the other."""
    queries = [f"question {i}" for i in range(len(quality) // n_runs) for _ in range(n_runs)]
    return Outcomes(queries, NAMES, quality, cost)


def test_pure_luck_has_headroom_only_if_chosen_by_the_runs_that_count():
    rng = np.random.default_rng(0)
    luck = rng.integers(0, 2, (4000, 2)).astype(float)
    found = RepeatedRuns.of(repeated(luck, np.ones((4000, 2))))
    assert found.naive[0] > 0.62
    assert found.headroom == pytest.approx(0, abs=0.02)
    assert (found.n_queries, found.n_rows) == (1000, 4000)
    assert "which is partly luck" in found.sentence


def test_real_differences_between_questions_stay():
    odd = np.repeat(np.arange(50) % 2, 4)
    found = RepeatedRuns.of(
        repeated(np.stack([odd, 1 - odd], axis=1), np.tile([1.0, 3.0], (200, 1)))
    )
    assert found.naive == found.honest == (1.0, 2.0)
    assert found.headroom == pytest.approx(0.5)
    assert found.differing == {"small": 0.0, "large": 0.0}


def test_of_equally_good_candidates_the_cheaper_one_is_chosen():
    same = np.ones((4, 2))
    assert RepeatedRuns.of(repeated(same, np.tile([2.0, 1.0], (4, 1)))).honest == (1.0, 1.0)
    assert RepeatedRuns.of(repeated(same)).honest == (1.0, None)


def test_questions_with_one_row_are_left_out_and_without_others_there_is_nothing_to_say():
    table = Outcomes(["a", "b", "b", "b"], NAMES, [[0, 0], [1, 0], [1, 0], [0, 1]])
    found = RepeatedRuns.of(table)
    assert (found.n_queries, found.n_rows) == (1, 3)
    assert found.naive[0] == pytest.approx(2 / 3)
    assert RepeatedRuns.of(table.take([0, 1])) is None


def test_equal_questions_of_other_groups_are_other_questions():
    table = Outcomes(["a", "a"], NAMES, [[0, 1], [1, 0]], groups=["one", "two"])
    assert RepeatedRuns.of(table) is None


@pytest.mark.parametrize("n_runs", [2, 3, 5, 9])
def test_any_number_of_runs_is_halved(n_runs):
    rng = np.random.default_rng(n_runs)
    luck = rng.integers(0, 2, (n_runs * 400, 2)).astype(float)
    found = RepeatedRuns.of(repeated(luck, n_runs=n_runs))
    assert found.naive[0] > found.honest[0]
    assert found.honest[0] == pytest.approx(0.5, abs=0.04)


def test_journals_of_the_same_questions_are_averaged_and_their_runs_are_kept(tmp_path):
    rng = np.random.default_rng(1)
    paths = []
    for k in range(2):
        quality = rng.integers(0, 2, (40, 2)).astype(float)
        table = Outcomes(
            [f"what is {i}?" for i in range(40)], NAMES, quality, np.tile([1.0, 2.0], (40, 1))
        )
        paths.append(write_journal(tmp_path / f"{k}.jsonl", table))
    data = load_journal(*paths)
    assert len(data.outcomes) == 40
    assert len(data.runs) == 80
    assert load_journal(paths[0]).runs is None
    means = data.outcomes.quality.mean(axis=0)
    assert data.runs.quality.mean(axis=0) == pytest.approx(means)
    fitted = fit_router(data, even_if_worse=True)
    assert fitted.repeated == RepeatedRuns.of(data.runs)


def test_a_report_has_both_oracles_where_rows_repeat():
    again = np.concatenate([np.arange(len(TABLE))] * 2)
    exam = Exam.of(cascade(), TABLE.take(again), {"self": SAID.take(again)})
    report = exam.report()
    assert report.repeated == RepeatedRuns.of(exam.outcomes)
    assert report.as_dict()["repeated_runs"]["naive"]["quality"] == report.repeated.naive[0]
    assert Exam.of(cascade(), TABLE, {"self": SAID}).report().repeated is None


def test_on_mcpmark_the_choice_of_effort_is_luck():
    pandas = pytest.importorskip("pandas")
    runs = pandas.read_parquet(shared_data("mcpmark") / "runs.parquet")
    names = ["gpt-5-low", "gpt-5-medium", "gpt-5-high"]
    wide = runs[runs.model.isin(names)].pivot(
        index=["task", "run"], columns="model", values=["success", "cost_usd"]
    )
    table = Outcomes(
        [task for task, _ in wide.index],
        names,
        wide["success"][names].to_numpy(float),
        wide["cost_usd"][names].to_numpy(float),
    )
    found = RepeatedRuns.of(table)
    assert found.naive[0] == pytest.approx(0.624, abs=0.001)
    assert found.honest[0] == pytest.approx(0.524, abs=0.005)
    assert found.alone[0] == pytest.approx(0.526, abs=0.001)


def test_the_report_on_a_fit_says_what_perfect_routing_is_worth_on_other_runs(tmp_path):
    pytest.importorskip("matplotlib")
    from langchain_llm_router.apps.cli.fit_report import write_report

    again = np.concatenate([np.arange(len(TABLE))] * 2)
    fitted = fit_router(TABLE.take(again), estimators={"mean": lambda: Clusters(n_clusters=2)})
    text = write_report(fitted, tmp_path).read_text()
    assert "| perfect routing, tested on other runs |" in text
    assert "| perfect routing |" not in text
    assert fitted.repeated.sentence in text
