"""Grading by a causal language model.

Most tests take the tiny Llama with random weights of `tests/support/networks.py` (it learns the toy
table); the slow one takes the real SmolLM2-135M-Instruct, which a package carries as GGUF and
transformers turns into safetensors.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router import estimators
from langchain_llm_router.data import Outcomes
from tests.support.fakes import make_outcomes
from tests.support.networks import smollm2, tiny

pytestmark = pytest.mark.usefixtures("torch")

HARD, EASY = "prove hard theorem", "add easy numbers"
PAIR = make_outcomes(80).select(["small", "large"])


def causal(**settings):
    settings.setdefault("max_length", 160)
    return tiny("CausalLMClassifier", **settings)


@pytest.fixture
def learning():
    """A training that suffices for the tiny network to learn the toy table."""
    return estimators.Training(epochs=12, learning_rate=5e-3, patience=12)


@pytest.fixture(scope="module")
def grade_shares(torch):
    from langchain_llm_router.estimators import causal_lm

    return causal_lm.grade_shares


def test_qualities_become_grades_from_one_to_five(grade_shares):
    """0.6 lies between grade 3 (0.5) and grade 4 (0.75): 1 + 4 x 0.6 = 3.4."""
    np.testing.assert_allclose(
        grade_shares(np.array([0.0, 0.25, 0.6, 1.0])),
        [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0.6, 0.4, 0], [0, 0, 0, 0, 1]],
        atol=1e-12,
    )


@given(st.floats(0, 1))
def test_the_mean_grade_is_the_quality(grade_shares, quality):
    shares = grade_shares(np.array([quality]))
    assert shares.sum() == pytest.approx(1)
    assert (shares @ (np.arange(5) / 4)).item() == pytest.approx(quality)


@pytest.mark.slow
@pytest.mark.parametrize("score_tokens", ["new", "digits"])
def test_rating_the_weak_answer_learns_when_to_ask_the_strong_one(score_tokens, learning):
    fitted = causal(rate="weak", score_tokens=score_tokens, training=learning).fit(PAIR)
    predicted = fitted.predict([HARD, EASY])
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert predicted[0, 1] > 0.7
    assert predicted[1, 1] < 0.35


@pytest.mark.slow
def test_rating_every_answer_tells_candidates_apart_by_their_names(learning):
    fitted = causal(training=learning).fit(PAIR)
    hard, easy = fitted.predict([HARD, EASY])
    assert hard[1] - hard[0] > 0.3
    assert abs(easy[1] - easy[0]) < 0.2


def test_rating_the_weak_answer_needs_a_pair():
    with pytest.raises(ValueError, match="needs a weak and a strong candidate"):
        causal(rate="weak").fit(make_outcomes())


@pytest.mark.parametrize("settings", [{"rate": "both"}, {"score_tokens": "stars"}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be one of"):
        causal(**settings)


def test_new_tokens_are_appended_and_start_where_their_spelling_was():
    fitted = causal(training=estimators.Training(max_steps=1, learning_rate=1e-12)).fit(PAIR)
    words = fitted.network_.model.get_input_embeddings().weight
    ids = fitted.tokenizer_.convert_tokens_to_ids(["[[1]]", "[[5]]"])
    assert ids[1] - ids[0] == 4
    assert len(words) == len(fitted.tokenizer_) == ids[1] + 1
    spelled = [fitted.tokenizer_.convert_tokens_to_ids(c) for c in "[[5]]"]
    np.testing.assert_allclose(
        words[ids[1]].detach(), words[spelled].detach().mean(dim=0), atol=1e-6
    )


def test_digits_leave_the_vocabulary_as_it_is():
    fitted = causal(score_tokens="digits").fit(PAIR)
    assert len(fitted.network_.model.get_input_embeddings().weight) == len(fitted.tokenizer_)
    read = [fitted.tokenizer_.decode([i]) for i in fitted.network_.score_ids.tolist()]
    assert read == ["1", "2", "3", "4", "5"]


def test_a_vocabulary_without_digits_is_refused(monkeypatch):
    monkeypatch.setattr(estimators.CausalLMClassifier, "_token_ids", lambda *_: [1])
    with pytest.raises(ValueError, match="needs one token for each of 1 to 5"):
        causal(score_tokens="digits").fit(PAIR)


def test_a_long_query_loses_its_end_but_the_prompt_stays_whole():
    fitted = causal(max_length=100).fit(PAIR)
    short, long = fitted._prompts([HARD, f"{HARD} " * 100], "small")
    assert len(long) == 100
    before, after = fitted._prompt_parts("small")
    assert long[: len(before)] == short[: len(before)] == before
    assert long[-len(after) :] == short[-len(after) :] == after


def test_a_prompt_that_leaves_no_room_for_the_query_is_refused():
    with pytest.raises(ValueError, match=r"raise `max_length` \(20\)"):
        causal(max_length=20).fit(PAIR)


def test_padding_changes_nothing():
    fitted = causal().fit(PAIR)
    alone, beside = fitted.predict([EASY]), fitted.predict([EASY, f"{HARD} " * 15])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-6)


def test_a_chat_template_frames_the_query_and_survives_saving(tmp_path):
    fitted = causal().fit(PAIR)
    fitted.tokenizer_.chat_template = (
        "{% for m in messages %}theorem {{ m.content }} theorem {% endfor %}add "
    )
    before, after = fitted._prompt_parts("large")
    plain = estimators.CausalLMClassifier.load(
        causal().fit(PAIR).save(tmp_path / "plain")
    )._prompt_parts("large")
    assert (before, after) != plain
    assert fitted.tokenizer_.decode(before).count("theorem") == 3
    assert fitted.tokenizer_.decode(after).split()[:2] == ["theorem", "add"]
    folder = fitted.save(tmp_path / "chat")
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {".json", ".npz", ".safetensors"}
    assert estimators.CausalLMClassifier.load(folder)._prompt_parts("large") == (before, after)


def test_the_artifact_remembers_its_settings(tmp_path: Path):
    training = estimators.Training(epochs=1, seed=3)
    fitted = causal(rate="weak", score_tokens="digits", training=training).fit(PAIR)
    again = estimators.CausalLMClassifier.load(fitted.save(tmp_path))
    assert (again.rate, again.score_tokens, again.max_length) == ("weak", "digits", 160)
    assert again.training == training
    np.testing.assert_allclose(again.predict([HARD]), fitted.predict([HARD]), atol=1e-6)


@pytest.mark.slow
def test_smollm2_learns_from_wording_in_a_few_steps(tmp_path):
    training = estimators.Training(
        max_steps=20, batch_size=4, learning_rate=3e-4, validation_share=0.0
    )
    queries = [f"{HARD if i % 2 else EASY} {i}" for i in range(80)]
    table = Outcomes(queries, ["weak", "strong"], [[1 - i % 2, 1.0] for i in range(80)])
    fitted = estimators.CausalLMClassifier(smollm2(), 160, rate="weak", training=training).fit(
        table
    )
    hard, easy = fitted.predict(["prove a harder theorem", "add two easy numbers"])
    assert hard[1] > easy[1] + 0.2
    again = estimators.CausalLMClassifier.load(fitted.save(tmp_path))
    np.testing.assert_allclose(again.predict([HARD]), fitted.predict([HARD]), atol=1e-5)
