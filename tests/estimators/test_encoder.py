"""Fine-tuned encoders.

Most tests take the tiny network with random weights of `tests/support/networks.py` (it learns the
toy table); those that say MiniLM take the real one.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

from langchain_llm_router import estimators
from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.fakes import make_outcomes
from tests.support.forks import run_forked
from tests.support.networks import minilm, tiny, tiny_encoder
from tests.support.paths import ROOT

HARD, EASY = "prove hard theorem", "add easy numbers"


@pytest.fixture
def learning():
    """A training that suffices for the tiny network to learn the toy table."""
    pytest.importorskip("torch", reason="torch is not installed (extra `torch`)")
    return estimators.Training(epochs=4, learning_rate=5e-3)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The folder of a ModelScorer that has learned the toy table for two candidates."""
    table = make_outcomes(150).select(["small", "large"])
    training = tiny("ModelScorer").training.__class__(epochs=4, learning_rate=5e-3)
    folder = tmp_path_factory.mktemp("scorer")
    return tiny("ModelScorer", training=training).fit(table).save(folder)


def test_a_name_that_no_estimator_has_is_unknown():
    assert not hasattr(estimators, "Nonsense")


def test_without_torch_the_message_names_the_extra():
    code = (
        "import sys\nfrom langchain_llm_router import estimators\n"
        "from langchain_llm_router.types import errors\n"
        "sys.modules['torch'] = None\n"
        "try: estimators.EncoderClassifier\n"
        "except errors.MissingExtraError as error: assert '[torch]' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    done = run_forked(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_quality_objective_learns_every_candidates_quality(learning):
    fitted = tiny("EncoderClassifier", training=learning).fit(make_outcomes(200))
    hard, easy = fitted.predict([HARD, EASY])
    assert hard[0] < 0.35 < 0.7 < hard[2]  # truth: 0.1, 0.5, 0.9 and 0.9, 0.925, 0.95
    assert easy.min() > 0.7


def test_graded_quality_is_predicted_as_a_mean(learning):
    table = Outcomes([f"{EASY} {i}" for i in range(150)], ["one"], [[0.25], [0.5], [0.75]] * 50)
    fitted = tiny("EncoderClassifier", training=learning).fit(table)
    assert fitted.predict([EASY]).item() == pytest.approx(0.5, abs=0.1)


def test_three_ways_sum_to_one_and_tell_who_wins(learning):
    table = make_outcomes(200).select(["small", "large"])
    fitted = tiny("EncoderClassifier", objective="three_way", training=learning).fit(table)
    predicted = fitted.predict([HARD, EASY])
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert predicted[0, 1] > 0.8
    assert predicted[1, 1] < 0.65


def test_the_share_of_a_tie_moves_only_ties(learning):
    table = make_outcomes(100).select(["small", "large"])
    fitted = tiny("EncoderClassifier", objective="three_way", training=learning).fit(table)
    half = fitted.predict([HARD, EASY])
    fitted.tie_share = 0.0
    routellm = fitted.predict([HARD, EASY])
    fitted.tie_share = 1.0
    generous = fitted.predict([HARD, EASY])
    np.testing.assert_allclose(half, (routellm + generous) / 2)
    assert (generous[:, 1] > routellm[:, 1]).all()


def test_battles_teach_the_same_as_the_outcomes_they_come_from(learning):
    table = make_outcomes(60).select(["small", "large"])
    battles = table.to_battles()
    swapped = [i % 2 == 1 for i in range(len(battles))]
    mixed = Battles(
        battles.queries,
        np.where(swapped, battles.candidate_b, battles.candidate_a).tolist(),
        np.where(swapped, battles.candidate_a, battles.candidate_b).tolist(),
        np.where(swapped, 1 - battles.score_a, battles.score_a),
    )
    make = lambda: tiny("EncoderClassifier", objective="three_way", training=learning)  # noqa: E731
    from_battles = make().fit(mixed)
    assert from_battles.candidates_ == ("small", "large")
    expected = make().fit(table).predict([HARD, EASY])
    np.testing.assert_allclose(from_battles.predict([HARD, EASY]), expected, atol=1e-5)


def test_three_ways_need_two_candidates():
    with pytest.raises(ValueError, match=r"needs two candidates, got \['small', 'medium'"):
        tiny("EncoderClassifier", objective="three_way").fit(make_outcomes())


def test_quality_cannot_be_learned_from_battles():
    battles = make_outcomes(10).select(["small", "large"]).to_battles()
    with pytest.raises(ValueError, match="needs `Outcomes`"):
        tiny("EncoderClassifier").fit(battles)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "four_way"}, "`objective` must be one of"),
        ({"pooling": "max"}, "`pooling` must be one of"),
        ({"tie_share": 1.5}, "`tie_share`"),
        ({"max_length": 2}, "`max_length` must be >= 3"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny("EncoderClassifier", **settings)


@pytest.mark.parametrize("kind", ["EncoderClassifier", "ModelScorer"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(kind, pooling):
    fitted = tiny(kind, pooling=pooling).fit(make_outcomes())
    alone = fitted.predict([EASY])
    beside = fitted.predict([EASY, f"{HARD} " * 15])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["EncoderClassifier", "ModelScorer"])
def test_texts_longer_than_the_encoder_takes_are_cut(kind):
    fitted = tiny(kind).fit(make_outcomes())  # 64 positions, `max_length` is 512
    assert np.isfinite(fitted.predict([f"{HARD} " * 500])).all()


@pytest.mark.parametrize("kind", ["EncoderClassifier", "ModelScorer"])
def test_the_seed_decides(kind, learning):
    table = make_outcomes(40)
    from dataclasses import replace

    one, same, other = (
        tiny(kind, training=replace(learning, epochs=1, seed=seed)).fit(table).predict([HARD])
        for seed in (0, 0, 1)
    )
    np.testing.assert_allclose(one, same, atol=1e-6)
    assert not np.allclose(one, other)


def test_the_artifact_remembers_how_it_was_trained(learning, tmp_path):
    fitted = tiny("EncoderClassifier", training=learning, pooling="mean").fit(make_outcomes(30))
    again = estimators.EncoderClassifier.load(fitted.save(tmp_path))
    assert again.training == learning
    assert (again.pooling, again.pretrained) == ("mean", tiny_encoder())
    assert again.history_.steps == fitted.history_.steps
    np.testing.assert_array_equal(again.history_.validation_loss, fitted.history_.validation_loss)


def test_an_artifact_can_be_saved_over_another(tmp_path):
    tiny("ModelScorer").fit(make_outcomes()).save(tmp_path)
    fitted = tiny("EncoderClassifier").fit(make_outcomes())
    again = estimators.EncoderClassifier.load(fitted.save(tmp_path))
    np.testing.assert_allclose(again.predict([HARD]), fitted.predict([HARD]), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["network.safetensors", "transformer/config.json", "transformer/tokenizer.json"]
)
def test_corruption_of_any_file_is_refused(scorer, tmp_path, name):
    import shutil

    folder = Path(shutil.copytree(scorer, tmp_path / "copy"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"corrupted: {name}"):
        estimators.ModelScorer.load(folder)


def test_weights_of_another_network_are_refused(scorer, tmp_path):
    """Even with a manifest that vouches for them."""
    import json
    import shutil
    from hashlib import sha256

    folder = Path(shutil.copytree(scorer, tmp_path / "copy"))
    other = tiny("EncoderClassifier").fit(make_outcomes()).save(tmp_path / "other")
    content = (other / "network.safetensors").read_bytes()
    (folder / "network.safetensors").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files_sha256"]["network.safetensors"] = sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="has no valid network of a ModelScorer"):
        estimators.ModelScorer.load(folder)


def test_the_scorer_tells_candidates_apart_by_their_vectors(scorer):
    hard, easy = estimators.ModelScorer.load(scorer).predict([HARD, EASY])
    assert hard[0] < 0.4 < 0.65 < hard[1]
    assert easy.min() > 0.65


def test_a_new_candidate_changes_its_vector_alone(scorer):
    fitted = estimators.ModelScorer.load(scorer)
    before = {name: value.clone() for name, value in fitted.network_.state_dict().items()}
    old = fitted.predict([HARD, EASY])
    table = Outcomes([f"{HARD} {i}" for i in range(40)], ["new"], np.ones((40, 1)))
    hash_before = fitted.data_hash_
    fitted.add_candidate("new", table, training=estimators.Training(learning_rate=0.01))
    after = fitted.network_.state_dict()
    assert set(after) - set(before) == {"vectors.2"}
    for name, value in before.items():
        assert (after[name] == value).all(), name
    assert fitted.candidates_ == ("small", "large", "new")
    assert fitted.data_hash_ != hash_before
    np.testing.assert_allclose(fitted.predict([HARD, EASY])[:, :2], old, atol=1e-6)


@pytest.mark.parametrize("twin", ["small", "large"])
def test_a_new_candidate_that_answers_like_a_known_one_is_scored_like_it(scorer, tmp_path, twin):
    fitted = estimators.ModelScorer.load(scorer)
    table = make_outcomes(80, seed=3).select([twin])
    renamed = Outcomes(table.queries, ["new"], table.quality)
    fitted.add_candidate("new", renamed, training=estimators.Training(learning_rate=0.01))
    predicted = fitted.predict([HARD, EASY])
    known = predicted[:, ["small", "large"].index(twin)]
    np.testing.assert_allclose(predicted[:, 2], known, atol=0.15)
    again = estimators.ModelScorer.load(fitted.save(tmp_path))
    assert again.candidates_ == ("small", "large", "new")
    np.testing.assert_allclose(again.predict([HARD, EASY]), predicted, atol=1e-6)


def test_a_new_candidate_unlike_the_known_ones_is_predicted_at_its_own_level(tmp_path):
    """Where the known are alike, the encoder makes nothing of the vector."""
    rng = np.random.default_rng(0)
    table = make_outcomes(200)
    poor = (rng.random((200, 2)) < 0.1).astype(float)
    training = estimators.Training(
        epochs=3, learning_rate=1e-3, head_learning_rate=3e-3, validation_share=0.0
    )
    fitted = tiny("ModelScorer", training=training).fit(Outcomes(table.queries, ["a", "b"], poor))
    answers = Outcomes(table.queries[:50], ["new"], np.tile([[0.0], [1.0]], (25, 1)))
    known = fitted.predict(table.queries)
    fitted.add_candidate("new", answers)
    predicted = fitted.predict(table.queries)
    assert predicted[:, 2].mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(predicted[:, :2], known, atol=1e-6)
    again = estimators.ModelScorer.load(fitted.save(tmp_path))
    np.testing.assert_allclose(again.predict([HARD]), fitted.predict([HARD]), atol=1e-6)


def test_a_vector_that_has_not_moved_is_warned_about(scorer):
    fitted = estimators.ModelScorer.load(scorer)
    table = make_outcomes(30)
    with pytest.warns(UserWarning, match=r"The vector of 'medium' has moved by 0\.\d+ % only"):
        fitted.add_candidate("medium", table, training=estimators.Training())
    fitted = estimators.ModelScorer.load(scorer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.add_candidate("medium", table)


def test_a_scorer_saved_without_offsets_is_loaded_with_none(scorer, tmp_path):
    fitted = estimators.ModelScorer.load(scorer)
    expected = fitted.predict([HARD])
    arrays = fitted._arrays()
    del arrays["offsets"]
    fitted._arrays = lambda: arrays
    loaded = estimators.ModelScorer.load(fitted.save(tmp_path))
    np.testing.assert_allclose(loaded.predict([HARD]), expected, atol=1e-6)
    arrays["offsets"] = np.zeros(1)
    with pytest.raises(ArtifactError, match="offsets have shape"):
        estimators.ModelScorer.load(fitted.save(tmp_path))


def test_adding_a_candidate_says_what_is_wrong(scorer):
    fitted = estimators.ModelScorer.load(scorer)
    table = make_outcomes(5)
    with pytest.raises(ValueError, match="must be a new candidate, got 'small'"):
        fitted.add_candidate("small", table)
    with pytest.raises(ValueError, match=r"got \['absent'\]"):
        fitted.add_candidate("absent", table)
    with pytest.raises(ValueError, match="must have at least 1 row"):
        fitted.add_candidate("medium", table.take(np.zeros(5, bool)))
    with pytest.raises(NotFittedError):
        tiny("ModelScorer").add_candidate("medium", table)


def test_a_failed_addition_leaves_the_scorer_as_it_was(scorer):
    fitted = estimators.ModelScorer.load(scorer)
    before = fitted.predict([HARD])
    training = estimators.Training(learning_rate=1e30, clip_norm=1e30, epochs=20)
    with pytest.raises(FloatingPointError):
        fitted.add_candidate("medium", make_outcomes(60), training=training)
    assert fitted.candidates_ == ("small", "large")
    np.testing.assert_allclose(fitted.predict([HARD]), before, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EncoderClassifier", "ModelScorer"])
def test_minilm_learns_from_wording_in_a_few_steps(kind, tmp_path):
    pretrained = minilm()
    training = estimators.Training(
        max_steps=12, learning_rate=1e-4, head_learning_rate=3e-3, validation_share=0.0
    )
    estimator = getattr(estimators, kind)(pretrained, 32, pooling="mean", training=training)
    fitted = estimator.fit(make_outcomes(200).select(["small", "large"]))
    hard, easy = fitted.predict(["prove a harder theorem", "add two easy numbers"])
    assert hard[1] - hard[0] > easy[1] - easy[0] + 0.2
    again = getattr(estimators, kind).load(fitted.save(tmp_path))
    np.testing.assert_allclose(again.predict([HARD]), fitted.predict([HARD]), atol=1e-5)


@pytest.mark.slow
def test_minilm_learns_a_new_candidate_unlike_the_known_ones_by_its_vector():
    pretrained = minilm()
    rng = np.random.default_rng(0)
    hard = rng.random(160) < 0.5
    queries = [f"{HARD if h else EASY} {i}" for i, h in enumerate(hard)]
    known = {"all": np.ones(160), "easy": ~hard, "hard": hard}
    training = estimators.Training(
        epochs=2, learning_rate=1e-4, head_learning_rate=3e-3, validation_share=0.0
    )
    table = Outcomes(queries, list(known), np.stack(list(known.values()), axis=1).astype(float))
    fitted = estimators.ModelScorer(pretrained, 32, pooling="mean", training=training).fit(table)
    nothing = Outcomes(queries, ["none"], np.zeros((160, 1)))
    slow = estimators.Training(epochs=4, learning_rate=0.01, validation_share=0.0)
    fitted.add_candidate("none", nothing, training=slow)
    hard_row, easy_row = fitted.predict([HARD, EASY])
    assert hard_row[0] > 0.7
    assert hard_row[2] - hard_row[1] > 0.5
    assert max(hard_row[3], easy_row[3]) < 0.4


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["EncoderClassifier", "ModelScorer", "CausalLMClassifier"])
def test_on_a_gpu_it_learns_and_loads_on_the_cpu(kind, tmp_path, monkeypatch):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    training = estimators.Training(epochs=4, learning_rate=5e-3)
    fitted = tiny(kind, training=training).fit(make_outcomes(200))
    assert next(fitted.network_.parameters()).is_cuda
    predicted = fitted.predict([HARD, EASY])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = getattr(estimators, kind).load(fitted.save(tmp_path)).predict([HARD, EASY])
    np.testing.assert_allclose(on_cpu, predicted, atol=0.02)  # bf16 has three digits
