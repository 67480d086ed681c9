"""An encoder trained for routing, on the tiny network of `tests/support/networks.py`."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from langchain_llm_router import estimators
from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.embeddings import embed
from langchain_llm_router.estimators import BradleyTerry, NearestNeighbors
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.forks import run_forked
from tests.support.networks import minilm, need_torch, tiny_encoder
from tests.support.paths import ROOT

SUBJECTS = ["theorem", "numbers", "small", "large", "weak", "strong"]


def make_rows(n=160, seed=0):
    """Hard queries need the second candidate, easy ones the first, whatever their subject."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    words = rng.choice(SUBJECTS, (n, 6))
    texts = [
        " ".join(["hard" if h else "easy", *row, *str(i)])
        for i, (h, row) in enumerate(zip(hard, words, strict=True))
    ]
    quality = np.where(hard[:, None], [0.0, 1.0, 0.5], [1.0, 0.0, 0.5])
    return Outcomes(texts, ["first", "second", "third"], quality)


def make_encoder(**settings):
    need_torch()
    training = estimators.Training(
        epochs=12, batch_size=16, learning_rate=1e-2, validation_share=0.2
    )
    settings.setdefault("training", training)
    return estimators.ContrastiveEncoder(tiny_encoder(), **settings)


def untrained(**settings):
    """Fitted by two steps too small to change anything of note."""
    training = estimators.Training(
        max_steps=2, batch_size=8, learning_rate=1e-9, validation_share=0.2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_encoder(training=training, **settings).fit(make_rows(40))


@pytest.fixture(scope="module")
def trained():
    return make_encoder().fit(make_rows())


def test_queries_that_need_the_same_candidate_come_near_one_another(trained):
    rows = make_rows(60, seed=1)
    vectors = embed(trained, rows.queries)
    cosine = vectors @ vectors.T
    hard = np.array([query.startswith("hard") for query in rows.queries])
    same = hard[:, None] == hard
    off_diagonal = ~np.eye(len(hard), dtype=bool)
    assert cosine[same & off_diagonal].mean() > cosine[~same].mean() + 0.3


def test_the_error_on_held_out_rows_falls_and_is_kept(trained):
    before, after = trained.held_out_error_
    assert after < 0.5 * before
    assert trained.is_trained_


@pytest.mark.parametrize("estimator", [NearestNeighbors, BradleyTerry])
def test_an_estimator_takes_it_as_its_embeddings(trained, estimator, tmp_path):
    fitted = estimator(trained).fit(make_rows())
    test = make_rows(40, seed=2)
    right = fitted.predict(test.queries).argmax(axis=1) == test.quality.argmax(axis=1)
    assert right.mean() > 0.9
    loaded = estimators.ContrastiveEncoder.load(trained.save(tmp_path / "encoder"))
    again = estimator.load(fitted.save(tmp_path / "estimator"), embeddings=loaded)
    np.testing.assert_allclose(again.predict(test.queries), fitted.predict(test.queries), atol=1e-5)


def test_an_estimator_refuses_the_encoder_of_another_fit(trained, tmp_path):
    fitted = NearestNeighbors(trained).fit(make_rows())
    with pytest.raises(ArtifactError, match="`embeddings` must be the ContrastiveEncoder"):
        NearestNeighbors.load(fitted.save(tmp_path), embeddings=untrained())


def test_a_loaded_encoder_is_the_saved_one(trained, tmp_path):
    again = estimators.ContrastiveEncoder.load(trained.save(tmp_path))
    queries = make_rows(5).queries
    np.testing.assert_allclose(embed(again, queries), embed(trained, queries), atol=1e-6)
    assert again.model == trained.model
    assert again.held_out_error_ == trained.held_out_error_
    assert again.is_trained_ is True
    assert again.training == trained.training
    np.testing.assert_array_equal(again.history_.validation_loss, trained.history_.validation_loss)


def test_a_manifest_without_the_error_is_refused(trained, tmp_path):
    folder = trained.save(tmp_path)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("held_out_error", "something"))
    with pytest.raises(ArtifactError, match="is not a ContrastiveEncoder as this version saves it"):
        estimators.ContrastiveEncoder.load(folder)


