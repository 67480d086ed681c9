"""Benchmark loaders: the facts their sources state, and files of the user's own."""

import json

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.benchmarks import (
    load_alpaca_eval,
    load_alpaca_pair,
    load_gsm8k,
    load_mmlu,
    load_mt_bench,
    load_routerbench,
    load_zeroeval,
    without_overlap,
)
from langchain_llm_router.data.grades import GRADES, grade_quality
from langchain_llm_router.data.zeroeval import ZeroEval
from langchain_llm_router.evaluation import oracle
from tests.support.shared_data import shared_data


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_mmlu_drops_the_contaminated_prompts_as_routellm_does():
    path = shared_data("routellm/mmlu.parquet")
    outcomes = load_mmlu(path)
    assert len(outcomes) == 14_037
    np.testing.assert_allclose(outcomes.quality.mean(axis=0), [0.6809, 0.8059], atol=5e-5)
    assert len(set(outcomes.groups)) == 57
    assert len(load_mmlu(path, keep_contaminated=True)) == 14_042


def test_gsm8k_has_two_label_columns():
    path = shared_data("routellm/gsm8k.parquet")
    published, regraded = load_gsm8k(path), load_gsm8k(path, labels="regraded")
    assert len(published) == len(regraded) == 1307
    np.testing.assert_allclose(published.quality.mean(axis=0), [0.6373, 0.8577], atol=5e-5)
    np.testing.assert_allclose(regraded.quality.mean(axis=0), [0.6350, 0.8898], atol=5e-5)
    with pytest.raises(ValueError, match="'regraded'"):
        load_gsm8k(path, labels="guessed")


def test_mt_bench_keeps_72_questions_of_two_turns():
    outcomes = load_mt_bench(shared_data("routellm/mt_bench.parquet"))
    assert len(outcomes) == 144
    assert len(set(outcomes.queries)) == 72
    np.testing.assert_allclose(outcomes.quality.mean(axis=0), [0.8281, 0.9212], atol=5e-5)


def test_routerbench_stands_from_cheap_to_dear():
    outcomes = load_routerbench(shared_data("routerbench"))
    assert outcomes.quality.shape == (3150, 11)
    assert outcomes.candidates[0] == "mistral-7b-chat"
    assert outcomes.candidates[-1] == "gpt-4-1106-preview"
    assert (np.diff(outcomes.mean_cost_usd) > 0).all()
    best = outcomes.quality[np.arange(3150), oracle(outcomes)].mean()
    assert best == pytest.approx(0.9756, abs=1e-4)
    pair = load_routerbench(shared_data("routerbench"), candidates=["mixtral-8x7b-chat"])
    assert pair.quality.mean() == pytest.approx(0.7413, abs=1e-4)


def test_zeroeval_keeps_the_complete_and_priced_models():
    outcomes = load_zeroeval(shared_data("zeroeval"))
    assert outcomes.quality.shape == (2840, 24)
    assert set(outcomes.groups) == {"gsm", "math-l5", "crux"}
    best = outcomes.quality[np.arange(2840), oracle(outcomes)].mean()
    assert best == pytest.approx(0.9574, abs=1e-4)


def test_overlaps_between_data_sets_are_found():
    gsm = load_gsm8k(shared_data("routellm/gsm8k.parquet"), keep_contaminated=True)
    left = without_overlap(load_zeroeval(shared_data("zeroeval")), gsm.queries)
    assert len(left) == 2840 - 1319
    assert set(left.groups) == {"math-l5", "crux"}


def test_overlap_ignores_case_spaces_and_punctuation():
    outcomes = Outcomes(["What is 2 + 2?", "Why?"], ("a",), [[1], [0]])
    assert without_overlap(outcomes, ["what is  2 + 2"]).queries == ("Why?",)


