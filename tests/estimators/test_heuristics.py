"""The baseline by rules: what its score counts, and the scale that is fitted."""

import time

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Heuristics, complexity
from langchain_llm_router.types.errors import ArtifactError

SIMPLE = ["hello", "What is the capital of France?", "translate 'cat' into German"]
HARD = [
    "Prove step by step that the algorithm converges, and explain why the matrix is regular.",
    "Refactor this function:\n```python\ndef f(x):\n    return x\n```\nand debug the exception.",
    "First analyse the trade-offs of both architectures, then justify a distributed protocol. "
    + "There are many services. " * 40,
]


def test_greetings_and_plain_facts_score_below_proofs_and_code():
    assert max(map(complexity, SIMPLE)) < 0.1
    assert min(map(complexity, HARD)) > 0.25


@pytest.mark.parametrize(
    "text", ["", "∀" * 10, *SIMPLE, *HARD, "def why algorithm first then " * 99]
)
def test_a_score_lies_between_0_and_1(text):
    assert 0 <= complexity(text) <= 1


def test_each_sign_raises_the_score():
    plain = "A man walks along a street in the rain"
    signs = [" " + plain * 9, " def import", " prove why", " theorem matrix", "\n1. a\n2. b"]
    for sign in signs:
        assert complexity(plain + sign) > complexity(plain), sign


@pytest.mark.parametrize("text", ["first ", "\n", "; ", "a(", " \n", "think", "`"])
def test_a_text_of_a_million_characters_takes_no_longer_than_a_page(text):
    start = time.process_time()
    complexity(text * (1_000_000 // len(text)))
    assert time.process_time() - start < 1


def test_what_is_fitted_is_one_line_per_candidate():
    queries = [f"{text} {i}" for i in range(50) for text in ("hello", HARD[0])]
    quality = np.tile([[1.0, 1.0], [0.0, 1.0]], (50, 1))
    fitted = Heuristics().fit(Outcomes(queries, ["weak", "strong"], quality))
    easy, hard = fitted.predict(["hello you", HARD[0]])
    assert easy[0] > 0.8 > 0.2 > hard[0]
    np.testing.assert_allclose([easy[1], hard[1]], 1.0)
    assert fitted.lines_.shape == (2, 2)


def test_few_rows_give_a_slope_near_0():
    data = Outcomes(["hello", HARD[0]], ["weak"], [[1.0], [0.0]])
    assert abs(Heuristics(n_prior_rows=1000).fit(data).lines_[1, 0]) < 0.1


def test_a_wrong_setting_or_a_wrong_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`n_prior_rows` must be > 0, got 0"):
        Heuristics(n_prior_rows=0)
    fitted = Heuristics().fit(Outcomes(["a"], ["weak"], [[1.0]]))
    fitted.lines_ = np.zeros((3, 1))
    with pytest.raises(ArtifactError, match="lines have shape"):
        Heuristics.load(fitted.save(tmp_path / "it"))
