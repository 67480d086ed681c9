"""Linear regression of quality: what it can learn, and what its settings do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import Linear
from langchain_llm_router.estimators.linear import shift_to_unit_interval
from langchain_llm_router.estimators.text_features import SURFACE_FEATURES, surface_features
from langchain_llm_router.evaluation import apgr, win_rate_curve
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes


@pytest.mark.parametrize("link", ["identity", "logit"])
def test_it_finds_what_the_wording_tells(link):
    train, test = make_outcomes(200, seed=1), make_outcomes(200, seed=2)
    quality = Linear(link=link).fit(train).predict(test.queries)
    hard = np.array([group == "hard" for group in test.groups])
    assert (quality[hard, 2] - quality[hard, 0]).mean() > 0.5
    assert abs((quality[~hard, 2] - quality[~hard, 0]).mean()) < 0.2


def test_it_finds_what_the_surface_tells():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(500)]
    lengths = rng.integers(1, 40, 400)
    queries = [" ".join(rng.choice(words, n)) for n in lengths]
    quality = np.column_stack([lengths < 20, np.ones(400)]).astype(float)
    outcomes = Outcomes(queries, ("weak", "strong"), quality)
    train, test = outcomes.take(range(200)), outcomes.take(range(200, 400))
    predicted = Linear(surface_share=1.0).fit(train).predict(test.queries)
    rate = predicted[:, 1] - predicted[:, 0]
    perfect = apgr(win_rate_curve(1 - test.quality[:, 0], *test.quality.T))
    assert apgr(win_rate_curve(rate, *test.quality.T)) > perfect - 0.02


def test_noise_is_answered_with_a_large_ridge():
    rng = np.random.default_rng(0)
    queries = [" ".join(rng.choice(["a", "b", "c", "d", "e", "f"], 6)) for _ in range(150)]
    outcomes = Outcomes(queries, ("x", "y"), rng.integers(0, 2, (150, 2)))
    fitted = Linear().fit(outcomes)
    assert fitted.alpha_[1] > 10
    assert fitted.predict(queries).std(axis=0).max() < 0.2


@pytest.mark.parametrize("few_rows", [20, 2048])
def test_rows_that_are_repeated_teach_nothing_new(few_rows, monkeypatch):
    # Copies on both sides of a leave-one-out would make learning by heart look good.
    monkeypatch.setattr(Linear, "_FEW_ROWS", few_rows)
    rng = np.random.default_rng(0)
    queries = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(60)]
    once = Outcomes(queries, ("x", "y"), rng.integers(0, 2, (60, 2)))
    repeated = once.take(rng.permutation(np.repeat(np.arange(60), 10)))
    embeddings = LexicalEmbeddings(64).fit(queries)
    fitted, fitted_again = (Linear(embeddings=embeddings).fit(rows) for rows in (once, repeated))
    assert fitted_again.alpha_ == pytest.approx(np.multiply(10, fitted.alpha_))
    np.testing.assert_allclose(fitted_again.predict(queries), fitted.predict(queries), atol=1e-3)


@pytest.mark.parametrize("few_rows", [20, 2048])
def test_a_single_candidate_is_not_learned_by_heart(few_rows, monkeypatch):
    monkeypatch.setattr(Linear, "_FEW_ROWS", few_rows)
    rng = np.random.default_rng(0)
    queries = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(150)]
    noise = Outcomes(queries, ("x",), rng.integers(0, 2, (150, 1)))
    fitted = Linear(LexicalEmbeddings(64).fit(queries), link="logit", n_surface=32).fit(noise)
    assert fitted.predict(queries).std() < 0.1


def test_a_given_ridge_is_used_as_it_is():
    assert Linear(alpha=3.0).fit(make_outcomes()).alpha_ == (3.0, 3.0)


def test_without_the_surface_only_the_embedding_counts():
    outcomes = make_outcomes(50)
    fitted = Linear(surface_share=0.0).fit(outcomes)
    np.testing.assert_array_equal(fitted.coefficients_[fitted.width_ :], 0)


def test_a_constant_embedding_does_no_harm():
    outcomes = make_outcomes(40)
    flat = TableEmbeddings({}, fallback=[1.0, 0.0])
    fitted = Linear(embeddings=flat, lexical=False, surface_share=0.0).fit(outcomes)
    predicted = fitted.predict(["x"])
    np.testing.assert_allclose(predicted[0], outcomes.quality.mean(axis=0), atol=1e-6)


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-2, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_shift_keeps_differences_where_they_fit_into_the_unit_interval(rows):
    raw = np.array(rows)
    shifted = shift_to_unit_interval(raw)
    fits = np.ptp(raw, axis=1) <= 1
    assert shifted.min() >= -1e-9
    assert shifted[fits].max(initial=0) <= 1 + 1e-9
    np.testing.assert_allclose(np.diff(shifted, axis=1), np.diff(raw, axis=1), atol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"link": "probit"}, "'probit'"),
        ({"alpha": 0.0}, "alpha"),
        ({"surface_share": 1.5}, "surface_share"),
        ({"n_surface": 3}, "n_surface"),
    ],
)
def test_wrong_settings_are_named(wrong, match):
    with pytest.raises(ValueError, match=match):
        Linear(**wrong)


def test_loading_refuses_coefficients_of_another_width(tmp_path):
    fitted = Linear(n_surface=8).fit(make_outcomes())
    fitted.coefficients_ = fitted.coefficients_[:-1]
    folder = fitted.save(tmp_path / "it")
    with pytest.raises(ArtifactError, match="coefficients have shape"):
        Linear.load(folder)


def test_word_n_grams_stand_beside_another_embedding(tmp_path):
    flat = TableEmbeddings({}, fallback=[1.0, 0.0])
    train, test = make_outcomes(200, seed=1), make_outcomes(200, seed=2)
    fitted = Linear(embeddings=flat, surface_share=0.0).fit(train)
    hard = np.array([group == "hard" for group in test.groups])
    quality = fitted.predict(test.queries)
    assert (quality[hard, 2] - quality[hard, 0]).mean() > 0.5
    loaded = Linear.load(fitted.save(tmp_path / "it"), embeddings=flat)
    np.testing.assert_allclose(loaded.predict(test.queries), quality, atol=1e-6)


def test_a_lexical_embedding_of_ones_own_is_kept():
    lexical = LexicalEmbeddings(width=64).fit(["add", "prove"])
    assert Linear(embeddings=lexical).fit(make_outcomes()).width_ == 64


def test_surface_features_of_one_text_by_hand():
    row = dict(
        zip(SURFACE_FEATURES, surface_features(['Is "it" $1,000.50?\nYES, it is.'])[0], strict=True)
    )
    assert row["characters"] == pytest.approx(np.log1p(30))
    assert row["words"] == pytest.approx(np.log1p(5))
    for name in ("lines", "questions", "money_and_percent", "decimal_numbers"):
        assert row[name] == pytest.approx(np.log1p(1)), name
    assert row["sentences"] == pytest.approx(np.log1p(2))
    assert row["largest_number"] == pytest.approx(np.log1p(1000.5))
    assert row["distinct_word_share"] == pytest.approx(3 / 5)
    assert row["capital_share"] == pytest.approx(4 / 30)


def test_surface_features_survive_any_text():
    strange = ["", "9" * 400, "∀x∃y", "____", "\n\n", "\x00"]
    found = surface_features(strange)
    assert found.shape == (6, len(SURFACE_FEATURES))
    assert np.isfinite(found).all()
    assert surface_features([]).shape == (0, len(SURFACE_FEATURES))
