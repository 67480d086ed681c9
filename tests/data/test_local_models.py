"""The recorded table of three local models that ships with the package."""

from importlib.resources import files

import numpy as np
import pytest

from langchain_llm_router.data import LocalModels
from langchain_llm_router.evaluation import auc
from langchain_llm_router.policies import Pomdp
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.verification import AnswerLogprob
from tests.support.local_models.describe import README, figures

LEAST_ROWS = 1_500
"""How many questions were recorded at least."""


@pytest.fixture(scope="module")
def data():
    return LocalModels.load()


def test_every_table_is_about_the_same_rows_and_models(data):
    n, k = data.outcomes.quality.shape
    assert n >= LEAST_ROWS
    assert data.outcomes.candidates == ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
    assert len(set(data.outcomes.queries)) == n
    assert len(data.references) == n
    assert data.tokens.shape == (n, k, 2)
    assert data.latency_s.shape == (n, k)
    assert data.evaluations["self_k8"].verdicts.shape == (n, k, 8)
    assert {len(answers) for answers in data.answers.values()} == {n}


def test_correctness_and_cost_follow_from_the_recorded_answers(data):
    for j, (name, answers) in enumerate(data.answers.items()):
        right = [a == r for a, r in zip(answers, data.references, strict=True)]
        np.testing.assert_array_equal(data.outcomes.quality[:, j], right)
        rate = data.prices[name].input_usd_per_mtok
        cost = data.tokens[:, j].sum(axis=1) * rate / 1e6
        np.testing.assert_allclose(data.outcomes.cost_usd[:, j], cost, rtol=1e-4)


def test_the_scores_are_the_share_of_the_verdicts(data):
    it = data.evaluations["self_k8"]
    np.testing.assert_allclose(it.confidence, np.nanmean(it.verdicts, axis=-1))


def test_log_probability_knows_more_than_self_verification(data):
    j = data.outcomes.candidates.index("qwen2.5-coder-1.5b")
    right = data.outcomes.quality[:, j] > 0.5
    areas = {name: auc(it.confidence[:, j], right) for name, it in data.evaluations.items()}
    assert areas["answer_logprob"] > 0.75 > 0.6 > areas["self_k8"]


def test_observation_models_and_policies_fit_on_it(data):
    verdicts = data.evaluations["self_k8"]
    right = data.outcomes.quality[:, 2] > 0.5
    assert 0 < KernelDensity().fit(verdicts.confidence[:, 2], right).p_good(1.0) < 1
    policy = Pomdp(lambda_=1e3).fit(data.outcomes, verdicts)
    assert policy.candidates_ == data.outcomes.candidates


def test_candidates_replay_answers_usage_and_log_probabilities(data):
    names = data.outcomes.candidates[1:]
    candidates = data.candidates(names)
    assert tuple(candidate.name for candidate in candidates) == names
    for j, candidate in enumerate(candidates, start=1):
        answer = candidate.model.invoke(data.outcomes.queries[7])
        assert answer.text == data.answers[candidate.name][7]
        used = [answer.usage_metadata[f"{side}_tokens"] for side in ("input", "output")]
        assert used == data.tokens[7, j].tolist()
        score = AnswerLogprob().score_so_far(answer)
        assert score == pytest.approx(data.evaluations["answer_logprob"].confidence[7, j])


def test_the_readme_gives_the_figures_of_the_table(data):
    assert figures(data) in README.read_text(encoding="utf-8"), (
        "the table is another one: run `python -m tests.support.local_models.describe`"
    )


def test_it_is_small():
    packed = files("langchain_llm_router.data").joinpath("local_models.json.gz").read_bytes()
    assert len(packed) < 2_000_000