@pytest.mark.slow
def test_alpaca_eval_is_battles_and_a_pair_is_outcomes():
    folder = shared_data("alpaca_eval")
    battles = load_alpaca_eval(folder)
    assert len(battles) == 103_771
    assert len(battles.candidates) == 101
    model, anchor = "Mixtral-8x7B-Instruct-v0.1", "gpt4_1106_preview"
    pair = load_alpaca_pair(folder, model, anchor, "alpaca_eval_gpt4_turbo_fn")
    assert len(pair) == 805
    np.testing.assert_allclose(pair.quality.mean(axis=0), [0.228, 0.772], atol=5e-4)


def test_alpaca_files_of_your_own(tmp_path):
    write(
        tmp_path / "instructions.jsonl",
        [{"instruction_id": 7, "instruction": "Sing", "dataset": "d"}],
    )
    row = {
        "instruction_id": 7,
        "model_a": "big",
        "model_b": "small",
        "annotator": "me",
        "p_b": 0.25,
    }
    write(tmp_path / "preferences.jsonl", [row, {**row, "annotator": "you", "p_b": 1.0}])
    battles = load_alpaca_eval(tmp_path, annotators=["me"])
    assert (battles.queries, battles.candidate_a, list(battles.score_a)) == (
        ("Sing",),
        ("big",),
        [0.75],
    )
    pair = load_alpaca_pair(tmp_path, "small", "big", "me")
    assert pair.candidates == ("small", "big")
    np.testing.assert_allclose(pair.quality, [[0.25, 0.75]])
    with pytest.raises(ValueError, match="'nobody'"):
        load_alpaca_pair(tmp_path, "nobody", "big", "me")


def test_tables_of_your_own_with_the_same_columns(tmp_path):
    queries = [{"id": i, "dataset": "mine", "question": f"q{i}"} for i in range(2)]
    scores = [
        {"id": i, "model": model, "score": i, "cost_usd": cost}
        for i in range(2)
        for model, cost in (("dear", 2.0), ("cheap", 1.0), ("unpriced", None))
    ]
    write(tmp_path / "queries.jsonl", queries)
    lines = ["id,model,score,cost_usd"]
    lines += [f"{s['id']},{s['model']},{s['score']},{s['cost_usd'] or ''}" for s in scores]
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8")
    outcomes = load_routerbench(tmp_path)
    assert outcomes.candidates == ("cheap", "dear")
    np.testing.assert_allclose(outcomes.quality, [[0, 0], [1, 1]])
    chosen = load_routerbench(tmp_path, candidates=["unpriced", "cheap"])
    assert np.isnan(chosen.cost_usd[:, 0]).all()


def test_missing_files_columns_and_formats_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"queries\.parquet"):
        load_routerbench(tmp_path)
    path = write(tmp_path / "mmlu.jsonl", [{"prompt": "x"}])
    with pytest.raises(ValueError, match="weak_correct"):
        load_mmlu(path)
    with pytest.raises(ValueError, match=r"\.parquet"):
        load_mmlu(tmp_path / "mmlu.xlsx")


def test_five_grades_span_the_qualities():
    assert [grade_quality(name) for name in GRADES] == [0, 0.25, 0.5, 0.75, 1]
    assert grade_quality(" VERY-good ") == 0.75
    with pytest.raises(ValueError, match="'fine'"):
        grade_quality("fine")


def test_the_recorded_answers_of_zeroeval_fall_into_groups_and_have_lengths():
    table = ZeroEval.load()
    calls = []

    def same(a: str, b: str) -> bool:
        calls.append((a, b))
        return a == b

    names = ("claude-3.5-sonnet", "gpt-4o-mini")
    found = table.answer_groups(names, same=same)
    n_calls = len(calls)
    assert found.candidates == names
    assert not found.has_scores
    assert (found.cost_usd == 0).all()
    for row in range(50):
        a, b = (table.answers[name][row] for name in names)
        left, right = found.answer_groups[row]
        assert (left == -1, right == -1) == (a == "", b == "")
        assert (left == right and left >= 0) == (a == b != "")
    # Compared once for all.
    assert table.answer_groups(names[:1], same=same).answer_groups.shape == (2840, 1)
    assert len(calls) == n_calls
    tokens = table.outcomes.select(names).output_tokens
    assert tokens.tolist() == [[table.tokens[n][i][1] for n in names] for i in range(2840)]
