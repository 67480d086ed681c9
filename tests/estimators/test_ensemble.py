"""Stacking: out-of-fold predictions, weights, calibration, and artifacts with parts."""

from dataclasses import dataclass

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import (
    Constant,
    Ensemble,
    Linear,
    NearestNeighbors,
    Random,
    fold_indices,
    out_of_fold,
)
from langchain_llm_router.evaluation import brier, ece
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import TableEmbeddings, make_outcomes


@dataclass(eq=False)
class Rote(Constant):
    """Knows what it was fitted on by heart, and nothing else."""

    def _fit(self, data):
        super()._fit(data)
        self.known = dict(zip(data.queries, data.quality, strict=True))

    def _predict(self, queries):
        return np.array([self.known.get(query, self.mean_) for query in queries])


def test_folds_hold_every_row_once_and_keep_repeats_together():
    queries = [f"q{i % 7}" for i in range(40)]
    folds = fold_indices(40, 3, groups=queries)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(40))
    seen = [query for fold in folds for query in {queries[i] for i in fold}]
    assert len(seen) == len(set(seen))
    with pytest.raises(ValueError, match="n_folds"):
        fold_indices(5, 1)


def test_out_of_fold_predictions_never_saw_their_row():
    outcomes = make_outcomes(60)
    by_heart, unseen = Rote().fit(outcomes), out_of_fold(Rote(), outcomes)
    assert brier(by_heart.predict(outcomes.queries), outcomes.quality) == 0
    assert brier(unseen, outcomes.quality) > 0.05


def test_out_of_fold_leaves_the_estimator_as_it_was_and_embeds_each_query_once():
    class Counting(TableEmbeddings):
        def embed_documents(self, texts):
            self.table["n"] = self.table.get("n", 0) + len(texts)
            return [[float("hard" in text), 1.0] for text in texts]

    embeddings = Counting({})
    outcomes = make_outcomes(30)
    fitted = NearestNeighbors(embeddings=embeddings).fit(outcomes)
    before = fitted.predict(["prove hard theorem"])
    embeddings.table["n"] = 0
    assert out_of_fold(fitted, outcomes, n_folds=3).shape == (30, 3)
    assert embeddings.table["n"] == len(set(outcomes.queries))
    np.testing.assert_array_equal(fitted.predict(["prove hard theorem"]), before)


def test_a_part_that_knows_nothing_and_one_that_only_remembers_get_little_weight():
    train, test = make_outcomes(300, seed=1), make_outcomes(300, seed=2)
    fitted = Ensemble([Linear(), Random(), Rote()]).fit(train)
    assert fitted.weights_[1, 0] > 0.7
    assert fitted.weights_[1, 1] < 0.1
    alone = Linear().fit(train).predict(test.queries)
    together = fitted.predict(test.queries)
    assert brier(together, test.quality) < brier(alone, test.quality) + 0.005


def test_overconfident_parts_are_calibrated():
    @dataclass(eq=False)
    class Shouting(Linear):
        def _predict(self, queries):
            raw = super()._predict(queries)
            return np.where(raw > 0.6, 1.0, 0.0)

    train, test = make_outcomes(400, seed=1), make_outcomes(400, seed=2)
    loud = Shouting().fit(train).predict(test.queries)
    calm = Ensemble([Shouting()]).fit(train).predict(test.queries)
    assert ece(calm, test.quality) < ece(loud, test.quality) / 2


def test_few_rows_are_averaged_instead_of_stacked():
    fitted = Ensemble([Constant(), Random()]).fit(make_outcomes(8))
    np.testing.assert_array_equal(fitted.weights_, 0.5)


def test_the_given_parts_stay_unfitted():
    part = Linear()
    Ensemble([part]).fit(make_outcomes(20))
    assert not hasattr(part, "candidates_")


def test_parts_are_saved_in_sub_folders_and_each_gets_its_embedding(tmp_path):
    outcomes = make_outcomes(40)
    table = TableEmbeddings({query: [float("hard" in query), 1.0] for query in outcomes.queries})
    fitted = Ensemble([Linear(), NearestNeighbors(embeddings=table)]).fit(outcomes)
    folder = fitted.save(tmp_path / "it")
    assert (folder / "part_0" / "manifest.json").is_file()
    with pytest.raises(ArtifactError, match="TableEmbeddings"):
        Ensemble.load(folder)
    expected = fitted.predict(outcomes.queries)
    for loaded in (
        Ensemble.load(folder, embeddings=table),
        Ensemble.load(folder, part_embeddings=[None, table]),
    ):
        np.testing.assert_allclose(loaded.predict(outcomes.queries), expected, atol=1e-6)
    with pytest.raises(ArtifactError, match="2 parts, got 1"):
        Ensemble.load(folder, part_embeddings=[table])


def test_a_changed_part_is_refused(tmp_path):
    folder = Ensemble([Constant(), Random()]).fit(make_outcomes(20)).save(tmp_path / "it")
    manifest = folder / "part_1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ArtifactError, match="part_1"):
        Ensemble.load(folder)


def test_a_part_that_is_no_estimator_is_refused(tmp_path):
    folder = Ensemble([Constant()]).fit(make_outcomes(20)).save(tmp_path / "it")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"Constant"', '"out_of_fold"'))
    with pytest.raises(ArtifactError, match="not a known 'QualityEstimator'"):
        Ensemble.load(folder)


def test_one_query_repeated_can_be_fitted():
    outcomes = Outcomes(["same"] * 12, ("a", "b"), [[0, 1]] * 12)
    np.testing.assert_allclose(Ensemble().fit(outcomes).predict(["same"]), [[0, 1]], atol=1e-6)


@pytest.mark.parametrize("wrong", [{"n_folds": 1}, {"estimators": []}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Ensemble(**wrong)