def test_pretrained_weights_are_kept_and_said_so_where_training_does_not_help():
    encoder = make_encoder(
        training=estimators.Training(
            epochs=2, batch_size=8, learning_rate=0.05, validation_share=0.2
        )
    )
    rows = make_rows(60)
    noise = np.random.default_rng(0).permutation(rows.quality)
    with pytest.warns(UserWarning, match="is not better than the pretrained one"):
        encoder.fit(Outcomes(rows.queries, rows.candidates, noise))
    assert encoder.is_trained_ is False
    assert encoder.held_out_error_[1] >= encoder.held_out_error_[0]
    np.testing.assert_allclose(
        embed(encoder, rows.queries), embed(untrained(), rows.queries), atol=1e-4
    )


def test_only_the_last_layers_change():
    encoder = make_encoder(n_layers=1).fit(make_rows())
    start = untrained().network_.state_dict()
    changed = {
        name
        for name, weight in encoder.network_.state_dict().items()
        if not np.allclose(weight, start[name], atol=1e-6)
    }
    assert len(changed) > 0
    assert all(name.startswith("model.encoder.layer.1.") for name in changed)


def test_the_seed_decides():
    queries = make_rows(5).queries
    training = estimators.Training(
        epochs=3, batch_size=16, learning_rate=1e-2, validation_share=0.2
    )
    one, same, other = (
        embed(make_encoder(training=replace(training, seed=seed)).fit(make_rows()), queries)
        for seed in (0, 0, 1)
    )
    np.testing.assert_allclose(one, same, atol=1e-6)
    assert not np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_have_length_one_whatever_is_beside_them(pooling):
    encoder = untrained(pooling=pooling)
    alone, beside = encoder.embed_query("hard"), encoder.embed_documents(["hard", "easy " * 300])
    assert np.linalg.norm(beside, axis=1) == pytest.approx(1)
    assert alone == pytest.approx(beside[0], abs=1e-6)
    assert encoder.embed_documents([]) == []


def test_before_the_fit_there_are_no_vectors():
    encoder = make_encoder()
    for use in (lambda: encoder.embed_query("hard"), lambda: encoder.model):
        with pytest.raises(NotFittedError, match="This ContrastiveEncoder is not fitted"):
            use()


def test_one_candidate_leaves_nothing_to_choose():
    with pytest.raises(ValueError, match=r"at least two candidates, got \['first'\]"):
        make_encoder().fit(make_rows().select(["first"]))


def test_fewer_rows_than_a_batch_are_too_few():
    with pytest.raises(ValueError, match=r"at least 16 rows to train on, a batch.*got 8 and 2"):
        make_encoder().fit(make_rows(10))


def test_the_same_differences_everywhere_teach_nothing():
    """The level may differ: a query that all candidates fail needs none of them more."""
    rows = make_rows(40)
    quality = np.linspace(0, 0.5, 40)[:, None] + [0.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="every row has the same differences"):
        make_encoder().fit(Outcomes(rows.queries, rows.candidates, quality))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be"),
        ({"target_temperature": -1.0}, "`target_temperature` must be"),
        ({"n_layers": 0}, "`n_layers` must be >= 1 or None, got 0"),
        ({"pooling": "max"}, "`pooling` must be one of"),
        ({"max_length": 2}, "`max_length` must be >= 3"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_encoder(**settings)


def test_held_out_rows_are_needed():
    need_torch()
    with pytest.raises(ValueError, match="`validation_share` of `training` must be above 0"):
        make_encoder(training=estimators.Training(validation_share=0.0))


def test_more_layers_than_there_are_cannot_be_trained():
    with pytest.raises(ValueError, match="`n_layers` must be at most 2, the layers of"):
        make_encoder(n_layers=3).fit(make_rows())


def test_without_torch_the_message_names_the_extra():
    code = (
        "import sys\nfrom langchain_llm_router import estimators\n"
        "from langchain_llm_router.types import errors\n"
        "sys.modules['torch'] = None\n"
        "try: estimators.ContrastiveEncoder\n"
        "except errors.MissingExtraError as error: assert '[torch]' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    done = run_forked(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_encoder_learns_what_its_pretrained_weights_do_not_show():
    training = estimators.Training(
        epochs=3, batch_size=32, learning_rate=2e-4, validation_share=0.2
    )
    encoder = estimators.ContrastiveEncoder(minilm(), 64, training=training).fit(make_rows(200))
    before, after = encoder.held_out_error_
    assert after < before
